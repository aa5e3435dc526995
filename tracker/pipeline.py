"""The way of a frame: find people, look closely at each, follow them.

The detector runs on every few frames only; between, the tracks themselves say where to look.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from scipy.optimize import linear_sum_assignment

from tracker.ahead import ahead
from tracker.errors import TrackerError
from tracker.geometry import Affine, box_iou
from tracker.life import LifeConfig
from tracker.motion import body_height
from tracker.noise import NoiseConfig
from tracker.sources import open_source
from tracker.sources.base import Source
from tracker.stages import stage
from tracker.tracks import MultiTracker, TrackerConfig
from tracker.types import Detection, Frame, PoseMixture, Track, TrackedFrame, TrackStatus

REAL_ERRORS = NoiseConfig(lasting=0.2)
"""Of networks that look at real people (ADR 0072)."""

_GAP = 0.25
"""After a longer gap (s) nobody was seen for most of it, and the whole picture is searched."""
_COAST = 0.04
"""Only so long (s) into a gap people go on as they were seen; from then on as unseen ones do."""

_SEARCHED = 0.08
"""For so long (s) somebody who was lost is searched for in every frame."""

WHOLE = 120
"""A lag of so many frames is as good as the rest of a file: later frames tell nothing more."""
_EAGER = 30
"""With a longer lag frames come out in blocks of half of it: to walk back all the way for every
frame would take too long."""

SAME_PERSON_IOU = 0.4
"""A detection that overlaps a predicted box by more stands for the same person."""

FindPeople = Callable[[Frame], Sequence[Detection]]
FollowCamera = Callable[
    [UInt8[np.ndarray, "height width 3"], Sequence[Float[np.ndarray, "4"]]], Affine
]
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
        on_demand: bool = True,
        most_poses: int | None = None,
        camera_motion: Callable[[], FollowCamera] | None = None,
    ) -> None:
        """
        detect_every: searches the whole picture at least every so many frames, …
        on_demand: … and sooner where a track is new, just lost or unsure of its place.
        most_poses: looks at no more people in a frame, the least certain of them first.
        camera_motion: makes what follows a camera that moves.
        """
        if detect_every < 1:
            raise ValueError(f"detect_every counts frames from 1, got {detect_every}")
        self.detector = detector
        self.pose_net = pose_net
        self.people = MultiTracker(TrackerConfig(noise=REAL_ERRORS)) if people is None else people
        self.detect_every = detect_every
        self.on_demand = on_demand
        self.most_poses = most_poses
        self._new_camera = camera_motion
        self._camera = None if camera_motion is None else camera_motion()
        self._unwatched: set[int] = set()
        self._frames_since_detection = 0
        self._size: tuple[int, ...] | None = None

    @classmethod
    def load(
        cls,
        *,
        pose: str | Path = "nano",
        detector: str | Path = "nano",
        device: str = "auto",
        backend: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        detect_every: int = 5,
        detect_side: int | None = None,
        conf: float | None = None,
        flip_test: bool = False,
        lag: int | Literal["all"] = 0,
        camera_motion: bool = False,
    ) -> "PoseTracker":
        """Two networks that ship with the package, or your own .onnx files, on a device.

        detect_side is how long a picture's longer side is for the detector, px, conf the least
        score of a detection; None takes what the detector was tuned to. flip_test looks at
        everybody in a mirror too: more accurate, twice the work of the pose network. lag is how
        many frames `follow` may wait to smooth, "all" for files; camera_motion is for cameras that
        move. The rest is as in `engines.load`.
        """
        from tracker.detector import Detector
        from tracker.pose import PoseNet

        find = Detector.load(
            detector, device, threads, backend=backend, precision=precision, long_side=detect_side
        )
        if conf is not None:
            find = replace(find, threshold=conf)
        life = LifeConfig(birth_score=find.threshold)
        wait = WHOLE if lag == "all" else lag
        people = MultiTracker(TrackerConfig(noise=REAL_ERRORS, life=life, lag=wait))
        camera: Callable[[], FollowCamera] | None = None
        if camera_motion:
            from tracker.camera_motion import CameraMotion

            camera = CameraMotion
        return cls(
            find,
            PoseNet.load(
                pose, device, threads, backend=backend, precision=precision, flip_test=flip_test
            ),
            people,
            detect_every=detect_every,
            camera_motion=camera,
        )

    def sibling(self) -> "PoseTracker":
        """One for another stream, with the same networks and settings, and nobody in it yet."""
        return PoseTracker(
            self.detector,
            self.pose_net,
            MultiTracker(self.people.config, self.people.skeleton),
            detect_every=self.detect_every,
            on_demand=self.on_demand,
            most_poses=self.most_poses,
            camera_motion=self._new_camera,
        )

    def __call__(self, frame: Frame) -> TrackedFrame:
        return self.take_in(frame, self.pose_net(frame, self.where_to_look(frame)))

    def where_to_look(self, frame: Frame) -> list[Detection]:
        """Boxes in which people may be; `take_in` of the same frame is to follow."""
        if self._camera is not None:
            people = [track.box for track in self.people.tracks]
            self.people.move_camera(self._camera(frame.image, people))
        boxes, self._unwatched = self._affordable(self._candidates(frame), frame.time)
        return boxes

    def take_in(self, frame: Frame, poses: Sequence[PoseMixture]) -> TrackedFrame:
        """The people of a frame, from the poses found where to look."""
        with stage("track"):
            tracks = self.people.update(poses, frame.time, self._unwatched)
        return TrackedFrame(frame, tracks, tuple(poses))

    def _candidates(self, frame: Frame) -> list[Detection]:
        gap = self._coast(frame.time)
        predicted = [b for b in self.people.predicted(frame.time) if _in_picture(b, frame)]
        size, self._size = self._size, frame.image.shape
        self._frames_since_detection += 1
        due = gap or self._frames_since_detection >= self.detect_every
        unsure = self.on_demand and any(map(_is_unsure, self.people.tracks))
        if predicted and not due and not unsure and size == self._size:
            return predicted
        self._frames_since_detection = 0
        # Tentative tracks are the detector's to find again: a pose network always gives a pose.
        known = [box for box in predicted if (box.track_id or 0) > 0]
        return merge_boxes(self.detector(frame), known)

    def _affordable(self, boxes: list[Detection], time: float) -> tuple[list[Detection], set[int]]:
        """The boxes that are worth a look, and the tracks that nobody looks for then.

        New people first, then those whose error bars are largest for their size.
        """
        if self.most_poses is None or len(boxes) <= self.most_poses:
            return boxes, set()
        expected = self.people.predicted(time)
        doubt = {track.id: _doubt(track) for track in self.people.tracks}
        owners = [box.track_id or _stands_for(box, expected) for box in boxes]
        order = sorted(range(len(boxes)), key=lambda i: -doubt.get(owners[i] or 0, float("inf")))
        chosen = sorted(order[: self.most_poses])
        left = {owners[i] or 0 for i in order[self.most_poses :]}
        return [boxes[i] for i in chosen], left - {owners[i] for i in chosen}

    def _coast(self, time: float) -> bool:
        """Whether there was a gap before that time; then nobody was seen in it, which is said."""
        last = self.people.time
        if last is None or time - last <= _GAP:
            return False
        if self.people.config.lag == 0:  # a smoother counts frames, and this is none
            self.people.update((), last + _COAST)
        return True


class Delay:
    """What becomes of a tracker's results before they come out.

    With a lag of N frames a result waits until N more frames have been followed, and is smoothed by
    what came later (by half as many at least, where N is large); or the tracks are given as of some
    seconds later, s.
    """

    def __init__(self, people: MultiTracker, predict_ahead: float = 0.0) -> None:
        self.people = people
        self.predict_ahead = predict_ahead
        self._waiting: deque[TrackedFrame] = deque()

    def __call__(self, tracked: TrackedFrame) -> list[TrackedFrame]:
        """Take in the newest result; what comes out now."""
        lag = self.people.config.lag
        if self.predict_ahead:
            later = self.people.at(tracked.frame.time + self.predict_ahead)
            tracked = replace(tracked, tracks=later)
        if lag == 0:
            return [tracked]
        self._waiting.append(tracked)
        if len(self._waiting) <= lag:
            return []
        return list(self._smoothed(1 if lag <= _EAGER else lag // 2))

    def rest(self) -> Iterator[TrackedFrame]:
        """What still waits when no more frames come."""
        if self._waiting:
            yield from self._smoothed(len(self._waiting))

    def _smoothed(self, count: int) -> Iterator[TrackedFrame]:
        """The first of those that wait."""
        frames = self.people.smoothed_since(len(self._waiting) - 1)
        for tracks in frames[:count]:
            yield replace(self._waiting.popleft(), tracks=tracks)


def follow(
    tracker: PoseTracker, frames: Iterable[Frame], *, predict_ahead: float = 0.0
) -> Generator[TrackedFrame]:
    """Every frame with its tracks, as `Delay` gives them out.

    A frame is followed while the result of the last one is used.
    """
    delay = Delay(tracker.people, predict_ahead)
    try:
        with closing(ahead(frames, lambda frame: delay(tracker(frame)))) as results:
            for some in results:
                yield from some
    except (TrackerError, KeyboardInterrupt):
        yield from delay.rest()
        raise
    yield from delay.rest()


def merge_boxes(detected: Sequence[Detection], predicted: Sequence[Detection]) -> list[Detection]:
    """All detections, and the predictions of people whom the detector has missed."""
    if not detected or not predicted:
        return [*detected, *predicted]
    overlap = box_iou(np.stack([p.box for p in predicted]), np.stack([d.box for d in detected]))
    # One to one: a single box around two people stands for one of them only.
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    found = set(rows[overlap[rows, columns] >= SAME_PERSON_IOU].tolist())
    return [*detected, *(p for i, p in enumerate(predicted) if i not in found)]


def _is_unsure(track: Track) -> bool:
    """Whether the detector should say if and where there is such a person."""
    if track.status is TrackStatus.TENTATIVE:
        return True
    return track.status is TrackStatus.LOST and track.time - track.last_seen < _SEARCHED


def _doubt(track: Track) -> float:
    """Mean variance of the keypoints, in body heights²."""
    return float(
        np.trace(track.keypoint_cov, axis1=1, axis2=2).mean() / body_height(track.box) ** 2
    )


def _stands_for(found: Detection, expected: Sequence[Detection]) -> int | None:
    """The track whose person a detection is, as far as boxes can tell."""
    if not expected:
        return None
    overlap = box_iou(found.box[None], np.stack([box.box for box in expected]))[0]
    best = int(overlap.argmax())
    return expected[best].track_id if overlap[best] >= SAME_PERSON_IOU else None


def _in_picture(detection: Detection, frame: Frame) -> bool:
    """Whether there is anything of this box to look at; those who walk out are not looked for."""
    height, width = frame.image.shape[:2]
    x0, y0, x1, y1 = detection.box
    return bool(x0 < width and y0 < height and x1 > 0 and y1 > 0)


def track(
    source: str | Path | Source,
    *,
    pose: str | Path = "nano",
    detector: str | Path = "nano",
    device: str = "auto",
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    detect_every: int = 5,
    detect_side: int | None = None,
    conf: float | None = None,
    flip_test: bool = False,
    fps: float | None = None,
    max_frames: int | None = None,
    seed: int = 0,
    lag: int | Literal["all"] = 0,
    predict_ahead: float = 0.0,
    camera_motion: bool = False,
) -> Iterator[TrackedFrame]:
    """Follow the people in a camera, file, folder, stream or "demo", frame by frame.

    With a lag, frames come so many frames late and smoothed by them; predict_ahead gives the tracks
    of so many seconds later instead. fps is the rate at which a file or folder was filmed, where it
    does not tell. The source, by name or one of your own, is closed when the iteration ends or is
    given up.
    """
    if isinstance(source, str | Path):
        source = open_source(str(source), seed=seed, fps=fps)
    elif fps is not None:
        raise ValueError("a source of your own tells the times of its frames; leave fps out")
    with source as frames:
        tracker = PoseTracker.load(
            pose=pose,
            detector=detector,
            device=device,
            backend=backend,
            precision=precision,
            threads=threads,
            detect_every=detect_every,
            detect_side=detect_side,
            conf=conf,
            flip_test=flip_test,
            lag=lag,
            camera_motion=camera_motion,
        )
        limited = islice(frames, max_frames)
        with closing(follow(tracker, limited, predict_ahead=predict_ahead)) as results:
            yield from results
