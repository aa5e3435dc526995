"""How old results are, beside a plain OpenCV loop and Ultralytics' LoadStreams."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.live.cameras import moment_in
from benchmarks.live.stage import MAX_LATENCY, Json, Stage, free_ports, percentiles
from tracker.live.tally import Tally
from tracker.sources import open_source
from tracker.sources.base import LiveConfig
from tracker.sources.feed import feed


def ages(stage: Stage, python: Path | None) -> Json:
    """Ages at 25 frames/s, for a reader who keeps up (10 ms a frame) and one who cannot (120)."""
    readers: dict[str, Callable[[str, float], Json]] = {
        "ours": partial(_our_ages, stage, max_latency=MAX_LATENCY),
        "ours, all frames": partial(_our_ages, stage, buffer="all"),
        "cv2.VideoCapture": partial(_cv2_ages, stage),
    }
    if python is not None:
        readers["ultralytics LoadStreams"] = partial(_ultralytics_ages, stage, python)
    results: Json = {"max_latency_s": MAX_LATENCY}
    for work in (0.01, 0.12):
        results[f"{1000 * work:.0f} ms a frame"] = {}
        for name, read in readers.items():
            (port,) = free_ports(1)
            with stage.cameras(25, [port]).listen() as cameras:
                results[f"{1000 * work:.0f} ms a frame"][name] = read(cameras.urls[0], work)
    return results


def _our_ages(
    stage: Stage, url: str, work: float, max_latency: float = 1e9, buffer: Any = None
) -> Json:
    tally = Tally(max_latency=max_latency)
    true, moments = list[float](), list[float]()
    with feed(open_source(url, config=LiveConfig(buffer, max_latency))) as source:
        end = None
        for frame in source:
            end = time.monotonic() + stage.scale.age_seconds if end is None else end
            time.sleep(work)
            true.append(stage.age(frame))
            moments.append(moment_in(frame.image))
            assert frame.captured is not None
            tally.ages.append(time.time() - frame.captured)
            if time.monotonic() > end:
                break
        health = source.health
    return {
        **_age_record(true, moments),
        "age_s_as_told": tally.age_percentiles(),
        "received": health.received,
        "dropped": health.dropped,
    }


def _cv2_ages(stage: Stage, url: str, work: float) -> Json:
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;tcp"
    capture = cv2.VideoCapture(url)
    true, moments = list[float](), list[float]()
    end = time.monotonic() + stage.scale.age_seconds
    while time.monotonic() < end:
        ok, image = capture.read()
        if not ok:
            break
        moment = moment_in(image[..., ::-1])
        time.sleep(work)
        true.append(time.monotonic() - stage.start - moment)
        moments.append(moment)
    capture.release()
    return {"version": cv2.__version__, **_age_record(true, moments)}


def _ultralytics_ages(stage: Stage, python: Path, url: str, work: float) -> Json:
    script = str(Path(__file__).with_name("loadstreams.py"))
    root = str(Path(__file__).parents[2])
    arguments = [url, str(stage.start), str(stage.scale.age_seconds), str(work)]
    done = subprocess.run(
        [str(python), script, *arguments],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120 + stage.scale.age_seconds,
    )
    if done.returncode:
        return {"failed": done.stderr[-300:]}
    told = json.loads(done.stdout.splitlines()[-1])
    return {"version": told["version"], **_age_record(told["ages"], told["moments"])}


def _age_record(ages: Sequence[float], moments: Sequence[float]) -> Json:
    n = len(ages)
    return {
        "frames": n,
        "shown_again": sum(b == a for a, b in pairwise(moments)),
        "age_s": percentiles(ages),
        "age_s_at_the_end": float(np.median(ages[-max(1, n // 10) :])) if n else None,
    }
