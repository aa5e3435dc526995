"""The Kalman filter, pure and batched over leading axes.

A state x has X = 2D numbers, D positions and then their D velocities; a measurement z has D numbers
and sees the positions, H = [I 0]. Coordinates that are not measured are masked: their rows of H are
zero and their noise is one, so that batches stay rectangular and every result is exact.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, slots=True, eq=False)
class Innovation:
    """What a measurement says beyond the prediction, before anything is updated."""

    factor: Float[np.ndarray, "*batch D D"]
    """L of S = HPHᵀ + R = LLᵀ."""
    whitened: Float[np.ndarray, "*batch D"]
    """L⁻¹(z - Hx)."""
    measured: Bool[np.ndarray, " D"]

    @property
    def nis(self) -> Float[np.ndarray, "*batch"]:
        """Normalised innovation squared, (z - Hx)ᵀ S⁻¹ (z - Hx)."""
        return np.asarray(np.square(self.whitened).sum(axis=-1))

    @property
    def log_likelihood(self) -> Float[np.ndarray, "*batch"]:
        """Log of N(z; Hx, S) over the measured coordinates, nats."""
        log_det = 2 * np.log(np.diagonal(self.factor, axis1=-2, axis2=-1)).sum(axis=-1)
        dof = self.measured.sum()
        return np.asarray(-0.5 * (self.nis + log_det + dof * np.log(2 * np.pi)))


def predict(
    mean: Float[np.ndarray, "*batch X"],
    cov: Float[np.ndarray, "*batch X X"],
    F: Float[np.ndarray, "X X"],
    Q: Float[np.ndarray, "X X"],
) -> tuple[Float[np.ndarray, "*batch X"], Float[np.ndarray, "*batch X X"]]:
    """Move the state one step ahead: Fx, FPFᵀ + Q."""
    P = F @ cov @ F.T + Q
    # Rounding makes an antisymmetric part that no update would ever see and take away.
    return mean @ F.T, (P + P.mT) / 2


def innovate(
    mean: Float[np.ndarray, "*#batch X"],
    cov: Float[np.ndarray, "*#batch X X"],
    z: Float[np.ndarray, "*#batch D"],
    R: Float[np.ndarray, "*#batch D D"],
    measured: Bool[np.ndarray, " D"],
) -> Innovation:
    """Compare measurements with predictions: all that scoring needs, and half of an update."""
    D = z.shape[-1]
    both = measured[:, None] & measured
    S = np.where(both, cov[..., :D, :D] + R, np.eye(D))
    L = np.linalg.cholesky(S)
    difference = np.where(measured, z - mean[..., :D], 0.0)
    return Innovation(L, np.linalg.solve(L, difference[..., None])[..., 0], measured)


def update(
    mean: Float[np.ndarray, "*batch X"],
    cov: Float[np.ndarray, "*batch X X"],
    innovation: Innovation,
) -> tuple[Float[np.ndarray, "*batch X"], Float[np.ndarray, "*batch X X"]]:
    """Add GᵀL⁻¹(z - Hx) to x and take GᵀG from P, G = L⁻¹HP: symmetric by form, no inverse."""
    D = innovation.whitened.shape[-1]
    HP = np.where(innovation.measured[:, None], cov[..., :D, :], 0.0)
    G = np.linalg.solve(innovation.factor, HP)
    return mean + (G.mT @ innovation.whitened[..., None])[..., 0], cov - G.mT @ G
