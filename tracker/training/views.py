"""What a frozen network sees of many labelled crops, computed once and kept in a folder.

The folder holds `heatmap.npy` (N, J, h, w), float16 or float32, of our own network also
`features.npy` and `context.npy`, and `labels.npz`:

- `keypoints` (N, J, 2): x, y in crop heights from the crop's top-left corner;
- `weight` (N, J): trust in each, 0 (not labelled) to 1;
- `visible` (N, J): 1 seen, 0 not seen, NaN not known;
- `size` (N,): sqrt of the person's area, crop heights;
- `held_out` (N,): whether the view is kept from training, for calibration (`calibration_crops`).

Whoever runs his network somewhere else writes these files himself.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from tracker.training.augment import CropAugment, CropSample, augment_crop, plain_crop
from tracker.training.data import (
    DataError,
    Images,
    PoseLabels,
    Split,
    calibration_rows,
    held_out,
    honest_labels,
)
from tracker.training.pose import OKS_FALLOFF, PoseBatch

SEEN = ("heatmap", "features", "context")
RANDOM_VIEWS = 2
"""Of each person held out: with one, the draw moves coverage by two points."""

log = logging.getLogger("surepose.train")

Look = Callable[[UInt8[np.ndarray, "B H W 3"]], dict[str, np.ndarray]]
"""From RGB crops to some of SEEN."""


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """The folder, opened; arrays of the maps stay on the disk."""

    seen: tuple[np.ndarray, ...]
    """In the order of SEEN."""
    keypoints: Float[np.ndarray, "N J 2"]
    weight: Float[np.ndarray, "N J"]
    visible: Float[np.ndarray, "N J"]
    size: Float[np.ndarray, " N"]
    held_out: Bool[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.size)

    @classmethod
    def open(cls, folder: Path) -> "Views":
        """Read what `write_views`, or somebody else, has written."""
        labels = folder / "labels.npz"
        maps = [folder / f"{name}.npy" for name in SEEN]
        if not (labels.is_file() and maps[0].is_file()):
            raise DataError(f"{folder} needs heatmap.npy and labels.npz (tracker.training.views)")
        seen = tuple(np.load(path, mmap_mode="r") for path in maps if path.is_file())
        with np.load(labels, allow_pickle=False) as arrays:
            names = ("keypoints", "weight", "visible", "size")
            floats = {name: arrays[name].astype(np.float64) for name in names}
            views = cls(seen, **floats, held_out=arrays["held_out"].astype(bool))
        if any(len(array) != len(views) for array in (*seen, views.keypoints)):
            raise DataError(f"the arrays in {folder} are not of one length")
        return views

    def batch(self, rows: np.ndarray) -> tuple[tuple[Tensor, ...], PoseBatch]:
        """What was seen of some crops, float32, and their labels (without the pictures)."""

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.asarray(array[rows], np.float32))

        labels = PoseBatch(
            torch.empty(0),
            tensor(self.keypoints),
            tensor(self.weight),
            tensor(self.visible),
            tensor(self.size)[:, None] * OKS_FALLOFF,
        )
        return tuple(map(tensor, self.seen)), labels


def crops(
    data: Path,
    cache: Path,
    shape: tuple[int, int],
    views: int,
    seed: int,
    augment: CropAugment,
) -> Iterator[tuple[CropSample, bool]]:
    """Random views of the people to train on, then those of the people held out."""
    split = Split.load(data, "train")
    labels = honest_labels(split)
    images = Images.open(split, cache)
    labelled = (labels.weight > 0).sum(axis=1) > 2
    rows = np.nonzero(~held_out(labels.image) & labelled)[0]
    rng = np.random.default_rng(seed)
    # Everybody once before anybody twice.
    order = np.concatenate([rng.permutation(rows) for _ in range(-(-views // max(len(rows), 1)))])
    for row in order[:views].tolist():
        person = labels.person(row)
        yield augment_crop(images[int(labels.image[row])], person, shape, rng, augment), False
    for sample in calibration_crops(labels, images, shape):
        yield sample, True


def calibration_crops(
    labels: PoseLabels, images: Images, shape: tuple[int, int]
) -> Iterator[CropSample]:
    """Views of the people kept from training on which error bars are fitted.

    Each as they are, whole and well lit as labelled pictures show people, and in random views: cut,
    hidden or blurred, as users meet them (docs/adr/0031).
    """
    rng = np.random.default_rng(0)
    for row in calibration_rows(labels):
        image, person = images[int(labels.image[row])], labels.person(row)
        yield plain_crop(image, person, shape)
        for _ in range(RANDOM_VIEWS):
            yield augment_crop(image, person, shape, rng, CropAugment())


def write_views(
    folder: Path,
    look: Look,
    samples: Iterator[tuple[CropSample, bool]],
    origin: dict[str, object],
    batch: int = 32,
) -> Views:
    """Look at every crop and keep what is seen; nothing is done where that was done before.

    Args:
        folder: Where the files go.
        look: The frozen network.
        samples: Labelled crops, and whether each is held out.
        origin: What the views depend on, in JSON's terms.
        batch: Crops a call of the network.
    """
    told = json.dumps(origin, sort_keys=True)
    done = folder / "origin.json"
    if done.is_file() and done.read_text(encoding="utf-8") == told:
        return Views.open(folder)
    folder.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    parts: dict[str, list[np.ndarray]] = {}
    labels: list[CropSample] = []
    kept: list[bool] = []
    for group in _groups(samples, batch):
        for name, array in look(np.stack([sample.image for sample, _ in group])).items():
            parts.setdefault(name, []).append(array.astype(np.float16))
        labels += [sample._replace(image=np.empty((0, 0, 3), np.uint8)) for sample, _ in group]
        kept += [out for _, out in group]
        if len(kept) % (32 * batch) == 0:
            log.info("looked at %d crops", len(kept))
    if not kept or all(kept):
        raise DataError("nobody to fit the sampler on: too few people with labelled keypoints")
    for name in parts:
        np.save(folder / f"{name}.npy", np.concatenate(parts[name]))
    names = ("keypoints", "weight", "visible", "size")
    columns = {name: np.stack([getattr(s, name) for s in labels]) for name in names}
    np.savez(folder / "labels.npz", allow_pickle=False, held_out=np.array(kept), **columns)
    done.write_text(told, encoding="utf-8")
    return Views.open(folder)


def _groups(
    samples: Iterator[tuple[CropSample, bool]], size: int
) -> Iterator[list[tuple[CropSample, bool]]]:
    group: list[tuple[CropSample, bool]] = []
    for sample in samples:
        group.append(sample)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
