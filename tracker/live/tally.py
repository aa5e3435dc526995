"""What came out of one stream so far: how much, how fast, how late."""

import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from tracker.sources.health import Health
from tracker.types import TrackedFrame

_RECENT = 500
"""Frames over which ages are summed up."""


@dataclass(eq=False)
class Tally:
    """Counts of results."""

    health: Health = field(default_factory=Health)
    """Of the source."""
    max_latency: float = float("inf")
    """Results that are older, s, are late."""
    frames: int = 0
    track_ids: set[int] = field(default_factory=set)
    first_index: int = 0
    last_index: int = -1
    started: float = field(default_factory=time.perf_counter)
    ended: float = field(default_factory=time.perf_counter)
    ages: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    """From capture to the result, of the latest frames, s."""
    ends: deque[float] = field(default_factory=lambda: deque(maxlen=30))
    complaint: str | None = None
    """What is wrong with the error bars, if anything."""

    def add(self, tracked: TrackedFrame) -> None:
        """Count a result that is written now."""
        if self.frames == 0:
            self.first_index = tracked.frame.index
        self.frames += 1
        self.track_ids.update(track.id for track in tracked.tracks)
        self.last_index = tracked.frame.index
        self.ended = time.perf_counter()
        self.ends.append(self.ended)
        if tracked.frame.captured is not None:
            self.ages.append(time.time() - tracked.frame.captured)
            self.health.late += self.ages[-1] > self.max_latency

    @property
    def dropped(self) -> int:
        """Frames of the stream that were passed over to keep up with it."""
        return self.last_index - self.first_index + 1 - self.frames

    @property
    def fps(self) -> float:
        """Results a second, of late."""
        ends = list(self.ends)
        if len(ends) < 2 or time.perf_counter() - ends[-1] > 2.0:
            return 0.0
        return (len(ends) - 1) / max(ends[-1] - ends[0], 1e-9)

    def age_percentiles(self) -> dict[str, float]:
        """Of the latest results, s; empty for a recording."""
        ages = list(self.ages)
        if not ages:
            return {}
        return {f"p{p}": float(np.percentile(ages, p)) for p in (50, 95, 99)}

    def __str__(self) -> str:
        rate = self.frames / max(self.ended - self.started, 1e-9)
        people = _count(len(self.track_ids), "person", "people")
        frames = _count(self.frames, "frame", "frames")
        text = f"{frames}, {people}, {rate:.1f} FPS, {self.dropped} dropped"
        if ages := self.age_percentiles():
            health = self.health
            text += f", {health.duplicates} duplicate, {health.late} late"
            text += f", {_count(health.reconnects, 'reconnection', 'reconnections')}, "
            text += "age " + "/".join(f"{1000 * age:.0f}" for age in ages.values())
            text += " ms (p50/p95/p99)"
        return text if self.complaint is None else f"{text}\nwarning: {self.complaint}"


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
