"""Outputs of a run that goes on for weeks: a new file every so often, each whole in itself."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from time import monotonic

from tracker.errors import SinkError
from tracker.sinks.base import Sink
from tracker.types import TrackedFrame

_UNITS = {
    "s": ("seconds", 1.0),
    "min": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "d": ("seconds", 86_400.0),
    "KB": ("size", 1e3),
    "MB": ("size", 1e6),
    "GB": ("size", 1e9),
}


@dataclass(frozen=True, slots=True)
class Roll:
    """When a file is full."""

    seconds: float = inf
    size: float = inf
    """Bytes."""

    @classmethod
    def parse(cls, text: str) -> "Roll":
        """From `1h`, `30min`, `1d`, `500MB` and the like.

        Raises:
            SinkError: it is none of these.
        """
        found = re.fullmatch(r"([0-9.]+) ?([a-zA-Z]+)", text)
        try:
            limit, factor = _UNITS[found[2]] if found else _UNITS[""]
            amount = float(found[1]) * factor if found else 0.0
        except (KeyError, ValueError):
            amount = 0.0
        if amount <= 0:
            raise SinkError(
                f"--roll takes a time or a size ({', '.join(f'1{unit}' for unit in _UNITS)}), "
                f"got {text}"
            )
        return cls(**{limit: amount})


class Rolling(Sink):
    """Writes one file after another: `people.csv` is `people-20261124T184500Z.csv`, and so on.

    The time in a name is UTC, that of opening. No file is ever replaced, also not after a restart.
    """

    def __init__(self, path: Path, make: Callable[[Path], Sink], roll: Roll) -> None:
        self.path = path
        self._make = make
        self._roll = roll
        self._open()

    def write(self, tracked: TrackedFrame) -> None:
        if self._full():
            self.close()
            self._open()
        self._sink.write(tracked)

    def close(self) -> None:
        self._sink.close()

    def _open(self) -> None:
        self._file = _unused(self.path, datetime.now(UTC))
        self._sink = self._make(self._file)
        self._opened = monotonic()

    def _full(self) -> bool:
        if monotonic() - self._opened >= self._roll.seconds:
            return True
        try:
            return self._file.stat().st_size >= self._roll.size
        except OSError:
            return True  # somebody has moved it away: go on in a new one


def _unused(path: Path, now: datetime) -> Path:
    stem = f"{path.stem}-{now:%Y%m%dT%H%M%SZ}"
    names = (f"{stem}{f'-{n}' if n else ''}{path.suffix}" for n in range(10**6))
    return next(p for p in map(path.with_name, names) if not p.exists())
