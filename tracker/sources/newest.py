"""Live sources never make a slow reader fall behind: a thread reads them and keeps the newest."""

import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from tracker.types import Frame


class Newest:
    """The newest frame of a live source, each time one is asked for.

    `Frame.index` counts what was captured: frames that nobody took leave gaps. An error in the
    source is raised where the frames are read.
    """

    live = True
    frame_count: int | None = None

    def __init__(
        self,
        name: str,
        captured: Iterator[Frame],
        free: Callable[[], None],
        fps: float | None = None,
    ) -> None:
        """Start reading.

        Args:
            name: of the source, without secrets.
            captured: its frames; read on another thread until it ends or raises.
            free: called once on that thread when nothing more will be read.
            fps: nominal frames a second.
        """
        self.name = name
        self.fps = fps
        self.dropped = 0
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._ended = False
        self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._read, args=(captured, free), name=f"source {name}", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._take()) is not None:
            yield frame

    def __enter__(self) -> "Newest":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self, patience: float = 6.0) -> None:
        """Stop reading and wait for the reader, which a silent network may hold for a while (s)."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(patience)

    def _take(self) -> Frame | None:
        """Wait for a frame that has not been taken; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended or self._closing)
            frame, self._newest = self._newest, None
            if frame is None and self._error is not None and not self._closing:
                raise self._error
            return None if self._closing else frame

    def _read(self, captured: Iterator[Frame], free: Callable[[], None]) -> None:
        try:
            for frame in captured:
                with self._changed:
                    if self._closing:
                        break
                    self.dropped += self._newest is not None
                    self._newest = frame
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error  # raised where the frames are read
        finally:
            free()
            with self._changed:
                self._ended = True
                self._changed.notify_all()
