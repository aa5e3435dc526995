"""Stand-ins: a standing person as a track, networks that know the truth, a plain source."""

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from tracker.types import (
    Detection,
    Frame,
    Mixture,
    PoseMixture,
    Track,
    TrackedFrame,
    TrackStatus,
)

# x, y of the 17 keypoints of a person of height 1 who faces the camera (left is at larger x).
STANDING = np.array(
    [
        [0.00, 0.08], [0.02, 0.06], [-0.02, 0.06], [0.04, 0.07], [-0.04, 0.07],
        [0.11, 0.19], [-0.11, 0.19], [0.15, 0.34], [-0.15, 0.34], [0.17, 0.48], [-0.17, 0.48],
        [0.08, 0.52], [-0.08, 0.52], [0.09, 0.73], [-0.09, 0.73], [0.09, 0.94], [-0.09, 0.94],
    ]
)  # fmt: skip


def person(x: float, top: float = 60.0, height: float = 300.0) -> np.ndarray:
    """Keypoints of a standing person, px."""
    return STANDING * height + [x, top]


def frame(index: int = 0, fps: float = 30.0, height: int = 480, width: int = 640) -> Frame:
    image = np.full((height, width, 3), 90, np.uint8)
    return Frame(image, index=index, time=index / fps)


def make_track(
    xy: np.ndarray,
    *,
    track_id: int = 1,
    status: TrackStatus = TrackStatus.CONFIRMED,
    std: float = 4.0,
    rivals: Sequence[tuple[float, np.ndarray]] = (),
    visible: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
) -> Track:
    """A track at some keypoints, with rival poses of given weights."""
    rng = rng or np.random.default_rng(track_id)
    means = [xy, *(rival for _, rival in rivals)]
    weights = np.array([1 - sum(w for w, _ in rivals), *(w for w, _ in rivals)])
    velocity = rng.normal(0, 20, xy.size)
    x = 2 * xy.size
    roots = rng.normal(0, std / np.sqrt(x), (len(means), x, x))
    return Track(
        id=track_id,
        status=status,
        state=Mixture(
            np.stack([np.concatenate([m.ravel(), velocity]) for m in means]),
            roots @ roots.swapaxes(1, 2) + 0.1 * np.eye(x),
            np.log(weights),
        ),
        time=0.0,
        visible=np.ones(len(xy)) if visible is None else visible,
        box=np.concatenate([xy.min(axis=0) - 15, xy.max(axis=0) + 15]),
        existence=0.99,
        hits=10,
        last_seen=0.0,
    )


def make_pose(
    detection: Detection, xy: np.ndarray, std: float = 2.0, visible: float = 0.95
) -> PoseMixture:
    d = xy.size
    mixture = Mixture(xy.reshape(1, d), std**2 * np.eye(d)[None], np.zeros(1))
    return PoseMixture(detection, mixture, np.full(len(xy), visible))


def tracked(*tracks: Track, index: int = 0, **kwargs: float) -> TrackedFrame:
    return TrackedFrame(frame(index, **kwargs), tracks)  # type: ignore[arg-type]


class FakeDetector:
    """Finds the given people, and counts how often it is asked."""

    def __init__(self, *people: np.ndarray) -> None:
        self.people = people
        self.calls: list[int] = []

    def __call__(self, frame: Frame) -> list[Detection]:
        self.calls.append(frame.index)
        return [
            Detection(np.concatenate([p.min(axis=0) - 15, p.max(axis=0) + 15]), 0.9)
            for p in self.people
        ]


class FakePoseNet:
    """Gives every box the nearest of the given people, and remembers the boxes."""

    def __init__(self, *people: np.ndarray) -> None:
        self.people = people
        self.visible = 0.95
        self.boxes: list[list[Detection]] = []

    def __call__(self, frame: Frame, detections: Sequence[Detection]) -> list[PoseMixture]:
        self.boxes.append(list(detections))
        return [make_pose(d, self._nearest(d), visible=self.visible) for d in detections]

    def _nearest(self, detection: Detection) -> np.ndarray:
        centre = (detection.box[:2] + detection.box[2:]) / 2
        distances = [np.linalg.norm(p.mean(axis=0) - centre) for p in self.people]
        return self.people[int(np.argmin(distances))]


class FakeSource:
    """Some plain frames; an exception among them is raised."""

    name = "fake"
    live = False
    fps: float | None = 30.0

    def __init__(self, *items: Frame | BaseException, frame_count: int | None = None) -> None:
        self.items = items
        self.frame_count = frame_count
        self.closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def __iter__(self) -> Iterator[Frame]:
        for item in self.items:
            if isinstance(item, BaseException):
                raise item
            yield item
