"""Tracks drawn on their frame: skeletons, ids, error ellipses, rival poses.

How to read it: each person has a colour, their left side lighter and their right side darker. A
filled keypoint can be seen, a hollow one is inferred. A ring is the 95 % ellipse of where its
keypoint may be. Thin skeletons are hypotheses that may yet win, the fainter the less likely. A
dashed, faded person is not seen now: the pose is a prediction.
"""

import colorsys
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Int32, UInt8

from tracker.skeleton import COCO17, Skeleton
from tracker.types import Track, TrackedFrame, TrackStatus

COVERAGE = 0.95
"""Probability that a keypoint lies inside its ring."""

LOST_ALPHA = 0.45
RING_ALPHA = 0.6

_SHIFT = 4  # cv2 draws in fixed point: sixteenths of a pixel
_FAR = 16_000.0  # px; a wild prediction must not overflow cv2's integers
_MIDDLE, _LEFT, _RIGHT = range(3)
_CIRCLE = np.exp(2j * np.pi * np.arange(24) / 24).view(np.float64).reshape(-1, 2)


def draw(tracked: TrackedFrame, skeleton: Skeleton = COCO17) -> UInt8[np.ndarray, "height width 3"]:
    """A copy of the frame's picture (RGB) with its tracks on it."""
    image = tracked.frame.image.copy()
    pen = max(1, round(min(image.shape[:2]) / 300))
    # The least certain first, so that who is seen lies on top.
    for track in sorted(tracked.tracks, key=lambda t: (t.status is not TrackStatus.LOST, t.id)):
        _draw_rivals(image, track, skeleton, pen)
        _draw_person(image, track, skeleton, pen)
    return image


def ellipse_rings(
    xy: Float[np.ndarray, "J 2"], cov: Float[np.ndarray, "J 2 2"], coverage: float = COVERAGE
) -> Float[np.ndarray, "J points 2"]:
    """Points of each ellipse {p : (p - xy)ᵀ cov⁻¹ (p - xy) = r²}, P(χ²₂ ≤ r²) = coverage."""
    radius = np.sqrt(-2 * np.log(1 - coverage))  # χ² with two degrees of freedom is exponential
    variance, axes = np.linalg.eigh(cov)
    root = axes * np.sqrt(np.maximum(variance, 0))[:, None, :]  # (J, 2, 2): root rootᵀ = cov
    return xy[:, None] + radius * np.einsum("jab,pb->jpa", root, _CIRCLE)


def track_colours(track_id: int) -> tuple[tuple[int, int, int], ...]:
    """RGB of a person's middle, left and right; people in sequence differ most in hue."""
    hue = (0.08 + 0.618034 * (track_id - 1)) % 1  # the golden ratio spreads any number of hues
    tones = ((0.75, 1.0), (0.4, 1.0), (0.9, 0.8))  # saturation, value
    return tuple(_rgb(hue, saturation, value) for saturation, value in tones)


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _draw_rivals(
    image: UInt8[np.ndarray, "height width 3"], track: Track, skeleton: Skeleton, pen: int
) -> None:
    j = len(track.visible)
    for k, weight in enumerate(np.exp(track.state.log_weight)):
        if k != track.state.heaviest:
            xy = track.state.mean[k, : 2 * j].reshape(j, 2)
            with _faded(image, xy, pen, alpha=0.3 + 0.7 * float(weight)):
                _draw_limbs(image, xy, np.ones(j, bool), track.id, skeleton, 1, dashed=False)


def _draw_person(
    image: UInt8[np.ndarray, "height width 3"], track: Track, skeleton: Skeleton, pen: int
) -> None:
    xy, seen = track.keypoints, track.visible >= 0.5
    rings = ellipse_rings(xy, track.keypoint_cov)
    lost = track.status is TrackStatus.LOST
    reach = np.concatenate([rings.reshape(-1, 2), track.box.reshape(2, 2)])
    with _faded(image, reach, 16 * pen, alpha=LOST_ALPHA if lost else 1.0):
        colours = track_colours(track.id)
        sides = _keypoint_sides(skeleton)
        with _faded(image, rings.reshape(-1, 2), 1, alpha=RING_ALPHA):
            for side, colour in enumerate(colours):
                _polylines(image, rings[sides == side], colour, 1, closed=True)
        _draw_limbs(image, xy, seen, track.id, skeleton, pen, dashed=lost)
        for point, side, filled in zip(_fixed(xy), sides, seen, strict=True):
            thickness = cv2.FILLED if filled else 1
            radius = round((pen + 1.5) * 2**_SHIFT)
            centre = (int(point[0]), int(point[1]))
            cv2.circle(image, centre, radius, colours[side], thickness, cv2.LINE_AA, _SHIFT)
        _draw_label(image, str(track.id), track.box, colours[_LEFT], pen)


