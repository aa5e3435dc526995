import numpy as np
import pytest
from filterpy.kalman import KalmanFilter
from numpy.testing import assert_allclose
from simulated_people import box_of, correlated, seen, walker
from test_kalman import correlated_run, echoed_steps, joint_of_walk

from tracker import kalman
from tracker.hypotheses import ReductionConfig
from tracker.motion import BodyMotion
from tracker.noise import NoiseConfig
from tracker.pipeline import WHOLE, Delay
from tracker.skeleton import COCO17
from tracker.smoothing import Link
from tracker.tracks import MultiTracker, TrackerConfig
from tracker.types import Detection, Frame, Mixture, PoseMixture, TrackedFrame, TrackStatus

FPS = 30
PLAIN = NoiseConfig(
    model="inflate", inflation=1.0, floor=0.0, outlier_weight=1e-300, joint_gate=1.0, prior_std=1e9
)
WALK = {"start": (100.0, 50.0), "velocity": (80.0, 0.0)}


def smooth(tracker, poses, back):
    """What a tracker says of every frame once `back` more have been seen, then of the rest."""
    reports = []
    for frame, pose in enumerate(poses):
        tracker.update([] if pose is None else [pose], frame / FPS)
        if frame >= back:
            reports.append(tracker.smoothed(back))
    return reports + [tracker.smoothed(k) for k in range(min(back, len(poses)) - 1, -1, -1)]


def test_a_long_lag_is_filterpys_rauch_tung_striebel_smoother():
    rng = np.random.default_rng(0)
    poses = [seen(walker(k / FPS), rng, hypotheses=1) for k in range(7)]
    config = TrackerConfig(noise=PLAIN, lag=6)
    reports = smooth(MultiTracker(config), poses, 6)
    body = BodyMotion.of(COCO17, config.motion)
    F, Q = body.seen(1 / FPS)
    oracle = KalmanFilter(dim_x=68, dim_z=34)
    oracle.x, oracle.P = np.zeros(68), np.zeros((68, 68))
    first = poses[0].mixture
    oracle.x[:34], oracle.P[:34, :34] = first.mean[0], first.cov[0]
    height = np.ptp(poses[0].detection.box.reshape(2, 2), axis=0).max()
    oracle.P[34:, 34:] = height**2 * body.start_cov
    oracle.F, oracle.H = F, np.eye(34, 68)
    means, covs, noises = [oracle.x], [oracle.P], [Q]
    tracker = MultiTracker(TrackerConfig(noise=PLAIN))
    tracker.update([poses[0]], 0.0)
    for k, pose in enumerate(poses[1:], start=1):
        # The unit of motion is the long side of the track's box, which changes a little.
        box = tracker.tracks[0].box
        oracle.Q = np.ptp(box.reshape(2, 2), axis=0).max() ** 2 * Q
        oracle.predict()
        oracle.update(pose.mixture.mean[0], R=pose.mixture.cov[0])
        means.append(oracle.x)
        covs.append(oracle.P)
        noises.append(oracle.Q)
        tracker.update([pose], k / FPS)
    x, P, *_ = oracle.rts_smoother(np.array(means), np.array(covs), Qs=noises)
    for k, report in enumerate(reports):
        (track,) = report
        assert_allclose(track.state.mean[0], x[k], rtol=1e-6, atol=1e-6)
        assert_allclose(track.state.cov[0], P[k], rtol=1e-5, atol=1e-5)


def test_smoothing_with_correlated_errors_is_conditioning_the_joint_gaussian():
    rho = 0.7
    F, Q, P0, R, zs = correlated_run(rho)
    n, D = zs.shape
    state_cov, measured = joint_of_walk(F, Q, P0, R, rho, n)
    # The present state and, from the second frame on, the last one after it.
    x, P = np.zeros(2 * D), P0
    echo = kalman.Echo(np.zeros(D), np.zeros((D, D)), np.zeros((2 * D, D)))
    gain, links = np.zeros(D), []
    for k, z in enumerate(zs):
        S = kalman.with_echo(P[:D, :D], R, echo, gain, np.sqrt(1 - gain**2))
        innovation = kalman.innovate(z - x[:D] - gain * echo.mean, S, np.ones(D, dtype=bool))
        x, P = kalman.update(x, P, P[:, :D] + echo.cross * gain, innovation)
        if k > 0:
            links.append(Link.of(1, Mixture(x[None], P[None], np.zeros(1))))
        if k < n - 1:
            x, P = x[: 2 * D], P[: 2 * D, : 2 * D]
            ahead, ahead_cov = kalman.predict(x, P, F, Q)
            echo = kalman.Echo(z - x[:D], P[:D, :D], -np.vstack([F @ P[:, :D], P[:, :D]]))
            x, P = np.append(ahead, x), np.block([[ahead_cov, F @ P], [P @ F.T, P]])
            gain = np.full(D, rho)
    told = links[-1].present
    *_, (want_x, _, _) = echoed_steps(F, Q, P0, R, zs, rho)
    assert_allclose(told.mean[0], want_x, rtol=1e-9)
    for i, link in reversed(list(enumerate(links))):
        told = link.back(told)
        cross = np.hstack([state_cov(i, j)[:, :D] for j in range(n)])
        weights = np.linalg.solve(measured, cross.T).T
        assert_allclose(told.mean[0], weights @ zs.ravel(), rtol=1e-6, atol=1e-7)
        want = state_cov(i, i) - weights @ cross.T
        assert_allclose(told.cov[0], want, rtol=1e-6, atol=1e-7)


