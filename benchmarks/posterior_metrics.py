"""How near a mixture is to a known posterior of two poses; batches of pictures, float64.

Every number is taken against the truth itself, not against labels alone: how much of the mixture
lies with each pose, how its shape there differs, how many nats it costs. Labels serve coverage and
the cost, which is the Kullback-Leibler divergence KL(truth ‖ mixture).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import chi2
from torch import Tensor

from benchmarks.figures import Truth
from tracker.nets.sampler import Hypotheses
from tracker.training.losses import covariance

LEVELS = (0.5, 0.9, 0.99)
_DRAWS = 199
"""Of each mixture, for its regions of highest density: the rank of a label is one of 200."""


class Predicted(NamedTuple):
    """Mixtures Σₖ wₖ N(y; mₖ, Pₖ) over flattened poses, crop heights."""

    mean: Float[Tensor, "B K D"]
    cov: Float[Tensor, "B K D D"]
    log_weight: Float[Tensor, "B K"]

    @classmethod
    def of(cls, hypotheses: Hypotheses) -> "Predicted":
        """Form what a network says."""
        parts = Hypotheses(*(part.double() for part in hypotheses))
        log_weight = torch.log_softmax(parts.logit, dim=-1)
        return cls(parts.mean.flatten(2), covariance(parts), log_weight)

    @classmethod
    def true(cls, truth: Truth) -> "Predicted":
        """Form the truth itself: the oracle."""
        mean, cov, log_mass = map(torch.from_numpy, (truth.mean, truth.cov, truth.log_mass))
        modes = mean.shape[1]
        return cls(mean.flatten(2), cov[:, None].expand(-1, modes, -1, -1), log_mass)

    def take(self, rows: slice) -> "Predicted":
        return Predicted(*(part[rows] for part in self))


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What was found for each of B pictures."""

    mass: Float[np.ndarray, " B"]
    """Share of the mixture nearer to the first pose than to the second."""
    true_mass: Float[np.ndarray, " B"]
    stray: Float[np.ndarray, " B"]
    """Share of the mixture outside the 99.9 % regions of both poses; 0.001 of the truth is."""
    rank: Float[np.ndarray, " B"]
    """Share of the mixture where it is denser than at the label; uniform where it is right."""
    excess: Float[np.ndarray, " B"]
    """log p(label) - log q(label), nats per keypoint; its mean is KL(p ‖ q)."""
    shape: Float[np.ndarray, " B"]
    """KL of the true Gaussian about a pose to the mixture's there, nats per keypoint."""
    spread: Float[np.ndarray, " B"]
    """The same of the covariances alone, as if the means were right."""

    @classmethod
    def join(cls, parts: Sequence["Scores"]) -> "Scores":
        """Put batches together."""
        columns = ([getattr(part, name) for part in parts] for name in cls.__slots__)
        return cls(*(np.concatenate(column) for column in columns))


@torch.no_grad()
def score(
    predicted: Predicted, truth: Truth, label: Float[np.ndarray, "B J 2"], seed: int = 0
) -> Scores:
    """Compare mixtures with the truth."""
    oracle, n_keypoints = Predicted.true(truth), label.shape[1]
    y = torch.from_numpy(label).flatten(1)
    share = nearer_first(predicted, oracle)  # (B, K)
    weight = predicted.log_weight.exp()
    draws = sample(predicted, _DRAWS, seed)
    excess = log_density(oracle, y[:, None]) - log_density(predicted, y[:, None])
    both = [within_mode(predicted, s, oracle, m) for m, s in enumerate((share, 1 - share))]
    true_mass = oracle.log_weight.exp()
    whole, spread = (sum(true_mass[:, m] * both[m][i] for m in (0, 1)) for i in (0, 1))
    found = (
        (weight * share).sum(dim=1),
        true_mass[:, 0],
        astray(draws, oracle).double().mean(dim=1),
        density_rank(predicted, draws, y, seed),
        excess[:, 0] / n_keypoints,
        whole / n_keypoints,
        spread / n_keypoints,
    )
    return Scores(*(np.asarray(value) for value in found))


def nearer_first(predicted: Predicted, oracle: Predicted) -> Float[Tensor, "B K"]:
    """Probability of each component on the first pose's side of the plane between the two.

    With one covariance Σ the border of equal Mahalanobis distances is the plane aᵀ(y - c) = 0,
    a = Σ⁻¹(μ₁ - μ₀), c halfway: a Gaussian's share of a half-space is one value of Φ.
    """
    first, second = oracle.mean.unbind(dim=1)
    a = torch.linalg.solve(oracle.cov[:, 0], second - first)
    offset = predicted.mean - 0.5 * (first + second)[:, None]
    along = torch.einsum("bkd,bd->bk", offset, a)
    std = torch.einsum("bd,bkde,be->bk", a, predicted.cov, a).sqrt()
    return torch.special.ndtr(-along / std)


