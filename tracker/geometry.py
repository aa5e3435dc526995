"""Maps between pixel frames, and boxes.

One rule of pixels for the whole project: (0, 0) is the top-left corner of the top-left pixel and
pixel centres lie at half-integers. OpenCV puts integers at pixel centres; `Affine.for_cv2` is the
only place where the two meet. Boxes are x0, y0, x1, y1.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from tracker.types import Mixture, Track


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """p' = A p + b between two pixel frames; name it target_from_source."""

    linear: Float[np.ndarray, "2 2"]
    offset: Float[np.ndarray, "2"]

    @classmethod
    def between_boxes(
        cls, source: Float[np.ndarray, "4"], target: Float[np.ndarray, "4"]
    ) -> "Affine":
        """The map without rotation that takes one box onto another."""
        scale = (target[2:] - target[:2]) / (source[2:] - source[:2])
        return cls(np.diag(scale), target[:2] - scale * source[:2])

    def inverse(self) -> "Affine":
        linear = np.linalg.inv(self.linear)
        return Affine(linear, -linear @ self.offset)

    def after(self, inner: "Affine") -> "Affine":
        """First the inner map, then this one."""
        return Affine(self.linear @ inner.linear, self.points(inner.offset))

    def points(self, xy: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        return xy @ self.linear.T + self.offset

    def mixture(self, pose: Mixture) -> Mixture:
        """Map a pose mixture, means and covariances together: AΣAᵀ, pair by pair."""
        k, d = pose.mean.shape
        blocks = pose.cov.reshape(k, d // 2, 2, d // 2, 2)
        cov = np.einsum("ab,kibjc,dc->kiajd", self.linear, blocks, self.linear, optimize=True)
        mean = self.points(pose.mean.reshape(k, -1, 2)).reshape(k, d)
        return Mixture(mean, cov.reshape(k, d, d), pose.log_weight)

    def track(self, track: Track) -> Track:
        """A track in the picture of a camera that has moved: p' = Ap + b, v' = Av, P' = TPTᵀ."""
        mean, D = track.state.mean, track.state.mean.shape[1] // 2
        T = np.kron(np.eye(D), self.linear)
        moved = self.points(mean[:, :D].reshape(-1, 2)).reshape(-1, D)
        state = Mixture(
            np.hstack([moved, self.vectors(mean[:, D:])]),
            T @ track.state.cov @ T.T,
            track.state.log_weight,
        )
        errors = track.errors
        if errors is not None:
            errors = replace(errors, mean=self.vectors(errors.mean))
        lasting = track.lasting
        if lasting is not None:
            lasting = T[:D, :D] @ lasting @ T[:D, :D].T
        return replace(track, state=state, errors=errors, lasting=lasting, box=self.box(track.box))

    def vectors(self, v: Float[np.ndarray, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        """Differences of points, velocities say, two numbers each: Av."""
        return (v.reshape(*v.shape[:-1], -1, 2) @ self.linear.T).reshape(v.shape)

    def box(self, box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
        """The box around where two opposite corners of a box go: right for small turns."""
        corners = self.points(box.reshape(2, 2))
        return np.concatenate([corners.min(axis=0), corners.max(axis=0)])

    def for_cv2(self) -> Float[np.ndarray, "2 3"]:
        """The same map between pixel indices, as cv2.warpAffine wants it."""
        half = np.full(2, 0.5)
        return np.column_stack([self.linear, self.linear @ half + self.offset - half])


def box_around(xy: Float[np.ndarray, "J 2"], margin: float = 0.1) -> Float[np.ndarray, "4"]:
    """The box of some points, widened on each side by a part of its own height or width."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    grow = margin * (high - low)
    return np.concatenate([low - grow, high + grow])


def shifted(
    box: Float[np.ndarray, "*#batch 4"], by: Float[np.ndarray, "*#batch 2"]
) -> Float[np.ndarray, "*batch 4"]:
    """Boxes, moved."""
    return box + np.concatenate([by, by], axis=-1)


def centre(xy: Float[np.ndarray, "*batch J 2"]) -> Float[np.ndarray, "*batch 2"]:
    """The mean of some points."""
    # ndarray.mean takes twice as long for so few.
    return np.einsum("...jx->...x", xy) / xy.shape[-2]


def person_area(box: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch"]:
    """Inside the outline of whom a box holds, px²: about half of it. OKS is measured with it."""
    return np.asarray(0.5 * (box[..., 2:] - box[..., :2]).prod(axis=-1))


def box_iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of every pair of boxes."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = _area(np.maximum(high - low, 0.0))
    union = _area(a[:, None, 2:] - a[:, None, :2]) + _area(b[:, 2:] - b[:, :2]) - shared
    return shared / np.maximum(union, 1e-9)


def overlapping(box: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, "n n"]:
    """Which boxes have some area in common."""
    x0, y0, x1, y1 = box.T
    begins_before = (x0[:, None] < x1) & (y0[:, None] < y1)
    return np.asarray(begins_before & begins_before.T)


def _area(size: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch"]:
    return size[..., 0] * size[..., 1]


def box_to_aspect(
    box: Float[np.ndarray, "4"], aspect: float, padding: float
) -> Float[np.ndarray, "4"]:
    """Widen a box about its centre to width/height = aspect, then grow it by a factor."""
    centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    height = max(size[1], size[0] / aspect) * padding
    half = np.array([height * aspect, height]) / 2
    return np.concatenate([centre - half, centre + half])
