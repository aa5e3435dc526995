import json
from collections.abc import Sequence
from shutil import copyfile

import cv2
import fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.demo import compare, error_bars
from tracker import weights
from tracker.demo import Scene, TruePerson
from tracker.errors import WeightsError
from tracker.geometry import box_iou
from tracker.metrics import IdentityScore
from tracker.pipeline import SAME_PERSON_IOU, PoseTracker, merge_boxes, track
from tracker.skeleton import COCO17
from tracker.types import Detection, Frame, Mixture, PoseMixture, TrackStatus


def follow(
    people: Sequence[np.ndarray], n_frames: int, detect_every: int = 5
) -> tuple[PoseTracker, fakes.FakeDetector, fakes.FakePoseNet]:
    detector, net = fakes.FakeDetector(*people), fakes.FakePoseNet(*people)
    pipeline = PoseTracker(detector, net, detect_every=detect_every)
    for index in range(n_frames):
        pipeline(fakes.frame(index))
    return pipeline, detector, net


def test_still_people_are_tracked_where_they_stand():
    people = [fakes.person(150), fakes.person(450)]
    detector, net = fakes.FakeDetector(*people), fakes.FakePoseNet(*people)
    pipeline = PoseTracker(detector, net)
    for index in range(20):
        tracked = pipeline(fakes.frame(index))
    assert [t.status for t in tracked.tracks] == [TrackStatus.CONFIRMED] * 2
    found = sorted((t.keypoints for t in tracked.tracks), key=lambda xy: xy[0, 0])
    np.testing.assert_allclose(found, people, atol=1.0)
    assert len(tracked.poses) == 2
    assert tracked.frame.index == 19


@pytest.mark.parametrize("detect_every", [1, 3, 5])
def test_the_detector_confirms_and_then_runs_on_every_nth_frame_and_tracks_say_where_to_look(
    detect_every,
):
    _, detector, net = follow([fakes.person(150)], 18, detect_every)
    assert detector.calls == [0, 1, *range(2, 18, detect_every)]
    for index, boxes in enumerate(net.boxes):
        assert len(boxes) == 1
        assert (boxes[0].track_id is None) == (index in detector.calls)


def test_who_is_lost_is_searched_for_at_once():
    pipeline, detector, net = follow([fakes.person(150), fakes.person(450)], 10, detect_every=50)
    net.visible = 0.05
    for index in range(10, 20):
        pipeline(fakes.frame(index))
    assert detector.calls == [0, 1, 2, 11, 12]


def test_without_demand_the_detector_keeps_its_interval():
    person = fakes.person(150)
    detector = fakes.FakeDetector(person)
    pipeline = PoseTracker(detector, fakes.FakePoseNet(person), detect_every=4, on_demand=False)
    for index in range(13):
        pipeline(fakes.frame(index))
    assert detector.calls == [0, 4, 8, 12]
    assert len(pipeline.people.tracks) == 1


def test_a_tentative_track_that_the_detector_does_not_find_again_is_not_looked_at():
    person = fakes.person(150)
    detector, net = fakes.FakeDetector(person), fakes.FakePoseNet(person)
    pipeline = PoseTracker(detector, net)
    pipeline(fakes.frame(0))
    detector.people = ()
    pipeline(fakes.frame(1))
    assert [len(boxes) for boxes in net.boxes] == [1, 0]


def test_an_empty_scene_is_searched_in_every_frame():
    _, detector, _ = follow([], 7)
    assert detector.calls == list(range(7))


def test_a_picture_of_another_size_is_searched_at_once():
    pipeline, detector, _ = follow([fakes.person(150)], 3)
    pipeline(fakes.frame(3, height=400))
    pipeline(fakes.frame(4, height=400))
    assert detector.calls == [0, 1, 2, 3]


def test_a_person_whom_the_detector_misses_is_still_looked_at():
    pipeline, detector, net = follow([fakes.person(150), fakes.person(450)], 12)
    detector.people = detector.people[:1]
    pipeline(fakes.frame(12))
    assert detector.calls[-1] == 12
    assert [box.track_id is None for box in net.boxes[-1]] == [True, False]


def test_a_person_who_has_walked_out_is_not_looked_for():
    detector, net = fakes.FakeDetector(), fakes.FakePoseNet()
    pipeline = PoseTracker(detector, net)
    for index in range(45):
        detector.people = net.people = (fakes.person(600 + 15 * index),)
        if index > 8:
            detector.people = ()
        pipeline(fakes.frame(index))
    assert pipeline.people.tracks
    assert net.boxes[-1] == []


