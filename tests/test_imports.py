import subprocess
import sys

import pytest

import tracker

HEAVY = ("cv2", "onnxruntime", "av", "torch", "tensorrt", "openvino", "rich", "tyro", "onnx")


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nsys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import tracker", set()),
        ("import engines", set()),
        ("import tracker.sources", set()),
        ("from tracker import MultiTracker, PoseTracker, track, read_records", set()),
        # Ctrl-C amid the imports must find `main` running.
        ("import tracker.cli", set()),
        ("import tracker.commands", {"rich", "tyro"}),
    ],
)
def test_importing_stays_light(statement, allowed):
    assert not loaded_by(statement) & (set(HEAVY) - allowed)


def test_every_public_name_is_there_and_listed_once():
    assert tracker.__all__ == sorted(set(tracker.__all__))
    assert set(tracker.__all__) == set(tracker._HOME)
    for name in tracker.__all__:
        assert getattr(tracker, name).__doc__
        assert name in dir(tracker)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Trackr'"):
        tracker.Trackr  # noqa: B018
