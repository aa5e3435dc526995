"""A camera at this machine."""

import time
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from tracker.errors import SourceError
from tracker.sources.newest import Newest
from tracker.types import Frame

_PATIENCE = 10
"""Failed grabs in a row before a camera counts as gone."""


@runtime_checkable
class Capture(Protocol):
    """The part of cv2.VideoCapture that is used here."""

    def isOpened(self) -> bool: ...  # noqa: N802
    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, np.ndarray | None]: ...
    def get(self, prop: int) -> float: ...
    def release(self) -> None: ...


def open_camera(index: int, capture: Callable[[int], Capture] | None = None) -> Newest:
    """The camera of that number.

    Raises:
        SourceError: there is none, or something else is using it.
    """
    device = _quietly(cv2.VideoCapture if capture is None else capture, index)
    if not device.isOpened():
        device.release()
        raise SourceError(
            f"no camera at index {index}, or another program is using it; "
            "try another index or a file"
        )
    nominal = device.get(cv2.CAP_PROP_FPS)
    return Newest(f"camera {index}", _grab(device, index), device.release, nominal or None)


def _grab(device: Capture, index: int) -> Iterator[Frame]:
    """Frames as they come; the time of each is taken when it is grabbed, before it is decoded."""
    start, count, failed = None, 0, 0
    while failed < _PATIENCE:
        if not device.grab():
            failed += 1
            time.sleep(0.02)
            continue
        now = time.monotonic()
        ok, image = device.retrieve()
        if not ok or image is None:
            failed += 1
            continue
        start, failed = (now if start is None else start), 0
        yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), count, now - start)
        count += 1
    raise SourceError(
        f"camera {index} stopped giving pictures after {count}; check its cable and start again"
    )


def _quietly(capture: Callable[[int], Capture], index: int) -> Capture:
    """Open a device without OpenCV's complaints on the terminal: ours says enough."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return capture(index)
    finally:
        cv2.utils.logging.setLogLevel(level)
