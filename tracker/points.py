"""Plain keypoints with scores, as most pose networks give them, made into poses for the tracker.

Such networks say nothing of their error bars, and when they take left for right they say nothing
either. Both are made up here from what is known of the task: people place some keypoints better
than others, errors grow as scores fall, and legs or the whole person are now and then mirrored.
Error bars of the tracks are then as good as these guesses; `MultiTracker.consistency` tells.
"""

import numpy as np
from jaxtyping import Float, Int

from tracker.geometry import person_area
from tracker.motion import body_height
from tracker.skeleton import COCO17, Skeleton
from tracker.types import Detection, Mixture, PoseMixture

LEAST_SCORE = 0.05
"""Keypoints of a lower score, and those at (0, 0) or at NaN, are taken as not found."""

MIRRORED = 0.03
"""Probability that the legs are swapped, and that the whole person is."""


def pose_from_points(
    keypoints: Float[np.ndarray, "J 2"],
    scores: Float[np.ndarray, " J"],
    detection: Detection,
    skeleton: Skeleton = COCO17,
    *,
    mirrored: float = MIRRORED,
) -> PoseMixture:
    """A pose with error bars and left/right rivals, from points (px) and scores in [0, 1].

    A sure keypoint errs as an annotator does, σⱼ·√area (COCO), others 1/score as much.

    Raises:
        ValueError: there are not as many points or scores as the skeleton has keypoints.
    """
    if keypoints.shape != (len(skeleton), 2) or scores.shape != (len(skeleton),):
        raise ValueError(
            f"due are {len(skeleton)} keypoints (x, y) and as many scores, "
            f"got {keypoints.shape} and {scores.shape}"
        )
    box = detection.box
    found = (scores >= LEAST_SCORE) & (keypoints != 0).any(axis=-1)
    found &= np.isfinite(keypoints).all(axis=-1)
    std = skeleton.oks_sigma * np.sqrt(person_area(box)) / np.clip(scores, LEAST_SCORE, 1)
    std = np.where(found, std, body_height(box))
    points = np.where(found[:, None], keypoints, (box[:2] + box[2:]) / 2)
    orders = [np.arange(len(skeleton)), *_mirrors(skeleton)] if mirrored else [np.arange(len(std))]
    rivals = np.full(len(orders) - 1, mirrored)
    cov = np.stack([np.diag(np.square(std[order]).repeat(2)) for order in orders])
    mean = np.stack([points[order].ravel() for order in orders])
    weight = np.concatenate([[1 - rivals.sum()], rivals])
    visible = np.where(found, np.clip(scores, 0, 1), 0.0)
    return PoseMixture(detection, Mixture(mean, cov, np.log(weight)), visible)


def _mirrors(skeleton: Skeleton) -> tuple[Int[np.ndarray, " J"], Int[np.ndarray, " J"]]:
    """Orders of the keypoints with the legs swapped, and with everything swapped."""
    leg = np.array(
        [name.split("_")[-1] in ("hip", "knee", "ankle") for name in skeleton.keypoint_names]
    )
    return np.where(leg, skeleton.mirror, np.arange(len(skeleton))), skeleton.mirror
