"""Random views of a labelled person or a labelled picture, with their labels moved along."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from tracker.crops import OUTSIDE, crop_box, warp
from tracker.geometry import Affine, box_iou, person_area
from tracker.skeleton import COCO17

PARTS = (np.arange(0, 7), np.arange(0, 11), np.arange(5, 13), np.arange(11, 17))
"""Head and shoulders, the upper body, the trunk with its arms, the legs."""
PART_SHARES = (0.25, 0.4, 0.15, 0.2)
SIDES = (0.25, 0.15, 0.25, 0.35)
"""How often the picture ends at a body's left, top, right and bottom."""
LEAST_FRAME = 16.0
"""Of a picture that ends within a body, and of that body, no less is left, px."""


@dataclass(frozen=True)
class CropAugment:
    """How far a training crop may stray from the box that a detector would give."""

    rotation: float = 30.0
    """Two standard deviations of the angle, degrees; six crops in ten are turned."""
    scale: tuple[float, float] = (0.75, 1.3)
    shift: float = 0.06
    """Standard deviation of the centre, parts of the crop's height."""
    half_body: float = 0.35
    """Part of the crops that show the head and shoulders, the upper body, … alone."""
    edge: float = 0.2
    """Part of the crops of people at the edge of a picture, which ends within their body."""
    occlude: float = 0.2
    low_resolution: float = 0.15
    negative: float = 0.04
    """Part of the crops that show no person at all, …"""
    alarm: float = 0.06
    """… and that show what a detector took for one (`training.alarms`)."""


class CropSample(NamedTuple):
    """One training crop; positions in crop heights, from the crop's top-left corner."""

    image: UInt8[np.ndarray, "height width 3"]
    keypoints: Float[np.ndarray, "J 2"]
    weight: Float[np.ndarray, " J"]
    visible: Float[np.ndarray, " J"]
    """1, 0 or NaN (not known)."""
    size: float
    """sqrt of the person's area, crop heights: the length that OKS measures with."""
    view: Affine
    """Crop px from picture px; mirrored where its determinant is negative."""
    frame: Float[np.ndarray, "4"]
    """What of the picture there is to see, picture px."""
    taught: Float[np.ndarray, "J h w"] | None = None
    """What a teacher's heatmaps show in this view, 0..1."""


class Person(NamedTuple):
    """The labels of one person in picture coordinates, px."""

    box: Float[np.ndarray, "4"]
    keypoints: Float[np.ndarray, "J 2"]
    weight: Float[np.ndarray, " J"]
    visible: Float[np.ndarray, " J"]


def augment_crop(
    image: UInt8[np.ndarray, "H W 3"],
    person: Person,
    shape: tuple[int, int],
    rng: np.random.Generator,
    config: CropAugment = CropAugment(),
) -> CropSample:
    """Cut one random view of a person, `shape` (height, width) pixels large."""
    height, width = shape
    box, frame = person.box, _frame(image)
    lot = rng.random()
    if lot < config.half_body:
        box = _half_body(person, rng)
    elif lot < config.half_body + config.edge:
        frame = _picture_edge(box, frame, rng)
        box = np.concatenate([np.maximum(box[:2], frame[:2]), np.minimum(box[2:], frame[2:])])
    crop_from_image = _random_view(box, shape, rng, config)
    flip = rng.random() < 0.5
    if flip:
        mirror = Affine(np.diag([-1.0, 1.0]), np.array([float(width), 0.0]))
        crop_from_image = mirror.after(crop_from_image)

    x0, y0, x1, y1 = frame.astype(int).tolist()
    crop_from_frame = crop_from_image.after(Affine(np.eye(2), frame[:2]))
    picture = warp(image[y0:y1, x0:x1], crop_from_frame, *shape)
    xy = crop_from_image.points(person.keypoints)
    scale = np.sqrt(np.abs(np.linalg.det(crop_from_image.linear)))
    beyond = np.maximum(
        _beyond(xy, np.array([0.0, 0.0, width, height])), scale * _beyond(person.keypoints, frame)
    )
    weight, visible = person.weight.copy(), person.visible.copy()
    if flip:
        xy, weight, visible, beyond = (a[COCO17.mirror] for a in (xy, weight, visible, beyond))
    if rng.random() < config.occlude:
        picture, covered = _occlude(picture, xy, image, rng)
        visible[covered] = 0.0
    visible[beyond >= 0] = 0.0
    # Far outside, the crop tells nothing and the network cannot point there.
    weight[beyond >= 0.1 * height] = 0.0
    size = scale * np.sqrt(person_area(person.box))
    picture = _photograph(picture, rng, config.low_resolution)
    size = float(size / height)
    return CropSample(picture, xy / height, weight, visible, size, crop_from_image, frame)


