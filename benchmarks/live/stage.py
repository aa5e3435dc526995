"""What all parts share: how much is done, the drawn world, networks that know its truth."""

import random
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.live.cameras import Cameras, World, film, moment_in
from tracker.demo import Scene
from tracker.types import Detection, Frame, Mixture, PoseMixture

Json = dict[str, Any]

MAX_LATENCY = 0.5
"""s: the default of `surepose track` and `serve`."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    film: int = 120
    kills: int = 20
    kill_seconds: float = 3.0
    """Between two kills, at least."""
    foreign_kills: int = 5
    streams: int = 8
    stream_fps: float = 2.0
    stream_seconds: float = 20.0
    age_seconds: float = 20.0
    crashes: int = 50
    soak: int = 200_000


QUICK = Scale(
    film=30,
    kills=3,
    kill_seconds=1.5,
    foreign_kills=0,
    streams=3,
    stream_fps=4.0,
    stream_seconds=3.0,
    age_seconds=2.0,
    crashes=2,
    soak=0,
)


class Stage:
    """The film, its truth, and when the world began."""

    def __init__(self, folder: Path, scale: Scale, rng: random.Random) -> None:
        self.folder, self.scale, self.rng = folder, scale, rng
        self.film = folder / "film.npy"
        self.scene = film(self.film, scale.film)
        self.start = time.monotonic()

    def cameras(self, fps: float, ports: Sequence[int]) -> Cameras:
        """Cameras that stand by."""
        return Cameras(self.film, self.start, fps, ports)

    def age(self, frame: Frame) -> float:
        """True age of a picture, s."""
        return time.monotonic() - self.start - moment_in(frame.image)

    def truth(self) -> "TrueNet":
        world = World(np.load(self.film, mmap_mode="r"), self.start)
        return TrueNet(self.scene, lambda image: world.index(moment_in(image)))


class TrueNet:
    """Detector and pose network that know the truth of a scene, but for some noise."""

    def __init__(self, scene: Scene, index: Callable[[np.ndarray], int], std: float = 2.0) -> None:
        self._scene, self._index, self._std = scene, index, std
        self._rng = np.random.default_rng(0)

    def detect(self, frame: Frame) -> list[Detection]:
        people = self._scene.truth(self._index(frame.image))
        return [Detection(p.box, 0.9) for p in people if p.seen > 0.3 and area(p.box) > 100]

    def look(self, frame: Frame, detections: Sequence[Detection]) -> list[PoseMixture]:
        people = [p for p in self._scene.truth(self._index(frame.image)) if p.seen > 0.3]
        found = []
        for detection in detections:
            centre = detection.box.reshape(2, 2).mean(0)
            near = [p for p in people if np.abs(p.box.reshape(2, 2).mean(0) - centre).max() < 30]
            if near:
                xy = near[0].keypoints + self._rng.normal(0, self._std, (17, 2))
                mixture = Mixture(xy.reshape(1, 34), self._std**2 * np.eye(34)[None], np.zeros(1))
                found.append(PoseMixture(detection, mixture, np.full(17, 0.9)))
        return found


def free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def resources(process: psutil.Process) -> Json:
    with process.oneshot():
        return {
            "rss_mb": process.memory_info().rss / 1e6,
            "handles": process.num_fds(),
            "threads": process.num_threads(),
        }


def area(box: np.ndarray) -> float:
    return float((box[2:] - box[:2]).prod())


def percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": float(np.percentile(values, p)) for p in (50, 95, 99)} if values else {}
