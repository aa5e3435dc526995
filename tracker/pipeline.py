"""The way of a frame: find people, look closely at each, follow them.

The detector runs on every few frames only; between, the tracks themselves say where to look.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from scipy.optimize import linear_sum_assignment

from tracker.geometry import box_iou
from tracker.sources import open_source
from tracker.sources.base import Source
from tracker.tracks import MultiTracker
from tracker.types import Detection, Frame, PoseMixture, TrackedFrame

SAME_PERSON_IOU = 0.4
"""A detection that overlaps a predicted box by more stands for the same person."""

FindPeople = Callable[[Frame], Sequence[Detection]]
EstimatePoses = Callable[[Frame, Sequence[Detection]], Sequence[PoseMixture]]


class PoseTracker:
    """Two networks and a tracker, called with one frame of one stream after another."""

    def __init__(
        self,
        detector: FindPeople,
        pose_net: EstimatePoses,
        people: MultiTracker | None = None,
        *,
        detect_every: int = 5,
    ) -> None:
        if detect_every < 1:
            raise ValueError(f"detect_every counts frames from 1, got {detect_every}")
        self.detector = detector
        self.pose_net = pose_net
        self.people = MultiTracker() if people is None else people
        self.detect_every = detect_every
        self._frames_since_detection = 0
        self._size: tuple[int, ...] | None = None

    @classmethod
    def load(
        cls, *, device: str = "auto", detect_every: int = 5, conf: float | None = None
    ) -> "PoseTracker":
        """The networks that ship with the package, on a device: auto, cpu, cuda.

        conf is the least score of a detection; None takes the one the detector was tuned to.
        """
        from tracker.detector import Detector
        from tracker.pose import PoseNet

        detector = Detector.load(device=device)
        if conf is not None:
            detector = replace(detector, threshold=conf)
        return cls(detector, PoseNet.load(device=device), detect_every=detect_every)

    def __call__(self, frame: Frame) -> TrackedFrame:
        poses = tuple(self.pose_net(frame, self._where_to_look(frame)))
        return TrackedFrame(frame, self.people.update(poses, frame.time), poses)

    def _where_to_look(self, frame: Frame) -> list[Detection]:
        predicted = [b for b in self.people.predicted(frame.time) if _in_picture(b, frame)]
        size, self._size = self._size, frame.image.shape
        self._frames_since_detection += 1
        due = self._frames_since_detection >= self.detect_every
        if predicted and not due and size == self._size:
            return predicted
        self._frames_since_detection = 0
        return merge_boxes(self.detector(frame), predicted)


def merge_boxes(detected: Sequence[Detection], predicted: Sequence[Detection]) -> list[Detection]:
    """All detections, and the predictions of people whom the detector has missed."""
    if not detected or not predicted:
        return [*detected, *predicted]
    overlap = box_iou(np.stack([p.box for p in predicted]), np.stack([d.box for d in detected]))
    # One to one: a single box around two people stands for one of them only.
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    found = set(rows[overlap[rows, columns] >= SAME_PERSON_IOU].tolist())
    return [*detected, *(p for i, p in enumerate(predicted) if i not in found)]


def _in_picture(detection: Detection, frame: Frame) -> bool:
    """Whether there is anything of this box to look at; those who walk out are not looked for."""
    height, width = frame.image.shape[:2]
    x0, y0, x1, y1 = detection.box
    return bool(x0 < width and y0 < height and x1 > 0 and y1 > 0)


def track(
    source: str | Source,
    *,
    device: str = "auto",
    detect_every: int = 5,
    conf: float | None = None,
    max_frames: int | None = None,
    seed: int = 0,
) -> Iterator[TrackedFrame]:
    """Follow the people in a camera, file, folder, stream or "demo", frame by frame.

    The source is closed when the iteration ends or is given up.
    """
    opened = open_source(source, seed=seed) if isinstance(source, str) else source
    with opened as frames:
        follow = PoseTracker.load(device=device, detect_every=detect_every, conf=conf)
        for frame in islice(frames, max_frames):
            yield follow(frame)
