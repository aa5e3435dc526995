"""One calibration for every method: the same form, the same people, the same likelihood.

The form is what `tracker.training.calibrate` ships (a factor on the standard deviations of each
keypoint, a temperature for the weights) and, with `tails` > 1, a scale mixture on top: every
Gaussian becomes several with the same mean and correlations, at common factors with common weights,
Σₛ aₛ N(x; m, tₛ² GΣG). A few factors make heavy tails, as a Student t does with infinitely many.

The maximum likelihood is found with exact gradients in NumPy. Covariances are only ever multiplied
by factors, so that they are inverted once: a fit takes a second, and needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from tracker.types import Mixture

PULL, FAINT = 0.05, 1e-3
"""As in training: what deviations of log scales from their mean cost, squared, and what the log
temperature costs."""


class Beliefs(NamedTuple):
    """Mixtures of N people with K components each, px."""

    mean: Float[np.ndarray, "N K D"]
    cov: Float[np.ndarray, "N K D D"]
    log_weight: Float[np.ndarray, "N K"]

    def mixtures(self) -> list[Mixture]:
        return [Mixture(*parts) for parts in zip(*self, strict=True)]

    @classmethod
    def stack(cls, mixtures: Sequence[Mixture]) -> "Beliefs":
        return cls(
            np.stack([m.mean for m in mixtures]),
            np.stack([m.cov for m in mixtures]),
            np.stack([m.log_weight for m in mixtures]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Trust:
    """How far a method's own spread is to be trusted."""

    log_scale: Float[np.ndarray, " J"]
    log_temperature: float
    log_tail: Float[np.ndarray, " S"]
    """Common log factors of the scale mixture; the first is 0."""
    log_share: Float[np.ndarray, " S"]
    """Their log weights."""

    def apply(self, beliefs: Beliefs) -> Beliefs:
        """The calibrated mixtures, S times as many components."""
        g = np.exp(np.repeat(self.log_scale, 2))
        cov = beliefs.cov * g[:, None] * g
        weight = log_softmax(beliefs.log_weight * np.exp(-self.log_temperature), axis=1)
        return Beliefs(
            np.concatenate([beliefs.mean for _ in self.log_tail], axis=1),
            np.concatenate([cov * np.exp(2 * tail) for tail in self.log_tail], axis=1),
            np.concatenate([weight + share for share in self.log_share], axis=1),
        )

    def record(self) -> dict[str, object]:
        """For the JSON."""
        return {
            "scale": np.exp(self.log_scale).round(4).tolist(),
            "temperature": round(float(np.exp(self.log_temperature)), 4),
            "tail": np.exp(self.log_tail).round(4).tolist(),
            "share": np.exp(self.log_share).round(4).tolist(),
        }


def fit(
    beliefs: Beliefs,
    truth: Float[np.ndarray, "N J 2"],
    labelled: Bool[np.ndarray, "N J"],
    tails: int = 1,
) -> tuple[Trust, float]:
    """Maximum likelihood on people that the method was not trained on, by L-BFGS; its loss too."""
    n_keypoints = labelled.shape[1]
    likelihood = _Likelihood.of(beliefs, truth, labelled)
    start = _start(n_keypoints, tails)
    found = minimize(
        likelihood.loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-9.0, 9.0)] * len(start),  # a line search must not overflow
        options={"maxiter": 500},
    )
    return _unpack(found.x, n_keypoints), float(found.fun)


def _start(n_keypoints: int, tails: int) -> Float[np.ndarray, " P"]:
    """Factors from below 1 up to about 4, the far ones rare."""
    first = 0.3 if tails == 1 else -0.3
    tail = np.linspace(0.0, 1.5, tails)[1:]
    return np.concatenate([np.full(n_keypoints, first), [0.0], tail, -1.5 * tail])