def _draw_limbs(
    image: UInt8[np.ndarray, "height width 3"],
    xy: Float[np.ndarray, "J 2"],
    seen: Bool[np.ndarray, " J"],
    track_id: int,
    skeleton: Skeleton,
    pen: int,
    *,
    dashed: bool,
) -> None:
    edges = np.array(skeleton.edges)
    sides = _keypoint_sides(skeleton)[edges]
    side = np.where(sides[:, 0] == sides[:, 1], sides[:, 0], _MIDDLE)
    solid = seen[edges].all(axis=1)
    limbs = xy[edges]  # (E, 2, 2)
    for s, colour in enumerate(track_colours(track_id)):
        for chosen, thickness in ((side == s) & solid, pen), ((side == s) & ~solid, 1):
            lines = _dashes(limbs[chosen], 4.0 * pen) if dashed else limbs[chosen]
            _polylines(image, lines, colour, thickness, closed=False)


def _draw_label(
    image: UInt8[np.ndarray, "height width 3"],
    text: str,
    box: Float[np.ndarray, "4"],
    colour: tuple[int, int, int],
    pen: int,
) -> None:
    font, scale, gap = cv2.FONT_HERSHEY_SIMPLEX, 0.25 + 0.12 * pen, pen + 1
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    rows, cols = image.shape[:2]
    x = int(np.clip((box[0] + box[2] - width) / 2, 0, max(0, cols - width - 2 * gap)))
    y = int(np.clip(box[1] - 2 * gap, height + 2 * gap, max(height + 2 * gap, rows)))
    cv2.rectangle(image, (x, y - height - 2 * gap), (x + width + 2 * gap, y), colour, cv2.FILLED)
    cv2.putText(image, text, (x + gap, y - gap), font, scale, (0, 0, 0), 1, cv2.LINE_AA)


@contextmanager
def _faded(
    image: UInt8[np.ndarray, "height width 3"],
    reach: Float[np.ndarray, "n 2"],
    margin: int,
    *,
    alpha: float,
) -> Iterator[None]:
    """Let what is drawn around some points cover only a part, alpha, of what was there."""
    limit = np.array(image.shape[1::-1])
    low = np.clip(np.floor(reach.min(axis=0)) - margin, 0, limit).astype(int)
    high = np.clip(np.ceil(reach.max(axis=0)) + margin, 0, limit).astype(int)
    region = image[low[1] : high[1], low[0] : high[0]]
    if alpha >= 1 or region.size == 0:
        yield
        return
    before = region.copy()
    yield
    region[:] = cv2.addWeighted(region, alpha, before, 1 - alpha, 0)


def _dashes(lines: Float[np.ndarray, "n 2 2"], dash: float) -> Float[np.ndarray, "m 2 2"]:
    """Cut lines into dashes and gaps of about equal length, px."""
    pieces = []
    for start, end in lines:
        n = int(np.clip(np.linalg.norm(end - start) // (2 * dash), 1, 100))
        part = (np.arange(n)[:, None] + [0.25, 0.75]) / n  # (n, 2)
        pieces.append(start + part[..., None] * (end - start))
    return np.concatenate(pieces) if pieces else lines


def _polylines(
    image: UInt8[np.ndarray, "height width 3"],
    lines: Float[np.ndarray, "n points 2"],
    colour: tuple[int, int, int],
    thickness: int,
    *,
    closed: bool,
) -> None:
    cv2.polylines(image, list(_fixed(lines)), closed, colour, thickness, cv2.LINE_AA, _SHIFT)


def _fixed(xy: Float[np.ndarray, "*batch 2"]) -> Int32[np.ndarray, "*batch 2"]:
    """Our points as cv2's fixed-point ones, which put integers at pixel centres."""
    return np.rint((np.clip(xy, -_FAR, _FAR) - 0.5) * 2**_SHIFT).astype(np.int32)


def _keypoint_sides(skeleton: Skeleton) -> Int[np.ndarray, " J"]:
    prefixes = {"left": _LEFT, "right": _RIGHT}
    return np.array([prefixes.get(n.split("_")[0], _MIDDLE) for n in skeleton.keypoint_names])
