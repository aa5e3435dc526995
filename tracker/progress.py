"""How a run goes, told on the standard error: a bar for files, a status line for streams."""

from collections.abc import Sequence

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

from tracker.live.tally import Tally
from tracker.sources.feed import Feed
from tracker.types import TrackedFrame


class RunDisplay:
    """Shows a run while it lasts, where the standard error is a terminal."""

    def __init__(
        self, feeds: Sequence[Feed], max_frames: int | None, *, quiet: bool = False
    ) -> None:
        console = Console(stderr=True)
        live = any(feed.live for feed in feeds)
        columns = _live_columns if live else _file_columns
        hidden = quiet or not console.is_terminal
        self._bar = Progress(*columns(), console=console, transient=True, disable=hidden)
        self._tasks = {
            feed.stream: self._bar.add_task(
                # Square brackets would be read as rich's markup.
                (feed.stream or feed.name).replace("[", r"\["),
                total=min((n for n in (feed.frame_count, max_frames) if n), default=None),
                fps=0.0,
                people=0,
                age=0.0,
            )
            for feed in feeds
        }

    def show(self, tracked: TrackedFrame, tally: Tally) -> None:
        age = 1000 * tally.ages[-1] if tally.ages else 0.0
        self._bar.update(
            self._tasks[tracked.frame.stream],
            advance=1,
            fps=tally.fps,
            people=len(tracked.tracks),
            age=age,
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
        TextColumn("{task.fields[people]} people · {task.fields[age]:.0f} ms old"),
    )
