"""Make a detector's score the probability that a person is there.

A detector's raw score mixes "is it a person" with "is the box good", and says less of people who
fill the picture or are tiny. Four numbers put that right: a logistic regression of "some person's
box overlaps by half" on the raw logit and on the height of the box, fitted on pictures that were
kept from training. The graph applies them, so whoever runs it gets honest scores.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tracker.crops import letterbox
from tracker.detector import suppress
from tracker.geometry import box_iou
from tracker.nets.detector import DetectorModule, size_features
from tracker.training.data import BoxLabels, Images, Split, box_labels, held_out

LEAST_LOGIT = -1.73
"""Raw logits below this, scores of 0.15, are nobody's concern."""


@dataclass(frozen=True, slots=True)
class ScoreFit:
    """What the card stores, and what it was worth."""

    weights: tuple[float, float, float, float]
    """Of the raw logit, of 1, of log height and of its square: `nets.detector.size_features`."""
    n_pictures: int
    n_boxes: int
    nll_before: float
    """Nats per box."""
    nll_after: float


@torch.no_grad()
def found_boxes(
    net: DetectorModule, split: Split, images: Images, long_side: int
) -> tuple[Float[Tensor, "n 4"], Float[Tensor, " n"], Bool[Tensor, " n"], int]:
    """What the network finds in the held-out pictures: boxes (its px), raw logits, right or not."""
    labels = box_labels(split)
    rows = np.nonzero(held_out(np.arange(len(labels))))[0].tolist()
    parts = [_found(net, images[row], labels[row], long_side) for row in rows]
    parts.append((np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, bool)))
    box, logit, right = (torch.from_numpy(np.concatenate(p)) for p in zip(*parts, strict=True))
    return box, logit, right, len(rows)


def _found(
    net: DetectorModule, picture: np.ndarray, labels: BoxLabels, long_side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    view, image_from_input = letterbox(picture, long_side)
    box, logit = (part[0].numpy() for part in net(torch.from_numpy(view)))
    likely = np.nonzero(logit > LEAST_LOGIT)[0]
    kept = likely[suppress(box[likely].astype(np.float64), logit[likely].astype(np.float64), 0.5)]
    corners = image_from_input.points(box[kept].astype(np.float64).reshape(-1, 2))
    overlap = box_iou(corners.reshape(-1, 4), labels.box)
    right = overlap[:, ~labels.ignore].max(axis=1, initial=0.0) > 0.5
    told = right | (overlap[:, labels.ignore].max(axis=1, initial=0.0) <= 0.5)
    return box[kept][told], logit[kept][told], right[told]


def fit_scores(
    box: Float[Tensor, "n 4"],
    logit: Float[Tensor, " n"],
    right: Bool[Tensor, " n"],
    n_pictures: int,
) -> ScoreFit:
    """Fit the four numbers by maximum likelihood (L-BFGS); a faint pull holds them near 1, 0, 0, 0.

    It changes scores, not what is found.
    """
    features = torch.cat([logit[:, None], size_features(box)], dim=1).double()
    start = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    weights = logistic_regression(features, right, start)
    a, b, c, d = weights.tolist()
    return ScoreFit(
        (a, b, c, d),
        n_pictures,
        len(logit),
        float(logistic_nll(features, right, start)),
        float(logistic_nll(features, right, weights)),
    )


def logistic_nll(
    features: Float[Tensor, "n p"], right: Bool[Tensor, " n"], weights: Float[Tensor, " p"]
) -> Float[Tensor, ""]:
    """Nats a box."""
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    return loss(features @ weights, right.double(), reduction="sum") / max(len(right), 1)


def logistic_regression(
    features: Float[Tensor, "n p"], right: Bool[Tensor, " n"], start: Float[Tensor, " p"]
) -> Float[Tensor, " p"]:
    """Maximum likelihood (L-BFGS), float64; a faint pull holds the weights near the start."""
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        pull = 1e-3 * (weights - start).square().sum()
        loss = logistic_nll(features, right, weights) + pull
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
    return weights.detach()
