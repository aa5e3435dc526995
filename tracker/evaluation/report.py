"""Everything that two files tell about each other, as one report."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from tracker.evaluation.identity import IdentityScores, Pairing, identity_scores
from tracker.evaluation.motion import MotionScores, motion_scores, traces
from tracker.evaluation.people import Frames, by_boxes, by_keypoints


@dataclass(frozen=True, slots=True)
class Report:
    """How well the people of a truth were followed."""

    boxes: IdentityScores
    """Similarity is the overlap of boxes (IoU)."""
    keypoints: IdentityScores | None
    """Similarity is OKS; None where a side has no keypoints."""
    motion: MotionScores | None
    """The same."""

    def record(self) -> dict[str, object]:
        """For JSON: what could not be measured is null."""
        return {name: _without_nan(part) for name, part in asdict(self).items()}

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Name, value by boxes and value by keypoints, as they are printed."""
        for name, text in _IDENTITY:
            by = [_shown(getattr(s, name)) if s else "" for s in (self.boxes, self.keypoints)]
            yield text, by[0], by[1]
        for name, text in _MOTION if self.motion else ():
            yield text, "", _shown(getattr(self.motion, name))


_IDENTITY = (
    ("hota", "HOTA"),
    ("detection", "DetA"),
    ("association", "AssA"),
    ("mota", "MOTA"),
    ("idf1", "IDF1"),
    ("switches", "identity switches"),
    ("misses", "missed person-frames"),
    ("false", "false track-frames"),
    ("people", "person-frames"),
)
_MOTION = (
    ("rmse", "RMSE, px"),
    ("acceleration_error", "acceleration error, px/frame²"),
    ("jitter_at_rest", "jitter at rest, px/frame²"),
    ("lag", "lag, frames"),
    ("nees", "NEES per coordinate (due 1)"),
    ("coverage_50", "inside the 50 % ellipse"),
    ("coverage_95", "inside the 95 % ellipse"),
    ("coverage_95_over_time", "the same in tenths of the time"),
    ("keypoints", "keypoints compared"),
)


def compare(truth: Frames, answer: Frames) -> Report:
    """Compare an answer with a truth, by boxes and, where both have them, by keypoints."""
    boxes = identity_scores([Pairing.of(truth, answer, by_boxes)])
    if not (_has_keypoints(truth) and _has_keypoints(answer)):
        return Report(boxes, None, None)
    return Report(
        boxes,
        identity_scores([Pairing.of(truth, answer, by_keypoints)]),
        motion_scores(traces(truth, answer)),
    )


def _has_keypoints(frames: Frames) -> bool:
    return all(people.keypoints is not None for people in frames.values())


def _shown(value: int | float | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return " ".join("-" if math.isnan(v) else f"{v:.2f}" for v in value)
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.3f}"


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
