"""Who has come back: a new track beside the people who have left.

Where somebody would be by now, and how large, against a stranger anywhere near. The proportions of
a body tell nothing beyond its size: within three seconds the projected bones of one person change
by as much (torso 8, thigh 10, shank 7 %) as those of different people differ (4, 8, 8 %: motion
capture), the length of all together by 6 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import softmax

from tracker.motion import BodyMotion, relaxing_velocity
from tracker.skeleton import Skeleton
from tracker.types import Track

HEIGHT_OF_BONES = 0.38
"""A standing person's height over the length of all bones, in the picture (motion capture)."""


@dataclass(frozen=True, slots=True)
class ReturnConfig:
    """When a new track is somebody who was lost."""

    memory: float = 8.0
    """Nobody is known again who has been unseen for longer, s."""
    place_std: float = 2.0
    """Spread of the places where a stranger may appear, heights."""
    size_std: float = 0.1
    """How far the size of one person changes meanwhile, as a share of it, …"""
    other_size_std: float = 0.35
    """… and how far the sizes of two people differ beyond."""
    least: float = 0.8
    """Probability from which somebody is known again; before looking, everybody absent and a
    stranger are equally likely."""


class _Figure(NamedTuple):
    """Where a person is, and how large."""

    place: Float[np.ndarray, "4"]
    """Mean of all keypoints, and its velocity."""
    cov: Float[np.ndarray, "4 4"]
    size: float
    """Length of all bones together, px."""


def returned(
    new: Track,
    absent: Sequence[Track],
    motion: BodyMotion,
    skeleton: Skeleton,
    config: ReturnConfig,
) -> Track | None:
    """The one of the absent people who this is, if that is clear."""
    absent = [old for old in absent if new.time - old.last_seen <= config.memory]
    if not absent:
        return None
    here = _figure(new, skeleton)
    ratios = np.array(
        [
            _log_ratio(here, _later(_figure(old, skeleton), new.time - old.time, motion), config)
            for old in absent
        ]
    )
    best = int(ratios.argmax())
    probability = softmax(np.append(ratios, 0.0))[best]
    return absent[best] if probability > config.least else None


def _log_ratio(here: _Figure, there: _Figure, config: ReturnConfig) -> float:
    """How much better the same person explains it than a stranger would, nats."""
    height = here.size * HEIGHT_OF_BONES
    S = here.cov[:2, :2] + there.cov[:2, :2]
    offset = here.place[:2] - there.place[:2]
    same = -0.5 * (np.log(np.linalg.det(S)) + offset @ np.linalg.solve(S, offset))
    # Expected, so that no typical place is needed.
    stranger = -np.log((config.place_std * height) ** 2) - 1
    growth = np.log(here.size / there.size)
    own, other = config.size_std**2, config.size_std**2 + config.other_size_std**2
    size = 0.5 * (np.log(other / own) - growth**2 * (1 / own - 1 / other))
    return float(same - stranger + size)


def _figure(track: Track, skeleton: Skeleton) -> _Figure:
    n, k = len(skeleton), track.state.heaviest
    mean = np.kron(np.eye(2), np.kron(np.full((1, n), 1 / n), np.eye(2)))
    a, b = np.array(skeleton.edges).T
    size = np.linalg.norm(track.keypoints[a] - track.keypoints[b], axis=1).sum()
    return _Figure(mean @ track.state.mean[k], mean @ track.state.cov[k] @ mean.T, float(size))


def _later(figure: _Figure, dt: float, motion: BodyMotion) -> _Figure:
    """An unseen person drifts on."""
    drift = relaxing_velocity(dt, motion.config.drift_time)
    F = np.kron(drift.F, np.eye(2))
    density = motion.config.drift_density * (figure.size * HEIGHT_OF_BONES) ** 2
    cov = F @ figure.cov @ F.T + np.kron(drift.Q, density * np.eye(2))
    return figure._replace(place=F @ figure.place, cov=cov)