def test_detections_alone_give_birth():
    people = [fakes.person(150), fakes.person(450)]
    detector, net = fakes.FakeDetector(people[0]), fakes.FakePoseNet(*people)
    pipeline = PoseTracker(detector, net)
    for index in range(30):
        tracked = pipeline(fakes.frame(index))
    assert len(tracked.tracks) == 1


boxes = st.lists(
    st.tuples(st.floats(0, 500), st.floats(0, 300), st.floats(10, 200), st.floats(10, 200)),
    max_size=6,
).map(lambda b: [np.array([x, y, x + w, y + h]) for x, y, w, h in b])


@given(detected=boxes, predicted=boxes)
def test_every_person_is_looked_at_and_detections_are_all_kept(detected, predicted):
    found = [Detection(box, 0.9) for box in detected]
    expected = [Detection(box, 0.5, track_id=i) for i, box in enumerate(predicted)]
    merged = merge_boxes(found, expected)
    assert merged[: len(found)] == found
    # A detection stands for at most one track, and only for one that it overlaps.
    replaced = [box for box in expected if box not in merged]
    assert len(replaced) <= len(found)
    for box in replaced:
        assert max(box_iou(box.box[None], d.box[None])[0, 0] for d in found) >= SAME_PERSON_IOU


def test_one_box_around_two_people_stands_for_one_of_them():
    together = Detection(np.array([100.0, 50, 200, 300]), 0.9)
    beside = [
        Detection(np.array([100.0 + shift, 50, 180 + shift, 300]), 0.5, track_id=i)
        for i, shift in enumerate((0, 20))
    ]
    assert len(merge_boxes([together], beside)) == 2


def test_a_wrong_cadence_is_the_callers_mistake():
    with pytest.raises(ValueError, match="counts frames from 1, got 0"):
        PoseTracker(fakes.FakeDetector(), fakes.FakePoseNet(), detect_every=0)


@pytest.fixture
def fake_networks(monkeypatch):
    person = fakes.person(150)

    def load(cls: type[PoseTracker], **_: object) -> PoseTracker:
        return cls(fakes.FakeDetector(person), fakes.FakePoseNet(person))

    monkeypatch.setattr(PoseTracker, "load", classmethod(load))


def test_own_networks_take_the_places_of_those_that_ship(tmp_path):
    own = {}
    for kind in ("pose", "detector"):
        shipped = weights.find(kind)
        own[kind] = copyfile(shipped.path, tmp_path / f"my-{kind}.onnx")
        changed = shipped.card | {"n_hypotheses": 3, "threshold": 0.25}
        own[kind].with_suffix(".json").write_text(json.dumps(changed))
    follow = PoseTracker.load(**own, device="cpu", threads=1)
    assert len(follow.pose_net.latents) == 3
    assert follow.detector.threshold == follow.people.config.life.birth_score == 0.25
    with pytest.raises(WeightsError, match="is a detector network, not a pose network"):
        PoseTracker.load(pose=own["detector"])


@pytest.mark.usefixtures("fake_networks")
def test_track_gives_every_frame_and_closes_its_source():
    source = fakes.FakeSource(*(fakes.frame(i) for i in range(8)))
    assert [t.frame.index for t in track(source)] == list(range(8))
    assert source.closed


@pytest.mark.usefixtures("fake_networks")
def test_giving_up_closes_the_source_and_max_frames_ends_early():
    source = fakes.FakeSource(*(fakes.frame(i) for i in range(8)))
    frames = track(source, max_frames=5)
    next(frames)
    frames.close()
    assert source.closed
    assert len(list(track(source, max_frames=5))) == 5


@pytest.mark.usefixtures("fake_networks")
def test_a_folder_may_be_a_path_and_a_source_of_ones_own_has_its_own_times(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), fakes.frame(i).image)
    assert [t.frame.time for t in track(tmp_path, fps=10.0)] == pytest.approx([0.0, 0.1, 0.2])
    with pytest.raises(ValueError, match="leave fps out"):
        next(track(fakes.FakeSource(fakes.frame(0)), fps=10.0))


