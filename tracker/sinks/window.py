"""Tracks in a window, where there is a display."""

import os
import sys

import cv2

from tracker.errors import SinkError
from tracker.overlay import draw
from tracker.sinks.base import Sink, SinkClosed
from tracker.skeleton import COCO17, Skeleton
from tracker.types import TrackedFrame

_QUIT_KEYS = (ord("q"), 27)  # q, Esc


class Window(Sink):
    """Shows each frame at once; q, Esc or the window's own button ends the run."""

    def __init__(self, title: str = "surepose", *, skeleton: Skeleton = COCO17) -> None:
        self._title = title
        self._skeleton = skeleton
        self._seen = False
        # Asked first, because Qt aborts the whole process where there is none.
        if sys.platform == "linux" and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise SinkError("there is no display to show a window on; use --save people.mp4")
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise SinkError(
                "this OpenCV cannot open windows (a headless build?); use --save people.mp4"
            ) from error

    def write(self, tracked: TrackedFrame) -> None:
        image = draw(tracked, self._skeleton)
        if not self._seen:
            cv2.resizeWindow(self._title, image.shape[1], image.shape[0])
            self._seen = True
        cv2.imshow(self._title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if (cv2.waitKey(1) & 0xFF) in _QUIT_KEYS or self._shut():
            raise SinkClosed

    def close(self) -> None:
        if not self._shut():
            cv2.destroyWindow(self._title)

    def _shut(self) -> bool:
        try:
            return bool(cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1)
        except cv2.error:  # some window systems have forgotten it by then
            return True
