from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tracker.metrics import (
    IdentityScore,
    best_answer,
    coverage,
    expected_oks,
    match_people,
    squared_mahalanobis,
)
from tracker.skeleton import COCO17
from tracker.types import Mixture


@given(similarity=st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda shape: arrays(float, shape, elements=st.floats(0, 1))
))  # fmt: skip
def test_matching_is_the_best_of_all_matchings(similarity):
    n, t = similarity.shape
    gains = np.where(similarity >= 0.3, similarity, 0.0)
    wide = np.pad(gains, ((0, 0), (0, n)))  # n more columns: nobody
    best = max(wide[range(n), list(p)].sum() for p in permutations(range(t + n), n))
    pairs = match_people(similarity)
    assert sum(similarity[i, j] for i, j in pairs) == pytest.approx(best)
    assert all(similarity[i, j] >= 0.3 for i, j in pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)


def test_a_pair_that_held_stays_while_it_reaches():
    similarity = np.array([[0.4, 0.9], [0.9, 0.4]])
    assert match_people(similarity) == [(0, 1), (1, 0)]
    assert match_people(similarity, {0: 0}) == [(0, 0), (1, 1)]
    assert match_people(similarity, {0: 0}, least=0.5) == [(0, 1), (1, 0)]


def test_matching_nobody_gives_nothing():
    assert match_people(np.zeros((0, 3))) == match_people(np.zeros((3, 0))) == []


def test_identities_are_counted_by_hand():
    score = IdentityScore()
    same, swapped = np.eye(2), np.eye(2)[::-1].copy()
    score.add([7, 8], [1, 2], same)
    score.add([7, 8], [1, 2], swapped)  # both tracks jump: two switches
    score.add([7], [1, 2], swapped[:1])  # person 8 has left; track 1 follows nobody
    score.add([7, 8], [], np.zeros((2, 0)))
    score.add([7, 8], [5], np.array([[1.0], [0.0]]))  # a new number for person 7
    assert score.present == {7: 5, 8: 4}
    assert score.followed == {7: 4, 8: 2}
    assert score.switches == 3
    assert score.false == 1
    assert score.recall == pytest.approx(6 / 9)


def test_an_optional_track_is_never_false():
    score = IdentityScore()
    score.add([], [1, 2], np.zeros((0, 2)), optional=np.array([True, False]))
    assert score.false == 1


@given(seed=st.integers(0, 2**32 - 1), D=st.integers(1, 5))
def test_the_squared_error_in_units_of_its_bars_is_the_textbook_form(seed, D):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, D, D))
    cov = root @ root.swapaxes(1, 2) + 0.1 * np.eye(D)
    error = rng.normal(size=(3, D))
    due = [e @ np.linalg.inv(c) @ e for e, c in zip(error, cov, strict=True)]
    np.testing.assert_allclose(squared_mahalanobis(error, cov), due, rtol=1e-8)


@pytest.mark.parametrize("probability", [0.5, 0.95])
def test_honest_error_bars_cover_their_share(probability):
    n, rng = 20_000, np.random.default_rng(1)
    cov = np.array([[4.0, 1.5], [1.5, 1.0]])
    error = rng.multivariate_normal(np.zeros(2), cov, size=n)
    nees = squared_mahalanobis(error, np.broadcast_to(cov, (n, 2, 2)))
    standard_error = np.sqrt(probability * (1 - probability) / n)
    assert abs(coverage(nees, probability) - probability) < 5 * standard_error
    assert abs(nees.mean() - 2) < 5 * 2 / np.sqrt(n)
    assert coverage(nees / 4, probability) > coverage(nees, probability) + 0.02


def test_no_truth_has_no_coverage():
    assert np.isnan(coverage(np.zeros(0), 0.95))


def random_mixture(seed: int, K: int = 3) -> Mixture:
    rng = np.random.default_rng(seed)
    factor = rng.normal(0, 4, (K, 34, 34))
    cov = factor @ factor.transpose(0, 2, 1) / 34 + np.eye(34)
    weight = rng.dirichlet(np.ones(K))
    return Mixture(rng.uniform(0, 60, (K, 34)), cov, np.log(weight))


@pytest.mark.parametrize("k", [0, 2])
def test_expected_oks_is_the_mean_over_draws_of_the_mixture(k: int) -> None:
    pose, area, rng = random_mixture(0), 3000.0, np.random.default_rng(1)
    which = rng.choice(3, 20_000, p=np.exp(pose.log_weight))
    factor = np.linalg.cholesky(pose.cov)[which]
    truth = pose.mean[which] + np.einsum("nij,nj->ni", factor, rng.normal(size=(20_000, 34)))
    oks = COCO17.oks(pose.points(17)[k], truth.reshape(-1, 17, 2), np.array(area))
    spread = oks.std(axis=0) / np.sqrt(len(truth))
    assert (abs(expected_oks(pose, area, k) - oks.mean(axis=0)) < 6 * spread + 1e-4).all()


def test_one_answer_is_the_pose_on_which_several_agree() -> None:
    """Two hypotheses of 0.3 beside each other beat one of 0.4 far off."""
    pose = random_mixture(0)
    mean = np.stack([pose.mean[0] + 40, pose.mean[0], pose.mean[0] + 0.5])
    cov = np.tile(np.eye(34), (3, 1, 1))
    crowd = Mixture(mean, cov, np.log([0.4, 0.3, 0.3]))
    assert crowd.heaviest == 0
    assert best_answer(crowd, 3000.0) in (1, 2)
