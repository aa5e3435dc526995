"""Real clips, looked at once by our networks; what they said is shown to all trackers."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rich.progress import track as progress

from benchmarks.tracking import frozen, ours
from benchmarks.tracking.frozen import Detections
from benchmarks.tracking.ladder import RUNGS, Rise, Rung, our_tracker, score, sum_up, tune
from benchmarks.tracking.motion import SHARED
from benchmarks.tracking.simulator import Person
from tracker import weights
from tracker.detector import Detector
from tracker.evaluation.files import read_mot
from tracker.pipeline import REAL_ERRORS
from tracker.pose import PoseNet
from tracker.sources import open_source
from tracker.types import Detection, PoseMixture

VIDEO = SHARED / "data/video"
CAMPUS_FPS, J = 25.0, 17
SHIPPED = replace(ours.DEFAULT, noise=REAL_ERRORS)
"""What a user of the networks gets."""
_LAGS = {"": 0, ", lag 2": 2, ", lag 5": 5, ", whole life": 10_000}
_RUNGS = RUNGS | {
    f"as shipped{name}": Rung(our_tracker(replace(SHIPPED, lag=lag))) for name, lag in _LAGS.items()
}


def campus(store: Path) -> Detections | None:
    """TUD-Campus: 71 frames of people who walk past one another; boxes by humans."""
    folder = VIDEO / "tud_campus"
    if not folder.is_dir():
        return None
    path = store / f"tud-campus-{_networks()}.npz"
    if not path.is_file():
        detector, net = Detector.load(device="cpu"), PoseNet.load(device="cpu")
        with open_source(str(folder / "img1")) as frames:
            seen = progress(list(frames), "TUD-Campus", transient=True)
            frozen.save(path, tuple(tuple(net(frame, detector(frame))) for frame in seen))
    truth = read_mot(folder / "gt/gt.txt")
    return Detections("tud-campus", CAMPUS_FPS, frozen.load(path), truth)


def players(store: Path, *, flip_test: bool = False) -> dict[str, Person]:
    """A basketball player in two clips, 48 frames of each labelled; boxes are given."""
    clips = {}
    for name in ("unitn_out8", "unitn_out13"):
        if (VIDEO / f"{name}.mp4").is_file():
            way = ", flip test" if flip_test else ""
            path = store / f"{name}{way}-{_networks()}.npz"
            clips[name + way] = _player(name, path, flip_test)
    return clips


def climb(people: dict[str, Person], trials: int) -> list[Rise]:
    """All rungs on each clip, tuned on the other; without a spread: there are only two."""
    rises = []
    for name, someone in people.items():
        others = [other for other_name, other in people.items() if other_name != name]
        for rung_name, rung in _RUNGS.items():
            options = tune(rung, others, trials) if trials > 1 and others else {}
            told = score(rung.follow(someone, options), someone)
            rises.append(sum_up(rung_name, name, options, [told]))
    return rises


def _player(name: str, path: Path, flip_test: bool) -> Person:
    told = json.loads((VIDEO / f"{name}.json").read_text())
    at = np.array([label["video_frame"] for label in told["labels"]])
    boxes = np.array([label["bbox_xywh"] for label in told["labels"]], float)
    boxes[:, 2:] += boxes[:, :2]
    if not path.is_file():
        net = PoseNet.load(device="cpu", flip_test=flip_test)
        frozen.save(path, tuple(_looks(name, net, at, boxes)))
    poses = tuple(frame[0] for frame in frozen.load(path))
    labels = np.array([label["keypoints"] for label in told["labels"]], float)
    truth = np.full((len(poses), J, 2), np.nan)
    truth[at] = np.where(labels[..., 2:] > 0, labels[..., :2], np.nan)
    height = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1)))
    return Person(poses, truth, height, float(told["fps"]))


def _looks(
    name: str, net: PoseNet, at: Float[np.ndarray, " m"], boxes: Float[np.ndarray, "m 4"]
) -> Iterator[tuple[PoseMixture, ...]]:
    """In every frame up to the last label; boxes between labels lie between them."""
    with open_source(str(VIDEO / f"{name}.mp4")) as frames:
        for frame in frames:
            if frame.index > at[-1]:
                return
            box = np.array([np.interp(frame.index, at, column) for column in boxes.T])
            yield tuple(net(frame, [Detection(box, 1.0)]))


def _networks() -> str:
    """Which weights looked: what was stored is of no use for others."""
    files = [weights.find(kind, "nano").path for kind in ("detector", "pose")]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]
