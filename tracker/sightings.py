"""The poses of one frame: each person once, what they measure, and the boxes around them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from tracker.association import LEAST_VISIBLE, keypoint_overlap
from tracker.doubles import agreeing
from tracker.geometry import overlapping
from tracker.life import LifeConfig
from tracker.motion import body_height
from tracker.noise import Measurements, NoiseConfig, measure
from tracker.parts import Parts
from tracker.skeleton import Skeleton
from tracker.types import Detection, PoseMixture

BOX_MARGIN = np.array([-0.06, -0.09, 0.06, 0.10])
"""From the box of the keypoints to the box of the person, in parts of its long side.

The top of the head is above the eyes, the soles below the ankles: medians over COCO and full-body
photographs with human boxes."""

BOX_GAIN = 0.3
"""Share of a new box that is believed in one frame, if all of the person is visible."""


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """The poses that say something, best seen first."""

    poses: tuple[PoseMixture, ...]
    keypoints: Float[np.ndarray, "N J 2"]
    visible: Float[np.ndarray, "N J"]
    box: Float[np.ndarray, "N 4"]
    measurements: Measurements

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def detections(self) -> list[Detection]:
        return [pose.detection for pose in self.poses]

    def select(self, index: Sequence[int]) -> "Sightings":
        """Some of the poses."""
        n = np.array(index, dtype=int)
        return Sightings(
            tuple(self.poses[i] for i in index),
            self.keypoints[n],
            self.visible[n],
            self.box[n],
            self.measurements.select(n),
        )


def sight(
    poses: Sequence[PoseMixture],
    life: LifeConfig,
    noise: NoiseConfig,
    rho: float,
    parts: Parts,
    skeleton: Skeleton,
) -> Sightings | None:
    """The poses that say something, each person once: the better seen of two alike."""
    if not poses:
        return None
    visible = np.array([pose.visible for pose in poses])
    score = visible.mean(axis=1)
    order = np.argsort(-score, kind="stable")
    order = order[score[order] >= life.least_score]
    if not len(order):
        return None
    good, visible = [poses[i] for i in order], visible[order]
    keypoints = np.array([pose.keypoints for pose in good])
    z, box = measure(good, noise, rho, parts), person_box(keypoints, visible)
    place = np.arange(len(good))
    touching = overlapping(box) & (place < place[:, None])  # each with those seen better
    alike = keypoint_overlap(skeleton, keypoints, keypoints, box, touching) > life.same_oks
    alike |= agreeing(good, touching, life.same_region)
    kept: list[int] = []
    for i in np.flatnonzero(z.measured.sum(axis=(1, 2)) >= 2 * life.least_keypoints).tolist():
        double = next((k for k in alike[i].nonzero()[0].tolist() if k in kept), None)
        if double is None:
            kept.append(i)
        elif good[double].detection.track_id is not None:
            # Looked for where a track expected it, and found by the detector all the same.
            good[double] = replace(good[double], detection=good[i].detection)
    people = Sightings(tuple(good), keypoints, visible, box, z)
    return people if len(kept) == len(good) else people.select(kept) if kept else None


def person_box(
    keypoints: Float[np.ndarray, "*batch J 2"], visible: Float[np.ndarray, "*batch J"]
) -> Float[np.ndarray, "*batch 4"]:
    """The box that a detector would draw around a person with these keypoints."""
    seen = visible >= LEAST_VISIBLE
    # Keypoints out of sight, say behind a desk, would draw the box after them.
    shown = (seen | (seen.sum(axis=-1, keepdims=True) < 3))[..., None, :]
    xy = np.ascontiguousarray(keypoints.mT)
    low = np.where(shown, xy, np.inf).min(axis=-1)
    high = np.where(shown, xy, -np.inf).max(axis=-1)
    box = np.concatenate([low, high], axis=-1)
    return box + BOX_MARGIN * body_height(box)[..., None]


def seen_box(
    box: Float[np.ndarray, "n 4"],
    keypoints: Float[np.ndarray, "n J 2"],
    visible: Float[np.ndarray, "n J"],
    found: Sequence[Detection],
) -> Float[np.ndarray, "n 4"]:
    """Boxes, corrected by what is seen of people in this frame: the less, the more is hidden.

    A detector's opinion counts half.
    """
    now = person_box(keypoints, visible)
    half = np.array([[0.5 if detection.track_id is None else 0.0] for detection in found])
    now = now + half * (np.array([detection.box for detection in found]) - now)
    return box + BOX_GAIN * visible.mean(axis=1)[:, None] * (now - box)
