"""Is all that a killed writer of tables said it had written there?"""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.live.stage import Json, Stage
from tracker.sinks.records import read_records
from tracker.tracks import MultiTracker
from tracker.types import Detection, Frame, Mixture, PoseMixture, TrackedFrame


def crashes(stage: Stage) -> Json:
    """Kill a writer at random moments; is everything there that it said it had written?"""
    folder = stage.folder / "tables"
    folder.mkdir()
    lost, told_rows, files = 0, 0, set[Path]()
    for _ in range(stage.scale.crashes):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(folder / "people.csv")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.3 * stage.rng.random())
        writer.send_signal(signal.SIGKILL)
        told = writer.stdout.read().split()
        writer.stdout.close()
        writer.wait()
        new = set(folder.iterdir()) - files
        files |= new
        there = [r for path in sorted(new) for r in read_records(path)]
        last = int(told[-1]) if told else 0
        told_rows += 17 * (last + 1)
        lost += sum(sum(r.frame == k for r in there) != 17 for k in {0, last // 2, last})
    readable = all(read_records(path) or True for path in files)
    return {
        "kills": stage.scale.crashes,
        "rows told": told_rows,
        "frames lost": lost,
        "files": len(files),
        "older files readable": readable,
    }


_WRITER = """
import sys
sys.path.insert(0, ".")
from pathlib import Path
from benchmarks.live.crashes import one_person
from tracker.sinks.records import RecordWriter
from tracker.sinks.rolling import Roll, Rolling
writer = Rolling(Path(sys.argv[1]), RecordWriter, Roll(size=100_000))
for frame in range(10**9):
    writer.write(one_person(frame))
    print(frame, flush=True)
"""


def one_person(index: int) -> TrackedFrame:
    """A result with one person in it."""
    global _PERSON
    if _PERSON is None:
        people, rng = MultiTracker(), np.random.default_rng(0)
        xy = rng.uniform(50, 200, (17, 2))
        box = np.array([40.0, 40, 210, 210])
        mixture = Mixture(xy.reshape(1, 34), 4.0 * np.eye(34)[None], np.zeros(1))
        for k in range(5):
            pose = PoseMixture(Detection(box, 0.9), mixture, np.full(17, 0.9))
            _PERSON = people.update([pose], k / 25)
    image = np.zeros((8, 8, 3), np.uint8)
    return TrackedFrame(Frame(image, index, index / 25), _PERSON)


_PERSON: Any = None
