"""Which pose belongs to which track.

First by likelihood: a pose goes to a track if the track explains it better than a new person would.
What is left then goes by overlap, which catches a track whose prediction was wrong and sure of it.
Poses of low score come last, and only to tracks that nothing better has claimed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from tracker import triangular
from tracker.geometry import centre as centre_of
from tracker.geometry import person_area
from tracker.hypotheses import People
from tracker.motion import BodyMotion
from tracker.noise import Measurements, planar_gate, planar_nis
from tracker.parts import Parts
from tracker.skeleton import Skeleton

LEAST_VISIBLE = 0.3
"""Keypoints that are less probably visible than this neither shape a box nor tell people apart."""


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
    contested_within: float = 3.0
    """Pairs are contested if exchanging them would cost less than this, nats."""


class Pair(NamedTuple):
    """A track and a pose, by their places in the lists that were associated."""

    track: int
    pose: int
    log_ratio: float
    """log p(pose | track) - log p(pose | new person), nats; zero where only overlap speaks."""
    by_overlap: bool
    contested: bool


class Association(NamedTuple):
    pairs: tuple[Pair, ...]
    missed: tuple[int, ...]
    """Tracks without a pose."""
    new: tuple[int, ...]
    """Poses without a track."""


def associate(
    log_ratio: Float[np.ndarray, "T N"],
    overlap: Callable[[], Float[np.ndarray, "T N"]],
    weak: Bool[np.ndarray, " N"],
    config: AssociationConfig,
) -> Association:
    """Assign poses to tracks one to one, by likelihood and then by overlap; weak poses last.

    Both are -inf where a track and a pose cannot be one person. Overlap is worked out only where
    likelihood leaves somebody.
    """
    sure: list[tuple[int, int]] = []
    unsure: list[tuple[int, int]] = []
    free = np.ones(log_ratio.shape, dtype=bool)
    for stage in (~weak, weak):
        for found in sure, unsure:
            left = free & stage
            if not left.any():
                continue
            gain = log_ratio if found is sure else overlap()
            made = assign(np.where(left, gain, -np.inf), least=0.0)
            for t, n in made:
                free[t, :] = free[:, n] = False
            found += made
    close = contested(log_ratio, sure, config.contested_within)
    pairs = (
        *(Pair(t, n, log_ratio.item(t, n), False, t in close) for t, n in sure),
        *(Pair(t, n, 0.0, True, False) for t, n in unsure),
    )
    missed = sorted(set(range(log_ratio.shape[0])) - {pair.track for pair in pairs})
    new = sorted(set(range(log_ratio.shape[1])) - {pair.pose for pair in pairs})
    return Association(pairs, tuple(missed), tuple(new))


def assign(gain: Float[np.ndarray, "T N"], least: float) -> list[tuple[int, int]]:
    """The one-to-one pairs of largest total gain above `least`; pairs of less are never made."""
    worth = np.maximum(gain - least, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    made = gain[rows, columns] >= least
    return list(zip(rows[made].tolist(), columns[made].tolist(), strict=True))


def contested(
    gain: Float[np.ndarray, "T N"], pairs: list[tuple[int, int]], within: float
) -> set[int]:
    """Tracks that could have another pose at nearly the same total gain.

    Either a pose that nobody has, or that of another track which takes theirs in exchange.
    """
    if not pairs or np.isfinite(gain).sum() == len(pairs):  # nobody could have another
        return set()
    t, n = np.array(pairs).T
    row, column = gain[t], gain[:, n]
    own, taken = gain[t, n], row[:, n]
    loss = own[:, None] + own - (taken + taken.T)
    np.fill_diagonal(loss, np.inf)
    row[:, n], column[t] = -np.inf, -np.inf  # what is left is free
    other = own - np.maximum(row.max(axis=1), column.max(axis=0))
    return set(t[np.minimum(loss.min(axis=1), other) < within].tolist())


def near(people: People, z: Measurements, config: AssociationConfig) -> Int[np.ndarray, "P 2"]:
    """Pairs whose centres, the means of all keypoints, may coincide: cheap, before scoring."""
    d = z.mean.shape[-1]
    here, here_cov = _centres(
        people.mean[..., :d], people.cov[..., :d, :d], people.log_weight, people.owner
    )
    there, there_cov = _centres(z.mean, z.R, z.log_weight, z.owner)
    slack = np.square(config.centre_std * z.height)[:, None, None] * np.eye(2)
    cov = here_cov[:, None] + there_cov + slack
    offset = there - here[:, None]  # (T, N, 2)
    return np.argwhere(planar_nis(offset, cov)[..., 0] < planar_gate(config.gate))


def keypoint_overlap(
    skeleton: Skeleton,
    a: Float[np.ndarray, "T J 2"],
    b: Float[np.ndarray, "N J 2"],
    box: Float[np.ndarray, "T 4"],
    compared: Bool[np.ndarray, "T N"],
) -> Float[np.ndarray, "T N"]:
    """OKS of the pairs that are compared, by the area of the first; zero for all others."""
    overlap = np.zeros(compared.shape)
    t, n = np.nonzero(compared)
    if not len(t):
        return overlap
    overlap[t, n] = skeleton.oks(a[t], b[n], person_area(box)[t]).mean(axis=-1)
    return overlap


def birth_spread(
    motion: BodyMotion, parts: Parts, config: AssociationConfig
) -> Float[np.ndarray, "B d d"]:
    """Σ of new people of height 1: a place shared by all keypoints, and a shape."""
    D = len(motion.correlation)
    place = np.kron(np.ones((D // 2, D // 2)), np.eye(2))
    return parts.matrix(config.place_std**2 * place + config.shape_std**2 * motion.correlation)


def birth_log_density(
    z: Measurements, spread: Float[np.ndarray, "B d d"]
) -> Float[np.ndarray, " N"]:
    """Expected log density of each pose, were it of a new person, nats: -½ log|2πe (Σ + R)|.

    The expectation is over Σ, the spread of new people, itself, so no typical pose is needed.
    """
    R = z.R
    if len(z.owner) > len(z):
        offset = z.mean - z.centre[z.owner]
        total = z.R + offset[..., :, None] * offset[..., None, :]
        R = _average(total, z.log_weight, z.owner)
    cov = np.square(z.height)[:, None, None, None] * spread + R
    if not z.measured.all():
        both = z.measured[..., :, None] & z.measured[..., None, :]
        cov = np.where(both, cov, np.eye(R.shape[-1]))
    log_det = triangular.log_det(triangular.cholesky(cov)).sum(axis=-1)
    return -0.5 * (log_det + z.measured.sum(axis=(-2, -1)) * (1 + log(2 * pi)))


def _centres(
    mean: Float[np.ndarray, "rows B d"],
    cov: Float[np.ndarray, "rows B d d"],
    log_weight: Float[np.ndarray, " rows"],
    owner: Int[np.ndarray, " rows"],
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2 2"]]:
    """Mean and spread of the mean of all keypoints, as if they all erred together."""
    rows, B, d = mean.shape
    points = centre_of(mean.reshape(rows, -1, 2))
    blocks = cov.reshape(rows, B, d // 2, 2, d // 2, 2)
    alone = np.einsum("rbjxjy->rxy", blocks) * (2 / (B * d))
    if owner[-1] + 1 == rows:
        return points, alone
    centre = _average(points, log_weight, owner)
    offset = points - centre[owner]
    between = offset[:, :, None] * offset[:, None, :]
    return centre, _average(alone + between, log_weight, owner)


def _average(
    values: Float[np.ndarray, " rows *rest"],
    log_weight: Float[np.ndarray, " rows"],
    owner: Int[np.ndarray, " rows"],
) -> Float[np.ndarray, " n *rest"]:
    """Weighted sums over the rows of each owner."""
    first = np.searchsorted(owner, np.arange(owner[-1] + 1))
    weight = np.exp(log_weight).reshape(-1, *[1] * (values.ndim - 1))
    return np.add.reduceat(weight * values, first, axis=0)
