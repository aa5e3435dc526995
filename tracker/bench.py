"""How fast the whole way is on this machine: stages, frames a second, age of what comes out.

A clip lies in memory, so that neither drawing the demo nor a slow disk is measured; reading a video
is timed apart. On the demo the boxes that come back from the detector are the scene's true ones
(it runs all the same): every machine then does the same work. Several cameras are followed as
users follow them, all their crops in one batch.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import psutil

from tracker.ahead import ahead
from tracker.demo import Scene
from tracker.live.streams import StreamsTracker
from tracker.overlay import draw
from tracker.pipeline import FindPeople, PoseTracker
from tracker.pose import PoseNet
from tracker.sources import open_source
from tracker.sources.base import LiveConfig
from tracker.sources.feed import Gathering, feed
from tracker.stages import measured, stage
from tracker.types import Detection, Frame, TrackedFrame

WARM_UP = 10
"""Frames that are not counted: engines choose their kernels and memory then."""
LIVE_FPS = 30.0
"""Of the cameras that the age is measured with."""
MAX_LATENCY = 0.5
"""Theirs, s: the default of `surepose track`."""

Follow = Callable[[Sequence[Frame]], Sequence[TrackedFrame]]
"""Frames of different cameras in, results out."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of a time, ms."""

    p50: float
    p95: float
    p99: float
    mean: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Percentiles":
        ms = 1e3 * np.asarray(seconds, float)
        p50, p95, p99 = (float(p) for p in np.percentile(ms, (50, 95, 99)))
        return cls(p50, p95, p99, float(ms.mean()))


@dataclass(frozen=True, slots=True)
class Stage:
    """Of one stage."""

    time: Percentiles
    """Of a pass."""
    per_frame: float
    """On average, ms a frame: the detector, say, does not run on each."""

    @classmethod
    def of(cls, seconds: Sequence[float], frames: int) -> "Stage":
        return cls(Percentiles.of(seconds), 1e3 * sum(seconds) / frames)


@dataclass(frozen=True, slots=True)
class Live:
    """Cameras of 30 FPS in real time."""

    age: Percentiles
    """From a frame's capture until its result is drawn."""
    fps: float
    """Of all cameras together."""
    dropped: float
    """Share of frames that were passed over."""
    late: float
    """Share of results that were older than the greatest latency."""


@dataclass(frozen=True, slots=True)
class Result:
    """One case: so many people before so many cameras."""

    people: int | None
    """In the scene; None where a video decides."""
    streams: int
    frames: int
    """Of all streams together."""
    people_seen: float
    """Crops that the pose net looked at, a frame."""
    fps: float
    """Of all streams together."""
    cpu_ms: float
    """Processor time a frame: what is left to compare where the machine is busy."""
    memory_mb: float
    """Of the process, after the case."""
    stages: dict[str, Stage]
    live: Live


@dataclass(frozen=True, slots=True)
class Batch:
    """The pose engine on so many crops at once; medians of a crop, ms."""

    crops: int
    ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames in memory."""

    frames: tuple[Frame, ...]
    people: tuple[Sequence[Detection], ...] = ()
    """Where they truly are in each frame, where that is known."""
    read: tuple[float, ...] = ()
    """What reading a frame took, s."""
    name: str = "clip"
    live: bool = False
    fps: float | None = None
    frame_count: int | None = None

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to free."""


@dataclass(frozen=True, slots=True, eq=False)
class TrueBoxes:
    """A detector that does its work and then says where the people of a clip truly are."""

    detector: FindPeople
    people: Sequence[Sequence[Detection]]
    """Of each frame."""

    def __call__(self, frame: Frame) -> Sequence[Detection]:
        self.detector(frame)
        return self.people[frame.index]


