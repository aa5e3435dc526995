"""Sums of Gaussians, p(x) = Σₖ wₖ N(x; mₖ, Pₖ), over poses and over track states alike.

Weights stay logs, covariances stay full, and every function gives back a normalised mixture.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from tracker import triangular
from tracker.types import Mixture

FEW = 3
"""Hypotheses of a network that are followed up."""
NEAR = 0.45
"""Of more hypotheses those nearer than this (`distances`) are one: they draw a heavy tail and are
no rivals. If they competed, whoever is nearest to what was expected would always win (ADR 0070)."""


class Moments(NamedTuple):
    """The single Gaussian that has a mixture's mean and covariance."""

    mean: Float[np.ndarray, " D"]
    cov: Float[np.ndarray, "D D"]


def normalise(mixture: Mixture) -> Mixture:
    """Scale the weights to sum to one."""
    total = _logsumexp(mixture.log_weight)
    return replace(mixture, log_weight=mixture.log_weight - total[..., None])


def average(mixtures: Sequence[Mixture]) -> Mixture:
    """The mean of some densities: the components of all, each mixture of the same weight."""
    share = np.log(len(mixtures))
    return Mixture(
        np.concatenate([mixture.mean for mixture in mixtures]),
        np.concatenate([mixture.cov for mixture in mixtures]),
        np.concatenate([mixture.log_weight - share for mixture in mixtures]),
    )


def stack(mixtures: Sequence[Mixture]) -> Mixture:
    """A batch of mixtures; those of fewer components are filled up with some of weight zero."""
    K, D = max(len(mixture) for mixture in mixtures), mixtures[0].mean.shape[1]
    if all(len(mixture) == K for mixture in mixtures):
        return Mixture(
            np.array([mixture.mean for mixture in mixtures]),
            np.array([mixture.cov for mixture in mixtures]),
            np.array([mixture.log_weight for mixture in mixtures]),
        )
    N = len(mixtures)
    mean, log_weight = np.zeros((N, K, D)), np.full((N, K), -np.inf)
    cov = np.tile(np.eye(D), (N, K, 1, 1))
    for i, mixture in enumerate(mixtures):
        k = len(mixture)
        mean[i, :k], cov[i, :k], log_weight[i, :k] = mixture.mean, mixture.cov, mixture.log_weight
    return Mixture(mean, cov, log_weight)


def moments(mixture: Mixture) -> Moments:
    """Mean Σ wₖ mₖ and covariance Σ wₖ (Pₖ + (mₖ - m)(mₖ - m)ᵀ)."""
    if len(mixture) == 1:
        return Moments(mixture.mean[0], mixture.cov[0])
    whole = merge_groups(mixture, np.ones((1, len(mixture)), dtype=bool))
    return Moments(whole.mean[0], whole.cov[0])


def distances(mixture: Mixture) -> Float[np.ndarray, "*batch K K"]:
    """Squared distance of each pair of means per dimension, in units of the mean covariance.

    (mᵢ - mⱼ)ᵀ P̄⁻¹ (mᵢ - mⱼ) / D with P̄ = Σ wₖ Pₖ: Salmond's measure, the same for both ways.
    """
    *batch, K, D = mixture.mean.shape
    # As one product of matrices: einsum would take ten times as long.
    weight, cov = np.exp(mixture.log_weight), mixture.cov.reshape(*batch, K, D * D)
    mean_cov = (weight[..., None, :] @ cov).reshape(*batch, D, D)
    offset = mixture.mean - mixture.mean[..., :1, :]
    white = triangular.solve(triangular.cholesky(mean_cov), offset.mT)
    product = triangular.gram(white)  # (*batch, K, K)
    own = product.diagonal(0, -2, -1)
    squared = own[..., :, None] + own[..., None, :] - 2 * product
    return np.maximum(squared, 0.0) / D


def merge(mixture: Mixture, below: float) -> Mixture:
    """Join components closer than a distance, keeping the moments of the whole.

    Greedy: the heaviest that is left takes in every other that is left and near. In a batch,
    mixtures of fewer components are filled up with some of weight zero.
    """
    if mixture.mean.shape[-2] == 1:
        return mixture
    return merge_groups(mixture, near_groups(mixture, below))


def near_groups(mixture: Mixture, below: float) -> Bool[np.ndarray, "*batch M K"]:
    """Who goes together; no components share a group that are farther than `below` from its head.

    In a batch, mixtures of fewer groups are filled up with empty ones.
    """
    near = distances(mixture) < below
    left = np.isfinite(mixture.log_weight)  # (*batch, K)
    groups = []
    while left.any():
        heaviest = np.where(left, mixture.log_weight, -np.inf).argmax(axis=-1)
        head = np.arange(left.shape[-1]) == heaviest[..., None]
        with_head = np.take_along_axis(near, heaviest[..., None, None], axis=-2)[..., 0, :]
        groups.append((with_head | head) & left)
        left = left & ~groups[-1]
    return np.stack(groups, axis=-2)


