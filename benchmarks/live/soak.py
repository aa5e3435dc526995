"""Memory, handles and threads over many frames."""

import time
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import psutil

from benchmarks.live.stage import Json, Stage, area, resources
from tracker.demo import Scene
from tracker.errors import SourceError
from tracker.live.tally import Tally
from tracker.pipeline import PoseTracker
from tracker.sinks.records import RecordWriter, read_records
from tracker.sinks.rolling import Roll, Rolling
from tracker.sources.base import LiveConfig
from tracker.sources.feed import Feed
from tracker.sources.health import Health
from tracker.sources.live import Captures, Retry, Shot
from tracker.types import Detection, Frame, Mixture, PoseMixture


def soak(stage: Stage) -> Json | None:
    """Memory, handles and threads over many frames."""
    if not stage.scale.soak:
        return None
    folder = stage.folder / "soak"
    folder.mkdir()
    scene = Scene(seed=1, n_people=1, n_frames=50, width=160, height=120)
    truths = [scene.truth(k) for k in range(scene.n_frames)]
    net = _CheapNet(truths)
    health = Health()
    captures = Captures("soak", partial(_Breaking, scene), Retry(first=0.01, longest=0.01), health)
    source = Feed("soak", captures.read, captures.stop, health=health, config=LiveConfig("all"))
    follow, tally = PoseTracker(net.detect, net.look), Tally(health)
    process, samples = psutil.Process(), []
    with source, Rolling(folder / "people.csv", RecordWriter, Roll(size=5e6)) as table:
        for frame in source:
            tracked = follow(frame)
            table.write(tracked)
            tally.add(tracked)
            if tally.frames % (stage.scale.soak // 40) == 0:
                samples.append({"frame": tally.frames, **resources(process)})
                for old in sorted(folder.iterdir())[:-1]:
                    read_records(old)
                    old.unlink()
            if tally.frames >= stage.scale.soak:
                break
    late = samples[len(samples) // 4 :]
    x = np.array([s["frame"] for s in late], float)
    slope = float(np.polyfit(x, [s["rss_mb"] for s in late], 1)[0])
    return {
        "frames": tally.frames,
        "reconnections": health.reconnects,
        "fps": tally.frames / (tally.ended - tally.started),
        "rss_mb_per_100k_frames": 1e5 * slope,
        "first": samples[0],
        "last": samples[-1],
        "samples": samples,
    }


class _CheapNet:
    """Poses of the truth, from the frame's number."""

    def __init__(self, truths: Sequence[Any]) -> None:
        self._truths, self._rng = truths, np.random.default_rng(0)

    def detect(self, frame: Frame) -> list[Detection]:
        people = self._truths[int(frame.image[0, 0, 0])]
        return [Detection(p.box, 0.9) for p in people if area(p.box) > 100]

    def look(self, frame: Frame, detections: Sequence[Detection]) -> list[PoseMixture]:
        people = self._truths[int(frame.image[0, 0, 0])]
        return [
            PoseMixture(d, Mixture(xy.reshape(1, 34), 4 * np.eye(34)[None], np.zeros(1)), seen)
            for d in detections[: len(people)]
            for xy in [people[0].keypoints + self._rng.normal(0, 2, (17, 2))]
            for seen in [np.full(17, 0.9)]
        ]


class _Breaking:
    """A connection that gives so many pictures and breaks off."""

    fps = 25.0

    def __init__(self, scene: Scene, n: int = 2000) -> None:
        self._scene, self._n = scene, n

    def __iter__(self) -> Iterator[Shot]:
        return self._shots()

    def _shots(self) -> Generator[Shot]:
        n = self._scene.n_frames
        for k in range(self._n):
            turn = k % (2 * n - 2)
            shown = turn if turn < n else 2 * n - 2 - turn
            image = np.full((120, 160, 3), shown, np.uint8)
            yield Shot(partial(np.copy, image), None, time.monotonic(), k)
        raise SourceError("broken off")

    def close(self) -> None:
        """Nothing to free."""
