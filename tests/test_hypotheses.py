from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from simulated_people import LEGS, law, random_cov, random_mixture, seen, walker

from tracker import hypotheses, kalman, mixture, noise
from tracker.hypotheses import ReductionConfig
from tracker.motion import BodyMotion, MotionConfig
from tracker.noise import Measurements, NoiseConfig
from tracker.parts import WHOLE, Parts
from tracker.skeleton import COCO17
from tracker.types import Detection, Mixture, PoseMixture

BODY = BodyMotion.of(COCO17, MotionConfig())
ALONE = Parts(17)
NOISE = NoiseConfig(learn_rho=False)
PLAIN = NoiseConfig(
    model="inflate",
    inflation=1.0,
    floor=0.0,
    outlier_weight=1e-300,
    joint_gate=1.0,
    prior_std=1e9,
)
"""Noise as the network gives it, no robustness: then the filter is exact."""
FEW = ReductionConfig()
KEEP_ALL = ReductionConfig(within=1e9, most=100, merge_below=0.0)
ONLY = np.array([[0, 0]])
seeds = st.integers(0, 2**32 - 1)


def measure(pose, config=NOISE, rho=0.5, parts=WHOLE):
    return noise.measure([pose], config, rho, parts)


def taken(pose, people, config=NOISE, reduction=FEW, rho=0.5, parts=WHOLE):
    """People of whom the first has been seen in a pose."""
    z = measure(pose, config, rho, parts)
    rho = rho if config.model == "ar1" else 0.0
    scores = hypotheses.score(people, z, ONLY, rho, config)
    return hypotheses.update(people, z, scores, np.array([0]), reduction)


def predict(people, dt=1 / 30, height=200.0, parts=WHOLE, seen=True):
    return hypotheses.predict(
        people, np.array([seen]), dt, np.array([height]), np.ones(1), BODY, parts
    )


def follow(poses, config=NOISE, reduction=FEW, dt=1 / 30, rho=0.5, parts=WHOLE):
    """The person after a run of poses."""
    first, *rest = poses
    people = hypotheses.start(measure(first, config, rho, parts), BODY, parts)
    for pose in rest:
        people = taken(pose, predict(people, dt, parts=parts), config, reduction, rho, parts)
    return people


def state_of(people, parts=WHOLE):
    ((state, _),) = people.states(parts)
    return state


def walk(n, rng, **how):
    return [seen(walker(k / 30), rng, **how) for k in range(n)]


def reported(people):
    return people.keypoints(WHOLE)[0]


def test_one_hypothesis_is_a_kalman_filter():
    rng = np.random.default_rng(0)
    poses = walk(6, rng, hypotheses=1)
    state = state_of(follow(poses, PLAIN))
    x = np.concatenate([poses[0].mixture.mean[0], np.zeros(34)])
    P = np.zeros((68, 68))
    P[:34, :34] = poses[0].mixture.cov[0]
    height = np.ptp(poses[0].detection.box.reshape(2, 2), axis=0).max()
    P[34:, 34:] = height**2 * BODY.start_cov
    F, Q = BODY.seen(1 / 30)
    for pose in poses[1:]:
        x, P = kalman.predict(x, P, F, 200.0**2 * Q)
        z, R = pose.mixture.mean[0], pose.mixture.cov[0]
        innovation = kalman.innovate(z - x[:34], P[:34, :34] + R, np.ones(34, dtype=bool))
        x, P = kalman.update(x, P, P[:, :34], innovation)
    assert_allclose(state.mean[0], x, rtol=1e-9, atol=1e-9)
    assert_allclose(state.cov[0], P, rtol=1e-8, atol=1e-9)


def people_of(mix):
    return hypotheses.gather([(mix, None)], WHOLE)


def measurements_of(pose):
    K, D = pose.mean.shape
    return Measurements(
        np.zeros(K, dtype=int),
        pose.log_weight,
        pose.mean[:, None],
        pose.cov[:, None],
        np.ones((K, 1, D)),
        np.ones((1, 1, D), dtype=bool),
        (np.exp(pose.log_weight) @ pose.mean)[None, None],
        np.ones(1),
    )


@law
@given(seeds, st.integers(1, 3), st.integers(1, 3))
def test_without_reduction_the_update_is_bayes_rule(seed, M, K):
    """Log posterior = log prior + log likelihood + a constant, at every state."""
    rng = np.random.default_rng(seed)
    prior, pose = random_mixture(seed, M, 8), random_mixture(seed + 1, K, 4)
    z = measurements_of(pose)
    scores = hypotheses.score(people_of(prior), z, ONLY, 0.0, PLAIN)
    posterior = state_of(hypotheses.update(people_of(prior), z, scores, np.array([0]), KEEP_ALL))
    x = rng.normal(size=(5, 8))
    likelihood = np.array([mixture.log_density(pose, position) for position in x[:, :4]])
    constant = mixture.log_density(posterior, x) - mixture.log_density(prior, x) - likelihood
    assert_allclose(constant, -scores.log_likelihood[0], rtol=1e-6, atol=1e-6)


