"""The door to other people's trackers: jobs go out as files, answers come back as files."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.tracking.frozen import Detections
from benchmarks.tracking.ours import Answer, Knob
from tracker.errors import TrackerError

_RUNNER = Path(__file__).with_name("peer_runner.py")


_BUFFER, _SHARE = Knob(10, 90, whole=True), Knob(0.05, 0.7)
PEERS = {
    "norfair": {
        "threshold": Knob(0.05, 0.4),
        "kind": Knob(0, 1, whole=True),
        "votes": Knob(3, 12, whole=True),
        "hit_counter_max": Knob(11, 60, whole=True),
        "initialization_delay": Knob(1, 10, whole=True),
        "R": Knob(1.0, 40.0),
        "least_score": Knob(0.0, 0.6),
    },
    "bytetrack": {
        "lost_track_buffer": _BUFFER,
        "track_activation_threshold": Knob(0.1, 0.9),
        "minimum_iou_threshold": _SHARE,
        "high_conf_det_threshold": Knob(0.3, 0.8),
        "minimum_consecutive_frames": Knob(1, 4, whole=True),
    },
    "ocsort": {
        "lost_track_buffer": Knob(10, 60, whole=True),
        "minimum_iou_threshold": Knob(0.1, 0.5),
        "minimum_consecutive_frames": Knob(2, 6, whole=True),
        "direction_consistency_weight": Knob(0.0, 0.5),
        "high_conf_det_threshold": Knob(0.2, 0.8),
        "delta_t": Knob(1, 4, whole=True),
    },
    "botsort": {
        "lost_track_buffer": _BUFFER,
        "track_activation_threshold": Knob(0.1, 0.9),
        "minimum_iou_threshold_first_assoc": _SHARE,
        "minimum_iou_threshold_second_assoc": _SHARE,
        "minimum_iou_threshold_unconfirmed_assoc": _SHARE,
        "high_conf_det_threshold": Knob(0.3, 0.8),
        "minimum_consecutive_frames": Knob(1, 4, whole=True),
    },
    "stonesoup": {
        "acceleration": Knob(0.1, 2.0),
        "place_std": Knob(0.01, 0.1),
        "gate": Knob(2.0, 6.0),
        "min_points": Knob(2, 6, whole=True),
        "patience": _BUFFER,
        "least_score": Knob(0.1, 0.6),
    },
    "ultralytics_bytetrack": {
        "track_high_thresh": Knob(0.2, 0.8),
        "track_low_thresh": Knob(0.05, 0.2),
        "new_track_thresh": Knob(0.2, 0.9),
        "track_buffer": _BUFFER,
        "match_thresh": Knob(0.5, 0.98),
    },
    "ultralytics_botsort": {
        "track_high_thresh": Knob(0.2, 0.8),
        "track_low_thresh": Knob(0.05, 0.2),
        "new_track_thresh": Knob(0.2, 0.9),
        "track_buffer": _BUFFER,
        "match_thresh": Knob(0.5, 0.98),
    },
}
"""Each peer and what may be tuned about it, within bounds like those its own tuner has."""


@dataclass(frozen=True, slots=True)
class Job:
    """One tracker, set up in one way, on one scene."""

    tracker: str
    options: dict[str, float]
    scene: str


class Peers:
    """Interpreters that have peers installed, and what each of them has."""

    def __init__(self, pythons: Sequence[Path]) -> None:
        self.found: dict[str, Path] = {}
        for python in pythons:
            for name in PEERS:
                if name not in self.found and _has(python, name):
                    self.found[name] = python

    @property
    def absent(self) -> list[str]:
        return [name for name in PEERS if name not in self.found]

    def run(self, jobs: Sequence[Job], scenes: Sequence[Detections]) -> list[Answer]:
        """All jobs of one tracker, in one process, on one core."""
        by_name = {scene.name: scene for scene in scenes}
        pythons = {self.found[job.tracker] for job in jobs}
        assert len(pythons) == 1, "jobs of one peer at a time"
        with tempfile.TemporaryDirectory() as folder:
            files = [str(Path(folder) / name) for name in ("scenes.npz", "jobs.json", "out.npz")]
            given = {s.name: s.for_peers() for s in scenes}
            np.savez(files[0], **{f"{n}/{k}": v for n, s in given.items() for k, v in s.items()})  # type: ignore[arg-type]
            Path(files[1]).write_text(json.dumps([asdict(job) for job in jobs]))
            _call([str(pythons.pop()), str(_RUNNER), *files])
            with np.load(files[2]) as stored:
                out = {name: stored[name] for name in stored.files}
        return [
            Answer(
                by_name[job.scene].people(out[f"{i}/frame"], out[f"{i}/id"], out[f"{i}/row"]),
                out[f"{i}/seconds"],
            )
            for i, job in enumerate(jobs)
        ]


_NEEDS = {
    "norfair": "import norfair",
    "stonesoup": "import stonesoup.tracker.simple",
    **dict.fromkeys(("bytetrack", "ocsort", "botsort"), "import trackers, supervision"),
    **dict.fromkeys(
        ("ultralytics_bytetrack", "ultralytics_botsort"), "import ultralytics.trackers.bot_sort"
    ),
}


def _has(python: Path, name: str) -> bool:
    try:
        done = subprocess.run([python, "-c", _NEEDS[name]], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrackerError(f"{command[0]} failed with the peers: {done.stderr.strip()[-800:]}")
