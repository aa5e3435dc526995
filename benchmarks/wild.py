"""The detector and the pose network together, on pictures with many of their people labelled."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from rich.progress import track as progress

from benchmarks.labelled import (
    Label,
    coco_keypoints,
    coco_stats,
    guess,
    keypoint_scores,
    label,
    xywh,
)
from benchmarks.rtmdet import Boxes
from tracker.detector import Detector
from tracker.geometry import box_iou
from tracker.pose import PoseNet
from tracker.training.data import Split
from tracker.types import Detection, Frame

Witness = Callable[[UInt8[np.ndarray, "H W 3"]], Boxes]
"""Tells whoever is in an RGB picture, labelled or not, image px."""


def in_the_wild(
    split: Split, net: PoseNet, finder: Detector, witness: Witness | None = None
) -> dict[str, Any]:
    """Boxes and keypoints found by ourselves, on pictures with many of their people labelled."""
    names = split["sources"].tolist()
    chosen = split["img_source"] == (names.index("coco") if "coco" in names else -1)
    if not chosen.any():
        return {"detector": None, "end_to_end": None}
    rows = np.nonzero(chosen[split["person_img"]])[0].tolist()
    people = [label(split, row) for row in rows]
    boxes, keypoints, both, somebody_else = [], [], [], []
    for image, frame in pictures(split, np.nonzero(chosen)[0].tolist()):
        found = replace(finder, threshold=0.02)(frame)
        boxes += [_found_box(image, d) for d in found]
        likely = [d for d in found if d.score > 0.1]
        poses = net(frame, likely)
        keypoints += [coco_keypoints(guess(image, pose)) for pose in poses]
        both += [_found_box(image, pose.detection) for pose in poses]
        if witness is not None:
            labelled = _boxes([p.box for p in people if p.image == image])
            mine = _boxes([pose.detection.box for pose in poses])
            somebody_else += holds_somebody_else(mine, labelled, witness(frame.image)).tolist()
    touching = compress(keypoints, at_labelled(people, both))
    end_to_end = {
        **_pose_scores(people, keypoints),
        "at_labelled": _pose_scores(people, list(touching)),
    }
    if witness is not None:
        counted = compress(keypoints, np.logical_not(somebody_else))
        end_to_end["completed"] = _pose_scores(people, list(counted))
    return {
        "detector": {
            **_box_scores(people, boxes),
            "found": share_found(people, boxes, finder.threshold),
            "looked_at": share_found(people, both, finder.threshold),
            "at_labelled": _box_scores(people, list(compress(boxes, at_labelled(people, boxes)))),
        },
        "end_to_end": end_to_end,
    }


def at_labelled(people: Sequence[Label], found: list[dict[str, Any]]) -> list[bool]:
    """Which boxes touch that of anybody labelled; of the others nobody knows what they hold."""
    labelled: dict[int, list[list[float]]] = {}
    for person in people:
        labelled.setdefault(person.image, []).append(person.box.tolist())
    touching = []
    for box in found:
        x, y, w, h = box["bbox"]
        beside = np.array(labelled.get(box["image_id"], []), float).reshape(-1, 4)
        overlap = box_iou(np.array([[x, y, x + w, y + h]], float), beside)
        touching.append(bool(overlap.max(initial=0.0) > 0))
    return touching


def holds_somebody_else(found: Boxes, labelled: Boxes, seen: Boxes) -> Bool[np.ndarray, " N"]:
    """(N,) which boxes hold somebody whom the witness sees and nobody labelled.

    Whoever is labelled is nobody else: neither may the witness's box overlap a labelled one by
    half, nor ours; ours must overlap the witness's by half.
    """
    others = seen[box_iou(seen, labelled).max(axis=1, initial=0.0) < 0.5]
    there = box_iou(found, others).max(axis=1, initial=0.0) > 0.5
    mine = box_iou(found, labelled).max(axis=1, initial=0.0) > 0.5
    return np.asarray(there & ~mine)


def share_found(people: Sequence[Label], found: list[dict[str, Any]], threshold: float) -> float:
    """The share of people, crowds left out, whose box some sure enough one overlaps by half."""
    sure: dict[int, list[list[float]]] = {}
    for box in found:
        if box["score"] >= threshold:
            x, y, w, h = box["bbox"]
            sure.setdefault(box["image_id"], []).append([x, y, x + w, y + h])
    counted = [p for p in people if not p.crowd]
    overlap = [
        box_iou(p.box[None], np.array(sure.get(p.image, [])).reshape(-1, 4)).max(initial=0.0)
        for p in counted
    ]
    return float(np.mean(np.array(overlap) > 0.5))


def _box_scores(people: Sequence[Label], boxes: list[dict[str, Any]]) -> dict[str, float]:
    stats = coco_stats(people, boxes, "bbox")
    return {"ap": stats[0], "ap50": stats[1], "ar": stats[8]}


def _pose_scores(people: Sequence[Label], poses: list[dict[str, Any]]) -> dict[str, float]:
    return keypoint_scores(coco_stats(people, poses, "keypoints"))


def _boxes(found: Sequence[np.ndarray]) -> Boxes:
    return np.array(found, float).reshape(-1, 4)


def pictures(split: Split, images: Sequence[int]) -> Iterator[tuple[int, Frame]]:
    for image in progress(images, "pictures", transient=True):
        yield image, Frame(split.decode(image), 0, 0.0)


def _found_box(image: int, found: Detection) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": 1,
        "bbox": xywh(found.box),
        "score": found.score,
    }