def plain_crop(
    image: UInt8[np.ndarray, "H W 3"], person: Person, shape: tuple[int, int]
) -> CropSample:
    """The view that the running network gets: for measuring."""
    height, width = shape
    target = np.array([0.0, 0.0, width, height])
    crop_from_image = Affine.between_boxes(crop_box(person.box), target)
    xy = crop_from_image.points(person.keypoints)
    size = crop_from_image.linear[0, 0] * np.sqrt(person_area(person.box))
    return CropSample(
        warp(image, crop_from_image, *shape),
        xy / height,
        person.weight,
        person.visible,
        float(size / height),
        crop_from_image,
        _frame(image),
    )


def negative_crop(
    image: UInt8[np.ndarray, "H W 3"],
    people: Float[np.ndarray, "n 4"],
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> CropSample | None:
    """A crop of the picture that holds (nearly) no person, or None where there is no room."""
    height, width = shape
    h, w = image.shape[:2]
    for _ in range(8):
        tall = h * rng.uniform(0.15, 0.7)
        wide = tall * width / height
        corner = rng.uniform([-0.2 * wide, -0.2 * tall], [w - 0.8 * wide, h - 0.8 * tall])
        box = np.concatenate([corner, corner + np.array([wide, tall])])
        if box_iou(box[None], people).max(initial=0.0) < 0.05 and not covers(people, box):
            crop_from_image = Affine.between_boxes(box, np.array([0.0, 0.0, width, height]))
            picture = _photograph(warp(image, crop_from_image, *shape), rng, 0.1)
            n = len(COCO17)
            zeros = np.zeros(n)
            frame = _frame(image)
            return CropSample(picture, np.zeros((n, 2)), zeros, zeros, 0.5, crop_from_image, frame)
    return None


def covers(people: Float[np.ndarray, "n 4"], box: Float[np.ndarray, "4"]) -> bool:
    """Whether a good part of some person lies in the box, or of the box in a person."""
    low = np.maximum(people[:, :2], box[:2])
    high = np.minimum(people[:, 2:], box[2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    smaller = np.minimum((people[:, 2:] - people[:, :2]).prod(axis=1), (box[2:] - box[:2]).prod())
    return bool((shared > 0.15 * smaller).any())


def _half_body(person: Person, rng: np.random.Generator) -> Float[np.ndarray, "4"]:
    """The box of a part of the body: people stand behind tables and at the picture's edge."""
    part = PARTS[rng.choice(len(PARTS), p=PART_SHARES)]
    chosen = part[person.weight[part] > 0]
    if len(chosen) < 4:
        return person.box
    xy = person.keypoints[chosen]
    low, high = xy.min(axis=0), xy.max(axis=0)
    grow = 0.15 * (high - low).max()
    if min(high - low) + 2 * grow < 8:
        return person.box
    return np.concatenate([low - grow, high + grow])


def _frame(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "4"]:
    """The whole picture as a box, px."""
    height, width = image.shape[:2]
    return np.array([0.0, 0.0, width, height])


def _picture_edge(
    box: Float[np.ndarray, "4"], frame: Float[np.ndarray, "4"], rng: np.random.Generator
) -> Float[np.ndarray, "4"]:
    """A smaller picture, whole pixels, whose edge runs through somebody, sometimes two of them."""
    frame = frame.copy()
    for side in rng.choice(4, size=1 + (rng.random() < 0.3), replace=False, p=SIDES).tolist():
        axis, far = side % 2, side >= 2
        low, high = np.clip(box[[axis, axis + 2]], frame[axis], frame[axis + 2])
        kept = rng.uniform(0.3, 0.9) * (high - low)
        at = np.round(low + kept if far else high - kept)
        if min(at - frame[axis], frame[axis + 2] - at, kept) >= LEAST_FRAME:
            frame[side] = at
    return frame


def _beyond(xy: Float[np.ndarray, "J 2"], frame: Float[np.ndarray, "4"]) -> Float[np.ndarray, " J"]:
    """How far points lie outside a frame along its axes, below 0 inside."""
    return np.maximum(frame[:2] - xy, xy - frame[2:]).max(axis=1)


def _random_view(
    box: Float[np.ndarray, "4"],
    shape: tuple[int, int],
    rng: np.random.Generator,
    config: CropAugment,
) -> Affine:
    height, width = shape
    view = crop_box(box)
    tall = view[3] - view[1]
    scale = height / (tall * np.exp(rng.uniform(*np.log(config.scale))))
    centre = (view[:2] + view[2:]) / 2 + config.shift * tall * rng.standard_normal(2).clip(-2, 2)
    angle = 0.0
    if rng.random() < 0.6:
        angle = np.deg2rad(config.rotation) * rng.standard_normal() / 2
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Affine(turn, np.array([width, height]) / 2 - turn @ centre)


def _occlude(
    picture: UInt8[np.ndarray, "h w 3"],
    xy: Float[np.ndarray, "J 2"],
    donor: UInt8[np.ndarray, "H W 3"],
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "h w 3"], np.ndarray]:
    """Cover parts of the crop; give the keypoints that are hidden by it."""
    height, width = picture.shape[:2]
    picture = picture.copy()
    covered = np.zeros(len(xy), bool)
    for _ in range(rng.integers(1, 4)):
        wide, tall = (rng.uniform(0.1, 0.45, 2) * [width, height]).astype(int)
        x, y = rng.integers(0, width - wide), rng.integers(0, height - tall)
        patch = np.empty((tall, wide, 3), np.uint8)
        if rng.random() < 0.5:
            patch[:] = rng.integers(0, 256, 3)
        else:
            h, w = donor.shape[:2]
            u, v = rng.integers(0, max(1, w - wide)), rng.integers(0, max(1, h - tall))
            cv2.resize(donor[v : v + tall, u : u + wide], (wide, tall), dst=patch)
        mask = np.zeros((tall, wide), np.uint8)
        if rng.random() < 0.5:
            cv2.ellipse(mask, (wide // 2, tall // 2), (wide // 2, tall // 2), 0, 0, 360, 255, -1)
        else:
            mask[:] = 255
        where = mask > 0
        picture[y : y + tall, x : x + wide][where] = patch[where]
        cell = np.floor(xy).astype(int) - [x, y]
        inside = ((cell >= 0) & (cell < [wide, tall])).all(axis=1)
        covered[inside] |= where[cell[inside, 1], cell[inside, 0]]
    return picture, covered


def _photograph(
    picture: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator, low_resolution: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Another camera, another light."""
    height, width = picture.shape[:2]
    if rng.random() < low_resolution:
        factor = rng.uniform(0.2, 0.6)
        small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, (width, height))
    if rng.random() < 0.1:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 2.0))
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))]
        jpeg = cv2.imencode(".jpg", picture, quality)[1]
        picture = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)
    # A random 3 × 4 colour matrix: exposure, contrast, saturation and white balance in one pass.
    grey = np.full((3, 3), 1 / 3)
    saturation = 0.0 if rng.random() < 0.05 else rng.uniform(0.5, 1.4)
    colour = saturation * np.eye(3) + (1 - saturation) * grey
    colour = rng.uniform(0.7, 1.35) * np.diag(rng.uniform(0.88, 1.12, 3)) @ colour
    offset = 128 * (1 - colour.sum(axis=1)) * rng.uniform(0, 1) + rng.uniform(-20, 20)
    return cv2.transform(picture, np.column_stack([colour, offset]))


@dataclass(frozen=True)
class CanvasAugment:
    """How pictures are put together for the detector."""

    mosaic: float = 0.55
    """Part of the canvases made of several pictures: people become small and many."""
    scale: tuple[float, float] = (0.6, 1.8)
    least: float = 8.0
    """People lower than this on the canvas are neither people nor background, px."""


class CanvasSample(NamedTuple):
    """One training picture for the detector, boxes in its pixels."""

    image: UInt8[np.ndarray, "size size 3"]
    box: Float[np.ndarray, "n 4"]
    ignore: np.ndarray


class Scene(NamedTuple):
    """A picture with its people's boxes."""

    image: UInt8[np.ndarray, "H W 3"]
    box: Float[np.ndarray, "n 4"]
    ignore: np.ndarray


def augment_canvas(
    scenes: list[Scene],
    size: int,
    rng: np.random.Generator,
    config: CanvasAugment = CanvasAugment(),
) -> CanvasSample:
    """Fill a square canvas with one picture or with a mosaic of them (four are given)."""
    canvas = np.full((size, size, 3), OUTSIDE, np.uint8)
    if rng.random() < config.mosaic:
        cut_x, cut_y = (rng.uniform(0.3, 0.7, 2) * size).astype(int).tolist()
        cells = [
            (0, 0, cut_x, cut_y),
            (cut_x, 0, size, cut_y),
            (0, cut_y, cut_x, size),
            (cut_x, cut_y, size, size),
        ]
    else:
        cells = [(0, 0, size, size)]
    parts = [
        _place(canvas, cell, scene, rng, config) for cell, scene in zip(cells, scenes, strict=False)
    ]
    box = np.concatenate([p[0] for p in parts])
    ignore = np.concatenate([p[1] for p in parts])
    ignore = ignore | ((box[:, 3] - box[:, 1]) < config.least)
    return CanvasSample(_photograph(canvas, rng, 0.1), box, ignore)


def _place(
    canvas: UInt8[np.ndarray, "size size 3"],
    cell: tuple[int, int, int, int],
    scene: Scene,
    rng: np.random.Generator,
    config: CanvasAugment,
) -> tuple[Float[np.ndarray, "n 4"], np.ndarray]:
    """Draw a random view of a picture into a cell; give the boxes that remain in it."""
    x0, y0, x1, y1 = cell
    h, w = scene.image.shape[:2]
    fit = min((x1 - x0) / w, (y1 - y0) / h)
    scale = fit * np.exp(rng.uniform(*np.log(config.scale)))
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    linear = np.diag([scale * stretch, scale / stretch])
    room = np.array([x1 - x0, y1 - y0]) - linear @ [w, h]
    view = Affine(linear, room * rng.uniform(0, 1, 2))
    if rng.random() < 0.5:
        view = Affine(np.diag([-1.0, 1.0]), np.array([float(x1 - x0), 0.0])).after(view)
    shape = (y1 - y0, x1 - x0)
    target = canvas[y0:y1, x0:x1]
    drawn = warp(scene.image, view, *shape)
    low, high = np.sort(view.points(np.array([[0.0, 0.0], [w, h]])), axis=0)
    (a, b), (c, d) = np.clip(np.round([low, high]).astype(int), 0, [[x1 - x0, y1 - y0]] * 2)
    target[b:d, a:c] = drawn[b:d, a:c]

    corners = np.sort(view.points(scene.box.reshape(-1, 2, 2)), axis=1)
    clipped = np.clip(corners, 0, [x1 - x0, y1 - y0])
    whole = (corners[:, 1] - corners[:, 0]).prod(axis=1)
    left = (clipped[:, 1] - clipped[:, 0]).prod(axis=1) / np.maximum(whole, 1e-6)
    box = (clipped + np.array([x0, y0])).reshape(-1, 4)
    keep = left > 0.05
    return box[keep], (scene.ignore | (left < 0.3))[keep]
