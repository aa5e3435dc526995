"""A thread that reads a source, and what of it waits to be taken.

Live sources never make a slow reader fall behind: the newest frame replaces the one that nobody has
taken, and a frame that is too old to be worth looking at is passed over.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from math import inf

import numpy as np
from jaxtyping import UInt8

from tracker.errors import SourceError
from tracker.sources.base import DEFAULT, LiveConfig, Source
from tracker.sources.clock import unix
from tracker.sources.health import Health, StreamState
from tracker.sources.live import Capture, Captures, Connection, Retry
from tracker.types import Frame

log = logging.getLogger(__name__)

_AHEAD = 4
"""Frames that wait where all are wanted."""
_ROUND = 1.0
"""A round of several feeds lasts no longer, though nothing comes, s."""


class Feed:
    """Frames of one source, read on a thread of their own.

    `Frame.index` counts what was captured: frames that nobody took leave gaps. An error in the
    source is raised where the frames are read.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], Generator[Capture]],
        stop: Callable[[], None],
        *,
        health: Health,
        fps: float | None = None,
        frame_count: int | None = None,
        live: bool = True,
        config: LiveConfig = DEFAULT,
    ) -> None:
        """Start reading.

        Args:
            name: of the source, without secrets.
            read: gives its pictures, on another thread, until it ends or raises.
            stop: called when nothing more is wanted, to end a wait of that thread.
            health: noted by the source; what is dropped here is added.
            fps: nominal frames a second.
            frame_count: how many there will be, where that is known.
            live: whether the world goes on while nobody reads.
            config: what waits to be taken, and how old it may be.
        """
        self.name = name
        self.stream = ""
        """The name that its frames carry; set before the first is taken."""
        self.fps = fps
        self.frame_count = frame_count
        self.live = live
        self.health = health
        self.error: BaseException | None = None
        """Why the source has ended, if it did not come to its end."""
        self._stop = stop
        self._keeps_all = config.keeps_all(live=live)
        self._max_latency = config.max_latency
        self._waiting: deque[Capture] = deque()
        self._ended = False
        self._closing = False
        self._changed = threading.Condition()
        self._listener: threading.Condition | None = None
        self._thread = threading.Thread(
            target=self._read, args=(read,), name=f"source {name}", daemon=True
        )
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self.health.dropped

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to take."""
        return self._closing or (self._ended and not self._waiting)

    @property
    def ready(self) -> bool:
        """Whether there is something to take, or never will be."""
        return bool(self._waiting) or self.ended

    @property
    def budget(self) -> float:
        """How long a reader may be busy at a time and still be in time with what waited, s."""
        return inf if self._keeps_all else self._max_latency / 2

    def notify(self, listener: threading.Condition) -> None:
        """Notify this one too whenever the feed becomes ready."""
        self._listener = listener

    def __iter__(self) -> Iterator[Frame]:
        """Raises the error of the source after its last frame."""
        pace = Pace()
        while not self.ended:
            if (frame := self.take(pace.busy)) is not None:
                with pace.measured():
                    yield frame
            with self._changed:
                self._changed.wait_for(lambda: self.ready)
        if self.error is not None and not self._closing:
            raise self.error

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, patience: float = 6.0) -> None:
        """Stop reading and wait for the reader, which a silent network may hold for a while (s)."""
        self.stop()
        self._thread.join(patience)

    def stop(self) -> None:
        """Ask the reader to end, without waiting for it."""
        self._stop()
        with self._changed:
            self._closing = True
        self._announce()

    def take(self, busy: float = 0.0) -> Frame | None:
        """A frame that has not been taken, if there is one and it is worth looking at.

        `busy` is how long the reader will probably be busy with it, s.
        """
        with self._changed:
            capture = self._waiting.popleft() if self._waiting and not self._closing else None
            self._changed.notify_all()  # the thread may wait for room
        if capture is None:
            return None
        # A reader who is slower than the budget still gets the fresher half of the frames.
        allowed = self._max_latency - min(busy, self.budget)
        if not self._keeps_all and time.monotonic() - capture.captured > allowed:
            self.health.dropped += 1
            return None
        captured = unix(capture.captured) if self.live else None
        return Frame(capture.picture(), capture.index, capture.time, self.stream, captured)

    def _read(self, read: Callable[[], Generator[Capture]]) -> None:
        try:
            with closing(read()) as captured:
                for capture in captured:
                    if not self._make_room():
                        break
                    self._waiting.append(capture)
                    self._announce()
            self.health.state = StreamState.ENDED
        except BaseException as error:
            self.error = error  # raised where the frames are read
            self.health.state, self.health.trouble = StreamState.FAILED, str(error)
        finally:
            self._ended = True
            self._announce()

    def _make_room(self) -> bool:
        """Whether reading goes on."""
        with self._changed:
            if self._keeps_all:
                self._changed.wait_for(lambda: len(self._waiting) < _AHEAD or self._closing)
            else:
                self.health.dropped += len(self._waiting)
                self._waiting.clear()
            return not self._closing

    def _announce(self) -> None:
        for condition in (self._changed, self._listener):
            if condition is not None:
                with condition:
                    condition.notify_all()


class Pace:
    """How long a reader is busy with a frame, of late."""

    def __init__(self) -> None:
        self.busy = 0.0
        """s a frame; 0 before the first."""

    @contextmanager
    def measured(self, n_frames: int = 1) -> Iterator[None]:
        """While the reader is busy with so many."""
        start = time.monotonic()
        yield
        if n_frames:
            lap = (time.monotonic() - start) / n_frames
            self.busy += (0.2 if self.busy else 1.0) * (lap - self.busy)

    def most(self, budget: float) -> float:
        """How many frames the reader can do in that time (s): one at least, and the first alone."""
        if budget == inf:
            return inf
        return max(1.0, budget // self.busy) if self.busy else 1.0


def live_feed(
    name: str,
    connect: Callable[[], Connection],
    health: Health,
    config: LiveConfig,
    first: Connection | None,
) -> Feed:
    """A feed across as many connections as it takes, from the first one if it is there."""
    captures = Captures(name, connect, Retry(config.reconnect), health, first)
    fps = first.fps if first is not None else None
    return Feed(name, captures.read, captures.stop, health=health, fps=fps, config=config)


def feed(source: Source, config: LiveConfig = DEFAULT) -> Feed:
    """Any source as a feed.

    A recording waits for its reader, unless the buffer is to be "latest": then it is played like a
    camera, at its own pace, and a slow reader misses frames.
    """
    if isinstance(source, Feed):
        return source
    health = Health(state=StreamState.LIVE)
    played = config.buffer == "latest"
    stopping = threading.Event()
    return Feed(
        source.name,
        partial(_played, source, health, stopping if played else None),
        stopping.set,
        health=health,
        fps=source.fps,
        frame_count=source.frame_count,
        live=source.live or played,
        config=config,
    )


def _played(source: Source, health: Health, pacer: threading.Event | None) -> Generator[Capture]:
    """The frames of a recording, each at its time where there is a pacer."""
    start: float | None = None
    with source as frames:
        for frame in frames:
            now = time.monotonic()
            # A recording that cannot be read at its pace is played slower, but never late.
            start = now - frame.time if start is None else max(start, now - frame.time)
            if pacer is not None and pacer.wait(start + frame.time - now):
                return
            health.size = frame.image.shape[1], frame.image.shape[0]
            health.arrive(now := time.monotonic())
            yield Capture(partial(_image, frame), frame.index, frame.time, now)


def _image(frame: Frame) -> UInt8[np.ndarray, "height width 3"]:
    return frame.image


class Gathering:
    """Several feeds read together: each round gives what is there, one frame of each at most.

    A feed that is slow, silent or dead only misses rounds. A round holds no more frames than can
    be done in time: its results come out together. Who was passed over comes first in the next.
    """

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self.feeds = tuple(feeds)
        self.failed: dict[str, SourceError] = {}
        """The errors of those that were given up, by name."""
        self._changed = threading.Condition()
        for each in self.feeds:
            each.notify(self._changed)

    def __iter__(self) -> Iterator[list[Frame]]:
        """Rounds, until all feeds have ended; an empty one now and then while nothing comes."""
        pace = Pace()
        going = list(self.feeds)
        while going:
            with self._changed:
                self._changed.wait_for(lambda: any(each.ready for each in going), _ROUND)
            frames = _round(going, pace)
            with pace.measured(len(frames)):
                yield frames
            for each in [each for each in going if each.ended]:
                going.remove(each)
                self._note_end(each)

    def __enter__(self) -> "Gathering":
        return self

    def __exit__(self, *_: object) -> None:
        # All are asked first: the network may hold each of them for seconds.
        for each in self.feeds:
            each.stop()
        for each in self.feeds:
            each.close()

    def _note_end(self, ended: Feed) -> None:
        if isinstance(ended.error, SourceError):
            self.failed[ended.name] = ended.error
            if len(self.feeds) > 1:  # alone, it ends the run and is told then
                log.error("%s: given up: %s", ended.stream, ended.error)
        elif ended.error is not None:
            raise ended.error


def _round(going: list[Feed], pace: Pace) -> list[Frame]:
    """A frame of each feed that has one, as many as can be done in time; who gave one goes last."""
    ready = [each for each in going if each.ready]
    most = min(pace.most(min(each.budget for each in going)), len(ready))
    frames: list[Frame] = []
    for each in ready:
        if len(frames) == most:
            break
        if (frame := each.take(most * pace.busy)) is not None:
            frames.append(frame)
            going.remove(each)
            going.append(each)
    return frames
