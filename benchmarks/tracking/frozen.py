"""Detections that are made once and shown to every tracker alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tracker.evaluation.people import People
from tracker.types import Detection, Mixture, PoseMixture


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """All poses of a scene, frame by frame, and its truth."""

    name: str
    fps: float
    poses: tuple[tuple[PoseMixture, ...], ...]
    truth: Mapping[int, People]

    def for_peers(self) -> dict[str, Float[np.ndarray, "..."]]:
        """What trackers of boxes and points can take of it, one row a detection."""
        rows = [(f, pose) for f, poses in enumerate(self.poses) for pose in poses]
        return {
            "frames": np.array(len(self.poses), float),
            "fps": np.array(self.fps),
            "frame": np.array([f for f, _ in rows], float),
            "box": np.array([_box(p) for _, p in rows]).reshape(-1, 4),
            "score": np.array([p.detection.score for _, p in rows]),
            "keypoints": np.array([p.keypoints for _, p in rows]).reshape(-1, 17, 2),
            "visible": np.array([p.visible for _, p in rows]).reshape(-1, 17),
        }

    def people(self, frame: Float[np.ndarray, " n"], ids: Float[np.ndarray, " n"],
               row: Float[np.ndarray, " n"]) -> dict[int, People]:  # fmt: skip
        """A peer's answer: which detection belongs to which of its tracks."""
        given = self.for_peers()
        at = row.astype(int)
        return {
            f: People(ids[frame == f].astype(int), given["box"][at[frame == f]],
                      given["keypoints"][at[frame == f]])
            for f in np.unique(frame.astype(int))
        }  # fmt: skip


def _box(pose: PoseMixture) -> Float[np.ndarray, "4"]:
    return pose.detection.box


def save(path: Path, poses: tuple[tuple[PoseMixture, ...], ...]) -> None:
    """Store poses; all of one network, so that they have the same number of hypotheses."""
    rows = [(f, pose) for f, frame in enumerate(poses) for pose in frame]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        frames=len(poses),
        frame=[f for f, _ in rows],
        box=[p.detection.box for _, p in rows],
        score=[p.detection.score for _, p in rows],
        visible=[p.visible for _, p in rows],
        mean=[p.mixture.mean for _, p in rows],
        cov=[p.mixture.cov for _, p in rows],
        log_weight=[p.mixture.log_weight for _, p in rows],
    )


def load(path: Path) -> tuple[tuple[PoseMixture, ...], ...]:
    with np.load(path) as stored:
        data = {name: stored[name] for name in stored.files}
    frames: list[list[PoseMixture]] = [[] for _ in range(int(data["frames"]))]
    for i, frame in enumerate(data["frame"]):
        frames[frame].append(
            PoseMixture(
                Detection(data["box"][i], float(data["score"][i])),
                Mixture(data["mean"][i], data["cov"][i], data["log_weight"][i]),
                data["visible"][i],
            )
        )
    return tuple(map(tuple, frames))
