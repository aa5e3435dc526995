"""Other networks as teachers.

Pictures labelled for their one acting person hold others in the background: smaller, blurred and
half hidden, as in real video. A teacher's heatmaps label their keypoints once; the answers are
kept. A detector as teacher looks at every canvas anew.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from jaxtyping import Float, UInt8
from scipy.special import expit
from torch import Tensor

import engines
from tracker.crops import OUTSIDE, crop_box, warp
from tracker.geometry import Affine
from tracker.heatmaps import HeatmapNet
from tracker.skeleton import COCO17
from tracker.training.data import DataError, Images, PoseLabels, Split, box_labels

LEAST_HEIGHT = 20.0
"""People lower than this show no limbs, px."""
FIRST_CELL = 0.125
"""Where the first cell of a teacher's maps stands, cells of stride 4 from the crop's corner.

PP-TinyPose is trained on bumps around the keypoint's pixel by the stride, so that cell k is pixel
4 k, whose middle this is; not the middle of the four pixels that it covers (ADR 0076).
"""


def teacher_labels(split: Split, images: Images, look: HeatmapNet, cache: Path) -> PoseLabels:
    """Label the people that only the person detector found; at once, or from the cache.

    The height of a peak is the teacher's score, 0 to 1.
    """
    labelled = np.bincount(split["person_img"], minlength=len(split["img_wh"]))
    found = [
        (image, box)
        for image, (people, first) in enumerate(zip(box_labels(split), labelled, strict=True))
        for box in people.box[first:]
        if box[3] - box[1] >= LEAST_HEIGHT
    ]
    image = np.array([index for index, _ in found], np.int64)
    box = np.array([corners for _, corners in found]).reshape(-1, 4)
    digest = hashlib.sha256(image.tobytes() + box.tobytes()).hexdigest()[:12]
    path = cache / f"teacher-both-ways-{split.name}-{digest}.npy"
    if not path.is_file():
        people = zip(image.tolist(), box, strict=True)
        answers = [_ask(look, images[i], corners) for i, corners in people]
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, np.array(answers).reshape(-1, len(COCO17), 3))
        part.rename(path)
    return believe(image, box, np.load(path))


@dataclass(frozen=True, slots=True, eq=False)
class TeacherMaps:
    """All that a heatmap network sees around each person and in the mirror, kept as bytes."""

    maps: UInt8[np.ndarray, "P h w J"]
    """Heights 0..1 in 255 steps."""
    crop: Float[np.ndarray, "P 4"]
    """The part of the picture that each of them covers."""

    @classmethod
    def open(
        cls, labels: PoseLabels, images: Images, look: HeatmapNet, cache: Path
    ) -> "TeacherMaps":
        """Map the file of these people into memory, writing it first if it is not there."""
        digest = hashlib.sha256(labels.image.tobytes() + labels.box.tobytes()).hexdigest()[:12]
        path = cache / f"maps-both-ways-{digest}.npy"
        crop = np.stack([crop_box(box) for box in labels.box])
        if not path.is_file():
            grey = np.full((1, look.view.height, look.view.width, 3), OUTSIDE, np.uint8)
            _, n_keypoints, h, w = look(grey).shape
            part = path.with_suffix(f".{os.getpid()}.part")
            shape = (len(labels), h, w, n_keypoints)
            kept = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
            for row, (image, box) in enumerate(zip(labels.image.tolist(), labels.box, strict=True)):
                heatmaps = both_ways(look, _cut(look, images[image], box)[1])
                kept[row] = np.clip(255 * heatmaps + 0.5, 0, 255)
            kept.flush()
            part.rename(path)
        return cls(np.load(path, mmap_mode="r"), crop)

    def seen(
        self,
        row: int,
        crop_from_image: Affine,
        frame: Float[np.ndarray, "4"],
        shape: tuple[int, int],
    ) -> Float[np.ndarray, "J h w"]:
        """One person's maps in another view of them, on the grid that our own maps have there.

        Of what lies outside the frame (picture px) the view shows nothing, and nothing is taught.
        """
        height, width = shape
        h, w = map_shape(shape)
        maps = self.maps[row]
        grid = 0.5 - FIRST_CELL + np.array([0.0, 0.0, maps.shape[1], maps.shape[0]])
        image_from_maps = Affine.between_boxes(grid, self.crop[row])
        cells = Affine.between_boxes(
            np.array([0.0, 0.0, width, height]), np.array([0.0, 0.0, w, h])
        )
        cells_from_maps = cells.after(crop_from_image).after(image_from_maps)
        maps = _inside(np.asarray(maps), image_from_maps.inverse().points(frame.reshape(2, 2)))
        view = cv2.warpAffine(maps, cells_from_maps.for_cv2(), (w, h))
        if np.linalg.det(crop_from_image.linear) < 0:
            view = view[..., COCO17.mirror]
        return view.transpose(2, 0, 1).astype(np.float32) / 255


def both_ways(look: HeatmapNet, crop: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "h w J"]:
    """The mean of what a teacher sees in a crop and in its mirror image (the flip test)."""
    straight, mirrored = look(np.stack([crop, crop[:, ::-1]])).transpose(0, 2, 3, 1)
    back = np.ascontiguousarray(mirrored[:, ::-1][..., COCO17.mirror])
    # Mirrored, the first cell stands as far from the other side.
    aside = Affine(np.eye(2), np.array([1.0 - 2 * FIRST_CELL, 0.0]))
    h, w = back.shape[:2]
    back = cv2.warpAffine(back, aside.for_cv2(), (w, h), borderMode=cv2.BORDER_REPLICATE)
    return (straight + back) / 2


def _inside(
    maps: UInt8[np.ndarray, "h w J"], frame: Float[np.ndarray, "2 2"]
) -> UInt8[np.ndarray, "h w J"]:
    """The same maps, nothing outside of two corners (x, y)."""
    (x0, y0), (x1, y1) = np.clip(np.round(frame), 0, [maps.shape[1], maps.shape[0]]).astype(int)
    kept = np.zeros_like(maps)
    kept[y0:y1, x0:x1] = maps[y0:y1, x0:x1]
    return kept


def map_shape(crop: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of our own heatmaps of a crop: stride 8."""
    return crop[0] // 8, crop[1] // 8


