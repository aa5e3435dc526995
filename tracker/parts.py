"""A body as one part, or as many that know nothing of each other.

With one part a pose has one covariance of all its numbers. With one part for each keypoint the
same formulas run over small blocks: cheap, and blind to what keypoints have in common. Arrays of
the filter carry an axis B of parts; each part has d coordinates, or positions and velocities of d.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, slots=True)
class Parts:
    """How the D coordinates of a body fall into B parts."""

    count: int

    def vector(self, x: Float[np.ndarray, "*batch n"], orders: int = 1) -> Float[np.ndarray, "..."]:
        """(*batch, n) → (*batch, B, n/B); a state has two orders, positions and velocities."""
        *batch, n = x.shape
        if self.count == 1:
            return x[..., None, :]
        cut = x.reshape(*batch, orders, self.count, -1)
        return cut.swapaxes(-3, -2).reshape(*batch, self.count, n // self.count)

    def mask(self, measured: Bool[np.ndarray, "*batch D"]) -> Bool[np.ndarray, "*batch B d"]:
        return measured.reshape(*measured.shape[:-1], self.count, -1)

    def matrix(
        self, cov: Float[np.ndarray, "*batch n n"], orders: int = 1
    ) -> Float[np.ndarray, "..."]:
        """(*batch, n, n) → (*batch, B, n/B, n/B): what parts have in common is left out."""
        *batch, n, _ = cov.shape
        if self.count == 1:
            return cov[..., None, :, :]
        d = n // self.count // orders
        cut = cov.reshape(*batch, orders, self.count, d, orders, self.count, d)
        blocks = np.einsum("...ibjkbl->...bijkl", cut)
        return blocks.reshape(*batch, self.count, orders * d, orders * d)

    def whole_vector(
        self, x: Float[np.ndarray, "*batch B m"], orders: int = 1
    ) -> Float[np.ndarray, "*batch n"]:
        """The inverse of `vector`."""
        *batch, B, m = x.shape
        if B == 1:
            return x[..., 0, :]
        return x.reshape(*batch, B, orders, -1).swapaxes(-3, -2).reshape(*batch, B * m)

    def whole_matrix(
        self, cov: Float[np.ndarray, "*batch B m m"], orders: int = 1
    ) -> Float[np.ndarray, "*batch n n"]:
        """The inverse of `matrix`, with zeros between parts."""
        *batch, B, m, _ = cov.shape
        if B == 1:
            return cov[..., 0, :, :]
        d = m // orders
        whole = np.zeros((*batch, orders, B, d, orders, B, d))
        blocks = np.einsum("...ibjkbl->...bijkl", whole)  # a view
        blocks[...] = cov.reshape(*batch, B, orders, d, orders, d)
        return whole.reshape(*batch, B * m, B * m)


WHOLE = Parts(1)
"""A body as one part."""


class Planar(NamedTuple):
    """The covariance of each keypoint alone, [[xx, xy], [xy, yy]]."""

    xx: Float[np.ndarray, "*batch j"]
    xy: Float[np.ndarray, "*batch j"]
    yy: Float[np.ndarray, "*batch j"]


def planar(cov: Float[np.ndarray, "*batch d d"]) -> Planar:
    """Views, no copies."""
    variance, beside = cov.diagonal(0, -2, -1), cov.diagonal(1, -2, -1)
    return Planar(variance[..., ::2], beside[..., ::2], variance[..., 1::2])
