"""A sampler for a network that is not ours to train: what `surepose fit-sampler` calls.

The network looks at some thousand labelled crops once (`views.py`); a sampler is trained on what
it saw (the stages 1 and 2 of `pose.py`), calibrated on held-out people and exported. With
`--heatmaps nano` the frozen network is our own, and the result is a whole pose network.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cattrs
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.export import Dim

from engines.export import export_onnx
from tracker import heatmaps, weights
from tracker.crops import OUTSIDE
from tracker.heatmaps import IMAGENET, HeatmapNet, View
from tracker.latents import LATENT_DIM, sobol_latents
from tracker.nets.adapter import ExportedSampler, FrozenSampler, HeatmapSampler, on_grid
from tracker.nets.pose import ExportedPose, PoseConfig, PoseModule
from tracker.nets.sampler import Hypotheses
from tracker.pose import OUTPUTS
from tracker.training.augment import CropAugment
from tracker.training.calibrate import Fit, calibrate
from tracker.training.data import DataError
from tracker.training.loop import Trainer, channels_last, cosine, stage_after
from tracker.training.pose import PoseBatch, Stage, StageKind, sampler_losses
from tracker.training.publish import write_card
from tracker.training.restore import restore
from tracker.training.views import Look, Views, crops, write_views

_FREE = {0: Dim("hypotheses", min=1, max=256)}

log = logging.getLogger("surepose.train")


@dataclass(frozen=True)
class FitRecipe:
    """The fit in numbers."""

    stages: tuple[Stage, ...] = (Stage(StageKind.IMLE, 10_000), Stage(StageKind.MIXTURE, 70_000))
    views: int = 16_000
    """Random crops that the frozen network looks at."""
    hypotheses: int = 8
    """1 gives a single Gaussian, its latent fixed."""
    batch: int = 32
    learning_rate: float = 1e-3
    augment: CropAugment = field(default_factory=CropAugment)
    seed: int = 0

    @property
    def latent(self) -> Float[Tensor, "K z"]:
        """Where the sampler will be read."""
        return torch.from_numpy(sobol_latents(self.hypotheses))

    def draw(self, kind: StageKind) -> Float[Tensor, "K z"]:
        """Latents of one step: anew while several hypotheses spread, else where they are read."""
        if kind is StageKind.IMLE and self.hypotheses > 1:
            return torch.randn(self.hypotheses, LATENT_DIM)
        return self.latent

    def at(self, seen: int) -> tuple[Stage, float]:
        """The stage after so many crops, and the progress within it."""
        return stage_after(seen, self.stages, lambda stage: stage.crops)


@dataclass(frozen=True)
class FitRun:
    """Where a fit reads and writes."""

    out: Path
    """Views, checkpoints, log.jsonl, and at the end the .onnx and its card."""
    data: Path | None
    """Folder with train.npz; not needed where the views are there already."""
    cache: Path
    """Pictures are kept decoded here."""
    name: str = "own"


class Frozen(NamedTuple):
    """A network that is looked through and never trained."""

    look: Look | Path
    """What it sees of crops, or the folder where all that is kept already."""
    view: View
    told: dict[str, Any]
    """What the card says of it; `maps` is the shape (J, h, w) of its heatmaps."""
    own: Path | None = None
    """Of our own network, its .onnx."""


def foreign(net: HeatmapNet, path: Path | None = None, output: str | None = None) -> Frozen:
    """Somebody else's network: its heatmaps, on the sampler's grid."""

    def look(images: UInt8[np.ndarray, "B H W 3"]) -> dict[str, np.ndarray]:
        return {"heatmap": on_grid(torch.from_numpy(net(images))).numpy()}

    grey = np.full((1, net.view.height, net.view.width, 3), OUTSIDE, np.uint8)
    told = {
        "file": path.name if path else type(net).__name__,
        "sha256": heatmaps.digest(path) if path else None,
        "view": asdict(net.view),
        "output": output,
        "maps": net(grey).shape[1:],
    }
    return Frozen(look, net.view, told)


def seen_before(folder: Path, view: View = IMAGENET) -> Frozen:
    """A network that has looked already: its views are here, of an earlier fit or made by hand."""
    origin = folder / "origin.json"
    if origin.is_file():
        told = json.loads(origin.read_text(encoding="utf-8"))["network"]
        own = weights.find("pose", told["name"]).path if "name" in told else None
        return Frozen(folder, View.of(told["view"]), told, own)
    maps = Views.open(folder).seen[0].shape[1:]
    told = {"file": folder.name, "sha256": None, "view": asdict(view), "output": None, "maps": maps}
    return Frozen(folder, view, told)


def ours(name: str) -> Frozen:
    """Our own pose network without its sampler."""
    path = weights.find("pose", name).path
    net = _without_sampler(path)

    @torch.no_grad()
    def look(images: UInt8[np.ndarray, "B H W 3"]) -> dict[str, np.ndarray]:
        planes = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        names = ("heatmap", "features", "context")
        return {n: seen.numpy() for n, seen in zip(names, net.look(planes), strict=True)}

    told = {"name": name, "sha256": heatmaps.digest(path), "view": asdict(IMAGENET)}
    return Frozen(look, IMAGENET, told, path)


def load_frozen(name: str, view: View = IMAGENET, output: str | None = None) -> Frozen:
    """A network by its file, .onnx or .param; a folder of views; or our own by its name."""
    path = Path(name)
    if path.is_dir():
        return seen_before(path, view)
    if path.suffix not in (".onnx", ".param"):
        return ours(name)
    return foreign(heatmaps.load(path, view, output, threads=1), path, output)


def fit_sampler(run: FitRun, recipe: FitRecipe, frozen: Frozen) -> Path:
    """Look, train, calibrate, export; the .onnx file. A fit that was stopped goes on."""
    torch.set_num_threads(1)
    views = _views(run, recipe, frozen)
    task = FitTask(recipe, views)
    trainer = Trainer(task, run.out, recipe.batch)
    if trainer.resume():
        log.info("going on from %s after %d crops", run.out, trainer.seen)
    trainer.run()
    net = trainer.average
    fit = calibrate(*predict(net, views, recipe.latent))
    if not np.isfinite([*fit.scale, fit.temperature, fit.nll_after]).all():
        raise DataError(
            f"{fit.n_views} held-out views are too few to calibrate on; label more people"
        )
    return publish(net, run, recipe, frozen, fit, views)


class FitTask:
    """What the trainer runs."""

    def __init__(self, recipe: FitRecipe, views: Views) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.views = views
        self.rows = np.nonzero(~views.held_out)[0]
        self.total = sum(stage.crops for stage in recipe.stages)
        self.net: torch.nn.Module = channels_last(new_sampler(views))

    def learning_rate(self, seen: int) -> float:
        return cosine(seen / max(self.total, 1), self.recipe.learning_rate, 1e-5)

    def batch(self, step_seed: int, seen: int) -> tuple[tuple[Tensor, ...], PoseBatch]:
        """Random rows of the views."""
        rng = np.random.default_rng((self.recipe.seed, step_seed))
        return self.views.batch(np.sort(rng.choice(self.rows, self.recipe.batch)))

    def loss(self, batch: tuple[tuple[Tensor, ...], PoseBatch], seen: int) -> dict[str, Tensor]:
        stage, progress = self.recipe.at(seen)
        maps, labels = batch
        output = self.net(*maps, self.recipe.draw(stage.kind))
        return sampler_losses(stage.kind, progress, output, labels)


def new_sampler(views: Views) -> HeatmapSampler | FrozenSampler:
    """A sampler for what is in these views, untrained."""
    heatmap, *more = views.seen
    if more:
        features, context = more
        return FrozenSampler(heatmap.shape[1], features.shape[1], context.shape[1])
    some = np.asarray(heatmap[~views.held_out][:1000], np.float32)
    peak = some.max(axis=(2, 3))
    # Bumps lie on a background near 0, logits reach as far below it as above.
    bumps = bool(np.quantile(some, 0.01) > -0.1 * np.quantile(peak, 0.9))
    unit = np.maximum(np.quantile(peak, 0.9, axis=0), 1e-6)
    return HeatmapSampler(torch.from_numpy(unit).float(), bumps)


@torch.no_grad()
def predict(
    net: torch.nn.Module, views: Views, latent: Float[Tensor, "K z"]
) -> tuple[Hypotheses, Float[Tensor, "B J 2"], Float[Tensor, "B J"]]:
    """Run a sampler over the held-out views: hypotheses, targets, what is labelled."""
    rows = np.nonzero(views.held_out & (views.weight > 0).any(axis=1))[0]
    if not len(rows):
        raise DataError("nobody who is labelled is held out to calibrate on")
    batches = [views.batch(rows[i : i + 32]) for i in range(0, len(rows), 32)]
    found = [net(*maps, latent).hypotheses for maps, _ in batches]
    whole = Hypotheses(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    target = torch.cat([labels.keypoints for _, labels in batches])
    labelled = torch.cat([(labels.weight > 0).float() for _, labels in batches])
    return whole, target, labelled


def publish(
    net: torch.nn.Module, run: FitRun, recipe: FitRecipe, frozen: Frozen, fit: Fit, views: Views
) -> Path:
    """Export the sampler, or our own pose network with it, and write the card."""
    if frozen.own is not None:
        path, parity = _export_pose(net, run, recipe, frozen.own)
        kind: dict[str, Any] = {"kind": "pose", "input": {"height": 256, "width": 192}}
    else:
        path, parity = _export_sampler(net, run, recipe, frozen.told["maps"])
        kind = {"kind": "sampler"}
    card = kind | {
        "n_hypotheses": recipe.hypotheses,
        "network": frozen.told,
        "calibration": asdict(fit) | {"on": "held-out people"},
        "recipe": asdict(recipe),
        "views": {"trained": int((~views.held_out).sum()), "held_out": int(views.held_out.sum())},
        "data": run.data.name if run.data else "views that were there",
        "licence": "the fitter's own: it depends on the network and on the data",
    }
    return write_card(path, run.name, card, net, parity)


def _views(run: FitRun, recipe: FitRecipe, frozen: Frozen) -> Views:
    if isinstance(frozen.look, Path):
        return Views.open(frozen.look)
    if run.data is None:
        raise DataError("the network needs labelled people to look at: give their folder, --data")
    index = run.data / "train.npz"
    if not index.is_file():
        raise DataError(f"no index {index}: --data needs a folder with train.npz and its .bin")
    origin = {
        "network": frozen.told,
        "data": hashlib.sha256(index.read_bytes()).hexdigest(),
        "views": recipe.views,
        "seed": recipe.seed,
        "augment": asdict(recipe.augment),
    }
    shape = frozen.view.height, frozen.view.width
    samples = crops(run.data, run.cache, shape, recipe.views, recipe.seed, recipe.augment)
    return write_views(run.out / "views", frozen.look, samples, origin)


def _export_sampler(
    net: torch.nn.Module, run: FitRun, recipe: FitRecipe, maps: Sequence[int]
) -> tuple[Path, dict[str, float]]:
    assert isinstance(net, HeatmapSampler)
    path = run.out / f"sampler-{run.name}.onnx"
    generator = torch.Generator().manual_seed(0)
    heatmap = net.logits.unit * torch.rand(2, *maps, generator=generator)
    return path, export_onnx(
        ExportedSampler(net).eval(),
        {"heatmap": heatmap, "latent": torch.from_numpy(sobol_latents(max(2, recipe.hypotheses)))},
        path,
        outputs=OUTPUTS,
        dynamic={"heatmap": {0: Dim("batch", min=1, max=256)}, "latent": _FREE},
    )


def _export_pose(
    net: torch.nn.Module, run: FitRun, recipe: FitRecipe, own: Path
) -> tuple[Path, dict[str, float]]:
    assert isinstance(net, FrozenSampler)
    whole = _without_sampler(own)
    whole.sampler = net.sampler
    path = run.out / f"pose-{run.name}.onnx"
    image = torch.full((2, 3, 256, 192), 100.0)
    return path, export_onnx(
        ExportedPose(whole).eval(),
        {"image": image, "latent": torch.from_numpy(sobol_latents(max(2, recipe.hypotheses)))},
        path,
        outputs=OUTPUTS,
        dynamic={"image": {0: Dim("batch", min=1, max=256)}, "latent": _FREE},
    )


def _without_sampler(path: Path) -> PoseModule:
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    net = PoseModule(cattrs.structure(card["recipe"].get("net", {}), PoseConfig))
    net.sampler = torch.nn.Identity()  # type: ignore[assignment]
    restore(net, path)
    return net.eval()
