import sys
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from simulated_people import LEGS, box_of, walker

from tracker import yolo
from tracker.points import pose_from_points
from tracker.skeleton import COCO17
from tracker.tracks import MultiTracker
from tracker.types import Detection, Frame

FPS = 30
WALK = {"start": (100.0, 50.0), "velocity": (80.0, 0.0)}


def pose(xy, scores=None, **how):
    scores = np.full(17, 0.9) if scores is None else scores
    return pose_from_points(xy, scores, Detection(box_of(xy), 0.9), **how)


def test_error_bars_grow_as_scores_fall_and_hips_err_more_than_eyes():
    scores = np.full(17, 0.9)
    scores[9] = 0.3
    bars = np.sqrt(pose(walker(0.0), scores, mirrored=0.0).keypoint_cov[:, 0, 0])
    assert bars[9] == pytest.approx(3 * bars[10])
    assert bars[11] > 3 * bars[1]
    assert 1 < bars[1] < bars[11] < 20  # px, of a person 200 px high


@pytest.mark.parametrize("nowhere", [0.0, np.nan])
def test_a_keypoint_that_was_not_found_says_nothing(nowhere):
    xy, scores = walker(0.0), np.full(17, 0.9)
    box = Detection(box_of(xy), 0.9)
    xy[5], scores[6] = nowhere, 0.01
    people = MultiTracker()
    for frame in range(4):
        given = walker(frame / FPS)
        given[5] = nowhere
        found = pose_from_points(given, scores, box)
        tracks = people.update([found], frame / FPS)
    assert found.visible[5] == found.visible[6] == 0
    off = np.linalg.norm(tracks[0].keypoints - walker(3 / FPS), axis=1)
    assert np.delete(off, [5, 6]).max() < 6
    assert np.trace(tracks[0].keypoint_cov[5]) > 20 * np.trace(tracks[0].keypoint_cov[7])


def test_points_of_another_skeleton_are_refused():
    with pytest.raises(ValueError, match=r"due are 17 keypoints .* got \(33, 2\) and \(33,\)"):
        pose(np.ones((33, 2)), np.ones(33))


def test_rivals_are_the_swapped_legs_and_the_mirrored_person():
    xy = walker(0.25)
    mean = pose(xy).mixture.mean.reshape(-1, 17, 2)
    assert_allclose(mean[0], xy)
    assert_allclose(mean[1][LEGS], xy[COCO17.mirror[LEGS]])
    assert_allclose(mean[1][:11], xy[:11])
    assert_allclose(mean[2], xy[COCO17.mirror])
    assert np.exp(pose(xy).mixture.log_weight).sum() == pytest.approx(1)


def swaps(mirrored):
    """Frames in which the reported ankles lie on the wrong sides, where the network errs."""
    rng, people, wrong = np.random.default_rng(1), MultiTracker(), 0
    for frame in range(60):
        truth = walker(0.25) + np.array([0.5 * frame, 0.0])
        given = truth + rng.normal(size=(17, 2))
        if frame > 20 and frame % 7 == 0:
            given[LEGS] = given[COCO17.mirror[LEGS]]
        for track in people.update([pose(given, mirrored=mirrored)], frame / FPS):
            left, right = track.keypoints[15], track.keypoints[16]
            wrong += bool((left - right) @ (truth[15] - truth[16]) < 0)
    return wrong


def test_legs_that_a_network_swaps_now_and_then_stay_in_place():
    assert swaps(mirrored=0.03) == 0


def as_results(xy, *, names=(0,)):
    """What Ultralytics would give: arrays in the place of tensors."""
    boxes = SimpleNamespace(
        xyxy=np.stack([box_of(p) for p in xy]) if len(xy) else np.zeros((0, 4)),
        conf=np.full(len(xy), 0.8),
        cls=np.resize(np.array(names, float), len(xy)),
    )
    data = np.dstack([xy, np.full((len(xy), 17), 0.9)]) if len(xy) else np.zeros((0, 17, 3))
    return SimpleNamespace(boxes=boxes, keypoints=SimpleNamespace(data=data))


def test_people_of_ultralytics_results_are_followed():
    people = MultiTracker()
    for frame in range(10):
        xy = [walker(frame / FPS, **WALK), walker(frame / FPS, start=(500.0, 60.0))]
        tracks = people.update(yolo.poses(as_results(xy)), frame / FPS)
    assert [track.id for track in tracks] == [1, 2]
    for track, truth in zip(sorted(tracks, key=lambda t: t.box[0]), xy, strict=True):
        assert np.linalg.norm(track.keypoints - truth, axis=1).max() < 5
    assert yolo.poses(as_results([])) == []


def test_only_people_are_detections_and_colours_are_turned_for_ultralytics():
    asked = []

    class Model:
        def predict(self, image, **how):
            asked.append((image, how))
            return [as_results([walker(0.0), walker(0.0) + 300], names=(0, 16))]

    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 0] = 200
    (found,) = yolo.YoloDetector(Model(), conf=0.4)(Frame(image, 0, 0.0))
    assert_allclose(found.box, box_of(walker(0.0)))
    assert found.score == pytest.approx(0.8)
    ((given, how),) = asked
    assert given[0, 0].tolist() == [0, 0, 200]
    assert how == {"classes": [0], "verbose": False, "conf": 0.4}


def test_results_without_keypoints_say_what_is_wrong():
    with pytest.raises(ValueError, match="use a pose model"):
        yolo.poses(SimpleNamespace(keypoints=None))


def test_the_real_results_class_is_understood(tmp_path, monkeypatch):
    for name, value in (("OFFLINE", "true"), ("AUTOINSTALL", "false"), ("VERBOSE", "false")):
        monkeypatch.setenv(f"YOLO_{name}", value)
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    torch = pytest.importorskip("torch")
    if "ultralytics" not in sys.modules:
        pytest.importorskip("ultralytics")
    from ultralytics.engine.results import Results

    xy = walker(0.0)
    boxes = torch.tensor([[*box_of(xy), 0.8, 0.0]])
    points = torch.tensor(np.dstack([xy[None], np.full((1, 17), 0.9)]))
    real = Results(np.zeros((400, 400, 3), np.uint8), "", {0: "person"}, boxes, keypoints=points)
    (found,) = yolo.poses(real)
    assert_allclose(found.keypoints, xy, atol=1e-3)
    assert len(yolo.detections(real)) == 1
