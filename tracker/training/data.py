"""Labelled people in the packed format of `../shared/data/pose`: one index, WebP images in files.

`Split` reads the index, `Images` decodes every picture once into a raw file that later runs map
into memory (decoding WebP at every visit would cost as much as a small network).
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from tracker.crops import crop_box
from tracker.errors import TrackerError
from tracker.geometry import box_iou
from tracker.skeleton import COCO17
from tracker.training.augment import Person
from tracker.training.synthetic import write_split

HUMAN, MACHINE = 1, 2
"""Values of `person_keypoint_source`."""
TEACHER_SHIFT = 1.1
"""How far `person_teacher` lies to the right and below, px of a crop 256 high (ADR 0076)."""


class DataError(TrackerError):
    """A training folder is not in the format of the project."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The index of one split; arrays as documented with the data."""

    folder: Path
    name: str
    arrays: dict[str, np.ndarray]

    @classmethod
    def load(cls, folder: Path, name: str) -> "Split":
        path = folder / f"{name}.npz"
        if not path.is_file():
            raise DataError(f"no index {path}: --data needs a folder with {name}.npz and its .bin")
        with np.load(path, allow_pickle=False) as index:
            return cls(folder, name, dict(index))

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    @property
    def person_source(self) -> Int[np.ndarray, " P"]:
        """Index into `sources` of each person."""
        return self["img_source"][self["person_img"]].astype(np.int64)

    def encoded(self, image: int) -> UInt8[np.ndarray, " bytes"]:
        """The file of one picture, as stored."""
        path = self.folder / f"{self.name}-{self['img_file'][image]:02d}.bin"
        count, offset = int(self["img_bytes"][image]), int(self["img_offset"][image])
        data = np.fromfile(path, np.uint8, count=count, offset=offset)
        if len(data) != count:
            raise DataError(f"{path} ends at picture {image}: {len(data)} of {count} bytes")
        return data

    def decode(self, image: int) -> UInt8[np.ndarray, "height width 3"]:
        """One picture, RGB."""
        picture = cv2.imdecode(self.encoded(image), cv2.IMREAD_COLOR)
        if picture is None:
            raise DataError(f"picture {image} of {self.folder}/{self.name} cannot be decoded")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """All pictures of a split, decoded, in one memory map."""

    pixels: UInt8[np.ndarray, " bytes"]
    offset: Int[np.ndarray, " I"]
    size: Int[np.ndarray, "I 2"]
    """Width, height."""

    @classmethod
    def open(cls, split: Split, cache: Path) -> "Images":
        """Map the raw file of this split, writing it first if it is not there."""
        size = split["img_wh"].astype(np.int64)
        ends = np.cumsum(size.prod(axis=1) * 3)
        # Named after its index: other pictures, even of the same sizes, are another file.
        digest = hashlib.sha256(split["img_bytes"].tobytes() + split["img_offset"].tobytes())
        path = cache / f"{split.name}-{digest.hexdigest()[:12]}.rgb"
        if not path.is_file() or path.stat().st_size != ends[-1]:
            cache.mkdir(parents=True, exist_ok=True)
            # Its own name: two trainings may start at once.
            part = path.with_suffix(f".{os.getpid()}.part")
            with part.open("wb") as file:
                for image in range(len(size)):
                    file.write(split.decode(image).tobytes())
            part.rename(path)
        pixels = np.memmap(path, np.uint8, mode="r")
        return cls(pixels, np.concatenate([[0], ends[:-1]]), size)

    def __getitem__(self, image: int) -> UInt8[np.ndarray, "height width 3"]:
        width, height = self.size[image]
        start = self.offset[image]
        return np.asarray(self.pixels[start : start + width * height * 3]).reshape(height, width, 3)


def open_splits(data: Path, cache: Path, synthetic: float) -> list[tuple[Split, Images, float]]:
    """The photographs to train on and, for a share of the samples, rendered people."""
    photographs = Split.load(data, "train")
    splits = [(photographs, Images.open(photographs, cache), 1.0 - synthetic)]
    if synthetic > 0:
        if not (cache / "synthetic.npz").is_file():
            write_split(cache)
        rendered = Split.load(cache, "synthetic")
        splits.append((rendered, Images.open(rendered, cache), synthetic))
    return splits


