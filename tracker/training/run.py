"""From a folder of labelled pictures to weights that ship: what `surepose train` calls."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tracker import weights
from tracker.heatmaps import NcnnHeatmaps
from tracker.training.detector import DetectorRecipe, DetectorStage, DetectorTask
from tracker.training.loop import Net, Task, Trainer, TrainingError
from tracker.training.pose import PoseRecipe, PoseTask, Stage
from tracker.training.publish import publish_detector, publish_pose
from tracker.training.recipe import Recipe, read_recipe
from tracker.training.restore import restore, restore_mean
from tracker.training.teacher import DenseTeacher


@dataclass(frozen=True)
class Run:
    """Where a training reads and writes, and how it is started."""

    data: Path
    out: Path
    """Checkpoints, log.jsonl, and at the end the .onnx and its card."""
    cache: Path
    """Pictures are kept decoded here."""
    recipe: Path | None = None
    """TOML, or the card of a trained network; the project's own where there is none."""
    stages: Sequence[str] = ()
    """Instead of the recipe's."""
    teacher: Path | None = None
    """For a pose network, heatmaps (ncnn .param) that label the people whom nobody labelled; for a
    detector, a detector (.onnx) to learn from."""
    start_from: Sequence[str] = ()
    """Of several networks their mean."""
    backbone_from: str | None = None
    """Pose network whose backbone a detector begins with."""
    name: str = "nano"
    seed: int = 0
    device: str = "cpu"
    publish_only: bool = False


def train_pose(run: Run) -> Path:
    """Train, calibrate and export a pose network; the .onnx file."""
    recipe = replace(_recipe(run, PoseRecipe), seed=run.seed)
    if run.stages:
        recipe = replace(recipe, stages=tuple(map(Stage.parse, run.stages)))
    teacher = NcnnHeatmaps(run.teacher) if run.teacher is not None else None
    task = PoseTask(recipe, run.data, run.cache, run.device, teacher)
    starts = _starts(run, "pose", task.net)
    trainer = _train(task, run, recipe.batch)
    return publish_pose(
        trainer.average.cpu(), run.data, run.cache, run.out, run.name, recipe, trainer.seen, starts
    )


def train_detector(run: Run) -> Path:
    """Train and export a detector; the .onnx file."""
    recipe = replace(_recipe(run, DetectorRecipe), seed=run.seed)
    if run.stages:
        recipe = replace(recipe, stages=tuple(map(DetectorStage.parse, run.stages)))
    teacher = DenseTeacher(run.teacher, run.cache) if run.teacher is not None else None
    task = DetectorTask(recipe, run.data, run.cache, run.device, teacher)
    backbone = weights.find("pose", run.backbone_from) if run.backbone_from is not None else None
    if backbone is not None:
        restore(task.net.detector.backbone, backbone.path, "backbone.")
    starts = _starts(run, "detector", task.net.detector)
    trainer = _train(task, run, recipe.batch)
    net = trainer.average.detector.cpu()
    return publish_detector(
        net, run.data, run.cache, run.out, run.name, recipe, trainer.seen, starts, backbone
    )


def _recipe(run: Run, kind: type[Recipe]) -> Recipe:
    return kind() if run.recipe is None else read_recipe(run.recipe, kind)


def _starts(run: Run, kind: weights.Kind, net: torch.nn.Module) -> list[weights.Weights]:
    """The networks to begin with, of which `net` becomes the mean."""
    starts = [weights.find(kind, name) for name in run.start_from]
    if starts:
        restore_mean(net, [start.path for start in starts])
    return starts


def _train(task: Task[Net], run: Run, batch: int) -> Trainer[Net]:
    torch.set_num_threads(1)  # more collapse as soon as anything else runs on the machine
    trainer = Trainer(task, run.out, batch)
    if trainer.resume():
        logging.info("going on from %s after %d samples", run.out, trainer.seen)
    elif run.publish_only and not run.start_from:
        raise TrainingError(
            f"there is no checkpoint in {run.out} to publish, and no --start-from; check --out"
        )
    run.out.mkdir(parents=True, exist_ok=True)
    if not run.publish_only:
        trainer.run()
    return trainer
