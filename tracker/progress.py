"""How a run goes, told on the standard error: a bar for files, a status line for streams."""

import time
from collections import deque
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from tracker.types import TrackedFrame


@dataclass(eq=False)
class Tally:
    """What has been seen so far."""

    frames: int = 0
    track_ids: set[int] = field(default_factory=set)
    first_index: int = 0
    last_index: int = -1
    started: float = field(default_factory=time.perf_counter)
    ended: float = field(default_factory=time.perf_counter)

    def add(self, tracked: TrackedFrame) -> None:
        if self.frames == 0:
            self.first_index = tracked.frame.index
        self.frames += 1
        self.track_ids.update(track.id for track in tracked.tracks)
        self.last_index = tracked.frame.index
        self.ended = time.perf_counter()

    @property
    def dropped(self) -> int:
        """Frames of the stream that were passed over to keep up with it."""
        return self.last_index - self.first_index + 1 - self.frames

    def __str__(self) -> str:
        rate = self.frames / max(self.ended - self.started, 1e-9)
        people = _count(len(self.track_ids), "person", "people")
        frames = _count(self.frames, "frame", "frames")
        return f"{frames}, {people}, {rate:.1f} FPS, {self.dropped} dropped"


class RunDisplay:
    """Shows a run while it lasts, where the standard error is a terminal."""

    def __init__(self, name: str, *, live: bool, total: int | None, quiet: bool = False) -> None:
        console = Console(stderr=True)
        columns = _live_columns if live else _file_columns
        hidden = quiet or not console.is_terminal
        self._bar = Progress(*columns(), console=console, transient=True, disable=hidden)
        # Square brackets would be read as rich's markup.
        self._task = self._bar.add_task(
            name.replace("[", r"\["), total=total, fps=0.0, people=0, age=0.0
        )
        self._ends: deque[float] = deque(maxlen=30)
        self._least_delay = float("inf")

    def show(self, tracked: TrackedFrame) -> None:
        now = time.perf_counter()
        self._ends.append(now)
        # The clocks of camera and computer have an unknown offset: the quickest frame sets it.
        delay = now - tracked.frame.time
        self._least_delay = min(self._least_delay, delay)
        self._bar.update(
            self._task,
            advance=1,
            fps=(len(self._ends) - 1) / max(self._ends[-1] - self._ends[0], 1e-9),
            people=len(tracked.tracks),
            age=1000 * (delay - self._least_delay),
        )

    def __enter__(self) -> "RunDisplay":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _file_columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]:.0f} FPS · {task.fields[people]} people"),
        TimeRemainingColumn(),
    )


def _live_columns() -> tuple[ProgressColumn, ...]:
    return (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed} frames · {task.fields[fps]:.0f} FPS"),
        TextColumn("{task.fields[people]} people · +{task.fields[age]:.0f} ms"),
    )


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