def _unpack(theta: Float[np.ndarray, " P"], n_keypoints: int) -> Trust:
    scale, (temperature, *rest) = theta[:n_keypoints], theta[n_keypoints:]
    tail, share = np.split(np.array(rest), 2)
    return Trust(
        scale,
        float(temperature),
        np.concatenate([[0.0], tail]),
        log_softmax(np.concatenate([[0.0], share])),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Likelihood:
    """All of the exact marginal likelihood that does not change while factors do."""

    residual: Float[np.ndarray, "N K D"]
    """Truth minus mean; 0 where nobody labelled."""
    precision: Float[np.ndarray, "N K D D"]
    """Inverse of the labelled part, identity elsewhere."""
    log_det: Float[np.ndarray, "N K"]
    log_weight: Float[np.ndarray, "N K"]
    labelled: Float[np.ndarray, "N J"]

    @classmethod
    def of(
        cls,
        beliefs: Beliefs,
        truth: Float[np.ndarray, "N J 2"],
        labelled: Bool[np.ndarray, "N J"],
    ) -> "_Likelihood":
        mask = np.repeat(labelled, 2, axis=1)[:, None].astype(float)  # (N, 1, D)
        residual = (truth.reshape(len(truth), 1, -1) - beliefs.mean) * mask
        cov = beliefs.cov * mask[..., None] * mask[..., None, :]
        cov = cov + (1 - mask)[..., None] * np.eye(mask.shape[-1])
        log_det = np.linalg.slogdet(cov)[1]
        precision = np.linalg.inv(cov)
        return cls(residual, precision, log_det, beliefs.log_weight, labelled.astype(float))

    def loss(self, theta: Float[np.ndarray, " P"]) -> tuple[float, Float[np.ndarray, " P"]]:
        """Nats per labelled keypoint, with `PULL`, and the gradient.

        With w = G⁻¹r the terms are log pₖₛ = -½ (tₛ⁻² wᵀPw + log|Σ|) - n (log g + log tₛ) + const.
        """
        n_people, n_keypoints = self.labelled.shape
        trust = _unpack(theta, n_keypoints)
        n = 2 * self.labelled.sum(axis=1)[:, None, None]  # numbers that are labelled
        w = self.residual * np.exp(-np.repeat(trust.log_scale, 2))
        pull_back = (w * (self.precision @ w[..., None])[..., 0]).reshape(
            n_people, -1, n_keypoints, 2
        )
        per_keypoint = pull_back.sum(axis=-1)  # (N, K, J)
        squared = per_keypoint.sum(axis=-1)[..., None]  # (N, K, 1)
        shrink = np.exp(-2 * trust.log_tail)
        cooled = self.log_weight * np.exp(-trust.log_temperature)
        log_p = (
            log_softmax(cooled, axis=1)[..., None]
            + trust.log_share
            - 0.5 * (shrink * squared + self.log_det[..., None] + n * np.log(2 * np.pi))
            - n * trust.log_tail
            - 2 * (self.labelled @ trust.log_scale)[:, None, None]
        )
        total = np.logaddexp.reduce(log_p.reshape(n_people, -1), axis=1)
        mine = np.exp(log_p - total[:, None, None])  # (N, K, S)

        per_scale = np.einsum("nks,s,nkj->j", mine, shrink, per_keypoint) - 2 * self.labelled.sum(0)
        per_weight = mine.sum(axis=2) - softmax(cooled, axis=1)
        per_temperature = -(per_weight * cooled).sum()
        per_tail = (mine * (shrink * squared - n)).sum(axis=(0, 1))[1:]
        per_share = (mine.sum(axis=(0, 1)) - n_people * np.exp(trust.log_share))[1:]
        gradient = np.concatenate([per_scale, [per_temperature], per_tail, per_share])
        count = self.labelled.sum()
        off = trust.log_scale - trust.log_scale.mean()
        gradient = -gradient / count
        gradient[:n_keypoints] += 2 * PULL * off / n_keypoints
        gradient[n_keypoints] += 2 * FAINT * trust.log_temperature
        penalty = PULL * np.square(off).mean() + FAINT * trust.log_temperature**2
        return float(-total.sum() / count + penalty), gradient
