from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from simulated_people import box_of, correlated, seen, walker, wanderer

from tracker import mixture
from tracker.errors import TrackerError
from tracker.geometry import Affine, box_iou
from tracker.hypotheses import ReductionConfig
from tracker.life import LifeConfig
from tracker.metrics import squared_mahalanobis
from tracker.motion import BodyMotion, MotionConfig
from tracker.noise import NoiseConfig
from tracker.sightings import person_box
from tracker.skeleton import COCO17
from tracker.tracks import MultiTracker, TrackerConfig
from tracker.types import Detection, Mixture, PoseMixture, TrackStatus

FPS = 30
WALK = {"start": (100.0, 50.0), "velocity": (80.0, 0.0)}


def film(people, frames, seed=0, is_seen=lambda person, frame: True, tracker=None, **how):
    """What a tracker reports of some walkers, frame by frame."""
    rng = np.random.default_rng(seed)
    tracker = MultiTracker() if tracker is None else tracker
    return [
        tracker.update(
            [
                seen(walker(frame / FPS, **person), rng, **how)
                for i, person in enumerate(people)
                if is_seen(i, frame)
            ],
            frame / FPS,
        )
        for frame in range(frames)
    ]


def statuses(reports):
    return ["".join(track.status.value[0] for track in report) for report in reports]


def error(track, keypoints):
    return np.sqrt(np.square(track.keypoints - keypoints).sum(axis=1).mean())


def test_a_person_is_confirmed_with_the_third_hit_as_number_one():
    reports = film([WALK], 5)
    assert statuses(reports) == ["", "", "c", "c", "c"]
    assert {track.id for report in reports for track in report} == {1}
    assert [report[0].hits for report in reports[2:]] == [3, 4, 5]


def test_tracks_are_nearer_the_truth_than_the_poses():
    reports = film([WALK], 60)
    off = [error(r[0], walker(frame / FPS, **WALK)) for frame, r in enumerate(reports) if frame > 9]
    assert np.mean(off) < 0.75 * 3 * np.sqrt(2)


def test_two_people_cross_and_keep_their_ids_and_places():
    """Each is seen with a true and a mirrored hypothesis all the time."""
    people = [
        {"start": (100.0, 50.0), "velocity": (120.0, 0.0)},
        {"start": (500.0, 62.0), "velocity": (-120.0, 0.0)},
    ]
    reports = film(people, 100, mirrored=0.4)
    assert {track.id for report in reports for track in report} == {1, 2}
    first = {t.id: t.keypoints[:, 0].mean() for t in reports[3]}
    for track in reports[-1]:
        came_from = people[0] if first[track.id] < 300 else people[1]
        assert error(track, walker(99 / FPS, **came_from)) < 8


@pytest.mark.parametrize(("gap", "doubted"), [(5, 0), (15, 0), (30, 2), (75, 2)])
def test_a_person_hidden_for_a_while_keeps_the_id(gap, doubted):
    """At once, or as soon as what came is a track."""
    reports = film([WALK], 70 + gap, is_seen=lambda _, frame: not 30 <= frame < 30 + gap)
    back = 30 + gap + doubted
    assert statuses(reports[28:40]) == ["c", "c", *["l"] * min(gap, 10), *["c"] * max(10 - gap, 0)]
    assert statuses(reports[back - 1 : back + 2]) == ["l" if gap < 60 else "", "c", "c"]
    assert {track.id for report in reports for track in report} == {1}


def test_error_bars_and_doubt_grow_while_nobody_looks():
    reports = film([WALK], 60, is_seen=lambda _, frame: frame < 30)
    lost = [report[0] for report in reports[29:]]
    for measure in (
        lambda t: np.trace(t.keypoint_cov.sum(axis=0)),
        lambda t: -t.visible.mean(),
        lambda t: -t.existence,
    ):
        assert (np.diff([measure(track) for track in lost]) > 0).all()
    assert {track.last_seen for track in lost} == {29 / FPS}
    assert {track.hits for track in lost} == {30}


