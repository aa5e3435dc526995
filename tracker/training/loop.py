"""What both trainings share: batches made ahead, a schedule, a running average, checkpoints."""

import json
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import fmean
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from tracker.errors import TrackerError
from tracker.training.curves import draw_curves
from tracker.training.optimizer import MuonAdamW

T = TypeVar("T")
Net = TypeVar("Net", bound=nn.Module)


class TrainingError(TrackerError):
    """A training cannot start or go on."""


log = logging.getLogger("surepose.train")


@runtime_checkable
class Task(Protocol[Net]):
    """One training: its network and what a step does."""

    net: Net
    total: int
    """Samples of the whole run."""

    def batch(self, step_seed: int, seen: int) -> Any:
        """Make the batch that follows `seen` samples; runs in a thread of its own."""

    def loss(self, batch: Any, seen: int) -> dict[str, Tensor]:
        """Parts of the loss by name; their sum is minimised."""

    def learning_rate(self, seen: int) -> float: ...


class Trainer(Generic[Net]):
    """Runs a task to its end, from wherever its checkpoint stands."""

    def __init__(self, task: Task[Net], folder: Path, batch_size: int, weight_decay: float = 0.05):
        self.task = task
        self.folder = folder
        self.batch_size = batch_size
        self.average = deepcopy(task.net).eval().requires_grad_(False)
        self.optimizer = MuonAdamW(task.net, weight_decay)
        self.seen = 0
        self.step = 0
        self._bad_steps = 0

    def run(self, checkpoint_every: float = 300.0) -> Net:
        """Train to the end and return the averaged network (eval mode); Ctrl-C saves first."""
        try:
            self._run(checkpoint_every)
        except (KeyboardInterrupt, SystemExit):
            self.save()
            raise
        self.save()
        return self.average

    def _run(self, checkpoint_every: float) -> None:
        started, last_saved, since = time.monotonic(), time.monotonic(), self.seen
        recent: dict[str, list[float]] = {}
        for batch in ahead(self._batches()):
            for name, value in self._update(batch).items():
                recent.setdefault(name, []).append(value)
            if self.step % 50 == 0:
                rate = (self.seen - since) / (time.monotonic() - started)
                self._report({name: fmean(values) for name, values in recent.items()}, rate)
                recent = {}
            if time.monotonic() - last_saved > checkpoint_every:
                self.save()
                last_saved = time.monotonic()

    def save(self) -> None:
        """Write the checkpoint in one move, so that a kill never leaves half of it."""
        state = {
            "net": self.task.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": self.optimizer.state_dict(),
            "seen": self.seen,
            "step": self.step,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / "checkpoint.part"
        torch.save(state, part)
        part.rename(self.folder / "checkpoint.pt")
        if (self.folder / "log.jsonl").is_file():
            draw_curves(self.folder)

    def resume(self) -> bool:
        """Continue from the folder's checkpoint, if there is one."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return False
        state = torch.load(path, weights_only=True, map_location="cpu")
        if state["net"].keys() != self.task.net.state_dict().keys():
            raise TrainingError(f"{path} is of another network; give this one its own --out")
        if "optimizers" not in state:
            raise TrainingError(
                f"{path} was trained by an older version, by AdamW alone: give this training its "
                "own --out, and --start-from for where to begin"
            )
        self.task.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizers"])
        self.seen, self.step = state["seen"], state["step"]
        return True

    def _batches(self) -> Iterator[Any]:
        step, seen = self.step, self.seen
        while seen < self.task.total:
            yield self.task.batch(step, seen)
            step, seen = step + 1, seen + self.batch_size

    def _update(self, batch: Any) -> dict[str, float]:
        rate = self.task.learning_rate(self.seen)
        self.task.net.train()
        parts = self.task.loss(batch, self.seen)
        loss = torch.stack(list(parts.values())).sum()
        self.task.net.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.task.net.parameters(), 5.0)
        self._bear(bool(torch.isfinite(norm)))
        if torch.isfinite(norm):
            self.optimizer.step(rate * min(1.0, (self.step + 1) / 300))
        self.step += 1
        self.seen += self.batch_size
        self._follow()
        return {name: float(value.detach()) for name, value in parts.items()}

    def _bear(self, finite: bool) -> None:
        """Leave out a step that cannot be computed; many in a row are a mistake."""
        self._bad_steps = 0 if finite else self._bad_steps + 1
        if not finite:
            log.warning("step %d left out: its gradient is not finite", self.step)
        if self._bad_steps >= 10:
            raise TrainingError(
                f"ten steps in a row without a finite gradient, the last at {self.seen} samples; "
                f"the last checkpoint in {self.folder} is kept: try a smaller learning rate"
            )

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the running average: short-sighted at first, then over a thousand steps."""
        decay = min(0.999, (1 + self.step) / (10 + self.step))
        own = self.task.net.state_dict()
        for name, value in self.average.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(own[name], 1 - decay)
            else:
                value.copy_(own[name])

    def _report(self, parts: dict[str, float], rate: float) -> None:
        row = {"seen": self.seen, "per_s": round(rate, 1)}
        row |= {name: round(value, 4) for name, value in parts.items()}
        log.info(" ".join(f"{name}={value}" for name, value in row.items()))
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def ahead(items: Iterator[T], depth: int = 3) -> Iterator[T]:
    """Make items in a thread while the caller works on earlier ones; errors reach the caller."""
    ready: queue.Queue[Callable[[], T] | None] = queue.Queue(depth)

    def give(item: T) -> Callable[[], T]:
        return lambda: item

    def work() -> None:
        try:
            for item in items:
                ready.put(give(item))
            ready.put(None)
        except BaseException as error:
            ready.put(_raiser(error))

    threading.Thread(target=work, daemon=True).start()
    while (item := ready.get()) is not None:
        yield item()


def _raiser(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def stage_after(seen: int, stages: Sequence[T], length: Callable[[T], int]) -> tuple[T, float]:
    """The stage that a run is in after so many samples, and the progress within it."""
    for stage in stages:
        if seen < length(stage):
            return stage, seen / length(stage)
        seen -= length(stage)
    return stages[-1], 1.0


def channels_last(net: Net) -> Net:
    """Lay the convolutions out as CPUs and tensor cores read them."""
    for parameter in net.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return net


def cosine(progress: float, start: float, end: float) -> float:
    """From start to end along half a cosine, progress in [0, 1]."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
