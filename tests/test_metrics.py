from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chi2, norm
from simulated_people import law, random_cov, random_mixture

from tracker import mixture as mx
from tracker.metrics import (
    IdentityScore,
    ause,
    best_answer,
    conditioned_errors,
    coverage,
    coverage_curve,
    energy_score,
    expected_oks,
    hpd_level,
    match_people,
    reliability,
    sparsification,
    squared_mahalanobis,
)
from tracker.skeleton import COCO17
from tracker.types import Mixture

seeds = st.integers(0, 2**32 - 1)


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


@law
@given(seed=seeds, D=st.integers(1, 5))
def test_the_level_of_a_gaussian_region_is_that_of_chi_square(seed, D):
    rng, n = np.random.default_rng(seed), 4000
    one = Mixture(rng.normal(size=(1, D)), random_cov(rng, D)[None], np.zeros(1))
    truth = mx.sample(one, 3, rng)
    drawn = mx.log_density(one, mx.sample(one, n, rng))
    levels = hpd_level(np.broadcast_to(drawn, (3, n)), mx.log_density(one, truth))
    due = chi2.cdf(squared_mahalanobis(truth - one.mean, np.repeat(one.cov, 3, axis=0)), D)
    assert (np.abs(levels - due) < 5 * 0.5 / np.sqrt(n)).all()


def test_truths_drawn_from_two_modes_are_covered_as_often_as_said():
    rng, n = np.random.default_rng(3), 3000
    two = Mixture(np.array([[-9.0, 0], [9, 1]]), np.eye(2) * [[[1.0]], [[3.0]]], np.log([0.4, 0.6]))
    drawn = mx.log_density(two, mx.sample(two, 1000, rng))
    truth = mx.log_density(two, mx.sample(two, n, rng))
    levels = hpd_level(np.broadcast_to(drawn, (n, 1000)), truth)
    grid = np.linspace(0.1, 0.9, 9)
    assert np.abs(coverage_curve(levels, grid) - grid).max() < 5 * 0.5 * np.sqrt(1 / n + 1 / 1000)
    # As one Gaussian between the modes, honest in its moments, it is not honest in its regions.
    one = Mixture(*(part[None] for part in mx.moments(two)), np.zeros(1))
    drawn = mx.log_density(one, mx.sample(one, 1000, rng))
    levels = hpd_level(
        np.broadcast_to(drawn, (n, 1000)), mx.log_density(one, mx.sample(two, n, rng))
    )
    assert np.abs(coverage_curve(levels, grid) - grid).max() > 0.1


def test_nobody_gives_no_coverage_curve():
    assert np.isnan(coverage_curve(np.zeros(0), np.array([0.5]))).all()


@pytest.mark.parametrize("truth", [0.0, 1.7, -6.0])
def test_the_energy_score_of_one_number_is_the_crps(truth):
    std, n = 2.0, 200_000
    draws = std * np.random.default_rng(4).standard_normal((n, 1))
    z = truth / std
    due = std * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert energy_score(draws, np.array([truth])) == pytest.approx(due, abs=5 * 2 * std / n**0.5)


@law
@given(seed=seeds, D=st.integers(1, 4), factor=st.floats(0.1, 10))
def test_the_energy_score_has_the_unit_of_its_space(seed, D, factor):
    rng = np.random.default_rng(seed)
    draws, truth, shift = rng.normal(size=(50, D)), rng.normal(size=D), rng.normal(size=D)
    turn = factor * np.linalg.qr(rng.normal(size=(D, D)))[0]
    moved = energy_score(draws @ turn.T + shift, turn @ truth + shift)
    assert moved == pytest.approx(factor * energy_score(draws, truth), rel=1e-9)


def test_a_kept_promise_has_no_calibration_error_and_a_bold_one_its_excess():
    rng, n = np.random.default_rng(5), 30_000
    chance = rng.uniform(0, 0.8, n)
    kept = (rng.random(n) < chance).astype(float)
    noise = 0.5 / np.sqrt(n / 15)
    assert reliability(chance, kept).error < 2 * noise
    bold = reliability(chance + 0.2, kept)
    assert bold.error == pytest.approx(0.2, abs=3 * noise)
    assert bold.share.sum() == pytest.approx(1)
    assert (np.diff(bold.promised) > 0).all()