@pytest.mark.parametrize("memory", [0.5, 2.0])
def test_a_lost_person_is_forgotten_after_the_memory(memory):
    tracker = MultiTracker(TrackerConfig(life=LifeConfig(memory=memory)))
    film([WALK], 10, tracker=tracker)
    last = 9 / FPS
    assert tracker.update([], last + memory - 0.1)[0].status is TrackStatus.LOST
    assert tracker.update([], last + memory + 0.01) == ()
    assert tracker.tracks == ()


def test_a_false_alarm_is_never_reported_and_dies_fast():
    tracker = MultiTracker()
    reports = film([WALK], 6, tracker=tracker, is_seen=lambda _, frame: frame == 1)
    assert statuses(reports) == [""] * 6
    assert tracker.tracks == ()


def test_numbers_are_never_used_again_nor_wasted_on_false_alarms():
    walk_again = {"start": (900.0, 300.0), "velocity": (0.0, 0.0)}
    alarms = [{"start": (300.0 * k, 900.0)} for k in range(5)]
    tracker = MultiTracker(TrackerConfig(life=LifeConfig(memory=0.2)))
    reports = film(
        [WALK, walk_again, *alarms],
        60,
        tracker=tracker,
        is_seen=lambda i, frame: (frame < 20, frame > 30, *(frame == 4 * k for k in range(5)))[i],
    )
    assert [track.id for track in reports[19]] == [1]
    assert [track.id for track in reports[-1]] == [2]


def test_two_trackers_do_not_share_numbers():
    assert [film([WALK], 4)[-1][0].id for _ in range(2)] == [1, 1]


def test_time_must_grow():
    tracker = MultiTracker()
    tracker.update([], 1.0)
    for time in (1.0, 0.5, float("nan")):
        with pytest.raises(ValueError, match="time must grow"):
            tracker.update([], time)
    with pytest.raises(ValueError, match="cannot predict back"):
        tracker.predicted(0.9)


@pytest.mark.parametrize("after", [0, 5])
def test_poses_of_another_skeleton_are_refused_in_one_line_and_change_nothing(after):
    tracker, rng = MultiTracker(), np.random.default_rng(0)
    for i in range(after):
        tracker.update([seen(walker(i / 30), rng)], i / 30)
    pose = seen(walker(after / 30), rng)
    fewer = mixture.first(pose.mixture, 26)
    for strange in replace(pose, mixture=fewer), replace(pose, mixture=fewer, visible=np.ones(13)):
        with pytest.raises(TrackerError, match=r"26 coordinates came.* 17 keypoints.*skeleton="):
            tracker.update([pose, strange], after / 30)
    assert len(tracker.update([pose], after / 30)) == (after > 2)


def test_uneven_frames_are_followed_as_well_as_even_ones():
    rng, tracker, time = np.random.default_rng(7), MultiTracker(), 0.0
    off = []
    for _ in range(60):
        time += rng.choice([1 / 60, 1 / 30, 1 / 10])
        tracks = tracker.update([seen(walker(time, **WALK), rng)], time)
        off += [error(track, walker(time, **WALK)) for track in tracks]
    assert {track.id for track in tracks} == {1}
    assert np.mean(off) < 3 * np.sqrt(2)


def test_empty_frames_leave_an_empty_tracker():
    tracker = MultiTracker()
    assert [tracker.update([], k / FPS) for k in range(3)] == [()] * 3
    assert tracker.predicted(1.0) == ()


def test_a_pose_from_a_predicted_box_keeps_a_track_but_starts_none():
    rng, tracker = np.random.default_rng(8), MultiTracker()
    film([WALK], 10, tracker=tracker)
    for frame in range(10, 20):
        time = frame / FPS
        here, elsewhere = walker(time, **WALK), walker(time, start=(800.0, 50.0))
        tracks = tracker.update(
            [seen(here, rng, track_id=1), seen(elsewhere, rng, track_id=1)], time
        )
        assert [(track.id, track.status) for track in tracks] == [(1, TrackStatus.CONFIRMED)]
    assert len(tracker.tracks) == 1
    assert error(tracks[0], here) < 8


