"""How long the stages of a frame take; costs next to nothing while nobody measures."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

Laps = dict[str, list[float]]
"""For each stage what every pass took, s."""

_laps: Laps | None = None


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time what is done inside, if somebody measures."""
    laps = _laps
    if laps is None:
        yield
        return
    start = time.perf_counter()
    try:
        yield
    finally:
        laps[name].append(time.perf_counter() - start)


@contextmanager
def measured() -> Iterator[Laps]:
    """Measure all stages of this process, on whatever thread they run."""
    global _laps  # one measurement at a time
    before, _laps = _laps, defaultdict(list)
    try:
        yield _laps
    finally:
        _laps = before
