"""Tracks as MOTChallenge text: frame,id,left,top,width,height,confidence,-1,-1,-1.

Frames count from 1, as that format wants; boxes are in image px. Only people seen in the frame are
written: the format has no word for a prediction.
"""

from tracker.sinks.base import TextSink
from tracker.types import Track, TrackedFrame, TrackStatus


class MotWriter(TextSink):
    """Writes the boxes."""

    def write(self, tracked: TrackedFrame) -> None:
        seen = [t for t in tracked.tracks if t.status is TrackStatus.CONFIRMED]
        self.append("".join(_row(tracked.frame.index, t) for t in seen))


def _row(index: int, track: Track) -> str:
    x0, y0, x1, y1 = track.box
    return (
        f"{index + 1},{track.id},{x0:.2f},{y0:.2f},{x1 - x0:.2f},{y1 - y0:.2f},"
        f"{track.existence:.4f},-1,-1,-1\n"
    )