def test_predicted_boxes_frame_the_people_and_change_nothing():
    tracker = MultiTracker()
    film([WALK, {"start": (500.0, 300.0), "velocity": (-90.0, 20.0)}], 40, tracker=tracker)
    before = tracker.tracks
    later = 39 / FPS + 0.1
    boxes = tracker.predicted(later)
    assert tracker.tracks is before
    assert [box.track_id for box in boxes] == [1, 2]
    assert_allclose([tracker.predicted(later)[0].box], [boxes[0].box])
    truth = box_of(walker(later, **WALK))
    assert box_iou(boxes[0].box[None], truth[None])[0, 0] > 0.8
    centre = boxes[0].box.reshape(2, 2).mean(axis=0)
    assert_allclose(centre, truth.reshape(2, 2).mean(axis=0), atol=8)


def test_tentative_tracks_are_looked_at_too():
    tracker = MultiTracker()
    film([WALK], 1, tracker=tracker)
    (box,) = tracker.predicted(1 / FPS)
    assert box.track_id is not None
    assert box.track_id < 0


def test_a_box_fed_by_its_own_predictions_neither_grows_nor_shrinks():
    """A hundred frames without a detector: every crop is the tracker's own."""
    patient = TrackerConfig(life=LifeConfig(undetected_memory=1e6))
    rng, tracker = np.random.default_rng(9), MultiTracker(patient)
    still = {"start": (100.0, 50.0), "velocity": (0.0, 0.0)}
    film([still], 10, tracker=tracker)
    sizes = []
    for frame in range(10, 110):
        track_id = tracker.predicted(frame / FPS)[0].track_id
        pose = seen(walker(frame / FPS, **still), rng, track_id=track_id)
        (track,) = tracker.update([pose], frame / FPS)
        sizes.append(track.box[3] - track.box[1])
    assert abs(np.mean(sizes[-30:]) - 200) < 15


def test_hidden_keypoints_do_not_draw_the_box():
    keypoints, visible = walker(0.0), np.ones(17)
    visible[11:] = 0.05
    keypoints[11:] += 500.0
    box = person_box(keypoints, visible)
    assert box[3] < keypoints[:11, 1].max() + 50


def test_two_poses_of_one_person_make_one_track():
    rng, tracker = np.random.default_rng(10), MultiTracker()
    for frame in range(20):
        here = walker(frame / FPS, **WALK)
        tracks = tracker.update([seen(here, rng), seen(here + 4.0, rng)], frame / FPS)
    assert [track.id for track in tracker.tracks] == [1]
    assert [track.id for track in tracks] == [1]


def test_of_two_tracks_that_become_one_person_the_younger_goes():
    """Two people merge, as when a mirror image or a poster was one of them."""
    meets = [
        {"start": (100.0, 50.0), "velocity": (0.0, 0.0)},
        {"start": (400.0, 50.0), "velocity": (-300.0, 0.0)},
    ]
    rng, tracker = np.random.default_rng(11), MultiTracker()
    ids = []
    for frame in range(150):
        time = frame / FPS
        places = [walker(time, **meets[0]), walker(min(time, 1.0), **meets[1])]
        places[1][:, 0] += 4.0
        tracks = tracker.update([seen(place, rng) for place in places], time)
        ids.append([track.id for track in tracks])
    assert [1, 2] in ids
    assert ids[-1] == [1]


def test_a_pose_without_a_person_in_it_counts_as_missed():
    reports = film([WALK], 10)
    tracker, rng = MultiTracker(), np.random.default_rng(12)
    film([WALK], 10, tracker=tracker)
    pose = seen(walker(10 / FPS, **WALK), rng, visible=0.05)
    (track,) = tracker.update([pose], 10 / FPS)
    assert track.status is TrackStatus.LOST
    assert track.hits == reports[-1][0].hits


