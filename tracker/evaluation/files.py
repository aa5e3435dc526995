"""Truths and answers from files, told apart by their endings.

- `.csv`: the table of `surepose track --csv` (keypoints with error bars);
- `.txt`: MOTChallenge boxes, `gt.txt` or what `surepose track --mot` writes;
- `.json`: COCO keypoints of a video, as PoseTrack has them: `annotations` with `track_id`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tracker.errors import TrackerError
from tracker.evaluation.people import Frames, People
from tracker.sightings import person_box
from tracker.sinks.records import Record, read_records
from tracker.skeleton import COCO17
from tracker.types import TrackStatus


class TruthError(TrackerError):
    """A file is no truth and no answer."""


def read_people(path: Path) -> Frames:
    """People by frame, from any of the formats."""
    readers = {".csv": read_table, ".txt": read_mot, ".json": read_keypoints}
    if path.suffix not in readers:
        raise TruthError(f"{path} must end in .csv, .txt or .json")
    return readers[path.suffix](path)


def read_table(path: Path) -> Frames:
    """Our own table; people who were not seen in a frame are predictions and left out."""
    rows: dict[int, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in read_records(path):
        if record.state is TrackStatus.CONFIRMED:
            rows[record.frame][record.track_id].append(record)
    return _filled({frame: _tabled(people) for frame, people in rows.items()})


def read_mot(path: Path) -> Frames:
    """MOTChallenge text: rows flagged 0 are left out, and where there are classes, all but 1."""
    boxes: dict[int, list[tuple[int, list[float]]]] = defaultdict(list)
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            cells = [float(cell) for cell in line.split(",")]
            frame, identity, left, top, width, height, flag = cells[:7]
        except ValueError as error:
            raise TruthError(
                f"{path} line {number}: due frame,id,left,top,width,height,confidence, got {line!r}"
            ) from error
        other_class = len(cells) == 9 and cells[7] != 1
        if flag != 0 and not other_class:
            boxes[int(frame) - 1].append((int(identity), [left, top, left + width, top + height]))
    return _filled(
        {
            frame: People(np.array([i for i, _ in rows]), np.array([b for _, b in rows], float))
            for frame, rows in boxes.items()
        }
    )


def read_keypoints(path: Path) -> Frames:
    """COCO keypoints with `track_id`; frames by the number in `file_name`, else by `frame_id`.

    Keypoints are found by the names in `categories` (PoseTrack's order is not COCO's); those that a
    file does not name count as not labelled. A frame without annotations is one without people.
    """
    try:
        told = json.loads(_text(path))
        order = _order(told)
        frames = {image["id"]: _frame(image) for image in told["images"]}
        people: dict[int, list[dict[str, Any]]] = {frame: [] for frame in frames.values()}
        for annotation in told["annotations"]:
            people[frames[annotation["image_id"]]].append(annotation)
        return {frame: _annotated(rows, order) for frame, rows in people.items()}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise TruthError(
            f"{path} is no COCO keypoint file of a video: due images (id, file_name) and "
            f"annotations (image_id, track_id, keypoints, bbox), got {type(error).__name__} {error}"
        ) from error


def _filled(frames: dict[int, People]) -> Frames:
    """Frames between that have no row are frames without people."""
    empty = {
        frame: People.nobody() for frame in range(min(frames, default=0), max(frames, default=-1))
    }
    return empty | frames


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise TruthError(f"cannot read {path}: {reason}") from error


def _tabled(people: dict[int, list[Record]]) -> People:
    if any(len(rows) != len(COCO17) for rows in people.values()):
        raise TruthError(f"every person must have {len(COCO17)} keypoints in a frame")
    rows = list(people.values())
    keypoints = np.array([[(r.x, r.y) for r in person] for person in rows])
    visible = np.array([[r.visible for r in person] for person in rows])
    return People(
        np.array(list(people)),
        np.stack([person_box(k, v) for k, v in zip(keypoints, visible, strict=True)]),
        keypoints,
        cov=np.array(
            [[[(r.var_x, r.cov_xy), (r.cov_xy, r.var_y)] for r in person] for person in rows]
        ),
    )


def _order(told: dict[str, Any]) -> list[int | None]:
    """Where each keypoint of ours is in the file."""
    categories = told.get("categories") or [{}]
    names = categories[0].get("keypoints", list(COCO17.keypoint_names))
    return [names.index(name) if name in names else None for name in COCO17.keypoint_names]


def _frame(image: dict[str, Any]) -> int:
    number = re.search(r"(\d+)\.\w+$", image.get("file_name", ""))
    return int(number[1]) if number else int(image["frame_id"])


def _annotated(rows: Sequence[dict[str, Any]], order: Sequence[int | None]) -> People:
    if not rows:
        return People.nobody()
    left_top, size = np.split(np.array([r["bbox"] for r in rows], float), 2, axis=1)
    labels = np.stack([_labels(r["keypoints"], order) for r in rows])
    area = np.array([r.get("area") or np.nan for r in rows], float)
    return People(
        np.array([int(r["track_id"]) for r in rows]),
        np.hstack([left_top, left_top + size]),
        labels[..., :2],
        labels[..., 2] > 0,
        outline_area=None if np.isnan(area).any() else area,
    )


def _labels(flat: Sequence[float | int], order: Sequence[int | None]) -> Float[np.ndarray, "J 3"]:
    labels = np.array(flat, float).reshape(-1, 3)
    return np.array([np.zeros(3) if i is None else labels[i] for i in order])