def test_only_pairs_near_the_best_survive():
    prior, pose = random_mixture(1, 3, 8), random_mixture(2, 3, 4)
    people, z = people_of(prior), measurements_of(pose)
    scores = hypotheses.score(people, z, ONLY, 0.0, PLAIN)
    log_joint = np.sort(scores.log_joint)[::-1]
    for within in (0.0, 1.0, 3.0, 9.2):
        few = hypotheses.update(people, z, scores, np.array([0]), ReductionConfig(within, 100, 0.0))
        assert len(few.owner) == (log_joint >= log_joint[0] - within).sum()
    two = hypotheses.update(people, z, scores, np.array([0]), ReductionConfig(1e9, 2, 0.0))
    assert len(two.owner) == 2


def test_measure_tempers_weights_by_what_is_news_and_inflates_if_asked():
    pose = seen(walker(0.0), np.random.default_rng(1), mirrored=0.3)
    few = mixture.reduce_hypotheses(pose.mixture)
    log_ratio = few.log_weight[0] - few.log_weight[1]
    cheap = replace(NOISE, model="inflate", inflation=2.0, prior_std=1e9)
    for config, rho, scale, news in (
        (cheap, 0.5, 2.0, 1 / 2),
        (replace(cheap, model="ar1"), 0.5, 1.0, 1 / 3),
        (replace(cheap, model="ar1"), 0.0, 1.0, 1.0),
    ):
        z = measure(pose, config, rho)
        assert_allclose(z.mean[:, 0], few.mean)
        assert_allclose(z.R[:, 0], scale * few.cov + 0.25 * np.eye(34))
        assert z.log_weight[0] - z.log_weight[1] == pytest.approx(news * log_ratio)
        assert np.exp(z.log_weight).sum() == pytest.approx(1)


def test_what_is_left_without_the_prior_is_vaguer_and_silence_is_not_measured():
    pose = seen(walker(0.0), np.random.default_rng(1))
    prior = (NOISE.prior_std * measure(pose).height[0]) ** 2
    variance = np.full(17, 1e-9)
    variance[3:7] = 0.5 * prior, 0.99 * prior, 8.9 * prior, 9.1 * prior
    vague = Mixture(pose.mixture.mean[:1], np.diag(variance.repeat(2))[None], np.zeros(1))
    z = measure(replace(pose, mixture=vague))
    R = np.diagonal(z.R[0, 0])[::2] - NOISE.floor**2
    # 1 / (1 / v - 1 / prior), as long as that is no more than ten times v.
    assert_allclose(R[3:6], np.array([1.0, 9.9, 89.0]) * prior, rtol=1e-6)
    assert list(np.flatnonzero(~z.measured[0, 0])) == [12, 13]


@law
@given(seeds, st.floats(1, 30))
def test_disbelief_brings_every_keypoint_inside_its_gate(seed, gate):
    rng = np.random.default_rng(seed)
    S, d = random_cov(rng, 6), 20 * rng.normal(size=6)
    extra = noise.disbelief(d, noise.planar_nis(d, S), gate)
    for j in range(3):
        pair = slice(2 * j, 2 * j + 2)
        before = d[pair] @ np.linalg.solve(S[pair, pair], d[pair])
        after = d[pair] @ np.linalg.solve(S[pair, pair] + np.diag(extra[pair]), d[pair])
        assert after <= gate * (1 + 1e-9)
        assert (extra[pair] == 0).all() == (before <= gate)


@pytest.mark.parametrize("jump", [50.0, 300.0, 3000.0])
@pytest.mark.parametrize("joint", [0, 9, 12])
def test_one_wild_keypoint_moves_nobody(joint, jump):
    rng = np.random.default_rng(2)
    poses = walk(15, rng)
    before = predict(follow(poses))
    good = seen(walker(0.5), rng, std=3.0)
    wild_mean = good.mixture.mean.copy()
    wild_mean[:, 2 * joint] += jump
    wild = replace(good, mixture=replace(good.mixture, mean=wild_mean))
    after_good, after_wild = (reported(taken(pose, before)) for pose in (good, wild))
    moved = np.linalg.norm(after_wild - after_good, axis=1)
    assert np.delete(moved, joint).max() < 3
    assert moved[joint] < 10


def test_a_pose_of_something_else_hardly_moves_a_person():
    rng = np.random.default_rng(3)
    before = predict(follow(walk(15, rng)))
    elsewhere = seen(walker(0.5) + 150 * rng.normal(size=(17, 2)), rng)
    after = taken(elsewhere, before)
    assert np.linalg.norm(reported(after) - reported(before), axis=1).max() < 6


def unseen_for(frames, state, parts):
    for _ in range(frames):
        people = hypotheses.gather([(state, None)], parts)
        state = state_of(predict(people, parts=parts, seen=False), parts)
    return state