def test_a_prediction_that_failed_is_given_up_for_what_is_seen():
    """The camera is bumped: everybody is a fifth of a height away in one frame."""
    rng, tracker = np.random.default_rng(13), MultiTracker()
    film([WALK], 20, tracker=tracker)
    for frame in range(20, 25):
        here = walker(frame / FPS, **WALK) + np.array([15.0, 35.0])
        (track,) = tracker.update([seen(here, rng)], frame / FPS)
        assert track.id == 1
    assert error(track, here) < 8


def test_one_wild_keypoint_in_every_frame_disturbs_nobody_else():
    reports = film([WALK], 40, outlier=(9, np.array([0.0, -300.0])))
    track = reports[-1][0]
    off = np.linalg.norm(track.keypoints - walker(39 / FPS, **WALK), axis=1)
    assert {t.id for report in reports for t in report} == {1}
    assert np.delete(off, 9).max() < 12


def test_reported_errors_hold_what_they_promise():
    """Where errors are independent the inflation makes the error bars wide, never narrow."""
    inside, total = 0, 0
    for seed in range(4):
        for frame, report in enumerate(film([WALK], 40, seed=seed)):
            for track in report:
                d = track.keypoints - walker(frame / FPS, **WALK)
                nees = (d * np.linalg.solve(track.keypoint_cov, d[..., None])[..., 0]).sum(axis=1)
                inside, total = inside + (nees < 5.99).sum(), total + 17
    assert 0.95 < inside / total < 1


NETWORK_COV = 4.0 * np.eye(34) + 1.5 * np.kron(np.ones((17, 17)), np.eye(2))


def follow_with_correlated_errors(rho, config, frames=90, seed=0, skip=15):
    """NEES of the pose for each dimension, share inside 95 % ellipses, and the tracker."""
    rng, tracker = np.random.default_rng(seed), MultiTracker(config)
    path = wanderer(BodyMotion.of(COCO17, config.motion), frames, rng)
    errors = correlated(np.repeat(NETWORK_COV[None], frames, axis=0), rho, rng)
    nees, inside = [], []
    for frame, (truth, error) in enumerate(zip(path, errors, strict=True)):
        mix = Mixture((truth.ravel() + error)[None], NETWORK_COV[None], np.zeros(1))
        pose = PoseMixture(Detection(box_of(truth), 0.9), mix, np.full(17, 0.95))
        tracks = tracker.update([pose], frame / FPS)
        if frame >= skip:
            (track,) = tracks
            off = track.keypoints - truth
            cov = track.state.cov[track.state.heaviest, :34, :34]
            nees.append(squared_mahalanobis(off.reshape(1, 34), cov[None])[0] / 34)
            inside.append((squared_mahalanobis(off, track.keypoint_cov) < 5.99).mean())
    return np.mean(nees), np.mean(inside), tracker


LIVELY = TrackerConfig(motion=MotionConfig(kappa=0.5), noise=NoiseConfig(floor=0.0))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_error_bars_are_honest_however_much_errors_of_successive_frames_are_alike(rho):
    """Nobody tells the tracker how much that is."""
    runs = [follow_with_correlated_errors(rho, LIVELY, seed=seed) for seed in range(3)]
    assert 0.85 < np.mean([nees for nees, _, _ in runs]) < 1.15
    assert 0.93 < np.mean([inside for _, inside, _ in runs]) < 0.975
    assert np.mean([t.error_correlation for *_, t in runs]) == pytest.approx(rho, abs=0.2)


