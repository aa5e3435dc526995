"""Several cameras, one stalls: what rate do the others keep, and how old are the results?"""

import time

import numpy as np

from benchmarks.live.stage import MAX_LATENCY, Json, Stage, free_ports, percentiles
from tracker.live.streams import StreamsTracker
from tracker.pipeline import PoseTracker
from tracker.sources import open_source
from tracker.sources.base import LiveConfig
from tracker.sources.feed import Gathering, feed


def streams(stage: Stage) -> Json:
    """Several cameras, one stalls: with the real networks, and with poses of the truth."""
    net, fps = stage.truth(), stage.scale.stream_fps
    return {
        "real networks": _streams(stage, PoseTracker.load(detect_every=5), fps),
        "poses of the truth": _streams(stage, PoseTracker(net.detect, net.look), 2.5 * fps),
    }


def _streams(stage: Stage, first: PoseTracker, fps: float) -> Json:
    """Rates of all streams while all are well, and while the first stalls."""
    scale, follow = stage.scale, StreamsTracker(first)
    ports = free_ports(scale.streams)
    rates: dict[str, list[float]] = {}
    with stage.cameras(fps, ports).listen() as cameras:
        config = LiveConfig(max_latency=MAX_LATENCY, wait=False)
        feeds = [feed(open_source(url, config=config)) for url in cameras.urls]
        for k, each in enumerate(feeds):
            each.stream = f"camera {k}"
        counts = dict.fromkeys((each.stream for each in feeds), 0)
        true, told = list[float](), list[float]()
        with Gathering(feeds) as together:
            rounds = iter(together)
            for each in feeds:
                follow([next(iter(each))])  # all are there, and the networks are warm
            for phase in ("all well", "one stalled"):
                if phase == "one stalled":
                    cameras.tell(f"stall {ports[0]}")
                    time.sleep(0.5)
                counts = dict.fromkeys(counts, 0)
                began = time.monotonic()
                while time.monotonic() - began < scale.stream_seconds:
                    frames = next(rounds)
                    for tracked in follow(frames) if frames else ():
                        counts[tracked.frame.stream] += 1
                        true.append(stage.age(tracked.frame))
                        assert tracked.frame.captured is not None
                        told.append(time.time() - tracked.frame.captured)
                spent = time.monotonic() - began
                rates[phase] = [n / spent for n in counts.values()]
    others = [b / a for a, b in zip(*rates.values(), strict=True)][1:]
    return {
        "cameras": scale.streams,
        "fps": fps,
        "size": "320 x 240",
        "rates": rates,
        "kept_of_their_rate_least": min(others),
        "kept_of_their_rate_mean": float(np.mean(others)),
        "share_of_the_cameras_rate": float(np.mean(rates["one stalled"][1:]) / fps),
        "dropped": sum(each.health.dropped for each in feeds),
        "age_s": percentiles(true),
        "age_s_as_told": percentiles(told),
        "max_latency_s": MAX_LATENCY,
        "late": sum(age > MAX_LATENCY for age in told) / len(told),
    }
