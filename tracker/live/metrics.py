"""A run for Prometheus: everything is read off the board when it is asked for."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tracker.live.board import Board
from tracker.sources.health import StreamState

_COUNTERS = {
    "received": "New pictures that came",
    "processed": "Frames whose people were followed",
    "dropped": "Pictures passed over for a newer one, or too old",
    "duplicates": "Pictures that showed the one before again",
    "damaged": "Pictures that could not be decoded whole",
    "late": "Results older than --max-latency",
    "reconnects": "Connections made anew",
}
_GAUGES = {
    "people": "Tracks in the newest frame",
    "input_fps": "New pictures a second",
    "output_fps": "Results a second",
}


class _BoardCollector(Collector):
    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        streams = self._board.health()
        for name, text in _COUNTERS.items():
            yield _family(CounterMetricFamily, name, text, streams)
        for name, text in _GAUGES.items():
            yield _family(GaugeMetricFamily, name, text, streams)
        up = GaugeMetricFamily("surepose_stream_up", "1 while pictures come", labels=["stream"])
        age = GaugeMetricFamily(
            "surepose_age_seconds",
            "From capture to the result, of the latest frames",
            labels=["stream", "quantile"],
        )
        for stream in streams:
            name = str(stream["stream"])
            up.add_metric([name], float(stream["state"] is StreamState.LIVE))
            for percentile, seconds in self._board.tallies[name].age_percentiles().items():
                age.add_metric([name, f"0.{percentile[1:]}"], seconds)
        yield up
        yield age


class Metrics:
    """The text that Prometheus reads."""

    def __init__(self, board: Board) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_BoardCollector(board))
        ProcessCollector(registry=self._registry)

    def __call__(self) -> bytes:
        return generate_latest(self._registry)


def _family(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
    name: str,
    text: str,
    streams: list[dict[str, object]],
) -> Metric:
    family = kind(f"surepose_{name}", text, labels=["stream"])
    for stream in streams:
        family.add_metric([str(stream["stream"])], float(str(stream[name])))
    return family
