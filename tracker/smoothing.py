"""What later poses say of earlier frames: the smoother of Rauch, Tung and Striebel.

Where a smoother is wanted, the filter carries the last state beside the present one, and every
pose moves both: where errors of successive frames are correlated, it speaks of two frames at once.
Given the present, the last state has nothing to do with what comes later. So each frame leaves one
link to the frame before, and a walk along the links smooths as far back as they go.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from tracker import mixture
from tracker.types import Mixture

ALIKE = 0.25
"""Smoothed hypotheses nearer than this are one (`mixture.distances`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """p(last state | present state x) = N(Jx + c, C), for each hypothesis of a person."""

    number: int
    """Of the person's track in the frame before."""
    present: Mixture
    """x, as the filter knows it."""
    gain: Float[np.ndarray, "M X X"]
    """J."""
    mean: Float[np.ndarray, "M X"]
    """c."""
    cov: Float[np.ndarray, "M X X"]
    """C."""

    @classmethod
    def of(cls, number: int, both: Mixture) -> "Link":
        """From the hypotheses of the present state and, after it, the last one."""
        X = both.mean.shape[1] // 2
        present = mixture.first(both, X)
        J = np.linalg.solve(present.cov, both.cov[:, :X, X:]).mT
        rest = both.cov[:, X:, X:] - J @ present.cov @ J.mT
        mean = both.mean[:, X:] - (J @ present.mean[..., None])[..., 0]
        return cls(number, present, J, mean, (rest + rest.mT) / 2)

    def back(self, smoothed: Mixture) -> Mixture:
        """The smoothed last state, from the smoothed present one."""
        m = self._origin(smoothed)
        J = self.gain[m]
        mean = (J @ smoothed.mean[..., None])[..., 0] + self.mean[m]
        cov = J @ smoothed.cov @ J.mT + self.cov[m]
        return mixture.merge(Mixture(mean, (cov + cov.mT) / 2, smoothed.log_weight), ALIKE)

    def _origin(self, smoothed: Mixture) -> Int[np.ndarray, " S"]:
        """The filter's hypothesis that each smoothed one comes from: the most probable there."""
        if len(self.present) == 1:
            return np.zeros(len(smoothed), dtype=int)
        d = self.present.mean.shape[1] // 2
        factor = np.linalg.cholesky(self.present.cov[:, :d, :d])
        off = smoothed.mean[:, None, :d, None] - self.present.mean[:, :d, None]  # (S, M, d, 1)
        squared = np.square(np.linalg.solve(factor, off)).sum(axis=(-2, -1))
        log_det = np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
        return np.argmax(self.present.log_weight - log_det - squared / 2, axis=1)
