"""What does a detector save that runs only when it is needed, and what does that cost?

    python -m benchmarks.demand [--seeds 0 1 2] [--json benchmarks/results/demand.json]

The whole pipeline with fixed intervals and on demand, on the drawn demo scene and on TUD-Campus
(`../shared/data/video`, left out where it is not at hand). Processor time of one process counts,
since machines are shared; one thread for each network makes it comparable.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.environment import environment, store
from benchmarks.tracking.clips import CAMPUS_FPS, VIDEO
from benchmarks.tracking.ours import as_people
from tracker.demo import Scene
from tracker.evaluation.files import read_mot
from tracker.evaluation.identity import Pairing, identity_scores
from tracker.evaluation.people import Frames, People, by_boxes
from tracker.pipeline import FindPeople, PoseTracker
from tracker.sources import open_source
from tracker.types import Detection, Frame, TrackStatus


@dataclass(frozen=True, slots=True)
class Cadence:
    """When the whole picture is searched."""

    detect_every: int
    on_demand: bool

    def __str__(self) -> str:
        return f"every {self.detect_every}" + (" or on demand" if self.on_demand else "")


CADENCES = (
    *(Cadence(n, on_demand=False) for n in (1, 3, 5)),
    *(Cadence(n, on_demand=True) for n in (5, 10)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    name: str
    frames: list[Frame]
    truth: Frames


@dataclass(frozen=True, slots=True)
class Outcome:
    """One cadence on one clip."""

    clip: str
    detect_every: int
    on_demand: bool
    frames: int
    searches: int
    """Runs of the detector."""
    looks: int
    """Crops that the pose network saw."""
    frames_per_cpu_second: float
    hota: float
    recall: float
    """Share of person-frames with a track on the person, by boxes."""
    switches: int
    false_per_frame: float


class Counted:
    """A detector that counts its runs."""

    def __init__(self, detector: FindPeople) -> None:
        self.detector = detector
        self.runs = 0

    def __call__(self, frame: Frame) -> Sequence[Detection]:
        self.runs += 1
        return self.detector(frame)


def main(seeds: tuple[int, ...] = (0,), json: Path | None = None) -> None:
    """Compare all cadences.

    Args:
        seeds: Of the drawn scenes.
        json: Store the outcomes here, with the command, the machine and the versions.
    """
    first, outcomes = PoseTracker.load(device="cpu"), []
    for clip in clips(seeds):
        told = [run(first, clip, cadence) for cadence in CADENCES]
        _print(clip.name, told)
        outcomes += told
    if json is not None:
        record = {"outcomes": [asdict(one) for one in outcomes], **environment()}
        store(json, record)


def clips(seeds: Sequence[int]) -> Iterator[Clip]:
    for seed in seeds:
        scene = Scene(seed=seed)
        at = range(scene.n_frames)
        frames = [Frame(scene.render(i), i, i / scene.fps) for i in at]
        yield Clip(f"demo {seed}", frames, {i: _people(scene, i) for i in at})
    folder = VIDEO / "tud_campus"
    if folder.is_dir():
        with open_source(str(folder / "img1")) as source:
            frames = [Frame(f.image, i, i / CAMPUS_FPS) for i, f in enumerate(source)]
        yield Clip("TUD-Campus", frames, read_mot(folder / "gt/gt.txt"))


def run(first: PoseTracker, clip: Clip, cadence: Cadence) -> Outcome:
    """Follow a clip from its start."""
    follow = first.sibling()
    searches = Counted(first.detector)
    follow.detector = searches
    follow.detect_every, follow.on_demand = cadence.detect_every, cadence.on_demand
    looks, answers, began = 0, {}, time.process_time()
    for frame in clip.frames:
        tracked = follow(frame)
        looks += len(tracked.poses)
        seen = [t for t in tracked.tracks if t.status is TrackStatus.CONFIRMED]
        answers[frame.index] = as_people(seen)
    seconds = time.process_time() - began
    scores = identity_scores([Pairing.of(clip.truth, answers, by_boxes)])
    n = len(clip.frames)
    return Outcome(
        clip.name,
        cadence.detect_every,
        cadence.on_demand,
        n,
        searches.runs,
        looks,
        n / seconds,
        scores.hota,
        1 - scores.misses / scores.people,
        scores.switches,
        scores.false / n,
    )


def _people(scene: Scene, index: int) -> People:
    truth = scene.truth(index)
    if not truth:
        return People.nobody()
    return People(
        np.array([p.id for p in truth]),
        np.stack([p.box for p in truth]),
        np.stack([p.keypoints for p in truth]),
    )


def _print(name: str, outcomes: Sequence[Outcome]) -> None:
    heads = ("searches", "looks/frame", "frames/CPU s", "HOTA", "recall", "switches", "false/frame")
    table = Table("", *heads, title=name, box=None)
    for one in outcomes:
        table.add_row(
            str(Cadence(one.detect_every, one.on_demand)),
            f"{one.searches} of {one.frames}",
            f"{one.looks / one.frames:.2f}",
            f"{one.frames_per_cpu_second:.1f}",
            f"{one.hota:.3f}",
            f"{one.recall:.3f}",
            str(one.switches),
            f"{one.false_per_frame:.3f}",
        )
    Console().print(table)


if __name__ == "__main__":
    tyro.cli(main)
