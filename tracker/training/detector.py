"""Train the person detector: `surepose train detector --data DIR --out DIR`, resumable.

Cells learn from the people they already fit best (task-aligned assignment, TOOD, arXiv
2108.07755): for each person the ten cells of largest √score·IoU⁶ inside the box are positive. With
a teacher, every cell also learns what a trained detector says there of the very same canvas, and
its features learn to tell the teacher's (docs/adr/0066).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tracker.nets.backbone import cell_centres
from tracker.nets.detector import STRIDES, DetectorConfig, DetectorModule
from tracker.training.augment import CanvasAugment, CanvasSample, Scene, augment_canvas
from tracker.training.data import DataError, box_labels, empty_strip, held_out, open_splits
from tracker.training.loop import channels_last, cosine, stage_after
from tracker.training.precision import mixed_precision
from tracker.training.teacher import DenseTeacher, Taught


@dataclass(frozen=True)
class DetectorStage:
    """A part of the run; every batch draws one of its canvas sizes."""

    images: int
    sizes: tuple[int, ...]
    """Sides, px: users look at small pictures and at large ones."""
    canvas: CanvasAugment = field(default_factory=CanvasAugment)

    @classmethod
    def parse(cls, text: str) -> "DetectorStage":
        """Read `images:sides`, as "60000:320,416,512"."""
        try:
            images, sides = text.split(":")
            return cls(int(images), tuple(map(int, sides.split(","))))
        except ValueError as error:
            raise DataError(f"a stage is IMAGES:SIDE[,SIDE…], got {text!r}") from error


@dataclass(frozen=True)
class DetectorRecipe:
    """The whole training in numbers."""

    stages: tuple[DetectorStage, ...] = (DetectorStage(250_000, (320, 416, 512)),)
    batch: int = 16
    learning_rate: float = 1.5e-3
    synthetic: float = 0.1
    """Share of the pictures that are rendered."""
    background: float = 0.08
    """Share of the pictures of which only the largest strip without labelled people is shown."""
    seed: int = 0
    net: DetectorConfig = field(default_factory=DetectorConfig)

    def at(self, seen: int) -> DetectorStage:
        return stage_after(seen, self.stages, lambda stage: stage.images)[0]


@dataclass(frozen=True, slots=True, eq=False)
class DetectorBatch:
    """Tensors of one step; people padded to the most of the batch."""

    image: Tensor
    box: Float[Tensor, "B n 4"]
    exists: Bool[Tensor, "B n"]
    """False for padding."""
    ignore: Bool[Tensor, "B n"]
    taught: Taught | None = None
    """What a teacher says of every cell."""

    def to(self, device: str) -> "DetectorBatch":
        tensors = (self.image, self.box, self.exists, self.ignore)
        taught = None if self.taught is None else self.taught.to(device)
        image, box, exists, ignore = (t.to(device, non_blocking=True) for t in tensors)
        return DetectorBatch(image, box, exists, ignore, taught)


class Pupil(nn.Module):
    """A detector, and layers that say what its features are in those of a teacher."""

    def __init__(self, config: DetectorConfig, widths: Sequence[int]) -> None:
        super().__init__()
        self.detector = DetectorModule(config)
        self.translate = nn.ModuleList(nn.Conv2d(config.features, width, 1) for width in widths)


class DetectorTask:
    """What the trainer runs."""

    def __init__(
        self,
        recipe: DetectorRecipe,
        data: Path,
        cache: Path,
        device: str = "cpu",
        teacher: DenseTeacher | None = None,
    ) -> None:
        torch.manual_seed(recipe.seed)
        splits = open_splits(data, cache, recipe.synthetic)
        self.sources = [(box_labels(split), images) for split, images, _ in splits]
        self.rows = [np.nonzero(~held_out(np.arange(len(labels))))[0] for labels, _ in self.sources]
        self.shares = np.array([share for _, _, share in splits])
        self.recipe = recipe
        self.device = device
        self.teacher = teacher
        self.total = sum(stage.images for stage in recipe.stages)
        widths = () if teacher is None else teacher.widths
        self.net = channels_last(Pupil(recipe.net, widths).to(device))

    def learning_rate(self, seen: int) -> float:
        return cosine(seen / self.total, self.recipe.learning_rate, 1e-5)

    def batch(self, step_seed: int, seen: int) -> DetectorBatch:
        stage = self.recipe.at(seen)
        rng = np.random.default_rng((self.recipe.seed, step_seed))
        chosen = rng.choice(len(self.sources), (self.recipe.batch, 4), p=self.shares)
        size = int(rng.choice(stage.sizes))
        samples = [
            augment_canvas([self._scene(i, rng) for i in four], size, rng, stage.canvas)
            for four in chosen.tolist()
        ]
        batch = collate(samples)
        if self.teacher is None:
            return batch
        return replace(batch, taught=self.teacher(np.stack([s.image for s in samples])))

    def _scene(self, source: int, rng: np.random.Generator) -> Scene:
        labels, images = self.sources[source]
        rows = self.rows[source]
        index = int(rows[rng.integers(len(rows))])
        scene = Scene(images[index], labels[index].box, labels[index].ignore)
        return without_people(scene) if rng.random() < self.recipe.background else scene

    def loss(self, batch: DetectorBatch, seen: int) -> dict[str, Tensor]:
        batch = batch.to(self.device)
        with mixed_precision(self.device):
            levels = self.net.detector.levels(batch.image)
            box, logit = self.net.detector.read(levels)
            # Without a teacher's features there are no layers.
            said = [layer(level) for layer, level in zip(self.net.translate, levels, strict=False)]
        size = batch.image.shape[-1]
        parts = detection_losses(box, logit, anchor_points(size, size, logit), batch)
        if batch.taught is not None and said:
            fading = max(1 - seen / self.total, 0.0)
            parts["hint"] = 0.5 * fading * hint_loss(said, batch.taught.features)
        return parts


def without_people(scene: Scene, least: int = 64) -> Scene:
    """What lies beside all people of a picture; the whole scene where that is too narrow, px.

    Enlarged to a picture of its own it shows how much in the world looks like a limb.
    """
    h, w = scene.image.shape[:2]
    x0, y0, x1, y1 = empty_strip(scene.box, np.array([w, h])).astype(int)
    if min(x1 - x0, y1 - y0) < least:
        return scene
    return Scene(scene.image[y0:y1, x0:x1], np.zeros((0, 4)), np.zeros(0, bool))


def anchor_points(height: int, width: int, like: Tensor) -> Float[Tensor, "N 2"]:
    """Centres of all cells, in the order of the network's output."""
    return torch.cat([s * cell_centres(like.new_empty(height // s, width // s)) for s in STRIDES])


def detection_losses(
    box: Float[Tensor, "B N 4"],
    logit: Float[Tensor, "B N"],
    points: Float[Tensor, "N 2"],
    batch: DetectorBatch,
) -> dict[str, Tensor]:
    """Quality focal loss of the scores, generalised IoU loss of the positive boxes.

    Where a teacher is surer of a cell than the labels are, its score and its box are what is due;
    then nothing need be ignored.
    """
    quality, owner = assign(box.detach(), logit.detach().sigmoid(), points, batch)
    due = batch.box.gather(1, owner[..., None].expand(-1, -1, 4))
    counted = ~(_inside_any(points, batch.box, batch.ignore) & (quality == 0))
    if batch.taught is not None:
        surer = batch.taught.score > quality
        quality = torch.where(surer, batch.taught.score, quality)
        due = torch.where(surer[..., None], batch.taught.box, due)
        counted = torch.ones_like(counted)
    positive = quality > 0.02
    total = quality.sum().clamp(min=1.0)
    overlap = generalised_iou(box[positive], due[positive])
    box_loss = ((1 - overlap) * quality[positive]).sum() / total

    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        logit, quality, reduction="none"
    )
    focus = (logit.sigmoid() - quality).abs() ** 1.5
    score_loss = (cross_entropy * focus.detach() * counted).sum() / total
    return {"score": score_loss, "box": 2.0 * box_loss}


def hint_loss(said: Sequence[Tensor], due: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Mean squared error of a teacher's features, each channel in units of its spread in the batch.

    Every cell tells as many numbers as it has channels, where boxes and scores tell little of most.
    """
    errors = []
    for ours, theirs in zip(said, due, strict=True):
        spread, mean = torch.std_mean(theirs, dim=(0, 2, 3), keepdim=True)
        errors.append((ours.float() - (theirs - mean) / (spread + 1e-3)).square().mean())
    return torch.stack(errors).mean()


@torch.no_grad()
def assign(
    box: Float[Tensor, "B N 4"],
    score: Float[Tensor, "B N"],
    points: Float[Tensor, "N 2"],
    batch: DetectorBatch,
    top: int = 10,
) -> tuple[Float[Tensor, "B N"], Int[Tensor, "B N"]]:
    """Give each cell its target score (0 for background) and the person it belongs to.

    The best cell of a person is asked for the IoU it reaches, the others for less in proportion
    to their alignment, so that a high score means a good box.
    """
    iou = pairwise_iou(batch.box, box)  # (B, n, N)
    usable = batch.exists & ~batch.ignore
    inside = _inside_each(points, batch.box) & usable[..., None]
    alignment = score[:, None] ** 0.5 * iou**6 * inside
    # Early, no box fits anything: the centre of a person is then as good a start as any.
    centre = (batch.box[..., :2] + batch.box[..., 2:]) / 2
    extent = (batch.box[..., 2:] - batch.box[..., :2]).clamp(min=1.0)
    away = ((points - centre[..., None, :]) / extent[..., None, :]).square().sum(-1)
    alignment = alignment + 1e-6 * torch.exp(-8 * away) * inside

    best = alignment.topk(min(top, alignment.shape[-1]), dim=-1)
    chosen = torch.zeros_like(alignment).scatter_(-1, best.indices, 1.0) * (alignment > 0)
    claimed = alignment * chosen
    strongest, owner = claimed.max(dim=1)  # a cell serves one person only
    peak = claimed.amax(dim=-1, keepdim=True).clamp(min=1e-12)
    reached = (iou * chosen).amax(dim=-1, keepdim=True)
    target = (claimed / peak * reached.clamp(min=0.05)).gather(1, owner[:, None])[:, 0]
    return target * (strongest > 0), owner


def pairwise_iou(a: Float[Tensor, "B n 4"], b: Float[Tensor, "B N 4"]) -> Float[Tensor, "B n N"]:
    low = torch.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    area_a = (a[..., 2:] - a[..., :2]).prod(dim=-1)
    area_b = (b[..., 2:] - b[..., :2]).prod(dim=-1)
    return shared / (area_a[:, :, None] + area_b[:, None] - shared).clamp(min=1e-6)


def generalised_iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    """IoU less the empty part of the hull of both (Rezatofighi et al. 2019)."""
    shared_low, shared_high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(dim=-1)
    shared = (shared_high - shared_low).clamp(min=0).prod(dim=-1)
    union = (a[:, 2:] - a[:, :2]).prod(dim=-1) + (b[:, 2:] - b[:, :2]).prod(dim=-1) - shared
    return shared / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


def collate(samples: list[CanvasSample]) -> DetectorBatch:
    """Stack canvases; pad their people to the same number."""
    most = max(1, max(len(s.box) for s in samples))
    box = np.zeros((len(samples), most, 4), np.float32)
    exists = np.zeros((len(samples), most), bool)
    ignore = np.zeros((len(samples), most), bool)
    for row, sample in enumerate(samples):
        n = len(sample.box)
        box[row, :n], exists[row, :n], ignore[row, :n] = sample.box, True, sample.ignore
    image = torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2).float()
    return DetectorBatch(
        image, torch.from_numpy(box), torch.from_numpy(exists), torch.from_numpy(ignore)
    )


def _inside_each(
    points: Float[Tensor, "N 2"], box: Float[Tensor, "B n 4"]
) -> Bool[Tensor, "B n N"]:
    after = (points >= box[:, :, None, :2]).all(dim=-1)
    before = (points < box[:, :, None, 2:]).all(dim=-1)
    return after & before


def _inside_any(
    points: Float[Tensor, "N 2"], box: Float[Tensor, "B n 4"], which: Bool[Tensor, "B n"]
) -> Bool[Tensor, "B N"]:
    return (_inside_each(points, box) & which[..., None]).any(dim=1)
