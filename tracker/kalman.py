"""The Kalman filter, pure and batched over leading axes.

A state x has X = 2D numbers, D positions and then their D velocities; a measurement z has D numbers
and sees the positions, z = p + e. Coordinates that are not measured are masked: their innovations
are zero and their noise is one, so that batches stay rectangular and every result is exact.

The errors e of successive measurements may be correlated. What is left of the last one, e' = ce +
independent noise, is known as well as the position then, z' - p': no further state is needed, only
the covariance of the last position with the present state (measurement differencing, Bryson &
Henrikson 1968).
"""

from dataclasses import dataclass
from math import log, pi

import numpy as np
from jaxtyping import Bool, Float, Int

from tracker import triangular


@dataclass(frozen=True, slots=True, eq=False)
class Innovation:
    """What a measurement says beyond the prediction, before anything is updated."""

    factor: Float[np.ndarray, "*batch D D"]
    """L of the covariance of the innovation, S = LLᵀ."""
    whitened: Float[np.ndarray, "*batch D"]
    """L⁻¹ times the innovation."""
    measured: Bool[np.ndarray, "*#batch D"]

    @property
    def nis(self) -> Float[np.ndarray, "*batch"]:
        """Normalised innovation squared, dᵀ S⁻¹ d."""
        return np.asarray(np.vecdot(self.whitened, self.whitened))

    @property
    def log_likelihood(self) -> Float[np.ndarray, "*batch"]:
        """Log of N(d; 0, S) over the measured coordinates, nats."""
        dof = self.measured.sum(axis=-1)
        return np.asarray(-0.5 * (self.nis + triangular.log_det(self.factor) + dof * log(2 * pi)))

    def rows(self, index: Int[np.ndarray, " n"]) -> "Innovation":
        """Some of a batch."""
        return Innovation(self.factor[index], self.whitened[index], self.measured[index])


@dataclass(frozen=True, slots=True, eq=False)
class Echo:
    """What is known of the error e of the last measurement, once the state has moved on."""

    mean: Float[np.ndarray, "*batch D"]
    cov: Float[np.ndarray, "*batch D D"]
    cross: Float[np.ndarray, "*batch X D"]
    """cov(x, e)."""


def predict(
    mean: Float[np.ndarray, "*batch X"],
    cov: Float[np.ndarray, "*batch X X"],
    F: Float[np.ndarray, "X X"],
    Q: Float[np.ndarray, "*#batch X X"],
) -> tuple[Float[np.ndarray, "*batch X"], Float[np.ndarray, "*batch X X"]]:
    """Move the state one step ahead: Fx, FPFᵀ + Q."""
    P = F @ cov @ F.T + Q
    # Rounding makes an antisymmetric part that no update would ever see and take away.
    return mean @ F.T, (P + P.mT) / 2


def glide(
    mean: Float[np.ndarray, "*batch X"],
    cov: Float[np.ndarray, "*batch X X"],
    dt: float,
    density: Float[np.ndarray, "*#batch D D"],
) -> tuple[Float[np.ndarray, "*batch X"], Float[np.ndarray, "*batch X X"]]:
    """`predict` at constant velocity, block by block: a tenth of its cost.

    The noise is a white acceleration of this spectral density (`motion.constant_velocity`).
    """
    D = density.shape[-1]
    pp, pv, vv = cov[..., :D, :D], cov[..., :D, D:], cov[..., D:, D:]
    half = dt * (pv + 0.5 * dt * vv)
    P = np.empty_like(cov)
    P[..., :D, :D] = pp + (half + half.mT) + (dt**3 / 3) * density
    P[..., :D, D:] = pv + dt * vv + (dt**2 / 2) * density
    P[..., D:, :D] = P[..., :D, D:].mT
    P[..., D:, D:] = vv + dt * density
    return glide_mean(mean, dt), P


def glide_mean(mean: Float[np.ndarray, "*batch X"], dt: float) -> Float[np.ndarray, "*batch X"]:
    """(p, v) → (p + v dt, v)."""
    D = mean.shape[-1] // 2
    moved = mean.copy()
    moved[..., :D] += dt * mean[..., D:]
    return moved


def innovate(
    difference: Float[np.ndarray, "*batch D"],
    S: Float[np.ndarray, "*batch D D"],
    measured: Bool[np.ndarray, "*#batch D"],
) -> Innovation:
    """Weigh what was measured beyond the prediction by its covariance.

    All that scoring needs, and half of an update.
    """
    if not measured.all():
        both = measured[..., :, None] & measured[..., None, :]
        S = np.where(both, S, np.eye(S.shape[-1]))
        difference = np.where(measured, difference, 0.0)
    return Innovation(*triangular.whiten(S, difference), measured)


def update(
    mean: Float[np.ndarray, "*batch X"],
    cov: Float[np.ndarray, "*batch X X"],
    cross: Float[np.ndarray, "*batch X D"],
    innovation: Innovation,
) -> tuple[Float[np.ndarray, "*batch X"], Float[np.ndarray, "*batch X X"]]:
    """Add GᵀL⁻¹d to x and take GᵀG from P, G = L⁻¹ cov(z, x): symmetric by form, no inverse.

    Without memory, cross = cov(x, z) is the columns of P that belong to the positions.
    """
    G = pull(cross, innovation)
    return mean + (G.mT @ innovation.whitened[..., None])[..., 0], cov - triangular.gram(G)


def pull(
    cross: Float[np.ndarray, "*batch n D"], innovation: Innovation
) -> Float[np.ndarray, "*batch D n"]:
    """G = L⁻¹ cov(z, y): how the whitened innovation moves anything y that goes with z."""
    seen = cross if innovation.measured.all() else cross * innovation.measured[..., None, :]
    return triangular.solve(innovation.factor, seen.mT)


def with_echo(
    position_cov: Float[np.ndarray, "*batch D D"],
    R: Float[np.ndarray, "*#batch D D"],
    echo: Echo,
    gain: Float[np.ndarray, "*batch D"],
    fresh: Float[np.ndarray, "*batch D"],
) -> Float[np.ndarray, "*batch D D"]:
    """Covariance of z = p + gain∘e + fresh∘noise, where the noise has covariance R."""
    S = fresh[..., :, None] * fresh[..., None, :]
    S *= R
    S += position_cov
    back = echo.cross[..., : gain.shape[-1], :] * gain[..., None, :]
    S += back
    S += back.mT
    kept = gain[..., :, None] * gain[..., None, :]
    kept *= echo.cov
    S += kept
    return S
