"""How a stream is: what came, what was lost on the way, and why it is silent."""

import time
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

_STALLED = 1.0
"""A connected stream without a picture for so long is stalled, s."""


class StreamState(StrEnum):
    CONNECTING = "connecting"
    LIVE = "live"
    STALLED = "stalled"
    """Connected, but no new picture comes."""
    RECONNECTING = "reconnecting"
    ENDED = "ended"
    FAILED = "failed"
    """Given up."""


@dataclass(slots=True)
class Health:
    """Counters of one stream; one thread writes them, any may read."""

    state: StreamState = StreamState.CONNECTING
    trouble: str = ""
    """Why it last broke off or could not be opened; holds no secret."""
    received: int = 0
    """New pictures that came."""
    dropped: int = 0
    """Of these, those that were passed over for a newer one or were too old to look at."""
    duplicates: int = 0
    """Pictures that showed again, bit for bit, what the one before had shown."""
    damaged: int = 0
    """Pictures that could not be decoded whole."""
    late: int = 0
    """Frames whose result came out older than the budget."""
    reconnects: int = 0
    size: tuple[int, int] | None = None
    """Width and height as they come, px."""
    codec: str = ""
    last_picture: float = float("-inf")
    """When the newest new picture came, monotonic clock, s."""
    _arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=50))

    def arrive(self, now: float) -> None:
        """A new picture is here."""
        self.state, self.received, self.last_picture = StreamState.LIVE, self.received + 1, now
        self._arrivals.append(now)

    @property
    def now(self) -> StreamState:
        """The state, where silence counts."""
        silent = self.state is StreamState.LIVE and self.silence > _STALLED
        return StreamState.STALLED if silent else self.state

    @property
    def silence(self) -> float:
        """For how long no new picture has come, s."""
        return time.monotonic() - self.last_picture

    @property
    def fps(self) -> float:
        """New pictures a second, of late."""
        arrivals = list(self._arrivals)
        span = time.monotonic() - arrivals[0] if arrivals else 0.0
        return len(arrivals) / span if span > 0 and self.silence < _STALLED else 0.0
