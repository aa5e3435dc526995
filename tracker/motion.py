"""How bodies move: white acceleration, correlated between keypoints, in body heights.

Everything here is for a body of height 1; a person's covariances are height² times as large. The
height of a person is the long side of the person's box.
"""

from dataclasses import dataclass
from math import exp
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.sparse.csgraph import shortest_path

from tracker.skeleton import Skeleton

ACCELERATION = {
    "nose": 6.0,
    "eye": 6.0,
    "ear": 6.0,
    "shoulder": 5.6,
    "elbow": 7.0,
    "wrist": 9.0,
    "hip": 4.0,
    "knee": 5.8,
    "ankle": 8.7,
}
"""Root mean square along one axis, heights/s², at 30 frames a second, from motion capture."""

OTHER_ACCELERATION = 7.0
"""The same for a keypoint that is not listed."""

CORRELATION = {
    ("nose", "eye"): 0.95,
    ("eye", "ear"): 0.95,
    ("ear", "shoulder"): 0.75,
    ("shoulder", "shoulder"): 0.66,
    ("shoulder", "elbow"): 0.74,
    ("elbow", "wrist"): 0.78,
    ("shoulder", "hip"): 0.7,
    ("hip", "hip"): 0.86,
    ("hip", "knee"): 0.57,
    ("knee", "ankle"): 0.44,
}
"""Of the accelerations of neighbouring keypoints, from the same motion capture.

Those within the head and between head, shoulders and hips are assumed."""

SAMPLE_PERIOD = 1 / 30
"""Accelerations above are averages over this long, s: white beyond it (lag one 0.23, then 0)."""


LEAST_LIVELINESS, MOST_LIVELINESS = 0.2, 3.0
"""Accelerations of a person in everyday life, to those of `ACCELERATION`."""
MOST_STEP = 0.3
"""No single frame changes the log of it by more."""


class Step(NamedTuple):
    """A move over some time: x ← Fx + noise of covariance Q."""

    F: Float[np.ndarray, "n n"]
    Q: Float[np.ndarray, "n n"]


@dataclass(frozen=True, slots=True)
class MotionConfig:
    """How lively people are."""

    kappa: float = 1.0
    """Accelerations, as a multiple of those of everyday motion capture."""
    adaptation: float = 0.3
    """How fast each person's own liveliness is learnt (`livelier`); 0: all move alike."""
    drift_time: float = 2.0
    """A person who is not seen is expected to walk on for about this long, s, …"""
    swing_time: float = 0.1
    """… and to stop any motion of the limbs about the body within about this, s."""
    drift_density: float = 0.3
    """Spectral density of the acceleration of an unseen person's place, heights²/s³.

    Motion capture over a quarter to one second: 0.05 along the floor, 0.1 to 0.3 up and down."""
    start_speed: float = 1.5
    """Standard deviation of the unknown velocity of a new person, heights/s."""


