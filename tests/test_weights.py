import json

import numpy as np
import pytest
from graphs import affine, card

from tracker import weights
from tracker.detector import Detector
from tracker.errors import WeightsError
from tracker.pose import PoseNet
from tracker.types import Detection, Frame


@pytest.fixture
def path(tmp_path):
    return affine(tmp_path / "own.onnx", np.eye(2), np.zeros(2))


def test_a_file_of_ones_own_is_found_with_its_card(path):
    card(path, kind="pose", input={"height": 256})
    for name in (path, str(path)):
        found = weights.find("pose", name)
        assert found.path == path
        assert found.entry("input", "height") == 256


def test_a_changed_file_is_refused(path):
    card(path, kind="pose")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(WeightsError, match=r"own\.onnx is not the file of its card"):
        weights.find("pose", path)


def test_a_network_of_another_kind_is_refused(path):
    card(path, kind="detector")
    with pytest.raises(WeightsError, match="is a detector network, not a pose network"):
        weights.find("pose", path)


def test_a_missing_entry_is_named(path):
    card(path, kind="pose", calibration={"scale": [1]})
    with pytest.raises(WeightsError, match=r"own\.json has no entry 'calibration\.temperature'"):
        weights.find("pose", path).entry("calibration", "temperature")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing"), ("{", "is not JSON"), ("[1]", "must hold an object, got list")],
)
def test_a_card_that_is_none_is_refused(path, content, message):
    if content is not None:
        path.with_suffix(".json").write_text(content)
    with pytest.raises(WeightsError, match=message):
        weights.find("pose", path)


def test_missing_weights_tell_what_there_is(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match=r"no pose weights at .*nowhere\.onnx$"):
        weights.find("pose", tmp_path / "nowhere.onnx")
    monkeypatch.setattr(weights, "_SHIPPED", tmp_path)
    for name in ("pose-nano", "pose-small", "detector-nano"):
        card(affine(tmp_path / f"{name}.onnx", np.eye(2), np.zeros(2)), kind=name.split("-")[0])
    assert weights.find("pose", "small").path.name == "pose-small.onnx"
    with pytest.raises(WeightsError, match="the package has nano, small"):
        weights.find("pose", "huge")


@pytest.mark.parametrize("name", weights.shipped("pose"))
def test_shipped_pose_nets_load_and_look(name):
    net = PoseNet.load(name, device="cpu", threads=1)
    frame = Frame(np.full((240, 320, 3), 90, np.uint8), index=0, time=0.0)
    (found,) = net(frame, [Detection(np.array([100.0, 20.0, 180.0, 220.0]), 0.9)])
    assert len(found.mixture) == weights.find("pose", name).entry("n_hypotheses")
    assert np.linalg.eigvalsh(found.mixture.cov).min() > 0
    assert ((found.visible >= 0) & (found.visible <= 1)).all()


@pytest.mark.parametrize("name", weights.shipped("detector"))
def test_shipped_detectors_load_and_find_nobody_on_a_blank_wall(name):
    detect = Detector.load(name, device="cpu", threads=1)
    assert detect(Frame(np.full((240, 320, 3), 90, np.uint8), index=0, time=0.0)) == []


@pytest.mark.parametrize("kind", ["pose", "detector"])
@pytest.mark.parametrize("key", ["name", "kind", "version", "sha256", "data", "licence"])
def test_shipped_cards_tell_people_what_they_should_know(kind, key):
    for name in weights.shipped(kind):
        assert json.dumps(weights.find(kind, name).entry(key))
