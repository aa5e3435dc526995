"""When a live picture was captured, on this machine's clocks.

A stream says when its pictures are to be shown, on a clock of its own. Here these times are mapped
to the monotonic clock of this machine by the picture that was least delayed on its way.
"""

import time
from collections import deque

_WINDOW = 10.0
"""The least delayed picture of so long (s) sets the clock: two clocks drift apart."""
_JUMP = 0.5
"""Where the two clocks step differently by more (s), the stream's own has been set anew."""
_LEAST = 1e-3
"""Between two frames, s."""


class CaptureClock:
    """Maps the presentation times of one connection to the monotonic clock."""

    def __init__(self) -> None:
        self._offsets: deque[tuple[float, float]] = deque()
        self._shown = float("-inf")

    def see(self, shown: float | None, arrived: float) -> float:
        """Take note of a packet; when its picture was captured, never later than it arrived."""
        if shown is None:
            return arrived
        if shown < self._shown - _JUMP:
            self._offsets.clear()  # the stream's clock was set back
        self._shown = shown
        offset = arrived - shown
        # Increasing offsets, the least first: a minimum over a sliding window.
        while self._offsets and self._offsets[-1][1] >= offset:
            self._offsets.pop()
        self._offsets.append((arrived, offset))
        while self._offsets[0][0] < arrived - _WINDOW:
            self._offsets.popleft()
        return self.at(shown)

    def at(self, shown: float) -> float:
        """When a picture of that presentation time was captured, by what is known now."""
        return shown + self._offsets[0][1]


class Timeline:
    """Seconds from the first frame: the stream's own steps, and the clock's across gaps."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._time = 0.0
        self._last: tuple[float | None, float] = None, 0.0

    def break_off(self) -> None:
        """The next frame is of another connection, which counts from somewhere else."""
        self._last = None, self._last[1]

    def time(self, shown: float | None, captured: float) -> float:
        """The time of a frame; later than that of the one before."""
        if self._start is None:
            self._start = captured
        else:
            before, captured_before = self._last
            by_clock = captured - captured_before
            step = None if shown is None or before is None else shown - before
            if step is None or step <= 0 or abs(step - by_clock) > _JUMP:
                # Not the sum of steps: a gap must not add to the error of those before.
                step = captured - self._start - self._time
            self._time += max(step, _LEAST)
        self._last = shown, captured
        return self._time


def unix(moment: float) -> float:
    """A moment on the monotonic clock as seconds since 1970."""
    return time.time() - (time.monotonic() - moment)
