"""Tracks as MOTChallenge text: frame,id,left,top,width,height,confidence,-1,-1,-1.

Frames count from 1, as that format wants; boxes are in image px. Only people seen in the frame are
written: the format has no word for a prediction.
"""

from contextlib import suppress
from pathlib import Path

from tracker.errors import SinkError
from tracker.sinks.base import Sink, writing
from tracker.types import Track, TrackedFrame, TrackStatus


class MotWriter(Sink):
    """Writes the boxes; what is there is replaced. Each frame goes to the system at once."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        with writing(path):
            self._file = Path(path).open("w", encoding="utf-8", newline="\n")  # noqa: SIM115 - closed by close()

    def write(self, tracked: TrackedFrame) -> None:
        seen = [t for t in tracked.tracks if t.status is TrackStatus.CONFIRMED]
        try:
            with writing(self.path):
                self._file.write("".join(_row(tracked.frame.index, t) for t in seen))
                self._file.flush()
        except SinkError:
            with suppress(SinkError):
                self.close()
            raise

    def close(self) -> None:
        with writing(self.path):
            self._file.close()


def _row(index: int, track: Track) -> str:
    x0, y0, x1, y1 = track.box
    return (
        f"{index + 1},{track.id},{x0:.2f},{y0:.2f},{x1 - x0:.2f},{y1 - y0:.2f},"
        f"{track.existence:.4f},-1,-1,-1\n"
    )