@pytest.mark.parametrize(("pace", "least", "most"), [(0, 0.2, 0.3), (1, 0.3, 0.7), (3, 1.6, 3.0)])
def test_how_lively_a_person_is_is_learnt_and_error_bars_hold(pace, least, most):
    """Whatever the scale of the network's error bars is."""
    rng = np.random.default_rng(0)
    errors = correlated(np.repeat(NETWORK_COV[None], 80, axis=0), 0.5, rng)
    for scale in (1.0, 2.0):
        tracker, nees = MultiTracker(TrackerConfig(noise=NoiseConfig(scale=scale))), []
        for frame, error in enumerate(errors):
            truth = walker(pace * frame / FPS)
            mix = Mixture((truth.ravel() + error)[None], NETWORK_COV[None], np.zeros(1))
            pose = PoseMixture(Detection(box_of(truth), 0.9), mix, np.full(17, 0.95))
            (*_, track) = tracker.update([pose], frame / FPS) or [None]
            if frame > 30:
                off = track.keypoints - truth
                nees.append(squared_mahalanobis(off, track.keypoint_cov).mean() / 2)
        assert least <= track.liveliness < most
        if scale == 1.0:
            assert 0.7 < np.mean(nees) < 1.1


def test_taking_correlated_errors_for_independent_ones_is_overconfident():
    plain = replace(LIVELY, noise=NoiseConfig(model="inflate", inflation=1.0, floor=0.0))
    nees, inside, tracker = follow_with_correlated_errors(0.8, plain)
    assert nees > 1.2
    assert inside < 0.9
    # What can be watched without truth says the opposite: R must not be scaled by it.
    assert tracker.consistency.nis < 0.5


def test_honest_poses_raise_no_complaint_and_overconfident_ones_do():
    _, _, honest = follow_with_correlated_errors(0.5, LIVELY, frames=110)
    assert honest.consistency.complaint is None
    assert honest.tracks[0].consistency.coverage > 0.9
    small = replace(LIVELY, noise=replace(LIVELY.noise, scale=0.05, rho=0.0, learn_rho=False))
    _, _, sure = follow_with_correlated_errors(0.0, small, frames=110)
    assert "too small" in sure.consistency.complaint


@pytest.mark.parametrize("per_keypoint", [False, True])
@pytest.mark.parametrize("lag", [0, 3])
def test_errors_that_last_are_reported_and_nothing_else_is_changed(per_keypoint, lag):
    reduction = ReductionConfig(per_keypoint=per_keypoint)
    plain = MultiTracker(TrackerConfig(reduction=reduction, lag=lag))
    honest = MultiTracker(
        TrackerConfig(noise=NoiseConfig(lasting=0.2), reduction=reduction, lag=lag)
    )
    rng, poses = np.random.default_rng(2), []
    for frame in range(12):
        poses.append(seen(walker(frame / FPS, **WALK), rng, mirrored=0.3))
        for tracker in plain, honest:
            tracker.update(poses[-1:], frame / FPS)
    (without,), (track,) = plain.smoothed(lag), honest.smoothed(lag)
    assert_allclose(track.state.mean, without.state.mean)
    assert_allclose(track.state.cov, without.state.cov)
    added = 0.2 * mixture.moments(poses[-1 - lag].mixture).cov
    if per_keypoint:
        added = added * np.kron(np.eye(17), np.ones((2, 2)))
    assert_allclose(track.pose.cov[0], track.state.cov[0, :34, :34] + added)
    blocks = Mixture(np.zeros((1, 34)), added[None], np.zeros(1)).point_cov(17)[0]
    assert_allclose(track.keypoint_cov, without.keypoint_cov + blocks)


def test_whoever_gets_lost_keeps_the_errors_that_last():
    tracker = MultiTracker(TrackerConfig(noise=NoiseConfig(lasting=0.2)))
    before = film([WALK], 10, tracker=tracker)[-1][0]
    (after,) = tracker.update([], 10 / FPS)
    assert after.status is TrackStatus.LOST
    assert_allclose(after.lasting, before.lasting)


def test_one_gaussian_for_each_keypoint_follows_too():
    config = TrackerConfig(reduction=ReductionConfig(per_keypoint=True))
    reports = film([WALK], 40, tracker=MultiTracker(config), mirrored=0.3)
    (track,) = reports[-1]
    assert error(track, walker(39 / FPS, **WALK)) < 12
    cov = track.state.cov[0].reshape(2, 17, 2, 2, 17, 2)
    assert (cov[:, 3, :, :, 4] == 0).all()
    assert (np.linalg.eigvalsh(track.state.cov[0]) > 0).all()
    assert len(track.state) == 1


