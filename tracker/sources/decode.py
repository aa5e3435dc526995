"""From an open container to frames: true presentation times and upright pictures."""

import logging
from collections.abc import Callable, Iterable, Iterator

import av
import numpy as np
from av.container import InputContainer
from jaxtyping import UInt8

from tracker.types import Frame

log = logging.getLogger(__name__)

_LEAST = 1e-3
"""Between two frames whose times do not increase, s."""


def frames(
    container: InputContainer, *, clock: Callable[[], float] | None = None
) -> Iterator[Frame]:
    """Decode the first video stream of a container; `timed` says when its frames are.

    Raises:
        av.error.FFmpegError: the container cannot be read on.
    """
    stream = container.streams.video[0]
    # Threads by frame are faster, but each holds back a frame.
    stream.thread_type = "AUTO" if clock is None else "SLICE"
    return timed(container.decode(stream), 1 / float(stream.average_rate or 25), clock)


def timed(
    pictures: Iterable[av.VideoFrame], step: float, clock: Callable[[], float] | None = None
) -> Iterator[Frame]:
    """Frames at their presentation times, from the first one's.

    Where a picture has no time, or its time does not increase, `clock` (s) is asked; without one
    the nominal `step` (s), or the least step, decides.
    """
    shown_zero: float | None = None
    clock_zero, last = 0.0, -step
    for index, picture in enumerate(pictures):
        now = clock() if clock is not None else None
        if index == 0:
            clock_zero = now or 0.0
        if shown_zero is None and picture.time is not None:
            # The first picture of an RTSP stream comes without a time: it was one step earlier.
            shown_zero = picture.time - (last + step)
        shown = (
            picture.time - shown_zero
            if picture.time is not None and shown_zero is not None
            else None
        )
        if shown is not None and shown > last:
            time = shown
            if now is not None:
                # What waited during the opening comes in a burst: its arrival says nothing.
                clock_zero = now - time
        elif now is not None:
            time = max(last + _LEAST, now - clock_zero)
        else:
            time = last + (step if shown is None else _LEAST)
        last = time
        yield Frame(upright(picture), index, time)


def upright(picture: av.VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
    """The picture as its camera was held, RGB.

    `rotation` is the angle, counter-clockwise in degrees, by which a player is to turn it.
    """
    image = picture.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(picture.rotation / 90) % 4))


def reason(error: OSError | av.error.FFmpegError) -> str:
    """The library's words without the address, which may hold a password."""
    if isinstance(error, av.error.ExitError):
        return "no answer in time"
    return (error.strerror or type(error).__name__).lower()
