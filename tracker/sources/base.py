"""What every source of frames is."""

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, runtime_checkable

from tracker.types import Frame


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
