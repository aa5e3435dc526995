"""What Ultralytics models find, for the tracker: `Results` of pose and of detection models.

Nothing of Ultralytics is imported: its results come from the caller's own model.

    people = tracker.MultiTracker()
    for index, results in enumerate(YOLO("yolo11n-pose.pt")("walk.mp4", stream=True)):
        tracks = people.update(yolo.poses(results), index / fps)
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from tracker.points import MIRRORED, pose_from_points
from tracker.skeleton import COCO17, Skeleton
from tracker.types import Detection, Frame, PoseMixture

PERSON = 0
"""Class of people in COCO."""


def poses(
    results: Any, skeleton: Skeleton = COCO17, *, mirrored: float = MIRRORED
) -> list[PoseMixture]:
    """The people of one picture, as a pose model gives them."""
    if results.keypoints is None:
        raise ValueError("these results hold no keypoints: use a pose model, such as yolo11n-pose")
    points = _array(results.keypoints.data)
    if len(points) == 0:
        return []
    # Models that were trained without visibility give (x, y) alone.
    scores = points[..., 2] if points.shape[-1] == 3 else np.ones(points.shape[:2])
    return [
        pose_from_points(xy[:, :2], score, detection, skeleton, mirrored=mirrored)
        for xy, score, detection in zip(points, scores, _boxes(results), strict=True)
    ]


def detections(results: Any) -> list[Detection]:
    """The people of one picture, as a detection model gives them."""
    person = _array(results.boxes.cls) == PERSON
    return [box for box, is_person in zip(_boxes(results), person, strict=True) if is_person]


class YoloDetector:
    """An Ultralytics model as the detector of a `PoseTracker`."""

    def __init__(self, model: Any, **predict: Any) -> None:
        self._model = model
        self._predict = {"classes": [PERSON], "verbose": False} | predict

    def __call__(self, frame: Frame) -> list[Detection]:
        (results,) = self._model.predict(frame.image[..., ::-1], **self._predict)
        return detections(results)


def _boxes(results: Any) -> list[Detection]:
    boxes, scores = _array(results.boxes.xyxy), _array(results.boxes.conf)
    return [Detection(box, float(score)) for box, score in zip(boxes, scores, strict=True)]


def _array(values: Any) -> Float[np.ndarray, "..."]:
    """A tensor of any device, or an array."""
    on_cpu = values.cpu() if hasattr(values, "cpu") else values
    return np.asarray(on_cpu, dtype=np.float64)
