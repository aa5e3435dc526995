"""The simulator is calibrated as it claims, and the contest is what it says."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import block_diag

from benchmarks.tracking import __main__ as contest
from benchmarks.tracking import (
    identities,
    ladder,
    motion,
    ours,
    peer_runner,
    peers,
    plots,
    returns,
    simple,
    speed,
)
from benchmarks.tracking.crowd import CrowdConfig, crowd
from benchmarks.tracking.frozen import Detections, load, save
from benchmarks.tracking.ladder import RUNGS, Rung
from benchmarks.tracking.peers import Job, Peers
from benchmarks.tracking.simulator import D, J, NetworkConfig, Person, person
from tracker.errors import TrackerError
from tracker.mixture import moments
from tracker.motion import BodyMotion, MotionConfig
from tracker.skeleton import COCO17

PLAIN = NetworkConfig(doubt=0.0)
FACING = motion.gait(False)(np.random.default_rng(0), 60)[0]
"""One posture, heights."""


def standing(rng: np.random.Generator, n: int) -> motion.Clip:
    """Somebody who never moves."""
    return np.repeat(FACING[None], n, axis=0)


def still(config: NetworkConfig, n: int, seed: int = 0) -> Person:
    """What the network says of them."""
    rng = np.random.default_rng(seed)
    return person(standing(rng, n), 200.0, config, rng)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_errors_have_the_covariance_and_the_correlation_that_are_claimed(rho):
    someone, n = still(NetworkConfig(rho=rho, doubt=0.0, hide=0.05), 1500), 1500
    white = np.stack(
        [
            np.linalg.solve(np.linalg.cholesky(p.mixture.cov[0]), p.mixture.mean[0] - t.ravel())
            for p, t in zip(someone.poses, someone.truth, strict=True)
        ]
    )
    # Standard errors of a first-order autoregressive process of variance one, over n frames.
    long = (1 + rho**2) / (1 - rho**2)
    square = white.T @ white / n
    assert np.abs(np.diag(square) - 1).max() < 5 * np.sqrt(2 * long / n)
    assert np.abs(square - np.diag(np.diag(square))).max() < 5.5 * np.sqrt(long / n)
    assert abs(np.trace(square) / D - 1) < 5 * np.sqrt(2 * long / n / D)
    next_to = (white[1:] * white[:-1]).mean() / (white**2).mean()
    assert abs(next_to - rho) < 5 * np.sqrt((1 - rho**2) / n / D)
    assert np.ptp([np.trace(p.mixture.cov[0]) for p in someone.poses]) > 0  # some limbs were hidden


def test_hypotheses_are_right_as_often_as_they_claim():
    config = NetworkConfig(rho=0.0, doubt=1.0, doubt_for=1.5, hide=0.0, whole_events=False)
    told, right = [], []
    someone = still(config, 1500)
    for pose, truth in zip(someone.poses, someone.truth, strict=True):
        if len(pose.mixture) == 2:
            off = np.abs(pose.mixture.mean - truth.ravel()).max(axis=1)
            told.append(np.exp(pose.mixture.log_weight[0]))
            right.append(off[0] < off[1])
    told, right = np.array(told), np.array(right)
    assert len(told) > 600
    error = np.sqrt((told * (1 - told)).sum())
    assert abs(right.sum() - told.sum()) < 5 * error
    # And also where the claim is strong.
    sure = told > 0.6
    assert abs(right[sure].sum() - told[sure].sum()) < 5 * np.sqrt(sure.sum() / 4)
    assert right[sure].mean() > 0.6 > 0.4 > right[told < 0.4].mean()


@pytest.mark.parametrize("source", ["gait", *motion.sources()])
def test_clips_move_in_place_and_have_height_one(source):
    draw = getattr(motion, source)
    clip = draw(False)(np.random.default_rng(1), 90)
    assert clip.shape == (90, J, 2)
    assert np.isfinite(clip).all()
    assert 0.7 < np.median((clip.max(axis=1) - clip.min(axis=1)).max(axis=1)) < 1.3
    assert np.abs(clip[:, [11, 12]].mean(axis=1)).max() < 0.6
    assert 0 < np.linalg.norm(np.diff(clip, axis=0), axis=-1).max() < 0.3


def test_without_motion_capture_people_walk_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(motion, "MOCAP", tmp_path)
    assert motion.sources() == {"gait": motion.gait}


# --- crowds -------------------------------------------------------------------------------------

SMALL = CrowdConfig(people=3, frames=40)


def test_a_seed_gives_one_scene_and_clutter_is_what_nobody_is():
    draw = standing
    one, same = crowd(draw, SMALL, 3), crowd(draw, SMALL, 3)
    np.testing.assert_array_equal(one.for_peers()["box"], same.for_peers()["box"])
    calm = crowd(draw, CrowdConfig(people=3, frames=40, clutter=False), 3)
    assert len(calm.for_peers()["score"]) <= 3 * 40 < len(one.for_peers()["score"])
    assert sum(map(len, calm.truth.values())) == 3 * 40


def test_who_is_covered_is_found_less_often():
    config = CrowdConfig(people=2, frames=60, clutter=False, mistaken=0.0)
    found = {covered: [] for covered in (False, True)}
    for seed in range(20):
        scene = crowd(standing, config, seed)
        for f, people in scene.truth.items():
            near, far = people.box
            covered = abs((near[0] + near[2]) - (far[0] + far[2])) / 2 < 15
            found[bool(covered)].append(len(scene.poses[f]))
    assert np.mean(found[False]) > 1.9
    assert len(found[True]) > 5
    assert np.mean(found[True]) < np.mean(found[False]) - 0.1


def test_frozen_poses_are_the_poses(tmp_path):
    someone = still(NetworkConfig(doubt=0.0), 4)
    poses = (someone.poses[:1], (), someone.poses[1:3])
    save(tmp_path / "new" / "clip.npz", poses)
    back = load(tmp_path / "new" / "clip.npz")
    assert list(map(len, back)) == [1, 0, 2]
    np.testing.assert_array_equal(back[2][1].mixture.cov, poses[2][1].mixture.cov)
    np.testing.assert_array_equal(back[0][0].detection.box, poses[0][0].detection.box)


# --- the contest --------------------------------------------------------------------------------


def apart() -> Detections:
    """Two people who stay far apart, at times unseen, in changing order."""
    scene = speed._scene(standing, 2, 1, 40)
    poses = tuple(p[:: (-1) ** f] if f % 9 else p[:1] for f, p in enumerate(scene.poses))
    truth = {}
    for f, people in enumerate(scene.poses):
        truth[f] = simple._people(people)
        truth[f].ids[:] = [0, 1]
    return Detections("apart", 30.0, poses, truth)


@pytest.mark.parametrize("name", ["ours", *simple.BASELINES])
def test_the_easy_scene_is_easy_for_everybody(name):
    scene = apart()
    one = identities.contestants(Peers(()))[name]
    (answers,) = one.follow([scene], [{}])
    found = identities.standing(name, {}, [scene], answers)
    assert found.switches == [0]
    assert found.keypoints is not None
    assert found.keypoints.hota > 0.75
    assert found.step_ms > 0


def test_tuning_takes_the_best_of_its_draws():
    scene, tried = apart(), []

    def follow(scenes, setups):
        tried.extend(setups)
        good = dict(scene.truth)
        answers = [good if o == setups[2] else {} for o in setups]
        return [[ours.Answer(a, np.zeros(1))] for a in answers]

    one = identities.Contestant(follow, {"x": ours.Knob(2, 6, whole=True), "y": ours.Knob(0, 1)})
    best = identities.tune(one, [scene], 5)
    assert len(tried) == 5
    assert tried[0] == {}
    assert best == tried[2]
    assert all(o["x"] in range(2, 7) and 0 <= o["y"] <= 1 for o in tried[1:])


def test_every_knob_of_ours_turns_something():
    for name, knob in ours.KNOBS.items():
        assert ours.configured({name: knob.high}) != ours.DEFAULT


def test_the_runner_gives_back_who_got_what(tmp_path, monkeypatch):
    class Rank:
        """The number of a track is the rank of its detection from the left."""

        def __init__(self, options, scene):
            self.first = int(options["first"])

        def update(self, rows, box, score, keypoints, visible):
            order = np.argsort(box[:, 0])
            return (self.first + np.arange(len(rows))).tolist(), rows[order].tolist()

    monkeypatch.setitem(peer_runner.TRACKERS, "norfair", Rank)
    monkeypatch.setattr(peers, "_call", lambda command: peer_runner.main(*command[2:]))
    scene = apart()
    found = Peers(())
    found.found["norfair"] = Path(sys.executable)
    (answer,) = found.run([Job("norfair", {"first": 5.0}, "apart")], [scene])
    assert len(answer.seconds) == 40
    for f, poses in enumerate(scene.poses):
        left = sorted(p.detection.box[0] for p in poses)
        assert answer.people[f].ids.tolist() == [5, 6][: len(poses)]
        assert answer.people[f].box[:, 0].tolist() == left


def test_peers_that_are_not_there_are_named_and_a_failing_one_is_told(tmp_path):
    nobody = Peers([tmp_path / "python"])
    assert nobody.found == {}
    assert "norfair" in nobody.absent
    nobody.found["norfair"] = Path("/bin/false")
    with pytest.raises(TrackerError, match="failed with the peers"):
        nobody.run([Job("norfair", {}, "apart")], [apart()])


# --- returns ------------------------------------------------------------------------------------


def test_who_is_alone_and_comes_back_is_known_again_and_a_new_number_is_told():
    scenes = [crowd(motion.gait(False), CrowdConfig(people=1, frames=240, away=(1.0, 1.2)), 1)]
    perfect = returns._informed(scenes[0])
    assert returns.count("", {}, scenes, [perfect]).kept == 1
    ids = {f: np.where(people.ids > 0, people.ids + (f > 130), people.ids)
           for f, people in perfect.people.items()}  # fmt: skip
    renamed = {f: replace(people, ids=ids[f]) for f, people in perfect.people.items()}
    told = returns.count("", {}, scenes, [replace(perfect, people=renamed)])
    assert (told.kept, told.renamed, told.confused) == (0, 1, 0)


# --- the ladder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(RUNGS))
def test_every_rung_finds_somebody_who_stands_still(name):
    someone = still(NetworkConfig(rho=0.0, doubt=0.0, hide=0.0), 60)
    told = ladder.score(RUNGS[name].follow(someone, {}), someone)
    raw = ladder.score(RUNGS["raw"].follow(someone, {}), someone)
    assert told.keypoints == (60 - ladder.WARM_UP) * J
    assert told.rmse < (1.001 if name == "raw" else 0.85) * raw.rmse


def test_full_noise_gives_the_joint_posterior_of_a_short_sequence():
    """Last position given all frames, from the joint Gaussian of positions without any filter."""
    someone, n = still(PLAIN, 4), 4
    motion_ = BodyMotion.of(COCO17, MotionConfig())
    F, Q = motion_.seen(1 / someone.fps)
    Q = someone.height**2 * Q
    seen = [moments(p.mixture) for p in someone.poses]
    R = [m.cov + 0.25 * np.eye(D) for m in seen]
    start = block_diag(R[0], someone.height**2 * motion_.start_cov)
    # State t is F^t x₀ + Σ F^(t-s) qₛ: covariances of all pairs.
    P = [start]
    for _ in range(n - 1):
        P.append(F @ P[-1] @ F.T + Q)
    joint = np.zeros((n, 2 * D, n, 2 * D))
    for s in range(n):
        moved = P[s]
        for t in range(s, n):
            joint[t, :, s, :], joint[s, :, t, :] = moved, moved.T
            moved = F @ moved
    positions = joint[:, :D, :, :D]
    prior = np.tile(seen[0].mean, n)
    z = np.concatenate([m.mean for m in seen[1:]])
    S = positions[1:, :, 1:].reshape(3 * D, 3 * D) + block_diag(*R[1:])
    cross = positions[-1][:, 1:].reshape(D, 3 * D)
    mean = prior[:D] + cross @ np.linalg.solve(S, z - prior[D:])
    cov = positions[-1, :, -1] - cross @ np.linalg.solve(S, cross.T)
    told = RUNGS["full R"].follow(someone, {})
    np.testing.assert_allclose(told.xy[-1].ravel(), mean, rtol=1e-8)
    np.testing.assert_allclose(told.cov[-1][3], cov[6:8, 6:8], rtol=1e-6)


def test_keypoints_by_themselves_hear_nothing_of_each_other():
    someone = still(PLAIN, 20)
    moved = np.stack([p.mixture.mean for p in someone.poses])
    moved[10:, 0, :2] += 50.0  # the nose alone jumps
    other = Person(
        tuple(
            replace(p, mixture=replace(p.mixture, mean=mean))
            for p, mean in zip(someone.poses, moved, strict=True)
        ),
        someone.truth, someone.height, someone.fps,
    )  # fmt: skip
    for name, alone in ("diagonal R", True), ("constant R", True), ("full R", False):
        a, b = (RUNGS[name].follow(p, {}).xy[-1] for p in (someone, other))
        assert np.allclose(a[1:], b[1:], atol=1e-6) == alone


def test_the_network_alone_is_calibrated_at_any_correlation():
    told = [
        ladder.score(RUNGS["raw"].follow(someone, {}), someone)
        for someone in (still(NetworkConfig(rho=rho, doubt=0.0), 400) for rho in (0.0, 0.8))
    ]
    assert [t.nees for t in told] == pytest.approx([1, 1], abs=0.1)
    assert [t.coverage_95 for t in told] == pytest.approx([0.95, 0.95], abs=0.02)


def test_a_rung_is_tuned_by_what_it_tells():
    someone = still(NetworkConfig(rho=0.0, doubt=0.0, hide=0.0), 60)

    def follow(p: Person, options: dict[str, float]) -> ladder.Estimate:
        raw = RUNGS["raw"].follow(p, {})
        return ladder.Estimate(raw.xy, raw.cov * options.get("scale", 9.0))

    best = ladder.tune(Rung(follow, {"scale": (0.1, 10.0)}), [someone], 12)
    assert 0.5 < best["scale"] < 2


def test_spreads_are_standard_errors():
    a, b = (
        ladder.score(RUNGS["raw"].follow(p, {}), p)
        for p in (still(PLAIN, 40, 1), still(PLAIN, 40, 2))
    )
    rise = ladder.sum_up("raw", "rho 0", {}, [a, b])
    assert rise.mean["rmse"] == pytest.approx((a.rmse + b.rmse) / 2)
    assert rise.standard_error["rmse"] == pytest.approx(abs(a.rmse - b.rmse) / 2)
    alone = ladder.sum_up("raw", "a clip", {}, [a])
    assert alone.mean["rmse"] == pytest.approx(a.rmse)
    assert np.isnan(alone.standard_error["rmse"])


def test_costs_are_of_the_people_and_hypotheses_that_are_told():
    scene = speed._scene(standing, 3, 3, 20)
    assert {len(p.mixture) for poses in scene.poses for p in poses} == {3}
    assert {len(poses) for poses in scene.poses} == {3}
    entered = identities.contestants(Peers(()))
    found = speed.costs(motion.gait, {"ours": entered["ours"]}, (1, 2), (1,), 20)
    assert [(c.people, c.hypotheses) for c in found] == [(1, 1), (2, 1)]
    assert all(0 < c.median_ms <= c.p95_ms for c in found)


# --- what is told -------------------------------------------------------------------------------


def test_each_part_is_stored_as_it_is_done_and_others_stay(tmp_path):
    path = tmp_path / "new" / "tracking.json"
    contest._store(path, "speed", {"result": [1.0]})
    contest._store(path, "ladder", {"result": {"x": float("nan"), "y": (1, 0.123456789)}})
    contest._store(path, "speed", {"result": [2.0]})
    stored = json.loads(path.read_text())
    assert stored["speed"] == {"result": [2.0]}
    assert stored["ladder"] == {"result": {"x": None, "y": [1, 0.12346]}}


def test_a_small_run_is_stored_printed_and_drawn(tmp_path, monkeypatch, capsys):
    tiny = contest.Effort(
        rhos=(0.5,), persons=1, frames=30, trials=1, crowd=SMALL, crowds=2,
        crowd_sizes=(1, 2), hypotheses=(1, 2), steps=20, motions=1,
    )  # fmt: skip
    monkeypatch.setattr(contest, "QUICK", tiny)
    monkeypatch.setattr(motion, "MOCAP", tmp_path)
    contest.main(quick=True, json=tmp_path / "out.json")
    told = capsys.readouterr().out
    for word in (
        "motion from gait",
        "ours",
        "nearest pose (OKS)",
        "with ghosts",
        "NEES",
        "step ms",
    ):
        assert word in told
    stored = json.loads((tmp_path / "out.json").read_text())
    assert set(stored) == {"ladder", "crowds", "speed"}
    assert all(part["machine"]["cores"] for part in stored.values())
    plots.main(tmp_path / "out.json", tmp_path / "drawn")
    drawn = sorted(p.name for p in (tmp_path / "drawn").iterdir())
    assert drawn == ["tracking-crowds.png", "tracking-ladder.png", "tracking-speed.png"]


def test_memory_is_watched():
    told = speed.memory(motion.gait, 20, people=1)
    assert len(told["resident_mib"]) == 10
    assert min(told["resident_mib"]) > 1