def test_people_of_a_drawn_scene_are_followed_through_mirrored_hypotheses_and_noise():
    scene = Scene(seed=3, n_people=2, n_frames=75, height=120, width=160)
    truth = [scene.truth(index) for index in range(scene.n_frames)]
    rng = np.random.default_rng(0)

    def detect(frame: Frame) -> list[Detection]:
        return [Detection(p.box, 0.9) for p in truth[frame.index] if p.seen > 0.3]

    def look(frame: Frame, detections: Sequence[Detection]) -> list[PoseMixture]:
        people = truth[frame.index]
        overlap = box_iou(np.stack([d.box for d in detections]), np.stack([p.box for p in people]))
        nearest = (people[n] for n in overlap.argmax(axis=1))
        return [_noisy(d, p, rng) for d, p in zip(detections, nearest, strict=True)]

    pipeline = PoseTracker(detect, look)
    identities = IdentityScore()
    compared = []
    for index in range(scene.n_frames):
        frame = Frame(np.zeros((120, 160, 3), np.uint8), index, index / scene.fps)
        compared += compare(truth[index], pipeline(frame).tracks, identities)
    assert set(identities.followed) == set(identities.present)
    assert identities.recall > 0.8
    assert identities.switches <= 1
    assert error_bars(compared, visible=True).coverage_95 > 0.9


def _noisy(detection: Detection, person: TruePerson, rng: np.random.Generator) -> PoseMixture:
    """The true pose and its mirror image, with errors and error bars that match."""
    std = np.where(person.visible, 0.02, 0.06) * (person.box[3] - person.box[1])
    xy = person.keypoints + rng.normal(size=(17, 2)) * std[:, None]
    mean = np.stack([xy.ravel(), xy[COCO17.mirror].ravel()])
    cov = np.stack([np.diag(np.repeat(std**2, 2))] * 2)
    visible = np.where(person.visible, 0.9, 0.3)
    return PoseMixture(detection, Mixture(mean, cov, np.log([0.75, 0.25])), visible)


def test_with_a_budget_everybody_is_looked_at_in_turn_and_nobody_is_lost():
    """One look a frame for three people: error bars grow until it is their turn."""
    people = [fakes.person(120), fakes.person(320), fakes.person(520)]
    detector, net = fakes.FakeDetector(*people), fakes.FakePoseNet(*people)
    pipeline = PoseTracker(detector, net, most_poses=1)
    for index in range(60):
        tracked = pipeline(fakes.frame(index))
    assert {len(boxes) for boxes in net.boxes} == {1}
    assert len(tracked.tracks) == 3
    assert all(track.existence > 0.1 for track in tracked.tracks)
    found = sorted((t.keypoints for t in tracked.tracks), key=lambda xy: xy[0, 0])
    np.testing.assert_allclose(found, people, atol=6.0)
    looks = [track.hits for track in tracked.tracks]
    assert min(looks) > 10
    assert [t.status is TrackStatus.CONFIRMED for t in tracked.tracks].count(True) <= 1


def test_the_least_certain_are_looked_at_first():
    people = [fakes.person(120), fakes.person(320)]
    detector, net = fakes.FakeDetector(*people), fakes.FakePoseNet(*people)
    pipeline = PoseTracker(detector, net)
    for index in range(10):
        pipeline(fakes.frame(index))
    net.people = people[:1]
    detector.people = people[:1]
    first, second = sorted(pipeline.people.tracks, key=lambda t: t.box[0])
    pipeline.people.update([fakes.make_pose(Detection(first.box, 0.9), people[0])], 10 / 30)
    pipeline.most_poses = 1
    pipeline(fakes.frame(11))
    assert [box.track_id for box in net.boxes[-1]] == [second.id]


@pytest.mark.parametrize("step", [0.7, 2.0])
def test_a_camera_of_few_frames_a_second_keeps_its_people(step):
    """What passed between two frames is no time in which somebody was looked for and not seen."""
    pipeline, *_ = follow([fakes.person(150), fakes.person(450)], 0)
    for index in range(8):
        frame = fakes.frame(index)
        tracked = pipeline(Frame(frame.image, index, step * index))
    assert [(t.id, t.status) for t in tracked.tracks] == [
        (n, TrackStatus.CONFIRMED) for n in (1, 2)
    ]


def test_after_a_gap_beyond_memory_nobody_takes_a_number_by_being_near():
    pipeline, detector, _ = follow([fakes.person(150)], 8)
    detector.people = (fakes.person(190),)
    tracked = pipeline(Frame(fakes.frame(8).image, 8, 8 / 30 + 5.0))
    assert all(t.last_seen < 1 for t in tracked.tracks)


@pytest.mark.parametrize("hidden", [0.7, 1.0, 1.5])
def test_who_comes_back_where_they_were_expected_is_followed_at_once(hidden):
    person = fakes.person(150)
    pipeline, detector, net = follow([person], 15)
    back = 15 + round(30 * hidden)
    for index in range(15, back + 3):
        detector.people = (person,) if index >= back else ()
        net.visible = 0.95 if index >= back else 0.05
        tracked = pipeline(fakes.frame(index))
    assert [(t.id, t.status) for t in tracked.tracks] == [(1, TrackStatus.CONFIRMED)]