@pytest.mark.parametrize("per_keypoint", [False, True])
def test_the_error_bars_of_people_out_of_sight_are_honest(per_keypoint):
    """They walk on as the tracker says unseen people do."""
    rng = np.random.default_rng(4)
    config = TrackerConfig(reduction=ReductionConfig(per_keypoint=per_keypoint))
    tracker, body = MultiTracker(config), BodyMotion.of(COCO17, config.motion)
    F, Q = body.unseen(1 / FPS)
    shake = np.linalg.cholesky(200.0**2 * Q + 1e-9 * np.eye(68))
    start = np.stack([walker(0.0, start=(2000.0 * i, 50.0)).ravel() for i in range(16)])
    x = np.concatenate([start, np.tile(100 * rng.normal(size=(16, 2)), 17)], axis=1)
    inside = []
    for frame in range(60):
        x = x @ F.T + rng.normal(size=(16, 68)) @ shake.T
        truth = x[:, :34].reshape(16, 17, 2)
        poses = [seen(keypoints, rng) for keypoints in truth] if frame < 30 else []
        tracks = sorted(tracker.update(poses, frame / FPS), key=lambda t: t.keypoints[0, 0])
        if frame >= 35:
            both = zip(tracks, truth, strict=True)
            off = [squared_mahalanobis(t.keypoints - at, t.keypoint_cov) for t, at in both]
            inside.append(np.mean(np.array(off) < 5.99))
    assert np.mean(inside) > 0.9


def test_the_order_of_poses_does_not_matter():
    people = [WALK, {"start": (300.0, 60.0), "velocity": (-80.0, 0.0)}]
    runs = []
    for order in (1, -1):
        rng, tracker = np.random.default_rng(14), MultiTracker()
        for frame in range(30):
            poses = [seen(walker(frame / FPS, **person), rng) for person in people]
            tracks = tracker.update(poses[::order], frame / FPS)
        runs.append(sorted(tracks, key=lambda t: t.keypoints[0, 0]))
    for one, other in zip(*runs, strict=True):
        assert_allclose(one.keypoints, other.keypoints, atol=1e-6)
        assert_allclose(one.keypoint_cov, other.keypoint_cov, atol=1e-6)


def test_a_larger_picture_is_the_same_scene():
    """Positions scale by three and covariances by nine, where no length in pixels is set."""
    config = TrackerConfig(noise=NoiseConfig(floor=0.0))
    runs = []
    for scale in (1.0, 3.0):
        rng, tracker = np.random.default_rng(15), MultiTracker(config)
        for frame in range(25):
            pose = seen(walker(frame / FPS, **WALK), rng)
            grown = Affine(scale * np.eye(2), np.zeros(2)).mixture(pose.mixture)
            box = Detection(scale * pose.detection.box, 0.9)
            tracks = tracker.update([PoseMixture(box, grown, pose.visible)], frame / FPS)
        runs.append(tracks[0])
    assert_allclose(3 * runs[0].keypoints, runs[1].keypoints, rtol=1e-6)
    assert_allclose(9 * runs[0].keypoint_cov, runs[1].keypoint_cov, rtol=1e-5)


def test_a_faint_detection_starts_nobody_but_goes_on_with_somebody():
    rng, tracker = np.random.default_rng(16), MultiTracker()
    film([WALK], 10, tracker=tracker)
    for frame in range(10, 16):
        time = frame / FPS
        both = [seen(walker(time, **WALK), rng), seen(walker(time, start=(800.0, 50.0)), rng)]
        faint = [replace(p, detection=replace(p.detection, score=0.1)) for p in both]
        tracks = tracker.update(faint, time)
        assert [(t.id, t.status) for t in tracks] == [(1, TrackStatus.CONFIRMED)]
    assert len(tracker.tracks) == 1