def test_keypoint_by_keypoint_a_body_drifts_as_it_does_as_a_whole():
    rng = np.random.default_rng(8)
    state = Mixture(rng.normal(size=(1, 68)), random_cov(rng, 68)[None], np.zeros(1))
    whole, alone = unseen_for(5, state, WHOLE), unseen_for(5, state, ALONE)
    assert_allclose(alone.mean, whole.mean)
    assert_allclose(alone.cov, whole.cov)


def test_who_gets_lost_is_known_as_well_but_may_have_gone_anywhere_as_a_whole():
    before = state_of(follow(walk(15, np.random.default_rng(9)), parts=ALONE), ALONE)
    lost = hypotheses.as_one_body(before, BODY, ALONE)
    assert_allclose(ALONE.matrix(lost.cov, 2), ALONE.matrix(before.cov, 2))
    of_all = np.concatenate([np.zeros(34), np.tile([1 / 17, 0], 17)])
    assert of_all @ lost.cov[0] @ of_all > 5 * of_all @ before.cov[0] @ of_all


def test_an_ambiguity_stays_open_until_the_pictures_settle_it():
    rng = np.random.default_rng(4)
    standing = [seen(walker(0.25), rng, mirrored=0.45) for _ in range(4)]
    both = follow(standing, dt=1 / 30)
    assert len(both.owner) >= 2
    settled = taken(seen(walker(0.25), rng), predict(both))
    assert np.exp(settled.log_weight.max()) > 0.99
    assert np.linalg.norm(reported(settled) - walker(0.25), axis=1)[LEGS].max() < 12


def test_repeating_a_doubt_does_not_make_it_a_certainty():
    """The same 70:30 picture ten times is one piece of evidence, not ten."""
    pose = seen(walker(0.25), np.random.default_rng(5), mirrored=0.3)
    state = follow([pose] * 3)
    assert np.exp(state.log_weight.min()) > 0.02


def test_nees_of_a_calibrated_network_is_chi_squared():
    """People that move as assumed, poses with the errors they claim, no inflation needed."""
    rng, n, frames = np.random.default_rng(6), 60, 8
    Q = 200.0**2 * BODY.seen(1 / 30).Q
    root = np.linalg.cholesky(Q + 1e-9 * np.eye(68))
    speed_root = 200.0 * np.linalg.cholesky(BODY.start_cov)
    nees = []
    box = np.array([0.0, 0.0, 80.0, 200.0])
    for _ in range(n):
        truth = np.concatenate([walker(0.0).ravel(), speed_root @ rng.normal(size=34)])
        poses = []
        for frame in range(frames):
            if frame:
                truth = BODY.seen(1 / 30).F @ truth + root @ rng.normal(size=68)
            R = 4 * random_cov(rng, 34)
            z = truth[:34] + np.linalg.cholesky(R) @ rng.normal(size=34)
            mix = Mixture(z[None], R[None], np.zeros(1))
            poses.append(PoseMixture(Detection(box, 0.9), mix, np.ones(17)))
        state = state_of(follow(poses, PLAIN))
        error = truth - state.mean[0]
        nees.append(error @ np.linalg.solve(state.cov[0], error))
    assert abs(np.mean(nees) - 68) < 6 * np.sqrt(2 * 68 / n)


def runnalls(a: Mixture, b: Mixture) -> float:
    """Bound on what joining two components costs (Runnalls 2007), nats."""
    weight = np.exp([a.log_weight[0], b.log_weight[0]])
    share = weight / weight.sum()
    mean = share @ np.vstack([a.mean, b.mean])
    parts = [(a, share[0]), (b, share[1])]
    joined = sum(s * (m.cov[0] + np.outer(m.mean[0] - mean, m.mean[0] - mean)) for m, s in parts)
    own = sum(s * np.linalg.slogdet(m.cov[0])[1] for m, s in parts)
    return 0.5 * weight.sum() * (np.linalg.slogdet(joined)[1] - own)


@law
@given(seeds)
def test_merging_costs_no_more_than_runnalls_bound_which_is_small_for_whoever_is_merged(seed):
    """Kullback-Leibler divergence of the merged sum from the whole, by brute force on a line."""
    rng = np.random.default_rng(seed)
    w = rng.dirichlet([1, 1, 1])
    some = Mixture(rng.normal(size=(3, 1)), rng.uniform(0.3, 2, size=(3, 1, 1)), np.log(w))
    few = mixture.merge(some, FEW.merge_below)
    if len(few) != 2:
        return
    kept = [i for i in range(3) if np.isclose(some.mean[i], few.mean).any()]
    (i, j) = [i for i in range(3) if i not in kept]
    one = [Mixture(some.mean[[k]], some.cov[[k]], some.log_weight[[k]]) for k in (i, j)]
    x = np.linspace(-15, 15, 6001)[:, None]
    p, q = mixture.log_density(some, x), mixture.log_density(few, x)
    lost = (np.exp(p) * (p - q)).sum() * (x[1, 0] - x[0, 0])
    assert -1e-9 < lost <= runnalls(*one) + 1e-9
    # Of one dimension; in D dimensions the limit allows as much for each.
    assert lost < 0.15