def within_mode(
    predicted: Predicted, share: Float[Tensor, "B K"], oracle: Predicted, mode: int
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """KL of the true Gaussian to the moments of the components that serve it, and of Σ alone."""
    part = torch.softmax(predicted.log_weight + share.clamp(min=1e-30).log(), dim=1)
    mean = torch.einsum("bk,bkd->bd", part, predicted.mean)
    offset = predicted.mean - mean[:, None]
    cov = torch.einsum("bk,bkde->bde", part, predicted.cov)
    cov = cov + torch.einsum("bk,bkd,bke->bde", part, offset, offset)
    true_cov, factor = oracle.cov[:, mode], torch.linalg.cholesky(cov)
    ratio = torch.cholesky_solve(true_cov, factor)
    trace = ratio.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    spread = 0.5 * (trace - trace.new_tensor(cov.shape[-1]) - torch.linalg.slogdet(ratio)[1])
    error = (oracle.mean[:, mode] - mean)[..., None]
    white = torch.linalg.solve_triangular(factor, error, upper=False)
    return spread + 0.5 * white.square().sum(dim=(1, 2)), spread


def sample(predicted: Predicted, n: int, seed: int) -> Float[Tensor, "B n D"]:
    """Draw n poses from each mixture."""
    generator = torch.Generator().manual_seed(seed)
    weight = predicted.log_weight.exp()
    k = torch.multinomial(weight, n, replacement=True, generator=generator)
    row = torch.arange(len(k))[:, None]
    factor = torch.linalg.cholesky(predicted.cov)
    shape = (*k.shape, predicted.mean.shape[-1], 1)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return predicted.mean[row, k] + (factor[row, k] @ noise)[..., 0]


def log_density(predicted: Predicted, y: Float[Tensor, "B n D"]) -> Float[Tensor, "B n"]:
    """Log density of n poses a picture."""
    factor = torch.linalg.cholesky(predicted.cov)
    offset = (y[:, None] - predicted.mean[:, :, None]).mT  # (B, K, D, n)
    white = torch.linalg.solve_triangular(factor, offset, upper=False)
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    log_2pi = y.shape[-1] * np.log(2 * np.pi)
    log_p = -0.5 * (white.square().sum(dim=2) + log_det[..., None] + log_2pi)
    return torch.logsumexp(predicted.log_weight[..., None] + log_p, dim=1)


def density_rank(
    predicted: Predicted, draws: Float[Tensor, "B n D"], y: Float[Tensor, "B D"], seed: int
) -> Float[Tensor, " B"]:
    """Share of the mixture that is denser than the label, one of n + 1 ranks smeared out."""
    at_draws, at_label = log_density(predicted, draws), log_density(predicted, y[:, None])
    denser = (at_draws > at_label).double().sum(dim=1)
    smear = np.random.default_rng(seed).random(len(y))
    return (denser + torch.from_numpy(smear)) / (draws.shape[1] + 1)


def astray(draws: Float[Tensor, "B n D"], oracle: Predicted) -> Bool[Tensor, "B n"]:
    """Tell which poses are like none of the true ones."""
    factor = torch.linalg.cholesky(oracle.cov)
    offset = (draws[:, None] - oracle.mean[:, :, None]).mT
    squared = torch.linalg.solve_triangular(factor, offset, upper=False).square().sum(dim=2)
    return squared.amin(dim=1) > float(chi2.ppf(0.999, draws.shape[-1]))


def summary(scores: Scores) -> dict[str, object]:
    """Put what a method reached into a few numbers."""
    error, curve = scores.mass - scores.true_mass, reliability(scores.true_mass, scores.mass)
    return {
        "mass_error": float(np.abs(error).mean()),
        "mass_bias": max(abs(point["error"]) for point in curve),
        "coverage": {f"{level:.0%}": float((scores.rank <= level).mean()) for level in LEVELS},
        "excess_nll": float(scores.excess.mean()),
        "shape_kl": float(scores.shape.mean()),
        "spread_kl": float(scores.spread.mean()),
        "stray": float(scores.stray.mean()),
        "reliability": curve,
    }


def reliability(
    true: Float[np.ndarray, " B"], learned: Float[np.ndarray, " B"], bins: int = 9
) -> list[dict[str, float]]:
    """Mean learned mass where the true mass lies between two values, in steps of a tenth."""
    edge = np.linspace(true.min(), true.max() + 1e-9, bins + 1)
    which = np.digitize(true, edge) - 1
    error = learned - true
    return [
        {
            "true": float(true[which == i].mean()),
            "learned": float(learned[which == i].mean()),
            "std": float(error[which == i].std()),
            "error": float(error[which == i].mean()),
        }
        for i in sorted(set(which.tolist()))
    ]
