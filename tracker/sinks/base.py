"""What every output can do."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tracker.errors import SinkError
from tracker.types import TrackedFrame


class SinkClosed(Exception):  # noqa: N818 - it is no error
    """The user has closed this output: a wish to stop, not a failure."""


class Sink(ABC):
    """Takes tracked frames, in order of time, until it is closed.

    A sink opens its output when it is made, so that an output that cannot be written is known
    before the first frame; what is written stays written whatever happens later.
    """

    @abstractmethod
    def write(self, tracked: TrackedFrame) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> "Sink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TextSink(Sink):
    """A text that replaces what is there; "-" is the standard output.

    Each piece goes to the system at once, so that a kill or a full disk costs at most one frame.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self._file = sys.stdout
        if str(path) != "-":
            with writing(path):
                self._file = Path(path).open("w", encoding="utf-8", newline="")  # noqa: SIM115 - closed by close()

    def append(self, text: str) -> None:
        try:
            with writing(self.path):
                self._file.write(text)
                self._file.flush()
        except SinkError:
            with suppress(SinkError):
                self.close()
            raise

    def close(self) -> None:
        if self._file is not sys.stdout:
            with writing(self.path):
                self._file.close()


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn the system's refusals to write into a SinkError that names the output."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of a pipe has had enough: nothing is wrong with the output
    except OSError as error:
        reason = error.strerror or str(error)
        raise SinkError(
            f"cannot write {path}: {reason}; give another path, or make room and permission there"
        ) from error
