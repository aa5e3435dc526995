"""Which pose belongs to which track.

First by likelihood: a pose goes to a track if the track explains it better than a new person would.
What is left then goes by overlap, which catches a track whose prediction was wrong and sure of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment

from tracker import hypotheses
from tracker.hypotheses import Match, Measurement
from tracker.mixture import moments
from tracker.motion import BodyMotion
from tracker.types import Mixture


@dataclass(frozen=True, slots=True)
class AssociationConfig:
    """When a pose and a track may be one person."""

    gate: float = 1 - 1e-6
    """A pair is scored only if the centre of the pose lies in this region of its prediction, …"""
    centre_std: float = 0.1
    """… widened by this for a few keypoints that are wrong, heights."""
    place_std: float = 2.0
    """Spread of the places where a new person may appear, heights."""
    shape_std: float = 0.15
    """Spread of the keypoints of a new person about the body, heights."""
    least_oks: float = 0.3
    """Overlap of keypoints at which what likelihood left over is still joined."""
    least_iou: float = 0.5
    """The same for boxes."""


class Pair(NamedTuple):
    """A track and a pose, by their places in the lists that were associated."""

    track: int
    pose: int
    match: Match | None
    """None where only the overlap speaks for the pair."""
    log_ratio: float
    """log p(pose | track) - log p(pose | new person), nats; zero where only overlap speaks."""


class Association(NamedTuple):
    pairs: tuple[Pair, ...]
    missed: tuple[int, ...]
    """Tracks without a pose."""
    new: tuple[int, ...]
    """Poses without a track."""


def associate(
    states: Sequence[Mixture],
    measurements: Sequence[Measurement],
    overlap: Float[np.ndarray, "T N"],
    motion: BodyMotion,
    config: AssociationConfig,
) -> Association:
    """Assign poses to tracks one to one, by likelihood and then by overlap.

    The overlap is zero where a track and a pose cannot be one person.
    """
    matches = {
        (int(t), int(n)): hypotheses.match(states[t], measurements[n])
        for t, n in np.argwhere(near(states, measurements, config))
    }
    new_person = birth_log_density(measurements, motion, config)
    log_ratio = np.full((len(states), len(measurements)), -np.inf)
    for (t, n), matched in matches.items():
        log_ratio[t, n] = matched.log_likelihood - new_person[n]
    sure = assign(log_ratio, least=0.0)
    left = np.where(overlap > 0, overlap, -np.inf)
    for t, n in sure:
        left[t, :] = left[:, n] = -np.inf
    unsure = assign(left, least=0.0)
    pairs = (
        *(Pair(t, n, matches[t, n], float(log_ratio[t, n])) for t, n in sure),
        *(Pair(t, n, None, 0.0) for t, n in unsure),
    )
    missed = sorted(set(range(len(states))) - {pair.track for pair in pairs})
    new = sorted(set(range(len(measurements))) - {pair.pose for pair in pairs})
    return Association(pairs, tuple(missed), tuple(new))


def assign(gain: Float[np.ndarray, "T N"], least: float) -> list[tuple[int, int]]:
    """The one-to-one pairs of largest total gain above `least`; pairs of less are never made."""
    worth = np.maximum(gain - least, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    made = gain[rows, columns] >= least
    return [(int(t), int(n)) for t, n in zip(rows[made], columns[made], strict=True)]


def near(
    states: Sequence[Mixture], measurements: Sequence[Measurement], config: AssociationConfig
) -> Bool[np.ndarray, "T N"]:
    """Pairs whose centres, the means of all keypoints, may coincide: cheap, before scoring."""
    if not states or not measurements:
        return np.zeros((len(states), len(measurements)), dtype=bool)
    D = len(measurements[0].measured)
    here, here_cov = _centres(states, D)
    there, there_cov = _centres([z.pose for z in measurements], D)
    slack = np.square([config.centre_std * z.height for z in measurements])
    cov = here_cov[:, None] + there_cov + slack[:, None, None] * np.eye(2)
    offset = there - here[:, None]  # (T, N, 2)
    nis = (offset * np.linalg.solve(cov, offset[..., None])[..., 0]).sum(axis=-1)
    return nis < hypotheses.planar_gate(config.gate)


def birth_log_density(
    measurements: Sequence[Measurement], motion: BodyMotion, config: AssociationConfig
) -> Float[np.ndarray, " N"]:
    """Expected log density of each pose, were it of a new person, nats: -½ log|2πe (Σ + R)|.

    Σ, the spread of new people, has a place shared by all keypoints and a shape. The expectation
    is over Σ itself, so no typical pose or posture is needed.
    """
    if not measurements:
        return np.zeros(0)
    D = len(motion.correlation)
    place = np.kron(np.ones((D // 2, D // 2)), np.eye(2))
    spread = config.place_std**2 * place + config.shape_std**2 * motion.correlation
    height = np.array([z.height for z in measurements])
    R = np.stack([moments(z.pose).cov for z in measurements])
    measured = np.stack([z.measured for z in measurements])
    both = measured[:, :, None] & measured[:, None]
    cov = np.where(both, np.square(height)[:, None, None] * spread + R, np.eye(D))
    log_det = 2 * np.log(np.diagonal(np.linalg.cholesky(cov), axis1=1, axis2=2)).sum(axis=1)
    return -0.5 * (log_det + measured.sum(axis=1) * (1 + np.log(2 * np.pi)))


def _centres(
    mixtures: Sequence[Mixture], D: int
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2 2"]]:
    """Mean and covariance of the mean of all keypoints."""
    gaussians = [moments(_centre(mixture, D)) for mixture in mixtures]
    return np.stack([g.mean for g in gaussians]), np.stack([g.cov for g in gaussians])


def _centre(mixture: Mixture, D: int) -> Mixture:
    K, J = len(mixture), D // 2
    mean = mixture.mean[:, :D].reshape(K, J, 2).mean(axis=1)
    cov = mixture.cov[:, :D, :D].reshape(K, J, 2, J, 2).mean(axis=(1, 3))
    return Mixture(mean, cov, mixture.log_weight)
