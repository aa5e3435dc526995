"""How well do the shipped networks place keypoints, and do they know how well?

    python -m benchmarks.accuracy --data DIR --split dev --json OUT

DIR is in the format of the project's packed pose data (`tracker.training.data`). Only keypoints
that humans placed count. People are cropped by their labelled boxes, except in `end_to_end`. AP and
PCK are of the hypothesis of the largest expected OKS, which is also its score; error bars are those
of the pose that the tracker starts from: hypotheses reduced, then the heaviest. The teacher's row
reads the predictions that are stored with the data.

Keys of the JSON, for `ours` and `teacher` per source of pictures: `people`, `ap`, `ap50`, `ar`
(COCO, by OKS), `pck10` (within a tenth of the box's longer side); for ours also `nll` (nats per
keypoint, in units of the OKS fall-off 2·σⱼ·sqrt(area)), `coverage` (share of keypoints inside the
50/90/95/99 % ellipses of the reported pose), `expected_oks` beside `oks` (what the network promises
and what it keeps). `detector` (boxes) and `end_to_end` (keypoints in our own boxes) are measured on
the source `coco`, whose people are all labelled; null where there is none.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Bool, Float
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table

from benchmarks.environment import environment
from tracker import weights
from tracker.detector import Detector
from tracker.metrics import best_answer, coverage, expected_oks, squared_mahalanobis
from tracker.mixture import log_density, marginal, reduce_hypotheses
from tracker.pose import PoseNet
from tracker.skeleton import COCO17
from tracker.training.data import HUMAN, Split
from tracker.types import Detection, Frame, PoseMixture

LEVELS = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """What humans said of one person."""

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


def main(
    data: Path,
    json_path: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    split: str = "dev",
    pose: str = "nano",
    detector: str = "nano",
    card: bool = False,
) -> None:
    """Measure the networks on labelled pictures.

    Args:
        data: Folder in the packed format.
        json_path: Where the result goes.
        split: Which index of the folder.
        pose: A shipped pose network or an .onnx with its card.
        detector: A shipped detector or an .onnx with its card.
        card: Also write the numbers into the model cards.
    """
    split_data = Split.load(data, split)
    net, finder = PoseNet.load(pose), Detector.load(detector)
    rows = np.nonzero(split_data["person_keypoint_source"] == HUMAN)[0].tolist()
    labels = [label(split_data, row) for row in rows]
    poses = [look(split_data, person, net) for person in progress(labels, "people", transient=True)]
    stored = split_data["person_teacher"][rows].astype(np.float64)
    teacher = [
        Guess(person.image, found[:, :2], float(found[:, 2].mean()))
        for person, found in zip(labels, stored, strict=True)
    ]
    ours = [guess(person.image, found) for person, found in zip(labels, poses, strict=True)]
    result: dict[str, Any] = {"ours": {}, "teacher": {}}
    for name, mine in sources(split_data, labels).items():
        people = [labels[i] for i in mine]
        for who, guesses in (("ours", ours), ("teacher", teacher)):
            result[who][name] = placement(people, [guesses[i] for i in mine])
        result["ours"][name] |= honesty(people, [poses[i] for i in mine])
    result |= in_the_wild(split_data, net, finder)
    show(result)
    if json_path is not None:
        record = {"split": split, **result, "environment": environment()}
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if card:
        write_card(weights.find("pose", pose), split, ours=result["ours"])
        write_card(weights.find("detector", detector), split, boxes=result["detector"])


def label(split: Split, row: int) -> Label:
    """One person of the index."""
    box = split["person_box"][row].astype(np.float64)
    return Label(
        int(split["person_img"][row]),
        box,
        float(split["person_area"][row]) or box_area(box),
        bool(split["person_crowd"][row]),
        split["person_keypoints"][row, :, :2].astype(np.float64),
        split["person_keypoints"][row, :, 2] > 0,
    )


def sources(split: Split, labels: Sequence[Label]) -> dict[str, list[int]]:
    """The labels of each source of pictures, by position."""
    source = split["img_source"]
    names = {str(name): k for k, name in enumerate(split["sources"])}
    chosen = {
        name: [i for i, person in enumerate(labels) if source[person.image] == k]
        for name, k in names.items()
    }
    return {name: mine for name, mine in chosen.items() if mine}


def look(split: Split, person: Label, net: PoseNet) -> PoseMixture:
    """Run the network on a labelled box."""
    frame = Frame(split.decode(person.image), 0, 0.0)
    (pose,) = net(frame, [Detection(person.box, 1.0)])
    return pose


def guess(image: int, pose: PoseMixture) -> Guess:
    """The hypothesis of the largest expected OKS, and as its score what the network expects."""
    area = box_area(pose.detection.box)
    best = best_answer(pose.mixture, area)
    promised = expected_oks(pose.mixture, area, best).mean()
    keypoints = pose.mixture.points(len(pose.visible))[best]
    return Guess(image, keypoints, pose.detection.score * float(promised))


def reported(pose: PoseMixture) -> PoseMixture:
    """As the tracker sees it: near hypotheses made one."""
    return replace(pose, mixture=reduce_hypotheses(pose.mixture))


def box_area(box: Float[np.ndarray, "4"]) -> float:
    """COCO's areas are of the silhouette, about half of the box's."""
    return 0.5 * float((box[2:] - box[:2]).prod())


def placement(people: Sequence[Label], guesses: Sequence[Guess]) -> dict[str, Any]:
    """AP and PCK of one guess per person."""
    hits = [
        np.linalg.norm(p.keypoints - g.keypoints, axis=1)[p.labelled]
        < 0.1 * (p.box[2:] - p.box[:2]).max()
        for p, g in zip(people, guesses, strict=True)
    ]
    stats = coco_stats(people, [_found_keypoints(g) for g in guesses], "keypoints")
    pck = float(np.concatenate(hits).mean())
    return {"people": len(people), **_keypoint_scores(stats), "pck10": pck}


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


def in_the_wild(split: Split, net: PoseNet, finder: Detector) -> dict[str, Any]:
    """Boxes and keypoints found by ourselves, on the pictures whose people are all labelled."""
    names = split["sources"].tolist()
    chosen = split["img_source"] == (names.index("coco") if "coco" in names else -1)
    if not chosen.any():
        return {"detector": None, "end_to_end": None}
    rows = np.nonzero(chosen[split["person_img"]])[0].tolist()
    people = [label(split, row) for row in rows]
    boxes, keypoints = [], []
    for image, frame in pictures(split, np.nonzero(chosen)[0].tolist()):
        found = replace(finder, threshold=0.02)(frame)
        boxes += [_found_box(image, d) for d in found]
        likely = [d for d in found if d.score > 0.1]
        keypoints += [_found_keypoints(guess(image, pose)) for pose in net(frame, likely)]
    by_box, by_pose = coco_stats(people, boxes, "bbox"), coco_stats(people, keypoints, "keypoints")
    return {
        "detector": {"ap": by_box[0], "ap50": by_box[1], "ar": by_box[8]},
        "end_to_end": _keypoint_scores(by_pose),
    }


def pictures(split: Split, images: Sequence[int]) -> Iterator[tuple[int, Frame]]:
    for image in progress(images, "pictures", transient=True):
        yield image, Frame(split.decode(image), 0, 0.0)


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
            "bbox": _xywh(p.box),
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


def _found_box(image: int, found: Detection) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": 1,
        "bbox": _xywh(found.box),
        "score": found.score,
    }


def _found_keypoints(found: Guess) -> dict[str, Any]:
    return {
        "image_id": found.image,
        "category_id": 1,
        "keypoints": _triples(found.keypoints, np.ones(len(found.keypoints))),
        "score": found.score,
    }


def _keypoint_scores(stats: Sequence[float]) -> dict[str, float]:
    return {"ap": stats[0], "ap50": stats[1], "ar": stats[5]}


def _xywh(box: Float[np.ndarray, "4"]) -> list[float]:
    return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]


def _triples(xy: Float[np.ndarray, "J 2"], flag: np.ndarray) -> list[float]:
    return np.column_stack([xy, flag]).ravel().tolist()


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    levels = "/".join(f"{level * 100:.0f}" for level in LEVELS)
    table = Table(
        "source", "network", "people", "AP", "AP50", "AR", "PCK@0.1", "NLL", f"coverage {levels} %"
    )
    for source in result["ours"]:
        for who in ("ours", "teacher"):
            row = result[who][source]
            covered = " ".join(f"{100 * v:.1f}" for v in row.get("coverage", {}).values())
            numbers = [f"{row[key]:.3f}" for key in ("ap", "ap50", "ar", "pck10")]
            nll = f"{row['nll']:.2f}" if "nll" in row else ""
            table.add_row(source, who, str(row["people"]), *numbers, nll, covered)
    console = Console(width=110)
    console.print(table)
    for name in ("detector", "end_to_end"):
        if result[name] is not None:
            console.print(name, {key: round(value, 3) for key, value in result[name].items()})


def write_card(found: weights.Weights, split: str, **metrics: Any) -> None:
    """Put the numbers where people look for them."""
    card = found.card | {"metrics": {"split": split, **metrics}}
    path = found.path.with_suffix(".json")
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
