"""What every source of frames is."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

from tracker.types import Frame

Buffer = Literal["latest", "all"]
"""What waits for a slow reader: only the newest frame, or every frame (then the source waits)."""


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """How cameras and streams are read."""

    buffer: Buffer | None = None
    """None: the newest frame of what is live, all frames of recordings."""
    max_latency: float = inf
    """Frames whose result would come out older are passed over, s."""
    reconnect: int | None = None
    """Failures in a row before a stream that broke off is given up; None: never."""
    wait: bool = True
    """For the first connection: a source that cannot be opened is an error, not a pause."""

    def keeps_all(self, *, live: bool) -> bool:
        """Whether every frame waits for the reader."""
        return not live if self.buffer is None else self.buffer == "all"


DEFAULT = LiveConfig()


@runtime_checkable
class Source(Protocol):
    """Frames with capture times, read once from the first to the last.

    A source is a context manager; leaving it frees the device or the connection and ends its
    iteration. Times are in seconds from the first frame and always increase.
    """

    @property
    def name(self) -> str:
        """How messages and files call it; never holds a password."""
        ...

    @property
    def live(self) -> bool:
        """Whether the world goes on while nobody reads."""
        ...

    @property
    def fps(self) -> float | None:
        """Nominal frames a second; times are the truth, this is for writers of video."""
        ...

    @property
    def frame_count(self) -> int | None:
        """How many frames there will be, where that is known beforehand."""
        ...

    def __iter__(self) -> Iterator[Frame]: ...

    def __enter__(self) -> "Source": ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
