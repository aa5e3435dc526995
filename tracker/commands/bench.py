"""`surepose bench`."""

import json as json_format
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tracker.commands.common import (
    NetworkFlags,
    Networks,
    OptionalPath,
    check,
    check_outputs,
    tell_engines,
    write_text,
)
from tracker.errors import TrackerError


def bench(
    source: str = "demo",
    *,
    people: tuple[int, ...] = (1, 5, 20),
    streams: tuple[int, ...] = (1, 4, 16),
    frames: int = 120,
    networks: NetworkFlags = Networks(),  # noqa: B008 - frozen
    json: OptionalPath = None,
    plot: OptionalPath = None,
    seed: int = 0,
) -> int:
    """Measure how fast the whole way is on this machine.

    Each stage alone, frames a second, and the age of a result when cameras of 30 FPS are followed
    in real time, all their people in one batch. Loading and the first frames are told apart. Leave
    the machine alone meanwhile.

    Args:
        source: The drawn scene (demo), a video or a folder of pictures.
        people: How many people the drawn scenes have.
        streams: How many cameras are followed at once, with the fewest people each.
        frames: Of each case; a few more where many cameras share them.
        networks: Which networks look at the pictures, and how.
        json: Store all numbers here, with the command, the machine and the versions.
        plot: Draw the stages here (.png).
        seed: Of the drawn scenes.
    """
    from rich.console import Console
    from rich.progress import track as progress

    from tracker.bench import WARM_UP, Bench, Result, demo_clip, video_clip
    from tracker.environment import environment

    check("--frames", frames, at_least=WARM_UP + 10)
    for flag, numbers in (("--people", people), ("--streams", streams)):
        check(flag, min(numbers, default=0), at_least=1)
    check_outputs(source, [path for path in (json, plot) if path is not None])
    tell_engines()
    measure = Bench(networks.load)
    console = Console(stderr=True)
    results: list[Result] = []
    cases: list[tuple[int | None, int]]
    if source == "demo":
        cases = [(n, 1) for n in people]
        cases += [(min(people), n) for n in streams if n > 1]
    else:
        cases = [(None, n) for n in streams]
        clip = video_clip(source, frames)
        if len(clip.frames) < WARM_UP + 10:
            raise TrackerError(
                f"{source} gave {len(clip.frames)} frames, due are at least {WARM_UP + 10}"
            )
    for n, n_streams in progress(cases, "measuring", console=console, transient=True):
        if n is not None:
            clip = demo_clip(n, frames, seed)
        results.append(measure.case(clip, n, n_streams))
    record = {
        "source": source,
        "engines": measure.engines(),
        "start": measure.start,
        "warm_up_frames": WARM_UP,
        "pose_net_alone": [asdict(batch) for batch in measure.crops()],
        "cases": [asdict(result) for result in results],
        **environment(),
    }
    if json is not None:
        write_text(json, json_format.dumps(record, indent=2) + "\n")
    if plot is not None:
        _plot(results, plot)
    # The table has many columns: files and pipes have no width of their own.
    width = None if sys.stdout.isatty() else 130
    Console(file=sys.stdout, width=width).print(_table(results))
    return 0


def _table(results: list[Any]) -> object:
    from rich.table import Table

    names = list(dict.fromkeys(name for result in results for name in result.stages))
    table = Table(
        "people", "cameras", "seen", "FPS", "CPU ms", *names,
        "age p50/p95", "dropped", "late", "MB",
        title="ms a pass of each stage (median); all cameras share a pass of crops and pose net",
    )  # fmt: skip
    for r in results:
        medians = [f"{r.stages[n].time.p50:.1f}" if n in r.stages else "" for n in names]
        live = f"{r.live.age.p50:.0f} / {r.live.age.p95:.0f}", f"{r.live.dropped:.0%}"
        table.add_row(
            "" if r.people is None else str(r.people), str(r.streams), f"{r.people_seen:.1f}",
            f"{r.fps:.1f}", f"{r.cpu_ms:.1f}", *medians, *live, f"{r.live.late:.0%}",
            f"{r.memory_mb:.0f}",
        )  # fmt: skip
    return table


def _plot(results: list[Any], path: Path) -> None:
    try:
        import matplotlib
    except ImportError as error:
        raise TrackerError(
            f"--plot needs matplotlib, which is not here ({error}): pip install matplotlib"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for result in results for name in result.stages))
    labels = [_label(result) for result in results]
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.6 * len(results)), layout="constrained")
    left = [0.0] * len(results)
    for name in names:
        width = [r.stages[name].per_frame if name in r.stages else 0.0 for r in results]
        axes.barh(labels, width, left=left, label=name)
        left = [a + b for a, b in zip(left, width, strict=True)]
    for y, (x, r) in enumerate(zip(left, results, strict=True)):
        axes.annotate(f" {r.fps:.0f} FPS", (x, y), va="center")
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("mean of each stage, ms a frame")
    axes.legend(ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _label(result: Any) -> str:
    n, cameras = result.people, f"{result.streams} camera{'s' * (result.streams > 1)}"
    return cameras if n is None else f"{n} {'person' if n == 1 else 'people'}, {cameras}"