@dataclass(frozen=True, slots=True, eq=False)
class PoseLabels:
    """What the pose net is asked for: one row per person."""

    image: Int[np.ndarray, " P"]
    box: Float[np.ndarray, "P 4"]
    keypoints: Float[np.ndarray, "P J 2"]
    weight: Float[np.ndarray, "P J"]
    """Trust in each keypoint, 0 (none) to 1 (a human placed it)."""
    visible: Float[np.ndarray, "P J"]
    """1 seen, 0 not seen, NaN not known."""
    human: np.ndarray
    """(P,) whether a human placed the keypoints."""

    def __len__(self) -> int:
        return len(self.image)

    def person(self, row: int) -> Person:
        """One row, as augmentation takes it."""
        return Person(self.box[row], self.keypoints[row], self.weight[row], self.visible[row])

    def take(self, rows: np.ndarray) -> "PoseLabels":
        return PoseLabels(*(getattr(self, name)[rows] for name in self.__slots__))

    def join(self, other: "PoseLabels") -> "PoseLabels":
        """All people of both."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__slots__)
        return PoseLabels(*(np.concatenate(pair) for pair in pairs))


def pose_labels(split: Split) -> PoseLabels:
    """Clean the keypoints of a split: whom to trust, where, and how far.

    - Who was labelled beside their own box counts as not labelled (`beside_box`).
    - Humans are trusted (weight 1). Where swapping left and right brings all confident teacher
      points into agreement that were far off before, the human's sides are swapped back.
    - A network's points count where the teacher confirms them (1) or is silent (0.5); points on
      the picture's border (clipped) or against a confident teacher count nothing.
    - Points that nobody labelled are filled by the teacher where it is confident (0.5).
    """
    box = split["person_box"].astype(np.float64)
    size = (box[:, 2:] - box[:, :2]).max(axis=1)
    human = split["person_keypoint_source"] == HUMAN
    labelled = (split["person_keypoints"][..., 2] > 0) & ~beside_box(split)[:, None]
    teacher = teacher_points(split)
    teacher_score = split["person_teacher"][..., 2]
    keypoints = split["person_keypoints"][..., :2].astype(np.float64)
    swapped = _swapped_by_mistake(
        keypoints, labelled & human[:, None], teacher, teacher_score, size
    )
    keypoints[swapped] = keypoints[swapped][:, COCO17.mirror]
    labelled[swapped] = labelled[swapped][:, COCO17.mirror]

    distance = np.linalg.norm(keypoints - teacher, axis=-1) / size[:, None]
    sure = teacher_score > 0.4
    agree = distance < 0.1
    corner = split["img_wh"][split["person_img"]][:, None, :]
    clipped = ((keypoints <= 1) | (keypoints >= corner - 1)).any(axis=-1)

    by_human = labelled & human[:, None]
    by_machine = labelled & ~human[:, None] & ~clipped & (agree | ~sure)
    # A teacher that misses the human's own points on this person is not asked for the others.
    misses = (by_human & ~agree).sum(axis=1) > 2
    by_teacher = ~labelled & (teacher_score > 0.5) & ~misses[:, None]
    weight = np.select([by_human, by_machine & sure, by_machine, by_teacher], [1.0, 1.0, 0.5, 0.5])
    keypoints = np.where(by_teacher[..., None], teacher, keypoints)
    # The teacher also says what can be seen, but not where it is known to be wrong or was not run.
    useless = misses[:, None] | (by_human & ~agree) | (teacher_score.max(axis=1) == 0)[:, None]
    seen = np.select([teacher_score > 0.5, teacher_score < 0.15], [1.0, 0.0], np.nan)
    visible = np.where(useless, np.nan, seen)
    return PoseLabels(split["person_img"].astype(np.int64), box, keypoints, weight, visible, human)


def teacher_points(split: Split) -> Float[np.ndarray, "P J 2"]:
    """Where the teacher that came with the data sees the keypoints, its shift taken off, px."""
    boxes = split["person_box"].astype(np.float64)
    crop = np.array([crop_box(box) for box in boxes]).reshape(-1, 4)
    crop_px = (crop[:, 3] - crop[:, 1]) / 256
    xy = split["person_teacher"][..., :2].astype(np.float64)
    return xy - TEACHER_SHIFT * crop_px[:, None, None]


def honest_labels(split: Split) -> PoseLabels:
    """Labels that the network under study had no say in.

    `pose_labels` fills gaps with the teacher's answers and drops what it contradicts; if the
    teacher, or a relative, is the network whose error bars are sought, that would flatter it.
    Humans count fully (left and right put back where a whole body was mixed up), a labelling
    network's points half. Whether a keypoint is seen is still the teacher's to tell where it was
    run, and else COCO's flag (2 seen, 1 hidden).
    """
    labels = pose_labels(split)
    flag = split["person_keypoints"][..., 2]
    edge = split["img_wh"][split["person_img"]][:, None, :] - 1
    clipped = ((labels.keypoints <= 1) | (labels.keypoints >= edge)).any(axis=-1)
    by_machine = 0.5 * ((flag > 0) & ~clipped)
    weight = np.where(labels.human[:, None], labels.weight == 1, by_machine).astype(np.float64)
    teacher_ran = split["person_teacher"][..., 2].max(axis=1, keepdims=True) > 0
    told = np.select([flag == 2, flag == 1], [1.0, 0.0], np.nan)
    visible = np.where(teacher_ran, labels.visible, told)
    return PoseLabels(labels.image, labels.box, labels.keypoints, weight, visible, labels.human)


def beside_box(split: Split) -> Bool[np.ndarray, " P"]:
    """People with most of their labelled keypoints outside the crop around their box.

    Box and keypoints are of different people or pictures. They are few, but one of them alone can
    double the error bars that a Gaussian likelihood fits to hundreds of others.
    """
    if not len(split["person_box"]):
        return np.zeros(0, bool)
    crop = np.stack([crop_box(box) for box in split["person_box"].astype(np.float64)])[:, None]
    xy, labelled = split["person_keypoints"][..., :2], split["person_keypoints"][..., 2] > 0
    inside = ((xy >= crop[..., :2]) & (xy < crop[..., 2:])).all(axis=-1)
    return (inside & labelled).sum(axis=1) < 0.5 * labelled.sum(axis=1)


def _swapped_by_mistake(
    keypoints: Float[np.ndarray, "P J 2"],
    labelled: Bool[np.ndarray, "P J"],
    teacher: Float[np.ndarray, "P J 2"],
    teacher_score: Float[np.ndarray, "P J"],
    size: Float[np.ndarray, " P"],
) -> Bool[np.ndarray, " P"]:
    """People whose left and right a human mixed up, where the teacher is sure of it."""
    asked = labelled & labelled[:, COCO17.mirror] & (teacher_score > 0.4)
    count = np.maximum(asked.sum(axis=1), 1)

    def error(xy: np.ndarray) -> np.ndarray:
        distance = np.linalg.norm(xy - teacher, axis=-1) / size[:, None]
        return (distance * asked).sum(axis=1) / count

    mirrored = error(keypoints[:, COCO17.mirror])
    return (asked.sum(axis=1) >= 6) & (mirrored < 0.05) & (error(keypoints) > 2.5 * mirrored)


def held_out(image: Int[np.ndarray, " n"], every: int = 20) -> Bool[np.ndarray, " n"]:
    """Mark pictures (by index) kept from training for calibration: every 20th, by a fixed hash."""
    return (image * 2654435761 % 2**32) % every == 0


def calibration_rows(labels: PoseLabels) -> list[int]:
    """Those of the people kept from training on whom error bars are fitted: humans labelled them.

    With those whom another network labelled the bars are tighter, by 5 %, and hold less of what
    humans labelled on dev (whole poses 38/84/91/98 % at 50/90/95/99 instead of 44/89/94/99), at the
    same likelihood.
    """
    enough = (labels.weight > 0).sum(axis=1) > 2
    return np.nonzero(held_out(labels.image) & labels.human & enough)[0].tolist()


@dataclass(frozen=True, slots=True, eq=False)
class BoxLabels:
    """What the detector is asked for in one picture."""

    box: Float[np.ndarray, "n 4"]
    ignore: np.ndarray
    """(n,) boxes that are neither people nor background: the teacher was not sure."""


def box_labels(split: Split) -> list[BoxLabels]:
    """Give every picture its people: the labelled ones and those a teacher found beside them."""
    people = _by_image(split["person_img"], len(split["img_wh"]))
    found = _by_image(split["det_img"], len(split["img_wh"]))
    return [
        _complete(
            split["person_box"][mine].astype(np.float64),
            split["det_box"][seen].astype(np.float64),
            split["det_score"][seen],
            wh,
        )
        for mine, seen, wh in zip(people, found, split["img_wh"], strict=True)
    ]


def empty_strip(box: Float[np.ndarray, "n 4"], wh: np.ndarray) -> Float[np.ndarray, "4"]:
    """The largest of the four strips around the hull of all boxes; the picture if it is empty."""
    w, h = float(wh[0]), float(wh[1])
    if not len(box):
        return np.array([0.0, 0.0, w, h])
    (x0, y0), (x1, y1) = box[:, :2].min(axis=0), box[:, 2:].max(axis=0)
    strips = np.array([[0, 0, x0, h], [x1, 0, w, h], [0, 0, w, y0], [0, y1, w, h]])
    return strips[(strips[:, 2:] - strips[:, :2]).prod(axis=1).argmax()]


def _by_image(owner: np.ndarray, n_images: int) -> list[np.ndarray]:
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.searchsorted(owner[order], np.arange(1, n_images)))


def _complete(
    labelled: Float[np.ndarray, "n 4"],
    found: Float[np.ndarray, "m 4"],
    score: np.ndarray,
    wh: np.ndarray,
) -> BoxLabels:
    # A third of the teacher's boxes on lspet lie beyond the picture: ghosts of its padding.
    centre = (found[:, :2] + found[:, 2:]) / 2
    on_picture = ((centre > 0) & (centre < wh)).all(axis=1)
    iou = box_iou(labelled, found)
    new = (iou.max(axis=0, initial=0.0) < 0.5) & (score > 0.3) & on_picture
    unsure = score[new] < 0.45
    box = np.concatenate([labelled, found[new]])
    return BoxLabels(
        np.clip(box.reshape(-1, 2, 2), 0, wh).reshape(-1, 4),
        np.concatenate([np.zeros(len(labelled), bool), unsure]),
    )
