"""How much a pose network's look at a detector's box says of whether somebody is there.

Three numbers, a logistic regression of "this box is a person's" on the detector's score and on how
well the network sees its best keypoints, fitted on pictures that were kept from training.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tracker.detector import Detector
from tracker.geometry import box_iou
from tracker.pose import PoseNet, presence_features
from tracker.training.alarms import LEAST_SCORE, beside_and_whole, on_nobody
from tracker.training.data import BoxLabels, Images, Split, box_labels, held_out
from tracker.training.scores import logistic_nll, logistic_regression
from tracker.types import Detection, Frame


@dataclass(frozen=True, slots=True)
class PresenceFit:
    """What the card stores, and what it was worth."""

    weights: tuple[float, float, float]
    """Of 1 and of the two log odds, `tracker.pose.presence_features`."""
    n_people: int
    n_alarms: int
    nll_before: float
    """Nats a box, by the detector's score alone."""
    nll_after: float


def fit_presence(net: PoseNet, finder: Detector, split: Split, images: Images) -> PresenceFit:
    """Fit on what the detector finds, right or wrong, in the pictures kept from training."""
    parts = list(_looked_at(net, replace(finder, threshold=LEAST_SCORE), split, images))
    features = torch.from_numpy(np.concatenate([np.zeros((0, 3)), *(f for f, _ in parts)]))
    right = torch.from_numpy(np.concatenate([np.zeros(0, bool), *(r for _, r in parts)]))
    return fit(features, right)


def fit(features: Float[Tensor, "n 3"], right: Bool[Tensor, " n"]) -> PresenceFit:
    """By maximum likelihood; a faint pull holds the weights at the detector's own word."""
    alone = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    weights = logistic_regression(features, right, alone)
    a, b, c = (round(float(w), 4) for w in weights)
    return PresenceFit(
        (a, b, c),
        int(right.sum()),
        int((~right).sum()),
        round(float(logistic_nll(features, right, alone)), 4),
        round(float(logistic_nll(features, right, weights)), 4),
    )


def _looked_at(
    net: PoseNet, finder: Detector, split: Split, images: Images
) -> Iterator[tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, " n"]]]:
    """Features of the boxes in each picture, and whether they are people's."""
    labels = box_labels(split)
    for i in np.nonzero(held_out(np.arange(len(labels))))[0].tolist():
        boxes, right = _boxes(images[i], labels[i], finder)
        if boxes:
            poses = net(Frame(images[i], 0, 0.0), boxes)
            seen = np.stack([pose.visible for pose in poses])
            yield presence_features(np.array([box.score for box in boxes]), seen), right


def _boxes(
    picture: np.ndarray, labels: BoxLabels, finder: Detector
) -> tuple[list[Detection], Bool[np.ndarray, " n"]]:
    """People who were found, and what was taken for one; what is neither is left out."""
    found = beside_and_whole(picture, labels.box, finder)
    overlap = box_iou(found.box, labels.box[~labels.ignore])
    people = found.where(overlap.max(axis=1, initial=0.0) > 0.5)
    alarms = on_nobody(found, labels.box)
    both = zip((*people.box, *alarms.box), (*people.score, *alarms.score), strict=True)
    right = np.repeat([True, False], [len(people.box), len(alarms.box)])
    return [Detection(box, float(score)) for box, score in both], right
