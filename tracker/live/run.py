"""A run: frames of all streams in, tracks followed, outputs written, results counted."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing

from tracker.ahead import ahead
from tracker.errors import SourceError, TrackerError
from tracker.live.streams import StreamsTracker
from tracker.live.tally import Tally
from tracker.signals import signals_wait
from tracker.sinks.base import Sink
from tracker.sources.feed import Gathering
from tracker.types import Frame, TrackedFrame


def run(
    gathering: Gathering,
    follow: StreamsTracker,
    sinks: Mapping[str, Sequence[Sink]],
    tallies: Mapping[str, Tally],
    *,
    max_frames: int | None = None,
) -> Generator[TrackedFrame | None]:
    """Give each result after it is written to its stream's outputs; None while nothing comes.

    Raises:
        SourceError: at the end, if a stream was given up; the others have gone on.
    """
    for tracked in _results(gathering, follow):
        if tracked is not None:
            with signals_wait():
                for sink in sinks[tracked.frame.stream]:
                    sink.write(tracked)
            tallies[tracked.frame.stream].add(tracked)
        yield tracked
        if sum(tally.frames for tally in tallies.values()) == max_frames:
            return
    if gathering.failed:
        raise SourceError("; ".join(map(str, gathering.failed.values())))


def _results(gathering: Gathering, follow: StreamsTracker) -> Generator[TrackedFrame | None]:
    """Frames are followed while the results of the last round are written."""

    def take_in(frames: Sequence[Frame]) -> Sequence[TrackedFrame | None]:
        return follow(frames) if frames else [None]

    try:
        with closing(ahead(gathering, take_in)) as rounds:
            for results in rounds:
                yield from results
    except (TrackerError, KeyboardInterrupt):
        yield from follow.rest()
        raise
    yield from follow.rest()
