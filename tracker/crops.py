"""Cut people, or the whole picture, out for the networks; training cuts with the same functions.

Outside the picture lies a grey near the mean of natural pictures: it is almost zero behind the
networks' normalisation, where black would draw an edge as strong as any limb.
"""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from tracker.geometry import Affine, box_to_aspect

CROP_ASPECT = 3 / 4
"""Width over height."""
CROP_PADDING = 1.25
OUTSIDE = 114
"""Grey level beyond the picture."""
STRIDE = 32
"""The detector's input sides are multiples of this."""

Views = Callable[[Sequence[tuple[np.ndarray, np.ndarray]], int, int, int], Any]
"""Pictures, each with its map image_from_view (2, 3); height, width, grey outside → planes."""


def crop_box(box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
    """The part of the picture that the pose net looks at to see the person in a box."""
    return box_to_aspect(box, CROP_ASPECT, CROP_PADDING)


def mirrored(crop: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
    """The same part of the picture, looked at in a mirror: x0 and x1 change places."""
    return crop[[2, 1, 0, 3]]


def image_from_net(crop: Float[np.ndarray, "4"]) -> Affine:
    """Map the pose net's unit, crop heights from the crop's corner, to image px."""
    return Affine.between_boxes(np.array([0.0, 0.0, CROP_ASPECT, 1.0]), crop)


def cut(
    image: UInt8[np.ndarray, "rows columns 3"],
    crops: Sequence[Float[np.ndarray, "4"]],
    height: int,
    width: int,
) -> Float32[np.ndarray, "B 3 {height} {width}"]:
    """The network's view of each crop box, RGB 0..255."""
    return cut_each([(image, crop) for crop in crops], height, width)


def cut_each(
    places: Sequence[tuple[UInt8[np.ndarray, "_rows _columns 3"], Float[np.ndarray, "4"]]],
    height: int,
    width: int,
    views: Views | None = None,
) -> Float32[Any, "B 3 {height} {width}"]:
    """The same for crop boxes of several pictures, of any sizes; on a device, if `views` is there.

    `views` is what an engine offers that can look at pictures itself (`engines.views.Views`).
    """
    net = np.array([0.0, 0.0, width, height])
    maps = [(image, Affine.between_boxes(crop, net)) for image, crop in places]
    return _look(maps, height, width, views)


def letterbox(
    image: UInt8[np.ndarray, "rows columns 3"], long_side: int, views: Views | None = None
) -> tuple[Float32[Any, "1 3 height width"], Affine]:
    """The whole picture, scaled into the top-left of the detector's input; image_from_input."""
    rows, columns = image.shape[:2]
    longest = max(rows, columns)
    input_from_image = Affine(long_side / longest * np.eye(2), np.zeros(2))
    # Rounded up in integers: a float's last bit would add a strip of 32 px.
    height, width = (-(-n * long_side // (longest * STRIDE)) * STRIDE for n in (rows, columns))
    return _look([(image, input_from_image)], height, width, views), input_from_image.inverse()


def _look(
    maps: Sequence[tuple[UInt8[np.ndarray, "_rows _columns 3"], Affine]],
    height: int,
    width: int,
    views: Views | None,
) -> Float32[Any, "B 3 {height} {width}"]:
    if views is not None:
        back = [(image, view_from_image.inverse()) for image, view_from_image in maps]
        places = [(image, np.column_stack([m.linear, m.offset])) for image, m in back]
        return views(places, height, width, OUTSIDE)
    planes = np.empty((len(maps), 3, height, width), np.float32)
    for out, (image, view_from_image) in zip(planes, maps, strict=True):
        _planes(warp(image, view_from_image, height, width), out)
    return planes


def warp(
    image: UInt8[np.ndarray, "rows columns 3"], view_from_image: Affine, height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """The picture seen through an affine map; what shrinks is averaged, not skipped.

    However wild the map, it takes no more memory than the picture and the view.
    """
    image_from_view = view_from_image.inverse()
    step = max(1, int(min(_shrinkage(image_from_view), *image.shape[:2])))
    low, n_steps = _part_seen(image, image_from_view, height, width, step)
    if not n_steps.all():
        return np.full((height, width, 3), OUTSIDE, np.uint8)
    (x0, y0), (x1, y1) = low, low + step * n_steps
    part = image[y0:y1, x0:x1]
    # Bilinear sampling sees 2 x 2 pixels and skips the others when it shrinks further than that.
    small = cv2.resize(part, n_steps.tolist(), interpolation=cv2.INTER_AREA) if step > 1 else part
    image_from_small = Affine(step * np.eye(2), low.astype(float))
    return cv2.warpAffine(
        small,
        view_from_image.after(image_from_small).for_cv2(),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(OUTSIDE, OUTSIDE, OUTSIDE),
    )


def _part_seen(
    image: UInt8[np.ndarray, "rows columns 3"],
    image_from_view: Affine,
    height: int,
    width: int,
    step: int,
) -> tuple[Int[np.ndarray, "2"], Int[np.ndarray, "2"]]:
    """First pixel (x, y) of what a view needs, and its size in whole steps; 0 when there is none.

    Up to step - 1 pixels are left out at the far sides of the picture, less than one of the view:
    OpenCV averages whole steps several times as fast as fractions.
    """
    frame = np.array([[0, 0], [width, 0], [0, height], [width, height]], float)
    corners = image_from_view.points(frame)
    # Clipped as floats: a wild box may lie beyond the range of integers.
    end = np.array(image.shape[1::-1], float)
    low = np.clip(np.floor(corners.min(axis=0)) - step, 0, end)
    high = np.clip(np.ceil(corners.max(axis=0)) + 2 * step, low, end)
    return low.astype(int), ((high - low) // step).astype(int)


def _shrinkage(image_from_view: Affine) -> float:
    """Image px per view px."""
    return float(np.sqrt(abs(np.linalg.det(image_from_view.linear))))


def _planes(
    view: UInt8[np.ndarray, "height width 3"], out: Float32[np.ndarray, "3 height width"]
) -> None:
    for plane, channel in zip(out, cv2.split(view), strict=True):
        plane[:] = channel
