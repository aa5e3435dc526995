"""What a step costs, against people and hypotheses, on one core; and whether memory stays flat."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.tracking.frozen import Detections
from benchmarks.tracking.identities import Contestant
from benchmarks.tracking.motion import FPS, Draw
from benchmarks.tracking.simulator import Network, NetworkConfig
from tracker.skeleton import COCO17
from tracker.tracks import MultiTracker
from tracker.types import Mixture, PoseMixture

WARM_UP = 15
HEIGHT, APART = 200.0, 320.0
LEGS, ARMS = slice(11, 17), slice(7, 11)


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time of a step, ms."""

    tracker: str
    people: int
    hypotheses: int
    median_ms: float
    p95_ms: float


def costs(
    draw: Callable[[bool], Draw], entered: Mapping[str, Contestant], people: Sequence[int],
    hypotheses: Sequence[int], frames: int,
) -> list[Cost]:  # fmt: skip
    """Everybody far from everybody, each with as many hypotheses; all trackers on the same."""
    found = []
    for n in people:
        for k in hypotheses:
            scene = _scene(draw(False), n, k, frames)
            for name, one in entered.items():
                seconds = 1e3 * one.follow([scene], [{}])[0][0].seconds[WARM_UP:]
                found.append(
                    Cost(name, n, k, float(np.median(seconds)), float(np.quantile(seconds, 0.95)))
                )
    return found


def memory(draw: Callable[[bool], Draw], frames: int, people: int = 2) -> dict[str, object]:
    """Resident memory while a tracker runs for long: at a tenth of the frames and at the end."""
    poses = _scene(draw(False), people, 1, min(frames, 300)).poses
    there_and_back = (*poses, *poses[-2:0:-1])  # so that nobody jumps
    tracker, resident = MultiTracker(), []
    for i in range(frames):
        tracker.update(there_and_back[i % len(there_and_back)], i / FPS)
        if (i + 1) % max(frames // 10, 1) == 0:
            resident.append(resident_mib())
    return {"frames": frames, "people": people, "resident_mib": resident}


def resident_mib() -> float:
    """Of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _scene(draw: Draw, people: int, hypotheses: int, frames: int) -> Detections:
    rng = np.random.default_rng(5)
    clips = [HEIGHT * draw(rng, frames) for _ in range(people)]
    networks = [Network(NetworkConfig(doubt=0.0), rng) for _ in clips]
    poses: list[tuple[PoseMixture, ...]] = []
    for i in range(frames):
        now = []
        for k, (clip, network) in enumerate(zip(clips, networks, strict=True)):
            network.advance()
            place = APART * np.array([1 + k % 10, 1 + k // 10])
            now.append(_doubtful(network.look(clip[i] + place, HEIGHT), hypotheses))
        poses.append(tuple(now))
    return Detections(f"{people} people, {hypotheses} hypotheses", FPS, tuple(poses), {})


def _doubtful(pose: PoseMixture, hypotheses: int) -> PoseMixture:
    """Rivals with legs, with arms, with all limbs swapped."""
    z, cov = pose.keypoints, pose.mixture.cov[0]
    rivals = [z]
    for swapped in ((LEGS,), (ARMS,), (LEGS, ARMS))[: hypotheses - 1]:
        other = z.copy()
        for part in swapped:
            other[part] = z[COCO17.mirror[part]]
        rivals.append(other)
    weight = 0.5 ** np.arange(1, len(rivals) + 1)
    mixture = Mixture(
        np.stack(rivals).reshape(len(rivals), -1),
        np.repeat(cov[None], len(rivals), axis=0),
        np.log(weight / weight.sum()),
    )
    return PoseMixture(pose.detection, mixture, pose.visible)
