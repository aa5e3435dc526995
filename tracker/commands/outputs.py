"""The outputs of `track` and `serve`: which, where, and one set for each stream."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path

from tracker.errors import SinkError
from tracker.sinks.base import Sink, writing
from tracker.sinks.rolling import Roll, Rolling
from tracker.sources.feed import Feed

_STDOUT = Path("-")


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is written of each stream."""

    csv: Path | None = None
    save: Path | None = None
    mot: Path | None = None
    show: bool = False
    roll: Roll | None = None
    filmed_fps: float | None = None
    """Of files and folders, where the user says so."""

    def __post_init__(self) -> None:
        if _STDOUT in (self.mot, self.save):
            raise SinkError(
                "only --csv can go to the standard output (-): give --mot and --save paths"
            )

    def paths(self, stream: str = "") -> dict[str, Path]:
        """The files of a stream by kind; its name stands in theirs, if it has one."""
        given = {"csv": self.csv, "mot": self.mot, "save": self.save}
        return {
            kind: path.with_name(f"{path.stem}-{stream}{path.suffix}") if stream else path
            for kind, path in given.items()
            if path is not None and path != _STDOUT
        }

    def open(self, opened: ExitStack, feeds: Sequence[Feed]) -> dict[str, list[Sink]]:
        """Those of each stream, to be closed when `opened` is."""
        several = len(feeds) > 1
        sinks = {
            feed.stream: [
                opened.enter_context(s) for s in self._of(feed, feed.stream if several else "")
            ]
            for feed in feeds
        }
        if self.csv == _STDOUT:
            live = any(feed.live for feed in feeds)
            table = opened.enter_context(_records(_STDOUT, live=live, several_streams=several))
            for each in sinks.values():
                each.append(table)
        return sinks

    def _of(self, feed: Feed, stream: str) -> Iterator[Sink]:
        """One at a time, so that the caller can close the first if the second fails."""
        paths = self.paths(stream)
        if path := paths.get("csv"):
            yield self._file(path, partial(_records, live=feed.live))
        if path := paths.get("mot"):
            yield self._file(path, _mot)
        if path := paths.get("save"):
            yield self._file(path, partial(_video, fps=feed.fps, slow_motion=self._slow(feed)))
        if self.show:
            from tracker.sinks.window import Window

            yield Window(stream or "surepose")

    def _slow(self, feed: Feed) -> float:
        """How many times slower than the world a source is played."""
        if self.filmed_fps is None or feed.fps is None:
            return 1.0
        return self.filmed_fps / feed.fps

    def _file(self, path: Path, make: Callable[[Path], Sink]) -> Sink:
        return make(path) if self.roll is None else Rolling(path, make, self.roll)


def write_log(path: Path | None, *, quiet: bool) -> None:
    """Where warnings go: the standard error, and a file that is kept from growing."""
    root = logging.getLogger()
    root.addHandler(logging.NullHandler() if quiet else logging.lastResort or logging.NullHandler())
    if path is not None:
        with writing(path):
            file = RotatingFileHandler(path, maxBytes=10_000_000, backupCount=5, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root.addHandler(file)
        logging.getLogger("tracker").setLevel(logging.INFO)


def _records(path: Path, *, live: bool, several_streams: bool = False) -> Sink:
    from tracker.sinks.records import RecordWriter

    return RecordWriter(path, several_streams=several_streams, live=live)


def _mot(path: Path) -> Sink:
    from tracker.sinks.mot import MotWriter

    return MotWriter(path)


def _video(path: Path, *, fps: float | None, slow_motion: float) -> Sink:
    from tracker.sinks.video import VideoWriter

    return VideoWriter(path, fps=fps, slow_motion=slow_motion)
