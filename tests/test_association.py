from dataclasses import replace
from itertools import permutations

import fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from simulated_people import law, seen, walker

from tracker import association, hypotheses, noise
from tracker.association import AssociationConfig
from tracker.doubles import agreeing
from tracker.motion import BodyMotion, MotionConfig
from tracker.noise import NoiseConfig
from tracker.parts import WHOLE
from tracker.skeleton import COCO17
from tracker.types import Detection

BODY = BodyMotion.of(COCO17, MotionConfig())
CONFIG = AssociationConfig()
NOISE = NoiseConfig()
PLACES = [(100.0, 50.0), (160.0, 55.0), (900.0, 40.0)]


def crowd(rng, places=PLACES, time=0.0):
    return measured([seen(walker(time, start), rng) for start in places])


def measured(poses):
    return noise.measure(poses, NOISE, 0.5, WHOLE)


def one_frame_later(z):
    people = hypotheses.start(z, BODY, WHOLE)
    everybody = np.ones(len(z), dtype=bool)
    return hypotheses.predict(
        people, everybody, 1 / 30, np.full(len(z), 200.0), np.ones(len(z)), BODY, WHOLE
    )


def log_ratios(people, z, pairs=None):
    pairs = association.near(people, z, CONFIG) if pairs is None else pairs
    ratio = np.full((len(people), len(z)), -np.inf)
    likelihood = hypotheses.score(people, z, pairs, 0.5, NOISE).log_likelihood
    spread = association.birth_spread(BODY, WHOLE, CONFIG)
    newborn = association.birth_log_density(z, spread)
    ratio[tuple(pairs.T)] = likelihood - newborn[pairs[:, 1]]
    return ratio


def associate(people, z, overlap=None, weak=()):
    if overlap is None:
        overlap = np.full((len(people), len(z)), -np.inf)
    is_weak = np.isin(np.arange(len(z)), weak)
    return association.associate(log_ratios(people, z), lambda: overlap, is_weak, CONFIG)


@law
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5), st.floats(-2, 2))
def test_assignment_is_the_best_of_all(seed, T, N, least):
    """Against brute force over every one-to-one choice, where leaving a pair out is worth zero."""
    gain = 3 * np.random.default_rng(seed).normal(size=(T, N))
    gain[gain < -3] = -np.inf
    worth = np.maximum(gain - least, 0)
    padded = np.zeros((5, 5))
    padded[:T, :N] = worth
    best = max(sum(padded[t, n] for t, n in enumerate(p)) for p in permutations(range(5)))
    pairs = association.assign(gain, least)
    assert sum(worth[t, n] for t, n in pairs) == pytest.approx(best)
    assert all(gain[t, n] >= least for t, n in pairs)
    assert len({t for t, _ in pairs}) == len({n for _, n in pairs}) == len(pairs)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nobody_can_be_assigned(shape):
    assert association.assign(np.zeros(shape), 0.0) == []
    T, N = shape
    found = association.associate(
        np.zeros(shape), lambda: np.zeros(shape), np.zeros(N, bool), CONFIG
    )
    assert found == ((), tuple(range(T)), tuple(range(N)))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_everybody_finds_their_own_track_in_any_order(order):
    rng = np.random.default_rng(1)
    states = one_frame_later(crowd(rng))
    later = crowd(rng, time=1 / 30)
    found = associate(states, later.select(np.array(order)))
    assert {(pair.track, order[pair.pose]) for pair in found.pairs} == {(0, 0), (1, 1), (2, 2)}
    assert all(pair.log_ratio > 0 for pair in found.pairs)


def test_a_stranger_is_new_and_the_unseen_is_missed():
    rng = np.random.default_rng(2)
    states = one_frame_later(crowd(rng, PLACES[:2]))
    found = associate(states, crowd(rng, [PLACES[1], PLACES[2]]))
    assert [(pair.track, pair.pose) for pair in found.pairs] == [(1, 0)]
    assert found.missed == (0,)
    assert found.new == (1,)


def test_overlap_joins_what_likelihood_leaves():
    rng = np.random.default_rng(3)
    states = one_frame_later(crowd(rng, PLACES[:1]))
    far = crowd(rng, [(180.0, 60.0)])
    assert associate(states, far).pairs == ()
    (pair,) = associate(states, far, np.ones((1, 1))).pairs
    assert pair.by_overlap


def test_overlap_is_worked_out_only_where_likelihood_leaves_somebody():
    ratio = np.array([[9.0, -np.inf], [-np.inf, 9.0]])

    def overlap():
        raise AssertionError("everybody is found")

    found = association.associate(ratio, overlap, np.zeros(2, bool), CONFIG)
    assert [(pair.track, pair.pose) for pair in found.pairs] == [(0, 0), (1, 1)]


def test_keypoints_overlap_as_coco_says_where_they_are_compared():
    a = np.stack([fakes.person(100.0), fakes.person(300.0)])
    b = a[::-1] + 3.0
    box = np.array([[50.0, 0, 150, 300], [250, 0, 350, 300]])
    compared = np.array([[False, True], [True, False]])
    got = association.keypoint_overlap(COCO17, a, b, box, compared)
    due = np.exp(-0.5 * 18.0 / COCO17.falloff(np.array(0.5 * 100 * 300)) ** 2).mean()
    np.testing.assert_allclose(got, [[0.0, due], [due, 0.0]])