def believe(
    image: np.ndarray, box: Float[np.ndarray, "P 4"], answer: Float[np.ndarray, "P J 3"]
) -> PoseLabels:
    """How far to trust a teacher (x, y, score) on somebody whom no human labelled.

    Without a human's box even a sure point counts less than any human's, and people of whom the
    teacher sees little (dogs, statues, the arm of a neighbour) are left out.
    """
    xy, score = answer[..., :2].astype(np.float64), answer[..., 2]
    weight = np.select([score > 0.5, score > 0.3], [0.7, 0.35], 0.0)
    visible = np.select([score > 0.5, score < 0.15], [1.0, 0.0], np.nan)
    keep = (weight.sum(axis=1) > 2.5) & (score.mean(axis=1) > 0.25)
    labels = PoseLabels(image, box, xy, weight, visible, np.zeros(len(image), bool))
    return labels.take(keep)


def _ask(
    look: HeatmapNet, picture: UInt8[np.ndarray, "H W 3"], box: Float[np.ndarray, "4"]
) -> Float[np.ndarray, "J 3"]:
    view, crop = _cut(look, picture, box)
    maps = both_ways(look, crop)
    xy, score = peaks(maps.transpose(2, 0, 1))
    cell = look.view.height / len(maps)
    return np.column_stack([view.inverse().points(cell * (xy - 0.5 + FIRST_CELL)), score])


def _cut(
    look: HeatmapNet, picture: UInt8[np.ndarray, "H W 3"], box: Float[np.ndarray, "4"]
) -> tuple[Affine, UInt8[np.ndarray, "h w 3"]]:
    """The teacher's view of a person, and its map from the picture."""
    height, width = look.view.height, look.view.width
    view = Affine.between_boxes(crop_box(box), np.array([0.0, 0.0, width, height]))
    return view, warp(picture, view, height, width)


def peaks(
    maps: Float[np.ndarray, "J h w"],
) -> tuple[Float[np.ndarray, "J 2"], Float[np.ndarray, " J"]]:
    """Place of each maximum, cells, by a step of Newton's on the log map (DARK), and its height."""
    n, h, w = maps.shape
    smooth = np.stack([cv2.GaussianBlur(map_, (0, 0), 1.2) for map_ in maps.astype(np.float64)])
    row, column = np.unravel_index(maps.reshape(n, -1).argmax(axis=1), (h, w))
    score = maps[np.arange(n), row, column]
    # Repeated borders make the slope there nearly nil: a peak on the border stays in its cell.
    padded = np.log(np.maximum(np.pad(smooth, ((0, 0), (1, 1), (1, 1)), mode="edge"), 1e-6))
    around = padded[
        np.arange(n)[:, None, None],
        row[:, None, None] + np.arange(3)[:, None],
        column[:, None, None] + np.arange(3),
    ]
    gx, gy = (around[:, 1, 2] - around[:, 1, 0]) / 2, (around[:, 2, 1] - around[:, 0, 1]) / 2
    centre = 2 * around[:, 1, 1]
    xx, yy = around[:, 1, 2] + around[:, 1, 0] - centre, around[:, 2, 1] + around[:, 0, 1] - centre
    xy = (around[:, 2, 2] + around[:, 0, 0] - around[:, 2, 0] - around[:, 0, 2]) / 4
    det = xx * yy - xy**2
    bowl = (xx < 0) & (det > 1e-6)
    det = np.where(bowl, det, 1.0)
    step = -np.stack([yy * gx - xy * gy, xx * gy - xy * gx], axis=1) / det[:, None]
    step = np.clip(np.where(bowl[:, None], step, 0.0), -1, 1)
    return np.column_stack([column, row]) + 0.5 + step, score


