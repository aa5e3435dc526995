import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from simulated_people import law, random_cov, random_mixture

from tracker import mixture as mx
from tracker.types import Mixture

seeds = st.integers(0, 2**32 - 1)
components = st.integers(1, 6)
dimensions = st.integers(2, 5)


def assert_same(a: Mixture, b: Mixture):
    assert_allclose(a.mean, b.mean, atol=1e-9)
    assert_allclose(a.cov, b.cov, atol=1e-9)
    assert_allclose(a.log_weight, b.log_weight, atol=1e-9)


@law
@given(seeds, components, st.floats(-5, 5))
def test_normalise_undoes_any_factor(seed, K, shift):
    mix = random_mixture(seed, K, 3)
    assert_same(mx.normalise(Mixture(mix.mean, mix.cov, mix.log_weight + shift)), mix)


@law
@given(seeds, components, dimensions)
def test_moments_are_the_raw_second_moments(seed, K, D):
    mix = random_mixture(seed, K, D)
    weight = np.exp(mix.log_weight)
    mean = weight @ mix.mean
    raw = sum(w * (P + np.outer(m, m)) for w, m, P in zip(weight, mix.mean, mix.cov, strict=True))
    got = mx.moments(mix)
    assert_allclose(got.mean, mean, atol=1e-9)
    assert_allclose(got.cov, raw - np.outer(mean, mean), atol=1e-8)


@law
@given(seeds, components, dimensions, st.floats(0, 50))
def test_merge_keeps_the_moments_of_the_whole(seed, K, D, below):
    mix = random_mixture(seed, K, D)
    before, after = mx.moments(mix), mx.moments(mx.merge(mix, below))
    assert_allclose(after.mean, before.mean, atol=1e-9)
    assert_allclose(after.cov, before.cov, atol=1e-8)


@law
@given(seeds, st.integers(2, 6), st.floats(0.01, 50))
def test_merge_joins_whoever_is_nearer_than_the_limit_to_the_heaviest(seed, K, below):
    mix = random_mixture(seed, K, 3)
    inside = mx.distances(mix)[mix.heaviest] < below
    merged = mx.merge(mix, below)
    # The heaviest leads the first group.
    assert np.exp(merged.log_weight[0]) == pytest.approx(np.exp(mix.log_weight[inside]).sum())


def test_merge_ends_are_everything_and_nothing():
    mix = random_mixture(3, 5, 4)
    assert len(mx.merge(mix, np.inf)) == 1
    order = np.argsort(-mix.log_weight)  # groups come in the order of their leaders
    apart = Mixture(mix.mean[order], mix.cov[order], mix.log_weight[order])
    assert_same(mx.merge(mix, 0.0), apart)


@law
@given(seeds, st.integers(2, 5), dimensions)
def test_distances_do_not_depend_on_units_or_axes(seed, K, D):
    mix = random_mixture(seed, K, D)
    A = np.linalg.cholesky(random_cov(np.random.default_rng(seed), D)) @ np.diag(
        np.geomspace(1, 100, D)
    )
    mapped = Mixture(mix.mean @ A.T, A @ mix.cov @ A.T, mix.log_weight)
    assert_allclose(mx.distances(mapped), mx.distances(mix), rtol=1e-6, atol=1e-9)


@law
@given(seeds, components, dimensions)
def test_log_density_is_scipys(seed, K, D):
    mix = random_mixture(seed, K, D)
    x = np.random.default_rng(seed).normal(size=(2, 3, D)) * 3
    parts = [
        lw + multivariate_normal(m, P).logpdf(x)
        for lw, m, P in zip(mix.log_weight, mix.mean, mix.cov, strict=True)
    ]
    assert_allclose(mx.log_density(mix, x), logsumexp(parts, axis=0), rtol=1e-8)
    assert mx.log_density(mix, x[0, 0]).shape == ()


@law
@given(seeds, components)
def test_marginal_times_conditional_is_the_joint(seed, K):
    mix, known = random_mixture(seed, K, 4), np.array([3, 1])
    x = np.random.default_rng(seed).normal(size=4)
    given_known = mx.condition(mix, known, x[known])
    product = mx.log_density(mx.marginal(mix, known), x[known]) + mx.log_density(
        given_known, x[[0, 2]]
    )
    assert_allclose(product, mx.log_density(mix, x), rtol=1e-7, atol=1e-7)
    assert logsumexp(given_known.log_weight) == pytest.approx(0, abs=1e-9)


def test_samples_have_the_moments():
    mix, n = random_mixture(1, 3, 3), 40_000
    drawn = mx.sample(mix, n, np.random.default_rng(0))
    want = mx.moments(mix)
    standard_error = np.sqrt(np.diag(want.cov) / n)
    assert (abs(drawn.mean(axis=0) - want.mean) < 6 * standard_error).all()
    white = np.linalg.solve(np.linalg.cholesky(want.cov), (drawn - want.mean).T)
    # The variance of a product of two whitened coordinates, measured on the same draws.
    product = white[:, None] * white
    error = product.mean(axis=-1) - np.eye(3)
    assert (abs(error) < 6 * product.std(axis=-1) / np.sqrt(n)).all()


@law
@given(seeds)
def test_reduction_of_one_cloud_is_its_moments(seed):
    rng = np.random.default_rng(seed)
    cov = np.repeat(random_cov(rng, 6)[None], 8, axis=0)
    near = 0.05 * rng.normal(size=(8, 6)) @ np.linalg.cholesky(cov[0]).T
    cloud = mx.normalise(Mixture(near, cov, rng.normal(size=8)))
    reduced = mx.reduce_hypotheses(cloud)
    assert len(reduced) == 1
    assert_allclose(reduced.mean[0], mx.moments(cloud).mean, atol=1e-12)


@law
@given(seeds, st.integers(1, 3))
def test_reduction_leaves_few_rivals_as_they_are_however_near(seed, K):
    rng = np.random.default_rng(seed)
    cov = np.repeat(random_cov(rng, 4)[None], K, axis=0)
    few = mx.normalise(Mixture(1e-3 * rng.normal(size=(K, 4)), cov, rng.normal(size=K)))
    assert mx.reduce_hypotheses(few) is few


def test_reduction_keeps_the_three_heaviest_of_many_clouds():
    weight = np.array([0.1, 0.2, 0.05, 0.3, 0.15, 0.2])
    mean = 100.0 * np.arange(6)[:, None] * np.ones(4)
    mean[5] = mean[1] + 0.1
    reduced = mx.reduce_hypotheses(
        Mixture(mean, np.repeat(np.eye(4)[None], 6, axis=0), np.log(weight))
    )
    assert_allclose(np.exp(reduced.log_weight), np.array([0.4, 0.3, 0.15]) / 0.85)
    assert_allclose(reduced.mean[:, 0], [100.05, 300, 400])