@dataclass(eq=False)
class Bench:
    """The networks, loaded once, and how to measure them."""

    load: Callable[[], PoseTracker]
    start: dict[str, float] = field(default_factory=dict)
    """Seconds until the networks were loaded, and of the first frame."""

    def __post_init__(self) -> None:
        started = time.perf_counter()
        self._first = self.load()
        self.start["load_s"] = time.perf_counter() - started

    def engines(self) -> dict[str, str]:
        """What runs where."""
        networks = {"detector": self._first.detector, "pose": self._first.pose_net}
        return {name: net.engine.describe() for name, net in networks.items()}  # type: ignore[attr-defined]

    def crops(self, batches: Sequence[int] = (1, 2, 4, 8, 16), rounds: int = 15) -> list[Batch]:
        """The pose engine alone: is it worth to wait for more crops?"""
        net: Any = self._first.pose_net
        return [_batch(net, n, rounds) for n in batches]

    def case(self, clip: Clip, people: int | None, streams: int = 1) -> Result:
        """Follow `streams` copies of the clip; the first frames warm up.

        Each case works on about as many frames, of many cameras the first of each.
        """
        follow = StreamsTracker(self._fresh(clip))
        rounds = [_at_once(frame, streams) for frame in clip.frames]
        self._warm_up(follow, rounds[:WARM_UP])
        rest = rounds[WARM_UP:][: max(WARM_UP, len(rounds) // streams)]
        with measured() as laps:
            cpu, started, n_crops = time.process_time(), time.perf_counter(), 0
            for results in ahead(rest, follow):
                for tracked in results:
                    n_crops += len(tracked.poses)
                    with stage("draw"):
                        draw(tracked)
            wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        n = len(rest) * streams
        read = {"read": Stage.of(clip.read, len(clip.read))} if clip.read else {}
        return Result(
            people=people,
            streams=streams,
            frames=n,
            people_seen=n_crops / n,
            fps=n / wall,
            cpu_ms=1e3 * cpu / n,
            memory_mb=psutil.Process().memory_info().rss / 2**20,
            stages=read | {name: Stage.of(times, n) for name, times in laps.items()},
            live=live(StreamsTracker(self._fresh(clip)), clip, streams),
        )

    def _fresh(self, clip: Clip) -> PoseTracker:
        """The loaded networks with a new tracker."""
        find: Any = self._first.detector
        find = TrueBoxes(find, clip.people) if clip.people else find
        return PoseTracker(find, self._first.pose_net, detect_every=self._first.detect_every)

    def _warm_up(self, follow: Follow, rounds: Sequence[Sequence[Frame]]) -> None:
        for frames in rounds:
            started = time.perf_counter()
            follow(frames)
            self.start.setdefault("first_frame_s", time.perf_counter() - started)


def _at_once(frame: Frame, streams: int) -> list[Frame]:
    """What so many cameras show that see the same."""
    return [replace(frame, stream=f"camera {k}") for k in range(streams)]


def live(follow: Follow, clip: Clip, streams: int = 1, fps: float = LIVE_FPS) -> Live:
    """Follow so many copies of the clip as cameras would give them, and draw."""
    frames = tuple(replace(frame, time=i / fps) for i, frame in enumerate(clip.frames))
    config = LiveConfig(buffer="latest", max_latency=MAX_LATENCY)
    cameras = [feed(replace(clip, frames=frames), config) for _ in range(streams)]
    for k, camera in enumerate(cameras):
        camera.stream = f"camera {k}"
    ages, ends = [], []
    with Gathering(cameras) as together, closing(ahead(together, follow)) as rounds:
        for tracked in (one for results in rounds for one in results):
            draw(tracked)
            ends.append(time.time())
            assert tracked.frame.captured is not None
            ages.append(ends[-1] - tracked.frame.captured)
    ages = ages[min(WARM_UP, len(ages) // 2) :]
    return Live(
        age=Percentiles.of(ages),
        fps=(len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0,
        dropped=1 - len(ends) / (streams * len(clip.frames)),
        late=float(np.mean(np.array(ages) > MAX_LATENCY)),
    )


def _batch(net: PoseNet, n: int, rounds: int) -> Batch:
    image = np.random.default_rng(0).uniform(0, 255, (n, 3, net.height, net.width))
    inputs = {"image": image.astype(np.float32), "latent": net.latents}
    laps = []
    for _ in range(rounds + 3):  # the first three warm up
        wall, cpu = time.perf_counter(), time.process_time()
        net.engine(inputs)
        laps.append((time.perf_counter() - wall, time.process_time() - cpu))
    ms, cpu_ms = 1e3 * np.median(laps[3:], axis=0) / n
    return Batch(n, float(ms), float(cpu_ms))


def demo_clip(people: int, frames: int, seed: int = 0) -> Clip:
    """So many drawn people, 640×480."""
    scene = Scene(seed=seed, n_people=people, n_frames=frames)
    pictures = (Frame(scene.render(i), i, i / scene.fps) for i in range(frames))
    # Beforehand: to know who can be seen, the scene is drawn once more.
    boxes = ([Detection(person.box, 0.9) for person in scene.truth(i)] for i in range(frames))
    return Clip(tuple(pictures), tuple(boxes))


def video_clip(source: str, frames: int) -> Clip:
    """The first frames of a source."""
    read, kept = [], []
    with open_source(source) as opened:
        started = time.perf_counter()
        for frame in islice(opened, frames):
            read.append(time.perf_counter() - started)
            kept.append(frame)
            started = time.perf_counter()
    return Clip(tuple(kept), read=tuple(read))
