"""Sums of Gaussians, p(x) = Σₖ wₖ N(x; mₖ, Pₖ), over poses and over track states alike.

Weights stay logs, covariances stay full, and every function gives back a normalised mixture.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from tracker.types import Mixture


class Moments(NamedTuple):
    """The single Gaussian that has a mixture's mean and covariance."""

    mean: Float[np.ndarray, " D"]
    cov: Float[np.ndarray, "D D"]


def normalise(mixture: Mixture) -> Mixture:
    """Scale the weights to sum to one."""
    return replace(mixture, log_weight=mixture.log_weight - _logsumexp(mixture.log_weight))


def select(mixture: Mixture, index: Int[np.ndarray, " M"] | Bool[np.ndarray, " K"]) -> Mixture:
    """Some of the components, normalised."""
    return normalise(
        Mixture(mixture.mean[index], mixture.cov[index], mixture.log_weight[index]),
    )


def prune(mixture: Mixture, within: float) -> Mixture:
    """Drop what is lighter than the heaviest component by more than some nats."""
    # The heaviest always stays, or a track could empty.
    return select(mixture, mixture.log_weight >= mixture.log_weight.max() - abs(within))


def cap(mixture: Mixture, most: int) -> Mixture:
    """Keep the heaviest components, heaviest first."""
    return select(mixture, np.argsort(-mixture.log_weight, kind="stable")[:most])


def moments(mixture: Mixture) -> Moments:
    """Mean Σ wₖ mₖ and covariance Σ wₖ (Pₖ + (mₖ - m)(mₖ - m)ᵀ)."""
    if len(mixture) == 1:
        return Moments(mixture.mean[0], mixture.cov[0])
    whole = _merge_groups(mixture, np.ones((1, len(mixture)), dtype=bool))
    return Moments(whole.mean[0], whole.cov[0])


def distances(mixture: Mixture) -> Float[np.ndarray, "K K"]:
    """Squared distance of each pair of means per dimension, in units of the mean covariance.

    (mᵢ - mⱼ)ᵀ P̄⁻¹ (mᵢ - mⱼ) / D with P̄ = Σ wₖ Pₖ: Salmond's measure, the same for both ways.
    """
    mean_cov = np.einsum("k,kde->de", np.exp(mixture.log_weight), mixture.cov)
    white = np.linalg.solve(np.linalg.cholesky(mean_cov), mixture.mean.T).T  # (K, D)
    return np.square(white[:, None] - white).sum(axis=-1) / white.shape[1]


def merge(mixture: Mixture, below: float) -> Mixture:
    """Join components closer than a distance, keeping the moments of the whole.

    Greedy: the heaviest that is left takes in every other that is left and near.
    """
    if len(mixture) == 1:
        return mixture
    near = distances(mixture) < below
    left = np.ones(len(mixture), dtype=bool)
    groups = []
    for k in np.argsort(-mixture.log_weight, kind="stable"):
        if left[k]:
            groups.append((near[k] | (np.arange(len(mixture)) == k)) & left)
            left &= ~groups[-1]
    return _merge_groups(mixture, np.stack(groups))


def reduce_hypotheses(mixture: Mixture, merge_below: float = 0.25, most: int = 3) -> Mixture:
    """The few Gaussians that matter among a network's many hypotheses."""
    return cap(merge(mixture, merge_below), most)


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
    factor = np.linalg.cholesky(known.cov)
    half = np.linalg.solve(factor, mixture.cov[:, index[:, None], rest])  # (K, d, r)
    white = np.linalg.solve(factor, offset[..., None])
    return normalise(
        Mixture(
            mixture.mean[:, rest] + (half.mT @ white)[..., 0],
            mixture.cov[:, rest[:, None], rest] - half.mT @ half,
            mixture.log_weight + _log_normal(offset, known.cov),
        )
    )


def _merge_groups(mixture: Mixture, groups: Bool[np.ndarray, "M K"]) -> Mixture:
    """One component for each group, with the moments of its members."""
    log_share = np.where(groups, mixture.log_weight, -np.inf)
    log_weight = _logsumexp(log_share)
    share = np.exp(log_share - log_weight[:, None])  # (M, K)
    mean = share @ mixture.mean
    offset = mixture.mean - mean[:, None]  # (M, K, D)
    within = np.tensordot(share, mixture.cov, axes=1)
    between = (share[..., None] * offset).mT @ offset
    return normalise(Mixture(mean, within + between, log_weight))


def _log_normal(
    offset: Float[np.ndarray, "*batch K D"], cov: Float[np.ndarray, "K D D"]
) -> Float[np.ndarray, "*batch K"]:
    *batch, k, d = offset.shape
    factor = np.linalg.cholesky(cov)
    # All points are columns of one solve per component: many points cost little more than one.
    columns = np.moveaxis(offset.reshape(-1, k, d), 0, -1)  # (K, D, n)
    white = np.linalg.solve(factor, columns)
    squared = np.square(white).sum(axis=1).T.reshape(*batch, k)
    log_det = 2 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
    return -0.5 * (squared + log_det + d * np.log(2 * np.pi))


def _logsumexp(log_weight: Float[np.ndarray, "*batch K"]) -> Float[np.ndarray, "*batch"]:
    # An array, even for one mixture.
    return np.asarray(np.logaddexp.reduce(log_weight, axis=-1))
