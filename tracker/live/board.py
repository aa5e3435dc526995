"""What is known now of every stream, for whoever wants to look: the page, programs, Prometheus."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from tracker.live.tally import Tally
from tracker.skeleton import COCO17, Skeleton
from tracker.sources.feed import Feed
from tracker.sources.health import StreamState
from tracker.types import Track, TrackedFrame

_ALIVE = 10.0
"""A run whose loop has not come round for so long (s) hangs."""

Json = dict[str, object]


class Board:
    """The newest results of a run; written by the run, read by the threads of the web."""

    def __init__(
        self, feeds: Sequence[Feed], tallies: Mapping[str, Tally], skeleton: Skeleton = COCO17
    ) -> None:
        self.skeleton = skeleton
        self.feeds = {feed.stream: feed for feed in feeds}
        self.tallies = tallies
        self._newest: dict[str, TrackedFrame] = {}
        self._beat = time.monotonic()

    def show(self, tracked: TrackedFrame | None) -> None:
        """Put up a result, and note that the run goes on."""
        if tracked is not None:
            self._newest[tracked.frame.stream] = tracked
        self._beat = time.monotonic()

    def newest(self, stream: str) -> TrackedFrame | None:
        """The newest result of a stream; None while there is none."""
        return self._newest.get(stream)

    @property
    def alive(self) -> bool:
        """Whether the run comes round."""
        return time.monotonic() - self._beat < _ALIVE

    def health(self) -> list[Json]:
        """How each stream is, as JSON."""
        return [self._stream_health(name, feed) for name, feed in self.feeds.items()]

    def summary(self) -> Json:
        """Of `/healthz`: ok while all streams live (or came to their end), else what is wrong."""
        states = {name: feed.health.now for name, feed in self.feeds.items()}
        fine = {StreamState.LIVE, StreamState.ENDED}
        if not self.alive:
            status = "hangs"
        elif not fine & set(states.values()):
            status = "down"
        else:
            status = "ok" if set(states.values()) <= fine else "degraded"
        return {"status": status, "streams": {name: str(state) for name, state in states.items()}}

    def tracks(self, tracked: TrackedFrame) -> Json:
        """A result as JSON."""
        frame = tracked.frame
        return {
            "stream": frame.stream,
            "frame": frame.index,
            "time": round(frame.time, 6),
            "captured": frame.utc,
            "size": [frame.image.shape[1], frame.image.shape[0]],
            "keypoint_names": self.skeleton.keypoint_names,
            "people": [_person(track) for track in tracked.tracks],
        }

    def _stream_health(self, name: str, feed: Feed) -> Json:
        health, tally = feed.health, self.tallies[name]
        newest = self._newest.get(name)
        silence = health.silence
        return {
            "stream": name,
            "source": feed.name,
            "state": health.now,
            "trouble": health.trouble if health.state is not StreamState.LIVE else "",
            "silent": round(silence, 2) if np.isfinite(silence) else None,
            "people": 0 if newest is None else len(newest.tracks),
            "input_fps": round(health.fps, 1),
            "output_fps": round(tally.fps, 1),
            "age_ms": {p: round(1000 * age, 1) for p, age in tally.age_percentiles().items()},
            "max_latency_ms": 1000 * tally.max_latency,
            "received": health.received,
            "processed": tally.frames,
            "dropped": health.dropped,
            "duplicates": health.duplicates,
            "damaged": health.damaged,
            "late": health.late,
            "reconnects": health.reconnects,
            "size": health.size,
            "codec": health.codec,
        }


def _person(track: Track) -> Json:
    cov = track.keypoint_cov
    return {
        "id": track.id,
        "status": track.status,
        "existence": round(track.existence, 4),
        "hypotheses": len(track.state),
        "weight": round(track.weight, 4),
        "box": _rounded(track.box, 1),
        "keypoints": _rounded(track.keypoints, 2),
        "velocity": _rounded(track.velocity, 2),
        "cov": _rounded(np.stack([cov[:, 0, 0], cov[:, 0, 1], cov[:, 1, 1]], axis=-1), 3),
        "visible": _rounded(track.visible, 3),
    }


def _rounded(values: np.ndarray, digits: int) -> list[object]:
    return np.round(values, digits).tolist()