def test_overlap_never_takes_a_pose_from_a_likely_track():
    rng = np.random.default_rng(4)
    states = one_frame_later(crowd(rng, PLACES[:2]))
    found = associate(states, crowd(rng, PLACES[1:2]), np.ones((2, 1)))
    assert [(pair.track, pair.pose) for pair in found.pairs] == [(1, 0)]
    assert not found.pairs[0].by_overlap


def test_the_cheap_test_leaves_out_only_hopeless_pairs():
    """Whatever is not even scored would have lost against a new person."""
    rng = np.random.default_rng(5)
    places = rng.uniform([0, 0], [900, 300], size=(12, 2))
    states = one_frame_later(crowd(rng, places))
    later = crowd(rng, places, time=1 / 30)
    near = association.near(states, later, CONFIG)
    assert len(near) < 12 * 12 / 3
    every = np.argwhere(np.ones((12, 12), dtype=bool))
    hopeless = log_ratios(states, later, every)
    hopeless[tuple(near.T)] = -np.inf
    assert (np.diag(hopeless) == -np.inf).all()
    assert hopeless.max() < 0


def test_birth_density_is_the_mean_of_its_own_log():
    """Against draws from the spread of new people, and a pose with a keypoint left out."""
    z = crowd(np.random.default_rng(6), PLACES[:1])
    is_measured = z.measured.copy()
    is_measured[..., 6:8] = False
    z = replace(z, measured=is_measured)
    keep = np.flatnonzero(is_measured)
    one = np.kron(np.ones((17, 17)), np.eye(2))
    spread = z.height[0] ** 2 * (2.0**2 * one + 0.15**2 * BODY.correlation) + z.R[0, 0]
    newborn = multivariate_normal(np.zeros(len(keep)), spread[np.ix_(keep, keep)])
    logs = newborn.logpdf(newborn.rvs(4000, random_state=0))
    (got,) = association.birth_log_density(z, association.birth_spread(BODY, WHOLE, CONFIG))
    assert abs(got - logs.mean()) < 6 * logs.std() / np.sqrt(len(logs))


def test_the_larger_overlap_wins():
    rng = np.random.default_rng(7)
    states = one_frame_later(crowd(rng, PLACES[2:] * 2))
    overlap = np.array([[0.6, -np.inf], [0.9, 0.5]])
    found = associate(states, crowd(rng, [(100.0, 50.0), (400.0, 50.0)]), overlap)
    assert {(pair.track, pair.pose) for pair in found.pairs} == {(0, 0), (1, 1)}
    found = associate(states, crowd(rng, [(100.0, 50.0)]), overlap[:, :1])
    assert [(pair.track, pair.pose) for pair in found.pairs] == [(1, 0)]


def test_a_wild_keypoint_does_not_hide_a_pair():
    rng = np.random.default_rng(8)
    states = one_frame_later(crowd(rng, PLACES[:1]))
    wild = seen(walker(1 / 30, PLACES[0]), rng, outlier=(9, np.array([0.0, -900.0])))
    (pair,) = associate(states, measured([wild])).pairs
    assert not pair.by_overlap


def test_a_weak_pose_goes_on_with_a_track_that_nothing_better_claims():
    rng = np.random.default_rng(9)
    states = one_frame_later(crowd(rng, PLACES[:1]))
    later = crowd(rng, [PLACES[0], PLACES[0]], time=1 / 30)
    (pair,) = associate(states, later, weak=[0]).pairs
    assert pair.pose == 1
    (pair,) = associate(states, later.select(np.array([0])), weak=[0]).pairs
    assert pair.pose == 0


def test_contested_are_pairs_that_could_nearly_as_well_be_exchanged():
    gain = np.array([[30.0, 29.0, -np.inf], [28.0, 29.0, -np.inf], [-np.inf, -np.inf, 5.0]])
    pairs = [(0, 0), (1, 1), (2, 2)]
    assert association.contested(gain, pairs, 3.0) == {0, 1}
    assert association.contested(gain, pairs, 1.0) == set()
    lone = np.array([[9.0, 8.0]])
    assert association.contested(lone, [(0, 0)], 3.0) == {0}
    assert association.contested(lone, [(0, 0)], 0.5) == set()
    assert association.contested(lone.T, [(0, 0)], 3.0) == {0}


def test_poses_agree_where_most_error_bars_overlap_and_those_of_two_people_do_not():
    here = fakes.person(150)
    box = Detection(np.array([100.0, 50, 200, 370]), 0.9)
    rng = np.random.default_rng(0)
    first = fakes.make_pose(box, here, std=4.0)
    nearly = fakes.make_pose(box, here + rng.normal(0, 2, here.shape), std=4.0)
    limb = here.copy()
    limb[7:11] += 80.0  # an arm elsewhere
    poses = [first, nearly, fakes.make_pose(box, limb, std=4.0), fakes.make_pose(box, here + 20.0)]
    found = agreeing(poses, np.ones((4, 4), bool), region=0.3)
    assert found[0].tolist() == [True, True, True, False]
    assert (found == found.T).all()
    assert not agreeing(poses, np.zeros((4, 4), bool), region=0.3).any()
