"""Who was where, frame by frame: the form that truth and answers have when they are compared."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from tracker.geometry import box_iou, person_area
from tracker.skeleton import COCO17


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """All people of one frame; image px."""

    ids: Int[np.ndarray, " N"]
    box: Float[np.ndarray, "N 4"]
    keypoints: Float[np.ndarray, "N J 2"] | None = None
    labelled: Bool[np.ndarray, "N J"] | None = None
    """Which keypoints are known; all of them where None."""
    cov: Float[np.ndarray, "N J 2 2"] | None = None
    """Of the keypoints of an answer, px²."""
    outline_area: Float[np.ndarray, " N"] | None = None
    """Inside the outline, px², where a truth tells it."""

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def nobody(cls) -> "People":
        return cls(np.zeros(0, int), np.zeros((0, 4)), np.zeros((0, len(COCO17), 2)))

    @property
    def known(self) -> Bool[np.ndarray, "N J"]:
        """Which keypoints may be compared."""
        if self.labelled is not None:
            return self.labelled
        return np.ones((len(self), len(COCO17)), bool)

    @property
    def area(self) -> Float[np.ndarray, " N"]:
        """Of each person, px²."""
        if self.outline_area is not None:
            return self.outline_area
        return person_area(self.box)


Frames = Mapping[int, People]
"""By index of the frame, from 0; a truth may leave frames out, which then are not compared."""


def by_boxes(truth: People, answer: People) -> Float[np.ndarray, "N T"]:
    """Intersection over union."""
    return box_iou(truth.box, answer.box)


def by_keypoints(truth: People, answer: People) -> Float[np.ndarray, "N T"]:
    """Object keypoint similarity over the labelled keypoints, with the true area."""
    if truth.keypoints is None or answer.keypoints is None:
        raise ValueError("both sides must have keypoints to be compared by them")
    if not len(truth) or not len(answer):
        return np.zeros((len(truth), len(answer)))
    oks = COCO17.oks(truth.keypoints[:, None], answer.keypoints, truth.area[:, None])
    known = truth.known[:, None]
    return (oks * known).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)