@law
@given(seed=seeds, n=st.integers(20, 200))
def test_sparsification_knows_the_best_order(seed, n):
    rng = np.random.default_rng(seed)
    error, guess = rng.exponential(size=n), rng.exponential(size=n)
    assert ause(error**3 + 1, error) == pytest.approx(0, abs=1e-12)  # only the order counts
    assert ause(-error, error) >= ause(guess, error) >= 0
    curve = sparsification(error, error)
    assert curve[0] == pytest.approx(1)
    assert (np.diff(curve) <= 1e-12).all()


def test_telling_keypoints_helps_only_where_errors_go_together():
    rng = np.random.default_rng(6)
    root = rng.normal(size=(8, 3))
    together = root @ root.T + 0.05 * np.eye(8)
    given_two, sums = np.array([True, False, True, False]), np.zeros((2, 3))
    for _ in range(200):
        truth = rng.multivariate_normal(np.zeros(8), together).reshape(4, 2)
        other = rng.multivariate_normal(np.zeros(8), together).reshape(4, 2)
        for row, cov in enumerate([together, np.diag(np.diag(together))]):
            pose = Mixture(np.zeros((1, 8)), cov[None], np.zeros(1))
            before, after = conditioned_errors(pose, truth, given_two, truth)
            lied = conditioned_errors(pose, truth, given_two, other)[1]
            sums[row] += before.sum(), after.sum(), lied.sum()
    assert sums[0, 1] < 0.5 * sums[0, 0] < 0.5 * sums[0, 2]
    assert sums[1] == pytest.approx(sums[1, 0])  # independent keypoints tell nothing


def test_the_expected_oks_of_any_answer_is_its_mean_over_draws():
    rng, area = np.random.default_rng(7), 900.0
    pose = random_mixture(7, 3, 34)
    pose = Mixture(4 * pose.mean, 9 * pose.cov, pose.log_weight)
    answer = pose.points(17)[0] + 2.0
    draws = mx.sample(pose, 20_000, rng).reshape(-1, 17, 2)
    kept = COCO17.oks(draws, answer, np.array(area))
    promised = expected_oks(pose, area, answer)
    assert (np.abs(kept.mean(axis=0) - promised) < 6 * 0.5 / np.sqrt(len(draws))).all()
    assert expected_oks(pose, area) == pytest.approx(
        expected_oks(pose, area, pose.points(17)[pose.heaviest])
    )


def test_one_answer_is_the_pose_on_which_several_agree():
    """Two hypotheses of 0.3 beside each other beat one of 0.4 far off."""
    place = np.random.default_rng(0).uniform(0, 60, 34)
    crowd = Mixture(
        np.stack([place + 40, place, place + 0.5]),
        np.tile(np.eye(34), (3, 1, 1)),
        np.log([0.4, 0.3, 0.3]),
    )
    assert crowd.heaviest == 0
    best = best_answer(crowd, 3000.0)
    np.testing.assert_allclose(best, place.reshape(17, 2) + 0.25, atol=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_answer_is_expected_to_be_nearer(seed: int):
    """Neither a hypothesis, nor one keypoint of each, nor anything beside the answer."""
    rng = np.random.default_rng(seed)
    root = rng.normal(0, 3, (6, 34, 34))
    mean = rng.normal(0, 8, (6, 34)) + rng.uniform(0, 60, 34)
    pose = Mixture(mean, root @ root.mT / 34 + np.eye(34), np.log(rng.dirichlet(np.ones(6))))
    best = best_answer(pose, 3000.0, steps=200)
    promised = expected_oks(pose, 3000.0, best)
    for other in (*pose.points(17), *(best + rng.normal(0, s, (17, 2)) for s in (0.01, 0.1, 1.0))):
        assert (promised >= expected_oks(pose, 3000.0, other) - 1e-4).all()
