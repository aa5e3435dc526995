"""A camera at this machine."""

import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import UInt8

from tracker.errors import SourceError
from tracker.sources.base import DEFAULT, LiveConfig
from tracker.sources.feed import Feed, live_feed
from tracker.sources.health import Health
from tracker.sources.live import Shot

_PATIENCE = 10
"""Failed grabs in a row before a camera counts as gone."""


@runtime_checkable
class Device(Protocol):
    """The part of cv2.VideoCapture that is used here."""

    def isOpened(self) -> bool: ...  # noqa: N802
    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, np.ndarray | None]: ...
    def get(self, prop: int) -> float: ...
    def release(self) -> None: ...


def open_camera(
    index: int,
    device: Callable[[int], Device] | None = None,
    *,
    config: LiveConfig = DEFAULT,
) -> Feed:
    """The camera of that number.

    Raises:
        SourceError: there is none, or something else is using it.
    """
    health = Health()
    connect = partial(_Connected, index, cv2.VideoCapture if device is None else device, health)
    first = connect() if config.wait else None
    return live_feed(f"camera {index}", connect, health, config, first)


class _Connected:
    """A device that is open."""

    def __init__(self, index: int, device: Callable[[int], Device], health: Health) -> None:
        self._index = index
        self._health = health
        self._device = _quietly(device, index)
        if not self._device.isOpened():
            self.close()
            raise SourceError(
                f"no camera at index {index}, or another program is using it; "
                "try another index or a file"
            )
        self.fps = self._device.get(cv2.CAP_PROP_FPS) or None

    def __iter__(self) -> Iterator[Shot]:
        """Pictures as they come; the time of each is taken when it is grabbed, before decoding."""
        failed, count = 0, 0
        while failed < _PATIENCE:
            if not self._device.grab():
                failed += 1
                time.sleep(0.02)
                continue
            now = time.monotonic()
            ok, image = self._device.retrieve()
            if not ok or image is None:
                self._health.damaged += 1
                failed += 1
                continue
            failed, count = 0, count + 1
            self._health.size = image.shape[1], image.shape[0]
            yield Shot(
                partial(_rgb, image), None, now, zlib.crc32(np.ascontiguousarray(image).data)
            )
        raise SourceError(f"camera {self._index} stopped after {count} pictures; check its cable")

    def close(self) -> None:
        self._device.release()


def _rgb(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _quietly(device: Callable[[int], Device], index: int) -> Device:
    """Open a device without OpenCV's complaints on the terminal: ours says enough."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return device(index)
    finally:
        cv2.utils.logging.setLogLevel(level)
