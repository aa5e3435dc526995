"""Do live streams stay live: when cameras die, when there are many, when the machine is slow?

    python -m benchmarks.live --json OUT [--quick] [--ultralytics PYTHON] [--gstreamer PYTHON]

Cameras are RTSP servers on loopback in processes of their own, killed by SIGKILL. Their pictures
carry the moment at which they were drawn, so ages are true ones: from drawing to the result,
encoding and network included. Parts:

- kills: a camera is killed and started again; how soon are there new frames, do people keep their
  numbers? Poses come from the truth of the drawn scene, with noise, so that a lost number is a
  fault of capture or tracker, not of a network. With --gstreamer the same with GStreamer's server
  (an interpreter that has its bindings, /usr/bin/python3 on Debian), without people.
- faults: what each kind of sick server leads to.
- streams: several cameras, one stalls; what rate do the others keep, and how old are the results?
  With the real networks, and with poses of the truth at a higher rate. True ages hold the frame
  that FFmpeg's parser waits for, half a second at 2 frames a second; told ones do not.
- ages: when the reader keeps up and when it cannot, beside a plain OpenCV loop and Ultralytics'
  LoadStreams (--ultralytics, an interpreter that has it). The reader's work is a sleep, the same
  for all: it stands for a network on a device of its own.
- crashes: a writer of tables is killed by SIGKILL at random moments.
- soak: memory, handles and threads over many frames, with synthetic pictures, poses of the truth
  and a connection that breaks off now and then: it covers capture, tracker, tables and counters,
  not the networks, FFmpeg or the web.
"""

import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import tyro

from benchmarks.environment import environment
from benchmarks.live.ages import ages
from benchmarks.live.crashes import crashes
from benchmarks.live.faults import faults
from benchmarks.live.kills import foreign_kills, kills
from benchmarks.live.soak import soak
from benchmarks.live.stage import QUICK, Json, Scale, Stage
from benchmarks.live.streams import streams


def main(
    json: Path | None = None,
    quick: bool = False,
    ultralytics: Path | None = None,
    gstreamer: Path | None = None,
    only: tuple[str, ...] = (),
    seed: int = 0,
) -> None:
    """Run all parts, print and store what they gave.

    Args:
        json: Store the result here; parts that are not run are kept.
        quick: Less of everything, under a minute.
        ultralytics: An interpreter that has ultralytics.
        gstreamer: An interpreter that has GStreamer's RTSP server.
        only: These parts only.
        seed: Of pauses and moments of killing.
    """
    scale, rng = QUICK if quick else Scale(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), scale, rng)
        parts: dict[str, Callable[[], object]] = {
            "kills": partial(kills, stage),
            "foreign_kills": partial(foreign_kills, stage, gstreamer),
            "faults": faults,
            "streams": partial(streams, stage),
            "ages": partial(ages, stage, ultralytics),
            "crashes": partial(crashes, stage),
            "soak": partial(soak, stage),
        }
        for name in only or parts:
            started, load = time.monotonic(), os.getloadavg()[0]
            result = parts[name]()
            record = {"result": result, "load": load, "seconds": time.monotonic() - started}
            print(name, _pretty(record))
            if json is not None:
                _store(json, name, record, seed, quick)


def _pretty(record: Json) -> str:
    return json.dumps(record, indent=1, default=float)[:3000]


def _store(path: Path, name: str, record: Json, seed: int, quick: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    known[name] = {**record, "seed": seed, "quick": quick, **environment()}
    path.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