def reduce_hypotheses(mixture: Mixture) -> Mixture:
    """The few Gaussians that matter among a network's many hypotheses; few stay as they are."""
    if mixture.mean.shape[-2] <= FEW:
        return mixture
    groups = near_groups(mixture, NEAR)
    weight = _logsumexp(np.where(groups, mixture.log_weight[..., None, :], -np.inf))
    best = np.argsort(-weight, axis=-1, kind="stable")[..., :FEW]
    return merge_groups(mixture, np.take_along_axis(groups, best[..., None], axis=-2))


def sample(mixture: Mixture, n: int, rng: np.random.Generator) -> Float[np.ndarray, "n D"]:
    """Draw points."""
    component = rng.choice(len(mixture), size=n, p=np.exp(normalise(mixture).log_weight))
    white = rng.standard_normal((n, mixture.mean.shape[1]))
    factor = np.linalg.cholesky(mixture.cov)
    return mixture.mean[component] + np.einsum("nij,nj->ni", factor[component], white)


def log_density(mixture: Mixture, x: Float[np.ndarray, "*batch D"]) -> Float[np.ndarray, "*batch"]:
    """Log of p(x), nats."""
    return _logsumexp(mixture.log_weight + _log_normal(x[..., None, :] - mixture.mean, mixture.cov))


def marginal(mixture: Mixture, index: Int[np.ndarray, " d"]) -> Mixture:
    """The mixture over some of the coordinates."""
    return replace(mixture, mean=mixture.mean[:, index], cov=mixture.cov[:, index[:, None], index])


def first(mixture: Mixture, d: int) -> Mixture:
    """The mixture over its first coordinates."""
    return replace(mixture, mean=mixture.mean[..., :d], cov=mixture.cov[..., :d, :d])


def condition(
    mixture: Mixture, index: Int[np.ndarray, " d"], value: Float[np.ndarray, " d"]
) -> Mixture:
    """The mixture over the other coordinates once some are known.

    Each component becomes N(m_r + P_ro P_oo⁻¹ (x_o - m_o), P_rr - P_ro P_oo⁻¹ P_or) and its weight
    is multiplied by its density N(x_o; m_o, P_oo).
    """
    rest = np.setdiff1d(np.arange(mixture.mean.shape[1]), index)
    known = marginal(mixture, index)
    offset = value - known.mean  # (K, d)
    factor = triangular.cholesky(known.cov)
    half = triangular.solve(factor, mixture.cov[:, index[:, None], rest])  # (K, d, r)
    white = triangular.solve(factor, offset[..., None])
    return normalise(
        Mixture(
            mixture.mean[:, rest] + (half.mT @ white)[..., 0],
            mixture.cov[:, rest[:, None], rest] - triangular.gram(half),
            mixture.log_weight + _log_normal(offset, known.cov),
        )
    )


def merge_groups(mixture: Mixture, groups: Bool[np.ndarray, "*batch M K"]) -> Mixture:
    """One component for each group, with the moments of its members; of weight zero if none."""
    *batch, K, D = mixture.mean.shape
    log_share = np.where(groups, mixture.log_weight[..., None, :], -np.inf)
    log_weight = _logsumexp(log_share)
    # Where a group is empty any shares do, as long as they give a covariance.
    log_total = np.where(np.isfinite(log_weight), log_weight, 0.0)
    share = np.exp(log_share - log_total[..., None])  # (*batch, M, K)
    share[..., 0] += ~np.isfinite(log_weight)
    mean = share @ mixture.mean
    offset = mixture.mean[..., None, :, :] - mean[..., None, :]  # (*batch, M, K, D)
    within = (share @ mixture.cov.reshape(*batch, K, D * D)).reshape(*mean.shape, D)
    between = (share[..., None] * offset).mT @ offset
    return normalise(Mixture(mean, within + between, log_weight))


def _log_normal(
    offset: Float[np.ndarray, "*batch K D"], cov: Float[np.ndarray, "K D D"]
) -> Float[np.ndarray, "*batch K"]:
    *batch, k, d = offset.shape
    factor = triangular.cholesky(cov)
    # All points are columns of one solve per component: many points cost little more than one.
    columns = np.moveaxis(offset.reshape(-1, k, d), 0, -1)  # (K, D, n)
    white = triangular.solve(factor, columns)
    squared = np.square(white).sum(axis=1).T.reshape(*batch, k)
    return -0.5 * (squared + triangular.log_det(factor) + d * np.log(2 * np.pi))


def _logsumexp(log_weight: Float[np.ndarray, "*batch K"]) -> Float[np.ndarray, "*batch"]:
    # An array, even for one mixture.
    return np.asarray(np.logaddexp.reduce(log_weight, axis=-1))
