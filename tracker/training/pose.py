"""Train the pose network: heatmaps, then IMLE, then the annealed mixture likelihood.

`surepose train pose --data DIR --out DIR` runs the recipe; started again with the same folder it
goes on where it stopped. Calibration and export follow in `calibrate.py`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tracker.heatmaps import HeatmapNet
from tracker.latents import LATENT_DIM, sobol_latents
from tracker.nets.pose import PoseConfig, PoseModule, PoseOutput
from tracker.skeleton import COCO17
from tracker.training.alarms import Alarms, false_alarms
from tracker.training.augment import CropAugment, CropSample, augment_crop, negative_crop
from tracker.training.data import (
    BoxLabels,
    DataError,
    Images,
    PoseLabels,
    Split,
    box_labels,
    held_out,
    open_splits,
    pose_labels,
)
from tracker.training.loop import channels_last, cosine, stage_after
from tracker.training.losses import (
    heatmap_loss,
    imle_loss,
    mixture_loss,
    soft_argmax_loss,
    taught_loss,
    visible_loss,
    winner_likelihood_loss,
)
from tracker.training.precision import mixed_precision
from tracker.training.teacher import TeacherMaps, map_shape, teacher_labels

OKS_FALLOFF = torch.tensor(2 * COCO17.oks_sigma, dtype=torch.float32)


class StageKind(StrEnum):
    """Which loss is minimised."""

    HEATMAP = "heatmap"
    IMLE = "imle"
    MIXTURE = "mixture"


@dataclass(frozen=True)
class Stage:
    """A part of the run with one loss and one crop size."""

    kind: StageKind
    crops: int
    height: int = 256
    width: int = 192

    @classmethod
    def parse(cls, text: str) -> "Stage":
        """Read `kind:crops` or `kind:crops:height`, as "mixture:60000:256"."""
        kind, crops, *height = text.split(":")
        try:
            tall = int(height[0]) if height else 256
            return cls(StageKind(kind), int(crops), tall, tall * 3 // 4)
        except ValueError as error:
            due = "heatmap:CROPS[:HEIGHT], imle:… or mixture:…"
            raise DataError(f"a stage is {due}, got {text!r}") from error


@dataclass(frozen=True)
class PoseRecipe:
    """The whole training in numbers."""

    stages: tuple[Stage, ...] = (
        Stage(StageKind.HEATMAP, 1_200_000),
        Stage(StageKind.IMLE, 20_000),
        Stage(StageKind.MIXTURE, 100_000),
    )
    batch: int = 32
    hypotheses: int = 8
    """Latents: drawn anew for each batch by IMLE, the shipped points for the likelihood."""
    learning_rate: float = 1.5e-3
    synthetic: float = 0.05
    """Share of the crops that show rendered people."""
    augment: CropAugment = field(default_factory=CropAugment)
    seed: int = 0
    net: PoseConfig = field(default_factory=PoseConfig)

    def at(self, seen: int) -> tuple[Stage, float]:
        """The stage after so many crops, and the progress within it."""
        return stage_after(seen, self.stages, lambda stage: stage.crops)


@dataclass(frozen=True, slots=True, eq=False)
class PoseBatch:
    """Tensors of one step, crop heights."""

    image: Tensor
    keypoints: Tensor
    weight: Tensor
    visible: Tensor
    scale: Tensor
    """(B, J) OKS fall-off of each keypoint, 2 σⱼ s."""
    taught: Tensor | None = None
    """(B, J, h, w) heatmaps of a teacher, 0..1."""

    def to(self, device: str) -> "PoseBatch":
        tensors = (self.image, self.keypoints, self.weight, self.visible, self.scale)
        image, keypoints, weight, visible, scale = (
            tensor.to(device, non_blocking=True) for tensor in tensors
        )
        taught = None if self.taught is None else self.taught.to(device, non_blocking=True)
        return PoseBatch(image, keypoints, weight, visible, scale, taught)


class PoseSource(NamedTuple):
    """Labelled people and their pictures."""

    labels: PoseLabels
    people: list[BoxLabels]
    images: Images
    teacher: TeacherMaps | None = None
    alarms: Alarms | None = None

    @classmethod
    def of(cls, split: Split, images: Images, further: PoseLabels | None = None) -> "PoseSource":
        """All people of a split who are not kept for calibration and have some keypoints."""
        labels = pose_labels(split)
        if further is not None:
            labels = labels.join(further)
        trained = ~held_out(labels.image) & (labels.weight.sum(axis=1) > 2)
        return cls(labels.take(trained), box_labels(split), images)

    def sample(
        self, shape: tuple[int, int], rng: np.random.Generator, config: CropAugment
    ) -> CropSample:
        """One random view of one random person."""
        row = int(rng.integers(len(self.labels)))
        image = self.images[int(self.labels.image[row])]
        sample = augment_crop(image, self.labels.person(row), shape, rng, config)
        if self.teacher is None:
            return sample
        return sample._replace(taught=self.teacher.seen(row, sample.view, sample.frame, shape))

    def empty(
        self, shape: tuple[int, int], rng: np.random.Generator, config: CropAugment
    ) -> CropSample | None:
        """Now and then a view of nobody: of anything, or of what a detector took for a person."""
        lot = rng.random()
        if lot < config.negative:
            index = int(self.labels.image[rng.integers(len(self.labels))])
            return negative_crop(self.images[index], self.people[index].box, shape, rng)
        if self.alarms and lot < config.negative + config.alarm:
            row = int(rng.integers(len(self.alarms)))
            image = self.images[int(self.alarms.image[row])]
            return augment_crop(image, self.alarms.person(row), shape, rng, config)
        return None


class PoseTask:
    """What the trainer runs."""

    def __init__(
        self,
        recipe: PoseRecipe,
        data: Path,
        cache: Path,
        device: str = "cpu",
        teacher: HeatmapNet | None = None,
    ) -> None:
        torch.manual_seed(recipe.seed)
        splits = open_splits(data, cache, recipe.synthetic)
        self.sources = [PoseSource.of(split, images) for split, images, _ in splits]
        if teacher is not None:
            split, images, _ = splits[0]
            found = teacher_labels(split, images, teacher, cache)
            source = PoseSource.of(split, images, found)
            maps = TeacherMaps.open(source.labels, images, teacher, cache)
            self.sources[0] = source._replace(teacher=maps)
        if recipe.augment.alarm and any(s.kind is not StageKind.HEATMAP for s in recipe.stages):
            split, images, _ = splits[0]
            alarms = false_alarms(split, images, cache)
            self.sources[0] = self.sources[0]._replace(alarms=alarms)
        self.shares = np.array([share for _, _, share in splits])
        self.recipe = recipe
        self.device = device
        self.total = sum(stage.crops for stage in recipe.stages)
        self.net = channels_last(PoseModule(recipe.net).to(device))

    def learning_rate(self, seen: int) -> float:
        """Two falls: one for the heatmaps, one for the sampler, which starts from nothing."""
        peak = self.recipe.learning_rate
        heatmaps = sum(s.crops for s in self.recipe.stages if s.kind is StageKind.HEATMAP)
        if seen < heatmaps:
            return cosine(seen / heatmaps, peak, 0.2 * peak)
        return cosine((seen - heatmaps) / max(self.total - heatmaps, 1), 0.4 * peak, 1e-5)

    def batch(self, step_seed: int, seen: int) -> PoseBatch:
        stage, _ = self.recipe.at(seen)
        rng = np.random.default_rng((self.recipe.seed, step_seed))
        chosen = rng.choice(len(self.sources), self.recipe.batch, p=self.shares)
        shape, augment = (stage.height, stage.width), self.recipe.augment
        samples = []
        for source in (self.sources[i] for i in chosen.tolist()):
            # Heatmaps learn nothing from nobody: each is taught where its keypoint is, if anywhere.
            maps_alone = stage.kind is StageKind.HEATMAP
            empty = None if maps_alone else source.empty(shape, rng, augment)
            samples.append(empty or source.sample(shape, rng, augment))
        return collate(samples)

    def loss(self, batch: PoseBatch, seen: int) -> dict[str, Tensor]:
        stage, progress = self.recipe.at(seen)
        batch = batch.to(self.device)
        with mixed_precision(self.device):
            if stage.kind is StageKind.HEATMAP:
                return map_losses(self.net.look(batch.image)[0], batch)
            output = self.net(batch.image, self._latent(stage.kind))
        return sampler_losses(stage.kind, progress, output, batch)

    def _latent(self, kind: StageKind) -> Float[Tensor, "K z"]:
        """Fresh points while hypotheses spread; then those at which the network will be read.

        At fresh points the likelihood is that of a random mixture: weights and covariances learn
        to serve the mean of all draws, and the one mixture that ships is too wide and too even
        (`python -m benchmarks.posterior`).
        """
        if kind is StageKind.MIXTURE:
            return torch.from_numpy(sobol_latents(self.recipe.hypotheses)).to(self.device)
        return torch.randn(self.recipe.hypotheses, LATENT_DIM, device=self.device)


def map_losses(heatmap: Float[Tensor, "B J h w"], batch: PoseBatch) -> dict[str, Tensor]:
    """Stage 0: heatmaps alone; the sampler would only slow it down."""
    target, weight = batch.keypoints, batch.weight
    parts = {
        "heatmap": heatmap_loss(heatmap, target, weight),
        "argmax": 0.3 * soft_argmax_loss(heatmap, target, weight, batch.scale),
    }
    if batch.taught is not None:
        parts["taught"] = taught_loss(heatmap, batch.taught, target, weight)
    return parts


def sampler_losses(
    kind: StageKind, progress: float, output: PoseOutput, batch: PoseBatch
) -> dict[str, Tensor]:
    """Stages 1 and 2: hypotheses and visibility, and still some of stage 0."""
    target, weight, scale = batch.keypoints, batch.weight, batch.scale
    parts = {name: 0.6 * loss for name, loss in map_losses(output.heatmap, batch).items()}
    parts["visible"] = 0.3 * visible_loss(output.visible, batch.visible)
    labelled = (weight > 0).to(weight)
    pull, chosen = imle_loss(output.hypotheses, target, weight, scale)
    if kind is StageKind.IMLE:
        parts["imle"] = pull
        parts["winner"] = 0.3 * winner_likelihood_loss(output.hypotheses, chosen, target, labelled)
    if kind is StageKind.MIXTURE:
        # Log-linear from 0.1 to the exact likelihood over the first half, exact in the second.
        temperature = 10 ** -max(0.0, 1 - 2 * progress)
        parts["mixture"] = mixture_loss(output.hypotheses, target, labelled, temperature, beta=0.5)
        # The likelihood alone lets means drift towards mislabelled people.
        parts["imle"] = 0.5 * pull
    return parts


def collate(samples: list[CropSample]) -> PoseBatch:
    """Stack crops into tensors."""

    def stack(values: list[Any]) -> Tensor:
        return torch.from_numpy(np.stack(values)).float()

    image = torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2).float()
    size = stack([np.float64(s.size) for s in samples])
    taught = None
    if any(s.taught is not None for s in samples):
        blank = np.zeros((len(COCO17), *map_shape(samples[0].image.shape[:2])), np.float32)
        taught = stack([blank if s.taught is None else s.taught for s in samples])
    return PoseBatch(
        image,
        stack([s.keypoints for s in samples]),
        stack([s.weight for s in samples]),
        stack([s.visible for s in samples]),
        size[:, None] * OKS_FALLOFF,
        taught,
    )
