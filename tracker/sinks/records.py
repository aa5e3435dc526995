"""Tracks as a table (CSV) in long form: one row per frame, track and keypoint.

Positions in image px, velocities in px/s, covariances in px², times in seconds of capture. The
reader is the writer's inverse within the digits that are written.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from tracker.errors import SinkError
from tracker.sinks.base import TextSink
from tracker.skeleton import COCO17, Skeleton
from tracker.types import Track, TrackedFrame, TrackStatus


@dataclass(frozen=True, slots=True)
class Record:
    """One row; its fields are the columns, in this order."""

    stream: str
    """Written only where there are several streams."""
    utc: str
    """When the frame was captured, ISO 8601; written only of live sources."""
    frame: int
    time_s: float
    track_id: int
    state: TrackStatus
    keypoint: str
    x: float
    y: float
    """Posterior mean of the heaviest hypothesis."""
    vx: float
    vy: float
    var_x: float
    cov_xy: float
    var_y: float
    """Posterior covariance about (x, y), over all hypotheses."""
    visible: float
    """Probability that the keypoint can be seen."""
    hypotheses: int
    """Number of live hypotheses."""
    weight: float
    """Probability of the reported one."""


_FRONT = ("stream", "utc")
COLUMNS = tuple(field.name for field in fields(Record) if field.name not in _FRONT)
"""The header; `stream` stands in front when there are several, `utc` when they are live."""

# Six digits keep a covariance positive definite up to correlations of 0.999.
_FORMATS = {
    "time_s": "{:.6f}",
    **dict.fromkeys(("x", "y", "vx", "vy"), "{:.3f}"),
    **dict.fromkeys(("var_x", "cov_xy", "var_y"), "{:.6g}"),
    **dict.fromkeys(("visible", "weight"), "{:.4f}"),
}
_COLUMN_FORMATS = [_FORMATS.get(name, "{}") for name in COLUMNS]


class RecordWriter(TextSink):
    """Writes the table."""

    def __init__(
        self,
        path: Path | str,
        *,
        skeleton: Skeleton = COCO17,
        several_streams: bool = False,
        live: bool = False,
    ) -> None:
        super().__init__(path)
        self._skeleton = skeleton
        self._front = [*["stream"] * several_streams, *["utc"] * live]
        self.append(f"{','.join((*self._front, *COLUMNS))}\n")

    def write(self, tracked: TrackedFrame) -> None:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for record in records(tracked, self._skeleton):
            values = (getattr(record, name) for name in COLUMNS)
            cells = [form.format(v) for form, v in zip(_COLUMN_FORMATS, values, strict=True)]
            rows.writerow([*(getattr(record, name) for name in self._front), *cells])
        self.append(text.getvalue())


def records(tracked: TrackedFrame, skeleton: Skeleton = COCO17) -> Iterator[Record]:
    """The rows of one frame: tracks by id, keypoints in the skeleton's order."""
    for track in tracked.tracks:
        yield from _track_records(tracked, track, skeleton.keypoint_names)


def read_records(path: Path | str) -> list[Record]:
    """Read a table back; a last line that was cut off by a crash or a full disk is left out."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # spreadsheets put a mark in front
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise SinkError(f"cannot read {path}: {reason}") from error
    whole = text[: text.rfind("\n") + 1]
    rows = csv.DictReader(io.StringIO(whole))
    if tuple(name for name in rows.fieldnames or () if name not in _FRONT) != COLUMNS:
        raise SinkError(f"{path} is no table of tracks: its first line must be {','.join(COLUMNS)}")
    try:
        return [_parse(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise SinkError(
            f"{path} is damaged: line {rows.line_num} is no row of the columns in line 1"
        ) from error


def _track_records(tracked: TrackedFrame, track: Track, names: Sequence[str]) -> Iterator[Record]:
    frame, cov = tracked.frame, track.keypoint_cov
    columns = (names, track.keypoints, track.velocity, cov, track.visible)
    for name, (x, y), (vx, vy), ((var_x, cov_xy), (_, var_y)), visible in zip(
        *columns, strict=True
    ):
        yield Record(
            stream=frame.stream,
            utc=frame.utc or "",
            frame=frame.index,
            time_s=frame.time,
            track_id=track.id,
            state=track.status,
            keypoint=name,
            x=float(x),
            y=float(y),
            vx=float(vx),
            vy=float(vy),
            var_x=float(var_x),
            cov_xy=float(cov_xy),
            var_y=float(var_y),
            visible=float(visible),
            hypotheses=len(track.state),
            weight=track.weight,
        )


def _parse(row: dict[str, str]) -> Record:
    parsers = {field.name: field.type for field in fields(Record)}
    cells = {name: parsers[name](cell) for name, cell in row.items()}  # type: ignore[operator]
    return Record(**dict.fromkeys(_FRONT, "") | cells)
