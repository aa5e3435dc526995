"""How fast is the whole way beside its peers, on the same clip, in the same run?

    python -m benchmarks.latency --teachers DIR --blazepose DIR --yolo FILE --json OUT --plot PNG

The peers' networks are not ours to ship: RTMDet-nano 320 and PP-TinyPose (ncnn) in one folder;
BlazePose from `npm pack @mediapipe/pose`, unpacked; yolo26n-pose by
`YOLO("yolo26n-pose.yaml").export(format="onnx", imgsz=(480, 640))` in an environment of its own
(random weights serve for speed). Who is not given does not take part.

Contestants take turns, a few frames each, so that a busy machine is busy for all of them. Wall
clock and processor time are both kept: the second says what the work costs, the first what a user
sees. Ours carries mixtures, covariances, association and filter; the peers give points alone.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table

from benchmarks.environment import environment, store
from benchmarks.latency_peers import Contestant, Ours, Places
from engines.errors import DeviceError
from tracker.bench import Clip, Percentiles, demo_clip
from tracker.detector import Detector
from tracker.pose import PoseNet
from tracker.stages import measured

WARM_UP = 10
Arg = tyro.conf.arg


@dataclass(frozen=True, slots=True)
class Timing:
    """One contestant before so many people."""

    name: str
    people: int
    people_seen: float
    fps: float
    """Median over the turns."""
    cpu_ms: float
    """Processor time a frame, median over the turns."""
    frame: Percentiles
    """Wall clock, ms."""
    net_ms: float
    """Wall clock of the pose network alone, ms a crop (a picture for one-stage networks)."""


def main(
    teachers: Path | None = None,
    blazepose: Path | None = None,
    yolo: Path | None = None,
    people: tuple[int, ...] = (1, 5),
    frames: int = 130,
    turn: int = 10,
    threads: int = 2,
    detect_every: int = 5,
    bf16: bool = True,
    seed: int = 0,
    json_path: Annotated[Path | None, Arg(name="json")] = None,
    plot: Path | None = None,
) -> None:
    """Time all contestants.

    Args:
        teachers: Folder of RTMDet-nano and PP-TinyPose.
        blazepose: Folder of the npm package @mediapipe/pose.
        yolo: yolo26n-pose.onnx.
        people: How many people the drawn scenes have.
        frames: Of each scene.
        turn: Frames of one turn.
        threads: Of every contestant.
        detect_every: Frames from one run of the detectors to the next.
        bf16: Let ours run on OpenVINO with its trunk in bf16, too, where the CPU has that.
        seed: Of the scenes.
        json_path: Where the result goes.
        plot: Where a picture of it goes (.png).
    """
    timings = []
    for n in people:
        clip = demo_clip(n, frames, seed)
        peers = Places(teachers, blazepose, yolo).open(threads)
        contestants = [*ours(threads, detect_every, bf16=bf16), *peers]
        timings += compete(contestants, clip, n, turn, detect_every)
    _print(timings)
    if plot is not None:
        _plot(timings, plot)
    if json_path is not None:
        record = {
            "threads": threads,
            "detect_every": detect_every,
            "seed": seed,
            "frames": frames - WARM_UP,
            "timings": [asdict(timing) for timing in timings],
            "ratios": ratios(timings),
            **environment(),
        }
        store(json_path, record)


def ours(threads: int, detect_every: int, *, bf16: bool) -> list[Ours]:
    """The default, int8, OpenVINO in bf16 where it runs."""
    found = []
    choices = [("ours", "ort", "fp32"), ("ours, int8", "ort", "int8")]
    choices += [("ours, bf16", "openvino", "bf16")] * bf16
    for name, backend, precision in choices:
        try:
            detector = Detector.load("nano", "cpu", threads, backend=backend, precision=precision)
            net = PoseNet.load("nano", "cpu", threads, backend=backend, precision=precision)
        except DeviceError as error:
            print(error)
            continue
        found.append(Ours(name, detector, net, detect_every))
    return found


def compete(
    contestants: Sequence[Contestant], clip: Clip, people: int, turn: int, detect_every: int
) -> list[Timing]:
    """Let them follow the clip in turns."""
    boxes = [np.array([person.box for person in seen]).reshape(-1, 4) for seen in clip.people]
    walls: dict[str, list[list[float]]] = {c.name: [] for c in contestants}
    cpus: dict[str, list[float]] = {c.name: [] for c in contestants}
    nets: dict[str, list[float]] = {c.name: [] for c in contestants}
    counts: dict[str, list[int]] = {c.name: [] for c in contestants}
    turns = range(WARM_UP, len(clip.frames) - turn + 1, turn)
    for contestant in contestants:
        for i in range(WARM_UP):
            contestant(clip.frames[i], boxes[i] if i % detect_every == 0 else None)
    for k, start in enumerate(progress(turns, f"{people} people", transient=True)):
        # Who goes first changes: the caches and clocks that one leaves behind serve the next.
        first = k % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            with measured() as laps:
                cpu, wall, seen = time.process_time(), [], []
                for i in range(start, start + turn):
                    began = time.perf_counter()
                    due = boxes[i] if i % detect_every == 0 else None
                    seen.append(contestant(clip.frames[i], due))
                    wall.append(time.perf_counter() - began)
            walls[contestant.name].append(wall)
            cpus[contestant.name].append((time.process_time() - cpu) / turn)
            one_stage = contestant.name.startswith("yolo")
            crops = turn if one_stage else max(1, sum(seen))
            nets[contestant.name].append(sum(laps["pose net"]) / crops)
            counts[contestant.name] += seen
    return [
        Timing(
            name=name,
            people=people,
            people_seen=float(np.mean(counts[name])),
            fps=float(np.median([turn / sum(wall) for wall in walls[name]])),
            cpu_ms=float(1e3 * np.median(cpus[name])),
            frame=Percentiles.of([lap for wall in walls[name] for lap in wall]),
            net_ms=float(1e3 * np.median(nets[name])),
        )
        for name in walls
    ]


def ratios(timings: list[Timing]) -> list[dict[str, object]]:
    """How many times as fast as each peer ours is, by wall clock and by processor time."""
    mine = [t for t in timings if t.name.startswith("ours")]
    return [
        {
            "ours": a.name,
            "peer": b.name,
            "people": a.people,
            "by_wall": a.fps / b.fps,
            "by_cpu": b.cpu_ms / a.cpu_ms,
        }
        for a in mine
        for b in timings
        if b.people == a.people and not b.name.startswith("ours")
    ]


def _print(timings: list[Timing]) -> None:
    table = Table("people", "contestant", "seen", "FPS", "frame p50/p95 ms", "CPU ms", "net ms")
    for t in timings:
        frame = f"{t.frame.p50:.1f} / {t.frame.p95:.1f}"
        numbers = f"{t.people_seen:.1f}", f"{t.fps:.1f}", frame, f"{t.cpu_ms:.1f}"
        table.add_row(str(t.people), t.name, *numbers, f"{t.net_ms:.1f}")
    Console(width=110).print(table)
    for ratio in ratios(timings):
        print(
            f"{ratio['people']} people: {ratio['ours']} is {ratio['by_wall']:.2f} times as fast as "
            f"{ratio['peer']} ({ratio['by_cpu']:.2f} by processor time)"
        )


def _plot(timings: list[Timing], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = list(dict.fromkeys(t.people for t in timings))
    figure, rows = pyplot.subplots(
        len(groups), figsize=(8, 1 + 2 * len(groups)), sharex=True, layout="constrained"
    )
    for axes, n in zip(np.atleast_1d(rows), groups, strict=True):
        group = [t for t in timings if t.people == n]
        bars = axes.barh([t.name for t in group], [t.cpu_ms for t in group])
        axes.bar_label(bars, [f"{t.cpu_ms:.0f} ms, {t.fps:.0f} FPS" for t in group], padding=3)
        axes.set_title(f"{n} {'person' if n == 1 else 'people'}", loc="left")
        axes.invert_yaxis()
        axes.margins(x=0.25)
    np.atleast_1d(rows)[-1].set_xlabel("processor time a frame, ms")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    tyro.cli(main)