@dataclass(frozen=True, slots=True, eq=False)
class BodyMotion:
    """The motion of all keypoints of a body of height 1: D = 2J interleaved coordinates."""

    density: Float[np.ndarray, "D D"]
    """Spectral density of the white acceleration, heights²/s³."""
    correlation: Float[np.ndarray, "D D"]
    """Of the keypoints, in motion and in shape."""
    config: MotionConfig

    @classmethod
    def of(cls, skeleton: Skeleton, config: MotionConfig) -> "BodyMotion":
        correlation = joint_correlation(skeleton)
        parts = [_part(name) for name in skeleton.keypoint_names]
        listed = np.array([ACCELERATION.get(part, OTHER_ACCELERATION) for part in parts])
        accel_std = config.kappa * listed
        density = correlation * np.outer(accel_std, accel_std) * SAMPLE_PERIOD
        return cls(np.kron(density, np.eye(2)), np.kron(correlation, np.eye(2)), config)

    @property
    def start_cov(self) -> Float[np.ndarray, "D D"]:
        """Covariance of the velocity of a new person, heights²/s²."""
        return self.config.start_speed**2 * self.correlation

    def seen(self, dt: float) -> Step:
        """Constant velocity of every keypoint; states of 2D numbers, positions and velocities."""
        F, Q = constant_velocity(dt)
        return Step(np.kron(F, np.eye(len(self.density))), np.kron(Q, self.density))

    def unseen(self, dt: float) -> Step:
        """The body drifts on, the limbs come to rest: else their errors would grow apart forever.

        Place, the mean of all keypoints, and shape, the rest, relax each in its own time. Over
        seconds the place wanders much less than its white acceleration says: strides cancel.
        """
        D = len(self.density)
        place = np.kron(np.full((D // 2, D // 2), 2 / D), np.eye(2))
        shape = np.eye(D) - place
        drift = relaxing_velocity(dt, self.config.drift_time)
        swing = relaxing_velocity(dt, self.config.swing_time)
        drift_density = self.config.drift_density * D / 2 * place
        return Step(
            np.kron(drift.F, place) + np.kron(swing.F, shape),
            np.kron(drift.Q, drift_density) + np.kron(swing.Q, shape @ self.density @ shape),
        )


def joint_correlation(skeleton: Skeleton) -> Float[np.ndarray, "J J"]:
    """Correlation of two keypoints: the product along the strongest chain between them.

    exp(-length) of the shortest path, where an edge is -log CORRELATION long. The body's graph is
    outerplanar, so its metric embeds in L1 and the matrix is positive definite.
    """
    names = skeleton.keypoint_names
    edge = np.array([[_edge_correlation(a, b) for b in names] for a in names])
    with np.errstate(divide="ignore"):
        return np.exp(-shortest_path(-np.log(edge), directed=False))


def constant_velocity(dt: float) -> Step:
    """Exact step of (p, v) with dp = v dt, dv = white noise: Q = [[dt³/3, dt²/2], [dt²/2, dt]]."""
    return Step(
        np.array([[1.0, dt], [0.0, 1.0]]), np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
    )


def relaxing_velocity(dt: float, relaxation: float) -> Step:
    """Exact step of (p, v) with dp = v dt, dv = -v/τ dt + white noise.

    The velocity is an Ornstein-Uhlenbeck process: the expected position comes to rest after vτ,
    and the velocity keeps a finite variance.
    """
    tau = relaxation
    # 1 - exp(-dt/τ); the noise is written in it since short steps would cancel otherwise.
    lost = -np.expm1(-dt / tau)
    position = tau**2 * (dt - tau * (lost + lost**2 / 2))
    cross = (tau * lost) ** 2 / 2
    velocity = tau * (lost - lost**2 / 2)
    return Step(
        np.array([[1.0, tau * lost], [0.0, 1 - lost]]),
        np.array([[position, cross], [cross, velocity]]),
    )


def livelier(liveliness: float, autocorrelation: float, adaptation: float) -> float:
    """The accelerations of a person, as a multiple of what was assumed, after one more pose.

    Where a person moves more than assumed, the filter lags and whitened innovations of successive
    frames point the same way; where less, it follows errors and they alternate. Driving their
    autocorrelation to zero asks for the best gain whatever the scale of the measurement noise, as
    the likelihood would not (ADR 0035).
    """
    step = min(max(adaptation * autocorrelation, -MOST_STEP), MOST_STEP)
    return min(max(liveliness * exp(step), LEAST_LIVELINESS), MOST_LIVELINESS)


def body_height(box: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch"]:
    """The long side of a person's box, px: the unit of all motion."""
    size = box[..., 2:] - box[..., :2]
    return np.asarray(np.maximum(size[..., 0], size[..., 1]))


def _edge_correlation(a: str, b: str) -> float:
    """Of two neighbours; zero for keypoints that are none, one for a keypoint and itself."""
    part_a, part_b = _part(a), _part(b)
    # Neighbours lie on one side of the body, or are each other's mirror image.
    same_side = _side(a) == _side(b) or "" in (_side(a), _side(b))
    if a == b:
        return 1.0
    if same_side == (part_a == part_b):
        return 0.0
    return CORRELATION.get((part_a, part_b), CORRELATION.get((part_b, part_a), 0.0))


def _part(name: str) -> str:
    return name.removeprefix("left_").removeprefix("right_")


def _side(name: str) -> str:
    return name.removesuffix(_part(name))
