"""Figures with a known posterior: what a picture tells of a pose, and exactly how much.

Each picture shows one figure that looks the same from the front and from behind, so that two poses
fit it: the keypoints as they lie, or with left and right changed over. Three things can be seen
besides the pose, and each tells one part of the posterior:

    colour of the torso       mass of the two poses,             p from 0.05 to 0.95
    brightness of the ground  error that all keypoints share,    s = 0.010 … 0.035 crop heights
    size of the dots          error of each keypoint alone,      dⱼ = fⱼ · (0.010 … 0.025)

A label is drawn from Σₘ pₘ N(μₘ, s² 11ᵀ⊗I₂ + diag(dⱼ²)⊗I₂), which is thereby its posterior. Unit:
crop heights, origin at the crop's top-left corner.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

HEIGHT, WIDTH = 128, 96
"""Of the crops, px: the smallest that the pose network takes."""
NAMES = ("head", *(f"{s}_{p}" for p in ("shoulder", "hand", "hip", "foot") for s in ("l", "r")))
MIRROR = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7])
LEAST_MASS = 0.05
SHARED = (0.010, 0.035)
ALONE = (0.010, 0.025)
FACTOR = np.array([0.8, 1.0, 1.0, 1.4, 1.4, 0.8, 0.8, 1.2, 1.2])
"""Hands are harder to place than hips."""

_EDGES = ((1, 3), (2, 4), (5, 7), (6, 8))
_DOTS = ((240, 240, 240), (250, 220, 60), (80, 230, 90), (240, 90, 220), (70, 220, 240))
_WARM, _COLD = np.array([225.0, 70.0, 40.0]), np.array([40.0, 80.0, 225.0])
_SHIFT = 4
"""OpenCV draws at 1/16 px."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Posteriors Σₘ pₘ N(y; μₘ, Σ) of B pictures."""

    mean: Float[np.ndarray, "B M J 2"]
    cov: Float[np.ndarray, "B D D"]
    log_mass: Float[np.ndarray, "B M"]


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """B pictures and all that can be known from them."""

    image: UInt8[np.ndarray, "B h w 3"]
    cue: Float[np.ndarray, " B"]
    """Colour of the torso, 0 warm … 1 cold."""
    truth: Truth


def make_figures(n: int, rng: np.random.Generator) -> Figures:
    """Draw n new figures."""
    place = poses(n, rng)
    cue, ground, size = rng.random((3, n))
    first = LEAST_MASS + (1 - 2 * LEAST_MASS) * cue
    truth = Truth(
        np.stack([place, place[:, MIRROR]], axis=1),
        covariance(_between(SHARED, ground), _between(ALONE, size)),
        np.log(np.stack([first, 1 - first], axis=1)),
    )
    image = np.stack([_draw(place[i], cue[i], ground[i], size[i], rng) for i in range(n)])
    return Figures(image, cue, truth)


def poses(n: int, rng: np.random.Generator) -> Float[np.ndarray, "n J 2"]:
    """Where the dots lie; even indices (left, in the first pose) on the picture's left."""

    def limb(length: float, least: float, most: float) -> Float[np.ndarray, "n 2 2"]:
        """Left and right, outwards from straight down."""
        angle = rng.uniform(least, most, (n, 2)) * np.array([-1.0, 1.0])
        return length * np.stack([np.sin(angle), np.cos(angle)], axis=-1)

    shoulders = np.broadcast_to([[-0.085, -0.13], [0.085, -0.13]], (n, 2, 2))
    hips = np.broadcast_to([[-0.05, 0.09], [0.05, 0.09]], (n, 2, 2))
    hands = shoulders + limb(0.19, 0.35, 2.3)
    feet = hips + limb(0.26, 0.05, 0.6)
    head = np.broadcast_to([[0.0, -0.23]], (n, 1, 2))
    body = np.concatenate([head, shoulders, hands, hips, feet], axis=1)
    tilt, scale = rng.uniform(-0.25, 0.25, n), rng.uniform(0.85, 1.1, n)
    turn = np.stack([np.cos(tilt), -np.sin(tilt), np.sin(tilt), np.cos(tilt)], axis=1)
    centre = np.array([0.375, 0.48]) + rng.uniform(-0.05, 0.05, (n, 2))
    return centre[:, None] + scale[:, None, None] * (body @ turn.reshape(n, 2, 2).mT)


def covariance(
    shared: Float[np.ndarray, " B"], alone: Float[np.ndarray, " B"]
) -> Float[np.ndarray, "B D D"]:
    """Form s² 11ᵀ⊗I₂ + diag((fⱼ d)²)⊗I₂."""
    n = len(FACTOR)
    together = np.kron(np.ones((n, n)), np.eye(2))
    own = np.diag((FACTOR**2).repeat(2))
    return shared[:, None, None] ** 2 * together + alone[:, None, None] ** 2 * own


def draw_labels(truth: Truth, rng: np.random.Generator) -> Float[np.ndarray, "B J 2"]:
    """Draw one label for each picture from its posterior."""
    b, _, j, _ = truth.mean.shape
    mode = (rng.random(b) > np.exp(truth.log_mass[:, 0])).astype(int)
    noise = np.linalg.cholesky(truth.cov) @ rng.standard_normal((b, 2 * j, 1))
    return truth.mean[np.arange(b), mode] + noise.reshape(b, j, 2)


def _between(ends: tuple[float, float], x: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
    return ends[0] + (ends[1] - ends[0]) * x


def _draw(
    place: Float[np.ndarray, "J 2"],
    cue: float,
    ground: float,
    size: float,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "h w 3"]:
    noise = 4 * rng.standard_normal((HEIGHT, WIDTH, 3), np.float32)
    image = np.clip(40 + 120 * np.float32(ground) + noise, 0, 255).astype(np.uint8)
    # Pixel centres lie at halves of a pixel.
    point = np.round((place * HEIGHT - 0.5) * 2**_SHIFT).astype(int)
    torso = (1 - cue) * _WARM + cue * _COLD
    cv2.fillPoly(image, [point[[1, 2, 6, 5]]], torso.tolist(), cv2.LINE_AA, _SHIFT)
    for a, b in _EDGES:
        ends = point[a].tolist(), point[b].tolist()
        cv2.line(image, *ends, (200, 200, 200), 3, cv2.LINE_AA, _SHIFT)
    for i, at in enumerate(point.tolist()):
        radius = round((2.0 + 3.0 * size + (3.0 if i == 0 else 0.0)) * 2**_SHIFT)
        cv2.circle(image, at, radius, _DOTS[(i + 1) // 2], -1, cv2.LINE_AA, _SHIFT)
    return image
