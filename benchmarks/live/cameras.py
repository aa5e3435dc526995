"""Cameras for benchmarks, in a process of their own: RTSP servers that show one drawn world.

    python -m benchmarks.live.cameras FILM.npy START FPS PORT [PORT …]

They serve once they are told `listen` on the standard input, so that a second process can stand by.
Every picture carries the moment at which it was drawn, in bars along its top, so that whoever sees
it knows how old it is. The world goes on while a camera is dead: a new process with the same START
(monotonic clock, s) shows what the old one would. `stall PORT` and `go PORT` stop a camera in the
middle of a frame and let it go on.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from benchmarks.rtsp_server import RtspServer, Size

if TYPE_CHECKING:
    from tracker.demo import Scene

_BITS = 20
_ROWS = 24
"""Height of the bars, px."""
_TICK = 1e-3
"""Unit of the moment in a picture, s."""


class World:
    """The drawn scene, played to and fro from a moment on the monotonic clock, s."""

    def __init__(self, film: np.ndarray, start: float, scene_fps: float = 30.0) -> None:
        self.film, self.start, self.scene_fps = film, start, scene_fps

    def index(self, seconds: float) -> int:
        """The frame of the film that is shown then."""
        n = len(self.film)
        k = int(seconds * self.scene_fps) % (2 * n - 2)
        return k if k < n else 2 * n - 2 - k

    def draw(self, number: int, size: Size) -> np.ndarray:
        """The picture of now, with its moment on it."""
        del number
        now = time.monotonic() - self.start
        film = self.film[self.index(now)]
        rows, columns = (
            np.arange(n) * m // n for n, m in zip(size[::-1], film.shape, strict=False)
        )
        image = film[rows][:, columns].copy()
        bits = int(now / _TICK) >> np.arange(_BITS) & 1
        image[:_ROWS] = np.where(bits[np.arange(size[0]) * _BITS // size[0]], 220, 30)[:, None]
        return image


def moment_in(image: np.ndarray) -> float:
    """When a picture was drawn, s from the start of the world."""
    width = image.shape[1]
    middles = (np.arange(_BITS) * width + width // 2) // _BITS
    bits = image[_ROWS // 2, middles].mean(-1) > 125
    return float(bits @ (1 << np.arange(_BITS)) * _TICK)


def film(path: Path, frames: int, size: Size = (320, 240)) -> "Scene":
    """Draw a scene into a file."""
    from tracker.demo import Scene  # the peers' interpreters read this module too

    scene = Scene(seed=0, n_people=3, n_frames=frames, width=size[0], height=size[1])
    np.save(path, np.stack([scene.render(i) for i in range(frames)]))
    return scene


class Cameras:
    """Such a process; `with Cameras(…)` kills it in the end, as a power cut would."""

    def __init__(self, film: Path, start: float, fps: float, ports: Sequence[int]) -> None:
        command = [sys.executable, "-m", "benchmarks.live.cameras", str(film), str(start), str(fps)]
        self.process = subprocess.Popen(
            [*command, *map(str, ports)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.urls = [f"rtsp://127.0.0.1:{port}/camera" for port in ports]
        self._wait()

    def _wait(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def listen(self) -> Self:
        """Begin to serve; it is so when this returns."""
        self.tell("listen")
        self._wait()
        return self

    def tell(self, what: str) -> None:
        """Give a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def main(path: str, start: str, fps: str, *ports: str) -> None:
    """Serve until killed or the standard input ends."""
    world = World(np.load(path, mmap_mode="r"), float(start))
    size = world.film.shape[2], world.film.shape[1]
    _say("standing by")
    sys.stdin.readline()
    servers = {
        port: RtspServer(fps=float(fps), size=size, port=int(port), draw=world.draw).__enter__()
        for port in ports
    }
    _say("listening")
    for line in sys.stdin:
        what, port = line.split()
        servers[port].stalls = what == "stall"
    for server in servers.values():
        server.kill()


def _say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
