"""People whom humans labelled, and how well answers fit them: COCO's protocol and error bars."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Bool, Float

from benchmarks.honesty import LEVELS
from tracker.geometry import person_area
from tracker.metrics import best_answer, coverage, expected_oks, squared_mahalanobis
from tracker.mixture import log_density, marginal, reduce_hypotheses
from tracker.skeleton import COCO17
from tracker.training.data import Split
from tracker.types import Mixture, PoseMixture

PIXEL_NUMBERS = "coco"
"""Source whose keypoints are numbers of pixels: 0 is the first one, whose middle is ours at 0.5
(ADR 0079)."""


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """What humans said of one person, in our pixels (ADR 0003)."""

    image: int
    box: Float[np.ndarray, "4"]
    area: float
    """px², as COCO counts it: inside the outline."""
    crowd: bool
    keypoints: Float[np.ndarray, "J 2"]
    labelled: Bool[np.ndarray, " J"]


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """What a network said of somebody."""

    image: int
    keypoints: Float[np.ndarray, "J 2"]
    score: float


def label(split: Split, row: int) -> Label:
    """One person of the index."""
    box = split["person_box"][row].astype(np.float64)
    image = int(split["person_img"][row])
    numbers = split["sources"][split["img_source"][image]] == PIXEL_NUMBERS
    return Label(
        image,
        box,
        float(split["person_area"][row]) or float(person_area(box)),
        bool(split["person_crowd"][row]),
        split["person_keypoints"][row, :, :2].astype(np.float64) + (0.5 if numbers else 0.0),
        split["person_keypoints"][row, :, 2] > 0,
    )


def sources(split: Split, labels: Sequence[Label]) -> dict[str, list[int]]:
    """The labels of each source of pictures by position, and all."""
    source = split["img_source"]
    names = {str(name): k for k, name in enumerate(split["sources"])}
    chosen = {
        name: [i for i, person in enumerate(labels) if source[person.image] == k]
        for name, k in names.items()
    }
    return {name: mine for name, mine in chosen.items() if mine} | {"all": list(range(len(labels)))}


def guess(image: int, pose: PoseMixture) -> Guess:
    """The network's answer; its score is what it promises, times that of the box."""
    keypoints, promised = answer(pose.mixture, float(person_area(pose.detection.box)))
    return Guess(image, keypoints, pose.detection.score * promised)


def answer(mixture: Mixture, area: float) -> tuple[Float[np.ndarray, "J 2"], float]:
    """The pose of the largest expected OKS, and that OKS."""
    keypoints = best_answer(mixture, area)
    return keypoints, float(expected_oks(mixture, area, keypoints).mean())


def placement(people: Sequence[Label], guesses: Sequence[Guess]) -> dict[str, Any]:
    """AP and PCK of one guess per person."""
    hits = [
        np.linalg.norm(p.keypoints - g.keypoints, axis=1)[p.labelled]
        < 0.1 * (p.box[2:] - p.box[:2]).max()
        for p, g in zip(people, guesses, strict=True)
    ]
    stats = coco_stats(people, [coco_keypoints(g) for g in guesses], "keypoints")
    pck = float(np.concatenate(hits).mean())
    return {"people": len(people), **keypoint_scores(stats), "pck10": pck}


def reported(pose: PoseMixture) -> PoseMixture:
    """As the tracker sees it: near hypotheses made one."""
    return replace(pose, mixture=reduce_hypotheses(pose.mixture))


def honesty(people: Sequence[Label], poses: Sequence[PoseMixture]) -> dict[str, Any]:
    """Whether the error bars hold the truth."""
    nees, promised, kept, nll = [], [], [], []
    for person, pose in zip(people, poses, strict=True):
        seen, few = person.labelled, reported(pose)
        error = (person.keypoints - few.keypoints)[seen]
        nees.append(squared_mahalanobis(error, few.keypoint_cov[seen]))
        promised.append(expected_oks(few.mixture, person.area)[seen])
        kept.append(COCO17.oks(few.keypoints, person.keypoints, np.array(person.area))[seen])
        nll.append(negative_log_likelihood(person, pose))
    squared = np.concatenate(nees)
    return {
        "nll": float(np.sum(nll) / len(squared)),
        "coverage": {f"{level:.0%}": coverage(squared, level) for level in LEVELS},
        "expected_oks": float(np.concatenate(promised).mean()),
        "oks": float(np.concatenate(kept).mean()),
    }


def negative_log_likelihood(person: Label, pose: PoseMixture) -> float:
    """Nats of all labelled keypoints together, in units of the OKS fall-off."""
    index = np.repeat(person.labelled, 2).nonzero()[0]
    truth = person.keypoints.ravel()[index]
    falloff = COCO17.falloff(np.array(person.area))[person.labelled]
    return -float(log_density(marginal(pose.mixture, index), truth)) - 2 * float(
        np.log(falloff).sum()
    )


def coco_stats(people: Sequence[Label], found: list[dict[str, Any]], kind: str) -> list[float]:
    """Run the COCO protocol; the numbers of its summary."""
    truth = [
        {
            "id": i + 1,
            "image_id": p.image,
            "category_id": 1,
            "keypoints": _triples(p.keypoints, 2 * p.labelled),
            "num_keypoints": int(p.labelled.sum()),
            "area": p.area,
            "bbox": xywh(p.box),
            "iscrowd": int(p.crowd),
        }
        for i, p in enumerate(people)
    ]
    if not found:
        return [0.0] * 12
    images = sorted({p.image for p in people} | {f["image_id"] for f in found})
    gt = COCO(
        {
            "images": [{"id": i} for i in images],
            "annotations": truth,
            "categories": [
                {"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)},
            ],
        }
    )
    evaluation = COCOeval_faster(gt, gt.loadRes(found), kind, print_function=lambda *_: None)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [float(v) for v in evaluation.stats]


def coco_keypoints(found: Guess) -> dict[str, Any]:
    return {
        "image_id": found.image,
        "category_id": 1,
        "keypoints": _triples(found.keypoints, np.ones(len(found.keypoints))),
        "score": found.score,
    }


def keypoint_scores(stats: Sequence[float]) -> dict[str, float]:
    return {"ap": stats[0], "ap50": stats[1], "ar": stats[5]}


def xywh(box: Float[np.ndarray, "4"]) -> list[float]:
    return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]


def _triples(xy: Float[np.ndarray, "J 2"], flag: np.ndarray) -> list[float]:
    return np.column_stack([xy, flag]).ravel().tolist()
