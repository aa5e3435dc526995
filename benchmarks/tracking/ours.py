"""Our tracker on frozen detections, in each of its ways; a new option is one more line here."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from benchmarks.tracking.frozen import Detections
from tracker.evaluation.people import People
from tracker.tracks import MultiTracker, TrackerConfig
from tracker.types import Track, TrackStatus

Options = Mapping[str, float]
"""Knobs that are turned, by name."""
DEFAULT = TrackerConfig()
WAYS: dict[str, TrackerConfig] = {
    "ours": DEFAULT,
    "ours, inflated": replace(DEFAULT, noise=replace(DEFAULT.noise, model="inflate")),
    "ours, per keypoint": replace(DEFAULT, reduction=replace(DEFAULT.reduction, per_keypoint=True)),
    "ours, nobody known again": replace(DEFAULT, returns=replace(DEFAULT.returns, memory=0.0)),
}
"""The tracker as it comes, and its other ways."""


@dataclass(frozen=True, slots=True)
class Knob:
    """A number that may be tuned, and between which bounds."""

    low: float
    high: float
    whole: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        if self.whole:
            return float(rng.integers(int(self.low), int(self.high) + 1))
        return float(rng.uniform(self.low, self.high))


KNOBS = {
    "kappa": Knob(0.5, 2.5),
    "inflation": Knob(1.0, 3.0),
    "memory": Knob(1.0, 3.0),
    "birth_score": Knob(0.2, 0.7),
    "confirm_hits": Knob(2, 8, whole=True),
    "least_oks": Knob(0.2, 0.8),
}
"""As many as the peers have."""

_SET: dict[str, Callable[[TrackerConfig, float], TrackerConfig]] = {
    "kappa": lambda c, v: replace(c, motion=replace(c.motion, kappa=v)),
    "inflation": lambda c, v: replace(c, noise=replace(c.noise, inflation=v)),
    "memory": lambda c, v: replace(c, life=replace(c.life, memory=v)),
    "birth_score": lambda c, v: replace(c, life=replace(c.life, birth_score=v)),
    "confirm_hits": lambda c, v: replace(c, life=replace(c.life, confirm_hits=int(v))),
    "least_oks": lambda c, v: replace(c, association=replace(c.association, least_oks=v)),
}


def configured(options: Options, config: TrackerConfig = DEFAULT) -> TrackerConfig:
    """A configuration with some of its knobs turned."""
    for name, value in options.items():
        config = _SET[name](config, value)
    return config


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a tracker made of a scene."""

    people: dict[int, People]
    """The tracks seen in each frame."""
    seconds: Float[np.ndarray, " frames"]
    """Of each step, processor time."""


def run(scene: Detections, config: TrackerConfig = DEFAULT) -> Answer:
    """Follow a scene; lost tracks are predictions and do not count as answers."""
    tracker, people, seconds = MultiTracker(config), {}, []
    for i, poses in enumerate(scene.poses):
        start = time.process_time()
        tracks = tracker.update(poses, i / scene.fps)
        seconds.append(time.process_time() - start)
        people[i] = as_people([t for t in tracks if t.status is TrackStatus.CONFIRMED])
    return Answer(people, np.array(seconds))


def as_people(tracks: Sequence[Track]) -> People:
    """Tracks in the form in which they are compared."""
    if not tracks:
        return People.nobody()
    return People(
        np.array([t.id for t in tracks]),
        np.stack([t.box for t in tracks]),
        np.stack([t.keypoints for t in tracks]),
        cov=np.stack([t.keypoint_cov for t in tracks]),
    )
