"""False alarms: where the shipped detector sees people in training pictures and nobody is.

A pose network looks at every box that the detector gives; trained on people alone it would see one
in each. Shown these boxes it learns to say that nobody is there (docs/adr/0068).
"""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from tracker import weights
from tracker.detector import Detector
from tracker.skeleton import COCO17
from tracker.training.augment import Person, covers
from tracker.training.data import Images, Split, box_labels, empty_strip, held_out
from tracker.types import Detection, Frame

LEAST_SCORE = 0.1
LEAST_HEIGHT = 24.0
"""Of a box that is worth a close look, px."""
LEAST_SIDE = 64
"""Narrower strips beside people are no pictures, px."""

log = logging.getLogger("surepose.train")


class Found(NamedTuple):
    """Boxes of the detector in one picture, px."""

    box: Float[np.ndarray, "n 4"]
    score: Float[np.ndarray, " n"]

    def where(self, chosen: Bool[np.ndarray, " n"]) -> "Found":
        return Found(self.box[chosen], self.score[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Alarms:
    """Boxes on nobody."""

    image: Int[np.ndarray, " n"]
    box: Float[np.ndarray, "n 4"]
    score: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.image)

    def person(self, row: int) -> Person:
        """One of them, as a person of whom nothing is labelled and nothing can be seen."""
        nothing = np.zeros(len(COCO17))
        return Person(self.box[row], np.zeros((len(COCO17), 2)), nothing, nothing)


def false_alarms(
    split: Split, images: Images, cache: Path, detector: str | Path = "nano"
) -> Alarms:
    """All false alarms of a detector in the pictures to train on; at once, or from the cache.

    A picture is searched whole and, where people leave room, beside them: enlarged, it shows how
    much in the world looks like a limb.
    """
    sha256 = weights.find("detector", detector).entry("sha256")
    digest = hashlib.sha256(split["img_bytes"].tobytes() + sha256.encode())
    path = cache / f"alarms-{split.name}-{digest.hexdigest()[:12]}.npz"
    if not path.is_file():
        log.info("looking for false alarms in %d pictures", len(images.size))
        finder = Detector.load(detector, "cpu", threads=1)
        _write(path, _search(split, images, replace(finder, threshold=LEAST_SCORE)))
    with np.load(path) as arrays:
        return Alarms(arrays["image"], arrays["box"], arrays["score"])


def _write(path: Path, alarms: Alarms) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:  # its own name: two trainings may start at once
        np.savez(file, image=alarms.image, box=alarms.box, score=alarms.score)
    part.rename(path)


def _search(split: Split, images: Images, finder: Detector) -> Alarms:
    labels = box_labels(split)
    also = np.argsort(split["det_img"], kind="stable")
    guesses = np.split(also, np.searchsorted(split["det_img"][also], np.arange(1, len(labels))))
    image, box, score = [], [], []
    for i in np.nonzero(~held_out(np.arange(len(labels))))[0].tolist():
        # Whoever a teacher takes for a person, however faintly, may be one.
        people = np.concatenate([labels[i].box, split["det_box"][guesses[i]].astype(np.float64)])
        found = on_nobody(beside_and_whole(images[i], labels[i].box, finder), people)
        image += [i] * len(found.box)
        box.append(found.box)
        score.append(found.score)
    return Alarms(
        np.array(image, np.int64),
        np.concatenate([np.zeros((0, 4)), *box]),
        np.concatenate([np.zeros(0), *score]),
    )


def beside_and_whole(
    picture: np.ndarray,
    people: Float[np.ndarray, "n 4"],
    find: Callable[[Frame], Sequence[Detection]],
) -> Found:
    """What the detector finds in a picture, and in the largest strip of it without people."""
    height, width = picture.shape[:2]
    views = [np.array([0, 0, width, height])]
    strip = empty_strip(people, np.array([width, height])).astype(int)
    if len(people) and min(strip[2:] - strip[:2]) >= LEAST_SIDE:
        views.append(strip)
    boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
    for x0, y0, x1, y1 in views:
        for found in find(Frame(np.ascontiguousarray(picture[y0:y1, x0:x1]), 0, 0.0)):
            boxes.append(found.box[None] + [x0, y0, x0, y0])
            scores.append(np.array([found.score]))
    return Found(np.concatenate(boxes), np.concatenate(scores))


def on_nobody(found: Found, people: Float[np.ndarray, "n 4"]) -> Found:
    """Those of the boxes that are high enough and beside everybody."""
    beside = [box[3] - box[1] >= LEAST_HEIGHT and not covers(people, box) for box in found.box]
    return found.where(np.array(beside, bool))
