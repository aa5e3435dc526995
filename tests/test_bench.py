"""`surepose bench` and `surepose build`: what they measure and what they refuse."""

import json
import sys
import time

import numpy as np
import pytest

from tracker.bench import Percentiles, Stage, TrueBoxes, demo_clip, live
from tracker.cli import main
from tracker.demo import Scene
from tracker.stages import measured, stage
from tracker.types import TrackedFrame


def test_stages_are_timed_only_while_somebody_measures():
    with stage("unseen"):
        pass
    with measured() as laps:
        for _ in range(3):
            with stage("sleep"):
                time.sleep(0.002)
        with pytest.raises(RuntimeError), stage("broken"):
            raise RuntimeError
    with stage("unseen"):
        pass
    assert set(laps) == {"sleep", "broken"}
    assert len(laps["sleep"]) == 3
    assert min(laps["sleep"]) >= 0.002


def test_percentiles_are_of_milliseconds():
    found = Percentiles.of([i / 1000 for i in range(101)])
    assert (found.p50, found.p95, found.p99, found.mean) == pytest.approx((50, 95, 99, 50))
    assert Stage.of([0.01, 0.03], frames=8).per_frame == pytest.approx(5)


def test_the_true_boxes_are_those_of_the_clip_and_the_detector_works_all_the_same():
    clip, asked = demo_clip(2, 3, seed=1), []
    find = TrueBoxes(lambda frame: asked.append(frame.index) or [], clip.people)
    found = find(clip.frames[2])
    truth = Scene(seed=1, n_people=2, n_frames=3).truth(2)
    assert asked == [2]
    np.testing.assert_array_equal([d.box for d in found], [p.box for p in truth])


def test_the_age_of_a_live_result_counts_from_its_capture_and_slow_work_drops_frames():
    clip = demo_clip(1, 30)

    def slowly(frames):
        time.sleep(0.06)
        return [TrackedFrame(frame, ()) for frame in frames]

    found = live(slowly, clip, fps=60.0)
    assert found.age.p50 >= 60
    assert found.dropped > 0.4
    assert found.fps < 17


def test_many_cameras_are_live_together():
    rounds = []

    def follow(frames):
        rounds.append([frame.stream for frame in frames])
        time.sleep(0.03)
        return [TrackedFrame(frame, ()) for frame in frames]

    found = live(follow, demo_clip(1, 20), streams=3)
    assert {stream for frames in rounds for stream in frames} == {f"camera {k}" for k in range(3)}
    assert len(max(rounds, key=len)) > 1
    assert 30 <= found.age.p50 < 500
    assert found.late == 0
    assert found.dropped == pytest.approx(1 - sum(map(len, rounds)) / 60)


def test_the_command_records_each_case_with_its_machine(tmp_path, capsys):
    out, plot = tmp_path / "bench.json", tmp_path / "bench.png"
    command = ["bench", "--people", "1", "2", "--streams", "1", "2", "--frames", "20",
               "--json", str(out), "--plot", str(plot), "--device", "cpu"]  # fmt: skip
    assert main(command) == 0
    record = json.loads(out.read_text())
    assert [(c["people"], c["streams"]) for c in record["cases"]] == [(1, 1), (2, 1), (1, 2)]
    for case in record["cases"]:
        assert {"crop", "pose net", "mixture", "track", "draw"} <= set(case["stages"])
        assert case["frames"] == 10 * case["streams"]
        assert 0 <= case["live"]["dropped"] < 1
        assert case["live"]["age"]["p50"] > 0
        assert case["stages"]["pose net"]["time"]["p50"] > 0
        assert case["cpu_ms"] > 0
    assert [batch["crops"] for batch in record["pose_net_alone"]] == [1, 2, 4, 8, 16]
    assert all(batch["ms"] > 0 for batch in record["pose_net_alone"])
    one, two, _ = record["cases"]
    assert one["people_seen"] < two["people_seen"] <= 3
    assert record["machine"]["cores"] >= 1
    assert record["versions"]["onnxruntime"]
    assert "ONNX Runtime" in record["engines"]["pose"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "pose net" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "--frames", "5"], "--frames must be at least 20, got 5"),
        (["bench", "--people", "0"], "--people must be at least 1, got 0"),
        (["bench", "--source", "nowhere.mp4"], "no such file or folder: nowhere.mp4"),
        (["bench", "--device", "cuda"], "finds no NVIDIA GPU"),
        (["build", "--backend", "tensorrt"], "needs an NVIDIA GPU"),
        (["track", "--backend", "tensorrt"], "needs an NVIDIA GPU"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments, message, capsys, monkeypatch):
    for module in ("engines.gpu", "engines.build", "engines.backends"):
        monkeypatch.setattr(f"{module}.gpu", lambda: None)
    assert main(arguments) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert message in errors[0]


def test_build_without_a_library_says_what_to_install(capsys, monkeypatch):
    command = sys.modules["tracker.commands.build"]  # the package gives its function this name
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["build"]) == 1
    assert "neither TensorRT nor TensorRT for RTX is here: pip install" in capsys.readouterr().err