def test_later_frames_bring_smoothed_poses_nearer_the_truth_with_honest_bars():
    rng, n = np.random.default_rng(3), 60
    R = 9.0 * np.eye(34)
    errors = correlated(np.repeat(R[None], n, axis=0), 0.5, rng)
    truth = [walker(k / FPS, **WALK) for k in range(n)]
    poses = [
        PoseMixture(
            Detection(box_of(xy), 0.9),
            Mixture((xy.ravel() + e)[None], R[None], np.zeros(1)),
            np.full(17, 0.95),
        )
        for xy, e in zip(truth, errors, strict=True)
    ]
    off, inside, bars = {}, {}, {}
    for back in (0, 2, 5):
        reports = smooth(MultiTracker(TrackerConfig(lag=back)), poses, back)[10:]
        pairs = [(r[0], xy) for r, xy in zip(reports, truth[10:], strict=True)]
        error = np.array([t.keypoints - xy for t, xy in pairs])
        cov = np.array([t.keypoint_cov for t, _ in pairs])
        nees = (error * np.linalg.solve(cov, error[..., None])[..., 0]).sum(axis=-1)
        off[back] = np.square(error).mean()
        inside[back], bars[back] = (nees < 5.99).mean(), np.trace(cov, axis1=-2, axis2=-1).mean()
    assert off[5] < off[2] < off[0]
    assert bars[5] < bars[2] < bars[0]
    assert min(inside.values()) > 0.93


def test_a_gap_is_bridged_from_both_sides():
    rng = np.random.default_rng(4)
    poses = [
        None if 20 <= k < 26 else seen(walker(k / FPS, **WALK), rng, hypotheses=1)
        for k in range(40)
    ]
    reports = smooth(MultiTracker(TrackerConfig(lag=10)), poses, 10)
    live = MultiTracker(TrackerConfig())
    for k in range(24):
        now = live.update([] if poses[k] is None else [poses[k]], k / FPS)
    (late,) = reports[23]
    assert late.status is TrackStatus.LOST
    assert late.time == now[0].time
    truth = walker(23 / FPS, **WALK)
    assert np.linalg.norm(late.keypoints - truth, axis=1).mean() < 6
    assert np.trace(late.keypoint_cov.sum(axis=0)) < 0.5 * np.trace(now[0].keypoint_cov.sum(axis=0))


def test_a_file_smoothed_in_blocks_is_the_file_smoothed_as_a_whole():
    """What is farther away than half of `WHOLE` frames tells nothing."""
    rng, n = np.random.default_rng(8), WHOLE + 30
    poses = [
        None if 30 <= k < 50 else seen(walker(k / FPS, **WALK), rng, hypotheses=1) for k in range(n)
    ]
    tracker, whole = MultiTracker(TrackerConfig(lag=WHOLE)), MultiTracker(TrackerConfig(lag=n))
    delay, told = Delay(tracker), []
    picture = np.zeros((4, 4, 3), np.uint8)
    for k, pose in enumerate(poses):
        for each in (tracker, whole):
            tracks = each.update([] if pose is None else [pose], k / FPS)
        told += delay(TrackedFrame(Frame(picture, k, k / FPS), tracks))
    told += delay.rest()
    assert [tracked.frame.index for tracked in told] == list(range(n))
    for tracked, want in zip(told, whole.smoothed_since(n - 1), strict=True):
        (a,), (b,) = tracked.tracks, want
        assert (a.id, a.status, a.time) == (b.id, b.status, b.time)
        assert_allclose(a.keypoints, b.keypoints, atol=0.01)
        assert_allclose(a.keypoint_cov, b.keypoint_cov, rtol=1e-3, atol=1e-3)


def test_people_who_are_confirmed_later_are_shown_from_their_first_frame():
    rng = np.random.default_rng(5)
    poses = [seen(walker(k / FPS, **WALK), rng) for k in range(12)]
    reports = smooth(MultiTracker(TrackerConfig(lag=5)), poses, 5)
    assert [[t.id for t in report] for report in reports] == [[1]] * 12


@pytest.mark.parametrize("per_keypoint", [False, True])
def test_rivals_of_the_past_are_settled_too(per_keypoint):
    """Crossed legs that later frames rule out are no rival of the smoothed pose."""
    rng = np.random.default_rng(6)
    poses = [
        seen(walker(0.25), rng, mirrored=0.45 if k < 20 else 0.0, hypotheses=4) for k in range(24)
    ]
    reduction = ReductionConfig(per_keypoint=per_keypoint)
    reports = smooth(MultiTracker(TrackerConfig(lag=8, reduction=reduction)), poses, 8)
    (track,) = reports[18]
    assert len(track.state) == 1
    if not per_keypoint:
        assert np.linalg.norm(track.keypoints - walker(0.25), axis=1).max() < 12


def test_one_cannot_look_back_farther_than_was_kept():
    tracker = MultiTracker(TrackerConfig(lag=2))
    tracker.update([], 0.0)
    assert tracker.smoothed(0) == ()
    with pytest.raises(ValueError, match="can look 0 to 0 frames back, got 1"):
        tracker.smoothed(1)
