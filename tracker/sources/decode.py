"""From an open container to frames: true presentation times and upright pictures."""

import logging
from collections.abc import Iterable, Iterator

import av
import numpy as np
from av.container import InputContainer
from jaxtyping import UInt8

from tracker.types import Frame

log = logging.getLogger(__name__)

_LEAST = 1e-3
"""Between two frames whose times do not increase, s."""


def frames(container: InputContainer, fps: float | None = None) -> Iterator[Frame]:
    """Decode the first video stream of a recording; `timed` says when its frames are, or the rate.

    Raises:
        av.error.FFmpegError: the container cannot be read on.
    """
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    pictures = container.decode(stream)
    if fps is not None:
        return (Frame(upright(picture), i, i / fps) for i, picture in enumerate(pictures))
    return timed(pictures, 1 / float(stream.average_rate or 25))


def timed(pictures: Iterable[av.VideoFrame], step: float) -> Iterator[Frame]:
    """Frames at their presentation times, from the first one's.

    Where a picture of a recording has no time the nominal `step` (s) decides, where its time does
    not increase the least step.
    """
    zero, last = None, -step
    for index, picture in enumerate(pictures):
        if zero is None and picture.time is not None:
            zero = picture.time - (last + step)
        shown = None if picture.time is None or zero is None else picture.time - zero
        last = last + step if shown is None else max(shown, last + _LEAST)
        yield Frame(upright(picture), index, last)


def upright(
    picture: av.VideoFrame, size: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture as its camera was held, RGB; scaled to a size (width, height) first.

    `rotation` is the angle, counter-clockwise in degrees, by which a player is to turn it.
    """
    width, height = size or (picture.width, picture.height)
    image = picture.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(image, round(picture.rotation / 90) % 4))


def reason(error: OSError | av.error.FFmpegError) -> str:
    """The library's words without the address, which may hold a password."""
    if isinstance(error, av.error.ExitError):
        return "no answer in time"
    return (error.strerror or type(error).__name__).lower()