def test_looking_ahead_moves_people_on_and_widens_their_bars():
    tracker = MultiTracker()
    film([WALK], 30, tracker=tracker)
    now, later = 29 / FPS, 29 / FPS + 0.1
    (today,), (ahead,) = tracker.at(now), tracker.at(later)
    assert ahead.time == later
    shift = (ahead.keypoints - today.keypoints).mean(axis=0)
    assert_allclose(shift, [8.0, 0.0], atol=3)
    assert np.trace(ahead.keypoint_cov.sum(axis=0)) > np.trace(today.keypoint_cov.sum(axis=0))
    assert tracker.time == now


def test_a_track_that_only_its_own_predictions_keep_alive_is_dropped():
    """A pose network gives a pose wherever it is asked to look: a ghost would live forever."""
    rng, tracker = np.random.default_rng(17), MultiTracker()
    film([WALK], 10, tracker=tracker)
    alive = []
    for frame in range(10, 85):
        pose = seen(walker(frame / FPS, **WALK), rng, track_id=1)
        alive.append(bool(tracker.update([pose], frame / FPS)))
    seconds = sum(alive) / FPS
    assert 1.9 < seconds < 2.1
    assert alive == sorted(alive, reverse=True)


def test_looks_for_a_tentative_track_do_not_confirm_it():
    """A pose network gives a pose wherever it looks: only detections make somebody real."""
    rng, tracker = np.random.default_rng(18), MultiTracker()
    film([WALK], 1, tracker=tracker)
    for frame in range(1, 8):
        (ghost,) = tracker.tracks
        pose = seen(walker(frame / FPS, **WALK), rng, track_id=ghost.id)
        assert tracker.update([pose], frame / FPS) == ()


@pytest.mark.parametrize(("score", "frames"), [(0.9, 3), (0.7, 3), (0.45, 13)])
def test_the_nearer_a_score_is_to_that_of_a_birth_the_longer_a_person_is_doubted(score, frames):
    rng, tracker = np.random.default_rng(19), MultiTracker()
    for frame in range(40):
        pose = seen(walker(frame / FPS, **WALK), rng)
        pose = replace(pose, detection=replace(pose.detection, score=score))
        if tracker.update([pose], frame / FPS):
            break
    assert frame + 1 == pytest.approx(frames, abs=1)


@pytest.mark.parametrize(("region", "ids"), [(0.3, [1]), (0.0, [1, 2])])
def test_a_vaguer_second_pose_of_a_person_starts_nobody(region, ids):
    """Half a body in a second box: its keypoints are far off, as its error bars say."""
    config = TrackerConfig(life=LifeConfig(same_region=region))
    rng, tracker = np.random.default_rng(20), MultiTracker(config)
    for frame in range(20):
        here = walker(frame / FPS, **WALK)
        half = seen(here, rng)
        shift = np.tile([20.0, 5.0], 17)
        vague = replace(
            half.mixture, mean=half.mixture.mean + shift, cov=half.mixture.cov + 900 * np.eye(34)
        )
        box = Detection(half.detection.box * [1, 1, 1, 0.6], 0.8)
        tracker.update([seen(here, rng), PoseMixture(box, vague, 0.6 * half.visible)], frame / FPS)
    assert [track.id for track in tracker.tracks] == ids


def test_who_comes_back_has_the_old_number_also_in_smoothed_reports():
    tracker = MultiTracker(TrackerConfig(lag=5))
    gone = range(30, 65)
    ids = []
    rng = np.random.default_rng(21)
    for frame in range(90):
        poses = [] if frame in gone else [seen(walker(frame / FPS, **WALK), rng)]
        tracker.update(poses, frame / FPS)
        if frame >= 5:
            ids.append([track.id for track in tracker.smoothed(5)])
    assert ids[-1] == [1]
    assert all(len(report) <= 1 for report in ids)
    assert {number for report in ids for number in report} == {1}
