from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from simulated_people import law, seen, walker

from tracker import association, hypotheses
from tracker.association import AssociationConfig
from tracker.hypotheses import NoiseConfig
from tracker.motion import BodyMotion, MotionConfig
from tracker.skeleton import COCO17

BODY = BodyMotion.of(COCO17, MotionConfig())
CONFIG = AssociationConfig()
PLACES = [(100.0, 50.0), (160.0, 55.0), (900.0, 40.0)]


def crowd(rng, places=PLACES, time=0.0):
    return [hypotheses.measure(seen(walker(time, start), rng), NoiseConfig()) for start in places]


def one_frame_later(measurements):
    starts = [hypotheses.start(z, BODY) for z in measurements]
    return [hypotheses.predict(state, BODY.seen(1 / 30), 200.0) for state in starts]


def associate(states, measurements, overlap=None):
    if overlap is None:
        overlap = np.zeros((len(states), len(measurements)))
    return association.associate(states, measurements, overlap, BODY, CONFIG)


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
    rng = np.random.default_rng(0)
    found = associate(one_frame_later(crowd(rng)[:T]), crowd(rng)[:N])
    assert found == ((), tuple(range(T)), tuple(range(N)))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_everybody_finds_their_own_track_in_any_order(order):
    rng = np.random.default_rng(1)
    states = one_frame_later(crowd(rng))
    later = crowd(rng, time=1 / 30)
    found = associate(states, [later[i] for i in order])
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
    assert pair.match is None


def test_overlap_never_takes_a_pose_from_a_likely_track():
    rng = np.random.default_rng(4)
    states = one_frame_later(crowd(rng, PLACES[:2]))
    found = associate(states, crowd(rng, PLACES[1:2]), np.ones((2, 1)))
    assert [(pair.track, pair.pose) for pair in found.pairs] == [(1, 0)]
    assert found.pairs[0].match is not None


def test_the_cheap_test_leaves_out_only_hopeless_pairs():
    """Whatever is not even scored would have lost against a new person."""
    rng = np.random.default_rng(5)
    places = rng.uniform([0, 0], [900, 300], size=(12, 2))
    states = one_frame_later(crowd(rng, places))
    later = crowd(rng, places, time=1 / 30)
    near = association.near(states, later, CONFIG)
    newborn = association.birth_log_density(later, BODY, CONFIG)
    assert near.sum() < near.size / 3
    assert near.diagonal().all()
    for t, n in np.argwhere(~near):
        assert hypotheses.match(states[t], later[n]).log_likelihood < newborn[n]


def test_birth_density_is_the_mean_of_its_own_log():
    """Against draws from the spread of new people, and a pose with a keypoint left out."""
    (z,) = crowd(np.random.default_rng(6), PLACES[:1])
    measured = z.measured.copy()
    measured[6:8] = False
    z = hypotheses.Measurement(z.pose, z.likelihood, measured, z.height, z.gate)
    keep = np.flatnonzero(measured)
    one = np.kron(np.ones((17, 17)), np.eye(2))
    spread = z.height**2 * (2.0**2 * one + 0.15**2 * BODY.correlation) + z.pose.cov[0]
    newborn = multivariate_normal(np.zeros(len(keep)), spread[np.ix_(keep, keep)])
    logs = newborn.logpdf(newborn.rvs(4000, random_state=0))
    (got,) = association.birth_log_density([z], BODY, CONFIG)
    assert abs(got - logs.mean()) < 6 * logs.std() / np.sqrt(len(logs))


def test_the_larger_overlap_wins():
    rng = np.random.default_rng(7)
    states = one_frame_later(crowd(rng, PLACES[2:] * 2))
    overlap = np.array([[0.6, 0.0], [0.9, 0.5]])
    found = associate(states, crowd(rng, [(100.0, 50.0), (400.0, 50.0)]), overlap)
    assert {(pair.track, pair.pose) for pair in found.pairs} == {(0, 0), (1, 1)}
    found = associate(states, crowd(rng, [(100.0, 50.0)]), overlap[:, :1])
    assert [(pair.track, pair.pose) for pair in found.pairs] == [(1, 0)]


def test_a_wild_keypoint_does_not_hide_a_pair():
    rng = np.random.default_rng(8)
    states = one_frame_later(crowd(rng, PLACES[:1]))
    wild = seen(walker(1 / 30, PLACES[0]), rng, outlier=(9, np.array([0.0, -900.0])))
    (pair,) = associate(states, [hypotheses.measure(wild, NoiseConfig())]).pairs
    assert pair.match is not None
