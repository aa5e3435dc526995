"""Sources that go on while nobody reads, break off, and come back: one connection after another."""

import logging
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from tracker.errors import SourceError, SourceRefused
from tracker.sources.clock import Timeline
from tracker.sources.health import Health, StreamState

log = logging.getLogger(__name__)

Picture = Callable[[], UInt8[np.ndarray, "height width 3"]]

_STEADY = 5.0
"""A connection that held for so long (s) was a good one: pauses start small again."""
_SETTLING = 2.0
"""What waited while the connection was opened comes in a burst, for no longer than this, s."""


class Shot(NamedTuple):
    """A picture as it came from a connection, not converted before somebody wants it."""

    picture: Picture
    shown: float | None
    """Presentation time on the stream's clock, s."""
    captured: float
    """Monotonic clock, s."""
    fingerprint: int
    """Equal for pictures that are equal bit for bit."""


@dataclass(frozen=True, slots=True)
class Capture:
    """A new picture with its place in the stream."""

    picture: Picture
    index: int
    time: float
    """From the first frame of the stream, s."""
    captured: float
    """Monotonic clock, s."""


@runtime_checkable
class Connection(Protocol):
    """One connection to a live source: gives shots until it raises a SourceError."""

    @property
    def fps(self) -> float | None: ...
    def __iter__(self) -> Iterator[Shot]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Retry:
    """Whether to connect again, and when: exponential pauses, bounded, with jitter."""

    times: int | None = None
    """Failures in a row before a stream is given up; None: never."""
    first: float = 0.25
    longest: float = 2.0

    def pause(self, failures: int) -> float:
        """After so many failures in a row, s; random, so that many streams do not come at once."""
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 30)) * random.uniform(0.5, 1)


class Captures:
    """The new pictures of a source, across as many connections as it takes."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connection],
        retry: Retry,
        health: Health,
        first: Connection | None = None,
    ) -> None:
        """
        Args:
            name: of the source, without secrets.
            connect: gives a new connection or raises a SourceError.
            retry: whether to connect again.
            health: where to note how it goes.
            first: a connection that is there already.
        """
        self._name = name
        self._connect = connect
        self._retry = retry
        self._health = health
        self._connection = first
        self._stopping = threading.Event()
        self._timeline = Timeline()
        self._fingerprint: int | None = None

    def stop(self) -> None:
        """End a pause of the reading, on another thread, and connect no more."""
        self._stopping.set()

    def read(self) -> Generator[Capture]:
        """Raises SourceError when the source is given up."""
        failures = 0
        while not self._stopping.is_set():
            connected = time.monotonic()
            try:
                yield from self._one_connection()
            except SourceRefused:
                raise
            except SourceError as error:
                held = self._health.last_picture - connected > _STEADY
                failures = 1 if held else failures + 1
                if self._retry.times is not None and failures > self._retry.times:
                    raise
                self._wait(self._retry.pause(failures), error)

    def _one_connection(self) -> Generator[Capture]:
        connection, self._connection = self._connection, None
        connection = self._connect() if connection is None else connection
        self._timeline.break_off()
        with closing(connection):
            for shot in self._settled(connection):
                if shot.fingerprint == self._fingerprint:
                    self._health.duplicates += 1
                    continue
                self._fingerprint = shot.fingerprint
                yield self._take_in(shot)

    def _settled(self, shots: Connection) -> Iterator[Shot]:
        """Without the burst of what had waited to be read when the connection was made."""
        begin, before = time.monotonic(), None
        live = False
        for shot in shots:
            now = time.monotonic()
            if not live and shot.shown is not None and now - begin < _SETTLING:
                live = before is not None and now - before[1] >= (shot.shown - before[0]) / 2
                before = shot.shown, now
            else:
                live = True
            if live:
                yield shot
            else:
                self._health.received += 1
                self._health.dropped += 1

    def _take_in(self, shot: Shot) -> Capture:
        health = self._health
        if health.state is StreamState.RECONNECTING:
            health.reconnects += 1
            log.warning("%s is back after %.1f s", self._name, health.silence)
        index = health.received
        health.arrive(time.monotonic())
        time_s = self._timeline.time(shot.shown, shot.captured)
        return Capture(shot.picture, index, time_s, shot.captured)

    def _wait(self, pause: float, error: SourceError) -> None:
        health = self._health
        if health.state is not StreamState.RECONNECTING or health.trouble != str(error):
            log.warning("%s; trying again", error)
        health.state, health.trouble = StreamState.RECONNECTING, str(error)
        self._stopping.wait(pause)
