"""How the camera moved between two pictures: the background tells, people are left out.

Corners are followed by sparse optical flow (Lucas-Kanade) in a small picture; RANSAC finds the
shift, turn and zoom that most of them agree on.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from tracker.geometry import Affine

LONG_SIDE = 480
"""Pictures are followed at this size, px: a few milliseconds, a quarter of a pixel."""
MOST_CORNERS = 300
LEAST_CORNERS = 12
"""With fewer that agree the camera is taken to stand still."""
MARGIN = 0.1
"""Boxes of people are widened by this before they are left out, heights."""


class CameraMotion:
    """Called with one picture of a stream after another."""

    def __init__(self) -> None:
        self._last: UInt8[np.ndarray, "height width"] | None = None

    def __call__(
        self,
        image: UInt8[np.ndarray, "height width 3"],
        people: Sequence[Float[np.ndarray, "4"]] = (),
    ) -> Affine:
        """The map that takes points of the background from the last picture into this one.

        People are boxes in the last picture.
        """
        small = _small(image)
        last, self._last = self._last, small
        if last is None or last.shape != small.shape:
            return STILL
        scale = small.shape[1] / image.shape[1]
        corners = cv2.goodFeaturesToTrack(
            last, MOST_CORNERS, 0.01, 8, mask=_background(last.shape, scale, people)
        )
        if corners is None or len(corners) < LEAST_CORNERS:
            return STILL
        moved, found, _ = cv2.calcOpticalFlowPyrLK(last, small, corners, np.zeros_like(corners))
        good = found.ravel() == 1
        if good.sum() < LEAST_CORNERS:
            return STILL
        # Points of pixel centres become points of the pixel frame, full size.
        before, after = ((p.reshape(-1, 2)[good] + 0.5) / scale for p in (corners, moved))
        affine, agreed = cv2.estimateAffinePartial2D(
            before, after, method=cv2.RANSAC, ransacReprojThreshold=1.0 / scale
        )
        if affine is None or agreed.sum() < max(LEAST_CORNERS, 0.3 * good.sum()):
            return STILL
        return Affine(affine[:, :2], affine[:, 2])


STILL = Affine(np.eye(2), np.zeros(2))


def _small(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "h w"]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, LONG_SIDE / max(grey.shape))
    size = round(grey.shape[1] * scale), round(grey.shape[0] * scale)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _background(
    size: tuple[int, ...], scale: float, people: Sequence[Float[np.ndarray, "4"]]
) -> UInt8[np.ndarray, "h w"]:
    mask = np.full(size, 255, np.uint8)
    for box in people:
        grow = MARGIN * (box[3] - box[1])
        wide = scale * (box + np.array([-grow, -grow, grow, grow]))
        x0, y0, x1, y1 = np.clip(wide, 0, max(size)).astype(int)
        mask[y0:y1, x0:x1] = 0
    return mask
