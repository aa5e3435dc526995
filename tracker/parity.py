"""How far two engines of one pose network are apart, in terms that matter: pixels and nats."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tracker.crops import crop_box
from tracker.pipeline import EstimatePoses
from tracker.types import Detection, Frame, PoseMixture

CROP_HEIGHT = 256
"""Shifts are given in px of a crop of this height, whatever its size in the picture."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Of one engine against another, over people and their hypotheses."""

    people: int
    px_median: float
    """Distance of a keypoint from the reference's, all hypotheses, px of the crop."""
    px_p99: float
    px_max: float
    kl_mean: float
    """KL(N(0, Σ_reference) ‖ N(0, Σ)) of a hypothesis' full covariance, nats."""
    kl_p99: float
    weight_max: float
    """Largest difference of the probability of a hypothesis."""
    visible_max: float

    def __str__(self) -> str:
        return (
            f"{self.people} people: keypoints {self.px_median:.3f} px (median), "
            f"{self.px_p99:.3f} px (p99), {self.px_max:.2f} px (most); "
            f"covariances {self.kl_mean:.1e} nat (mean), {self.kl_p99:.1e} nat (p99); "
            f"weights {self.weight_max:.4f}, visibilities {self.visible_max:.4f} (most)"
        )


def parity(
    reference: EstimatePoses,
    other: EstimatePoses,
    people: Iterable[tuple[Frame, Sequence[Detection]]],
) -> Parity:
    """Show both networks the same people."""
    pairs = [
        pair
        for frame, detections in people
        for pair in zip(reference(frame, detections), other(frame, detections), strict=True)
    ]
    return compare(pairs)


def compare(pairs: Sequence[tuple[PoseMixture, PoseMixture]]) -> Parity:
    """Of what two networks said of the same people, the reference first."""
    if not pairs:
        raise ValueError("there is nobody to compare engines on")
    px = np.concatenate([_shift(a, b) for a, b in pairs], axis=None)
    kl = np.concatenate([covariance_kl(a.mixture.cov, b.mixture.cov) for a, b in pairs])
    weight = [np.exp(a.mixture.log_weight) - np.exp(b.mixture.log_weight) for a, b in pairs]
    visible = [a.visible - b.visible for a, b in pairs]
    return Parity(
        people=len(pairs),
        px_median=float(np.median(px)),
        px_p99=float(np.percentile(px, 99)),
        px_max=float(px.max()),
        kl_mean=float(kl.mean()),
        kl_p99=float(np.percentile(kl, 99)),
        weight_max=float(np.abs(weight).max()),
        visible_max=float(np.abs(visible).max()),
    )


def covariance_kl(
    reference: Float[np.ndarray, "*batch D D"], other: Float[np.ndarray, "*batch D D"]
) -> Float[np.ndarray, "*batch"]:
    """½ (tr Σ⁻¹Σ_ref − D − log det Σ⁻¹Σ_ref), by the eigenvalues of the whitened reference."""
    root = np.linalg.cholesky(other)
    half = np.linalg.solve(root, reference)
    whitened = np.linalg.solve(root, np.swapaxes(half, -1, -2))
    ratio = np.linalg.eigvalsh((whitened + np.swapaxes(whitened, -1, -2)) / 2)
    return np.asarray(0.5 * (ratio - 1 - np.log(ratio)).sum(axis=-1))


def _shift(a: PoseMixture, b: PoseMixture) -> Float[np.ndarray, "K J"]:
    crop = crop_box(a.detection.box)
    n = len(a.visible)
    off = (b.mixture.points(n) - a.mixture.points(n)) * CROP_HEIGHT / (crop[3] - crop[1])
    return np.linalg.norm(off, axis=-1)