class Taught(NamedTuple):
    """What a detector says of every cell of a canvas, strides 8, 16, 32."""

    box: Float[Tensor, "B N 4"]
    """Canvas px."""
    score: Float[Tensor, "B N"]
    features: tuple[Float[Tensor, "B c h w"], ...] = ()
    """What its heads look at, fine to coarse; of a file without these names none."""

    def to(self, device: str) -> "Taught":
        features = tuple(level.to(device) for level in self.features)
        return Taught(self.box.to(device), self.score.to(device), features)


class DenseTeacher:
    """A one-stage person detector as RTMDet is exported: a map of five numbers for each stride.

    BGR in, ImageNet mean and spread; (1, n, n, 5) out: logit, then the distances to the left, top,
    right and bottom sides from the cell's corner, px.
    """

    MEAN = np.array([103.53, 116.28, 123.675], np.float32)
    SPREAD = np.array([57.375, 57.12, 58.395], np.float32)
    FEATURES = tuple(
        f"/model/neck/out_convs.{level}/pointwise_conv/activate/Mul_output_0" for level in range(3)
    )

    def __init__(self, path: Path, cache: Path) -> None:
        self.engine = engines.load(_free_sizes(path, cache), "cpu", threads=1)
        (image,) = self.engine.inputs
        self.name = image.name
        blank = self(np.zeros((1, 64, 64, 3), np.uint8))
        self.widths = tuple(level.shape[1] for level in blank.features)
        """Channels of its features."""

    def __call__(self, canvas: UInt8[np.ndarray, "B size size 3"]) -> Taught:
        """Ask about RGB canvases whose side is a multiple of 32 px."""
        image = (canvas[..., ::-1].astype(np.float32) - self.MEAN) / self.SPREAD
        answers = [self._ask(view) for view in image.transpose(0, 3, 1, 2)[:, None]]
        parts = (torch.from_numpy(np.stack(part)) for part in zip(*answers, strict=True))
        box, score, *features = parts
        return Taught(box, score, tuple(features))

    def _ask(self, view: np.ndarray) -> tuple[np.ndarray, ...]:
        """All cells of one canvas, fine to coarse: boxes and scores; then its features."""
        found = self.engine({self.name: np.ascontiguousarray(view)})
        features = [found.pop(name)[0] for name in self.FEATURES if name in found]
        by_stride = sorted((maps[0] for maps in found.values()), key=len, reverse=True)
        cells = np.concatenate([maps.reshape(-1, 5) for maps in by_stride])
        corner = np.concatenate([_corners(len(maps), view.shape[-1]) for maps in by_stride])
        box = np.concatenate([corner - cells[:, 1:3], corner + cells[:, 3:]], axis=1)
        return box.astype(np.float32), expit(cells[:, 0]), *features


def _free_sizes(path: Path, cache: Path) -> Path:
    """The same network for pictures of any size: it is all convolutions, only its file says 320.

    It also gives its features, where it has them.
    """
    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise DataError(f"{path} cannot be read as a detector (.onnx): {error}") from error
    pictures = [(value, (2, 3)) for value in model.graph.input]
    maps = [(value, (1, 2)) for value in model.graph.output]
    for value, sides in pictures + maps:
        for axis in sides:
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    inside = {name for node in model.graph.node for name in node.output}
    for name in DenseTeacher.FEATURES:
        if name in inside:
            kind = onnx.TensorProto.FLOAT
            shape = [f"{name}_{axis}" for axis in range(4)]
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    del model.graph.value_info[:]  # shapes inferred from the old sizes
    cache.mkdir(parents=True, exist_ok=True)
    free = cache / f"{path.stem}-any-size.onnx"
    onnx.save(model, free)
    return free


def _corners(n: int, size: int) -> Float[np.ndarray, "N 2"]:
    """Top-left corners of n × n cells, row by row, px."""
    row, column = np.divmod(np.arange(n * n), n)
    return np.stack([column, row], axis=1) * (size / n)
