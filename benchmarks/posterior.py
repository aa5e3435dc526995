"""Does a network learn a posterior that is known, its masses and its shapes?

    python -m benchmarks.posterior --json OUT [--plots DIR] [--quick] [--seeds 3]

Trains the project's own pose network, small, on drawn figures whose posterior is known exactly
(`benchmarks.figures`), by its own staged losses and by rivals that start from the same heatmaps and
see as many pictures: the same losses at fresh latent points throughout; one Gaussian; a mixture
density network, whose K latents are learned and then fixed; plain IMLE (the nearest hypothesis
learns, all weigh the same); the mixture likelihood from the start. All are calibrated on the same
held-out figures and measured on fresh ones, each from several seeds. Some four minutes of one CPU
core for each training; `--quick` trains for seconds, to see that it runs.

Keys of the JSON, under `methods` for each: `mean` and `std` over seeds, and `seeds` themselves, of
`mass_error` (mean |learned - true| mass of a pose), `mass_bias` (the largest mean error over nine
steps of the true mass), `coverage` (share of labels in the 50/90/99 % regions of highest density),
`excess_nll` (nats per keypoint over the optimum, which is KL(truth ‖ network)), `shape_kl` and
`spread_kl` (KL of the true Gaussian about a pose to the learned one, and of the covariances alone),
`stray` (mass near neither pose; due 0.001); in `seeds` also `reliability` (the curve of learned
over true mass) and `uncalibrated` (the same without calibration). `twice` is ours read at twice as
many points as it was trained with. The file is written anew after each training.
"""

import json
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import torch
import tyro
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.environment import environment
from benchmarks.figures import MIRROR, Figures, draw_labels, make_figures
from benchmarks.posterior_metrics import LEVELS, Predicted, Scores, score, summary
from tracker.latents import LATENT_DIM, sobol_latents
from tracker.nets.pose import PoseConfig, PoseModule, PoseOutput
from tracker.nets.sampler import Hypotheses, Sampler
from tracker.training.calibrate import calibrate, rescale
from tracker.training.loop import Trainer, channels_last, cosine
from tracker.training.losses import imle_loss, mixture_loss, winner_likelihood_loss
from tracker.training.pose import PoseBatch, StageKind, map_losses, sampler_losses

J = len(MIRROR)
SCALARS = ("mass_error", "mass_bias", "excess_nll", "shape_kl", "spread_kl", "stray")
NET = PoseConfig(J, stem=16, widths=(16, 24, 32, 64), blocks=(1, 1, 1, 1), features=32)
SAMPLER_DIM = 64
FALLOFF = 0.05
"""What OKS would forgive: about that of a keypoint of a person as high as the crop."""
IMLE_SHARE = 0.15
"""Of the sampler's pictures, as in the shipped recipe."""


class Latents(StrEnum):
    """Where a sampler is read."""

    SHIPPED = "shipped"
    """Anew in each step of IMLE, at the fixed Sobol points for the likelihood."""
    RANDOM = "random"
    """Anew in each step; at fixed Sobol points in the end."""
    LEARNED = "learned"
    """At K points that are learned like weights."""
    NONE = "none"
    """At the origin alone: one Gaussian."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to learn a posterior."""

    title: str
    loss: Callable[[float, PoseOutput, PoseBatch], dict[str, Tensor]]
    """Progress in [0, 1], what the network says, labels → parts of the loss."""
    latents: Latents = Latents.RANDOM
    weighted: bool = True
    """Whether the weights of hypotheses are learned, or 1/K."""


def staged(progress: float, output: PoseOutput, batch: PoseBatch) -> dict[str, Tensor]:
    """Ours: IMLE, then the annealed mixture likelihood, exactly as `surepose train pose` does."""
    if progress < IMLE_SHARE:
        return sampler_losses(StageKind.IMLE, progress / IMLE_SHARE, output, batch)
    rest = (progress - IMLE_SHARE) / (1 - IMLE_SHARE)
    return sampler_losses(StageKind.MIXTURE, rest, output, batch)


def likelihood(progress: float, output: PoseOutput, batch: PoseBatch) -> dict[str, Tensor]:
    """Minimise the exact likelihood of the mixture from the first step."""
    del progress
    found = mixture_loss(output.hypotheses, batch.keypoints, batch.weight)
    return {**_maps(output, batch), "mixture": found}


def nearest(progress: float, output: PoseOutput, batch: PoseBatch) -> dict[str, Tensor]:
    """Pull the nearest hypothesis, without rejection, and teach it its residual."""
    del progress
    target, weight = batch.keypoints, batch.weight
    pull, chosen = imle_loss(output.hypotheses, target, weight, batch.scale, epsilon=0.0)
    winner = winner_likelihood_loss(output.hypotheses, chosen, target, weight)
    return {**_maps(output, batch), "imle": pull, "winner": 0.3 * winner}


METHODS = {
    "ours": Method("staged (ours)", staged, Latents.SHIPPED),
    "fresh": Method("staged, fresh points throughout", staged),
    "single": Method("single Gaussian", likelihood, Latents.NONE),
    "mdn": Method("MDN, fixed K", likelihood, Latents.LEARNED),
    "imle": Method("plain IMLE", nearest, weighted=False),
    "mixture": Method("mixture from the start", likelihood),
}


@dataclass(frozen=True, slots=True)
class Budget:
    """How many pictures each part gets."""

    maps: int = 32_000
    """For backbone and heatmaps, once for all methods and seeds."""
    sampler: int = 48_000
    """For each method, everything trained together."""
    calibration: int = 1024
    test: int = 2048
    batch: int = 32
    hypotheses: int = 8
    learning_rate: float = 1.5e-3
    seeds: int = 3


QUICK = Budget(maps=960, sampler=640, calibration=128, test=128, seeds=2)


class Reader(nn.Module):
    """A pose network and the points at which its sampler is read."""

    def __init__(self, pose: PoseModule, latents: Latents, hypotheses: int) -> None:
        super().__init__()
        self.pose = pose
        self.latents = latents
        self.hypotheses = hypotheses
        learned = latents is Latents.LEARNED
        self.points = nn.Parameter(torch.randn(hypotheses, LATENT_DIM)) if learned else None

    def forward(self, image: Float[Tensor, "B 3 h w"], latent: Float[Tensor, "K z"]) -> PoseOutput:
        return self.pose(image, latent)

    def draw(self, progress: float) -> Float[Tensor, "K z"]:
        """Points for a step of training."""
        spreading = self.latents is Latents.SHIPPED and progress < IMLE_SHARE
        if spreading or self.latents is Latents.RANDOM:
            return torch.randn(self.hypotheses, LATENT_DIM)
        return self.fixed(self.hypotheses)

    def fixed(self, k: int) -> Float[Tensor, "K z"]:
        """Points for use; `k` counts only where any number can be had."""
        if self.points is not None:
            return self.points
        if self.latents is Latents.NONE:
            return torch.zeros(1, LATENT_DIM)
        return torch.from_numpy(sobol_latents(k))


class FigureTask:
    """What the trainer runs: heatmaps where there is no method, else everything."""

    def __init__(self, net: Reader, method: Method | None, budget: Budget, seed: int) -> None:
        self.net = net
        self.method = method
        self.budget = budget
        self.seed = seed
        self.total = budget.sampler if method else budget.maps

    def learning_rate(self, seen: int) -> float:
        """As the shipped recipe's."""
        peak, end = (0.4, 1e-5) if self.method else (1.0, 0.2 * self.budget.learning_rate)
        return cosine(seen / self.total, peak * self.budget.learning_rate, end)

    def batch(self, step_seed: int, seen: int) -> PoseBatch:
        del seen
        stage = "maps" if self.method is None else "sampler"
        return figure_batch(self.budget.batch, _rng(self.seed, stage, step_seed))[1]

    def loss(self, batch: PoseBatch, seen: int) -> dict[str, Tensor]:
        if self.method is None:
            return map_losses(self.net.pose.look(batch.image)[0], batch)
        progress = seen / self.total
        return self.method.loss(progress, self.net(batch.image, self.net.draw(progress)), batch)


def figure_batch(n: int, rng: np.random.Generator) -> tuple[Figures, PoseBatch]:
    """Draw n figures and one label of each; nobody says which keypoints are visible."""
    figures = make_figures(n, rng)
    image = torch.from_numpy(figures.image).permute(0, 3, 1, 2).float()
    label = torch.from_numpy(draw_labels(figures.truth, rng)).float()
    ones = torch.ones(n, J)
    return figures, PoseBatch(image, label, ones, torch.full_like(ones, torch.nan), FALLOFF * ones)


def small_net(seed: int) -> PoseModule:
    """The project's network, narrow."""
    torch.manual_seed(seed)
    net = PoseModule(NET)
    net.sampler = small_sampler()
    return channels_last(net)


def small_sampler() -> Sampler:
    """The project's sampler, narrow and untrained."""
    return Sampler(J, NET.features, NET.widths[-1], SAMPLER_DIM)


def train_maps(budget: Budget, seed: int) -> PoseModule:
    """Stage 0, which all methods share."""
    reader = Reader(small_net(seed), Latents.RANDOM, budget.hypotheses)
    return _run(FigureTask(reader, None, budget, seed)).pose


def train(method: Method, maps: PoseModule, budget: Budget, seed: int) -> Reader:
    """Train a copy of the network by a method, from its heatmaps on."""
    torch.manual_seed(seed + 1)
    pose = deepcopy(maps).requires_grad_(True)
    pose.sampler = small_sampler()
    reader = Reader(pose, method.latents, budget.hypotheses)
    return _run(FigureTask(reader, method, budget, seed))


def _run(task: FigureTask) -> Reader:
    with tempfile.TemporaryDirectory() as folder:
        return Trainer(task, Path(folder), task.budget.batch).run()


@torch.no_grad()
def say(reader: Reader, method: Method, batch: PoseBatch, k: int) -> Hypotheses:
    """What the trained network says of some pictures."""
    # In parts, for the memory of many hypotheses.
    said = [reader(part, reader.fixed(k)).hypotheses for part in batch.image.split(64)]
    found = Hypotheses(*(torch.cat(parts) for parts in zip(*said, strict=True)))
    return found if method.weighted else found._replace(logit=torch.zeros_like(found.logit))


def measure(reader: Reader, method: Method, budget: Budget, seed: int, k: int) -> dict[str, Any]:
    """Calibrate on held-out figures, compare with the truth on fresh ones."""
    _, held_out = figure_batch(budget.calibration, _rng(seed, "calibration", 0))
    fit = calibrate(say(reader, method, held_out, k), held_out.keypoints, held_out.weight)
    scale, temperature = torch.tensor(fit.scale), torch.tensor(fit.temperature)
    raw: list[Scores] = []
    calibrated: list[Scores] = []
    size = min(128, budget.test)
    for part in range(0, budget.test, size):
        figures, batch = figure_batch(size, _rng(seed, "test", part))
        found, label = say(reader, method, batch, k), batch.keypoints.double().numpy()
        for into, said in ((raw, found), (calibrated, rescale(found, scale, temperature))):
            into.append(score(Predicted.of(said), figures.truth, label, seed=part))
    fitted = {"scale": fit.scale, "temperature": fit.temperature}
    return {
        **summary(Scores.join(calibrated)),
        "calibration": fitted,
        "uncalibrated": summary(Scores.join(raw)),
    }


def over_seeds(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of the seeds' numbers, and the seeds."""
    table = [{n: one[n] for n in SCALARS} | one["coverage"] for one in found]
    columns = {name: [row[name] for row in table] for name in table[0]}
    spread = {n: float(np.std(v, ddof=1)) if len(v) > 1 else None for n, v in columns.items()}
    return {
        "mean": {name: float(np.mean(values)) for name, values in columns.items()},
        "std": spread,
        "seeds": found,
    }


def _maps(output: PoseOutput, batch: PoseBatch) -> dict[str, Tensor]:
    """Stage 0 goes on beside the rest, as in `sampler_losses`."""
    return {name: 0.6 * loss for name, loss in map_losses(output.heatmap, batch).items()}


def _rng(seed: int, part: str, index: int) -> np.random.Generator:
    """Figures that no other part of the benchmark has seen."""
    parts = ("maps", "sampler", "calibration", "test")
    return np.random.default_rng((seed, parts.index(part), index))


def main(
    json_path: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    plots: Path | None = None,
    quick: bool = False,
    seeds: int | None = None,
    methods: tuple[str, ...] = tuple(METHODS),
) -> None:
    """Train all methods and compare them with the truth.

    Args:
        json_path: Where the result goes.
        plots: Folder for the curves.
        quick: Train for seconds only: shows that it runs, not how well.
        seeds: How often each is trained.
        methods: Only these.
    """
    torch.set_num_threads(1)
    budget, started = QUICK if quick else Budget(), time.process_time()
    budget = replace(budget, seeds=seeds or budget.seeds)
    maps = train_maps(budget, seed=0)
    found: dict[str, list[dict[str, Any]]] = {}
    record: dict[str, Any] = {"budget": asdict(budget), "environment": environment()}
    for seed in range(budget.seeds):
        for name in methods:
            method, k = METHODS[name], budget.hypotheses
            reader = train(method, maps, budget, seed)
            found.setdefault(name, []).append(measure(reader, method, budget, seed, k))
            if name == "ours" and seed == 0:
                record["twice"] = measure(reader, method, budget, seed, 2 * k)
            record["methods"] = {n: over_seeds(some) for n, some in found.items()}
            record["cpu_seconds"] = time.process_time() - started
            print(f"{name}, seed {seed}: {record['cpu_seconds']:.0f} s of CPU so far", flush=True)
            if json_path is not None:
                json_path.parent.mkdir(parents=True, exist_ok=True)
                json_path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    show(record["methods"])
    if plots is not None:
        draw(record["methods"], plots)


def show(result: dict[str, Any]) -> None:
    """Print the table: mean ± standard deviation over seeds."""
    titles = ("method", "mass error", "bias", "excess NLL", "KL", "KL of Σ", "stray", "50/90/99")
    table = Table(*titles)
    for name, found in result.items():
        mean, std = found["mean"], found["std"]
        cells = [f"{mean[n]:.3f}" + (f" ± {std[n]:.3f}" if std[n] else "") for n in SCALARS]
        covered = " ".join(f"{100 * mean[f'{level:.0%}']:.1f}" for level in LEVELS)
        table.add_row(METHODS[name].title, *cells, covered)
    Console(width=130).print(table)


def draw(result: dict[str, Any], folder: Path) -> None:
    """Plot learned over true mass, a line a seed: a straight one where it is right."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt  # after the choice of its backend

    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(5.5, 5))
    axes.plot([0, 1], [0, 1], color="0.7", label="truth")
    for i, (name, found) in enumerate(result.items()):
        for seed, one in enumerate(found["seeds"]):
            curve = ([point[key] for point in one["reliability"]] for key in ("true", "learned"))
            axes.plot(*curve, color=f"C{i}", label=METHODS[name].title if seed == 0 else None)
    axes.set(xlabel="true mass of the first pose", ylabel="learned mass", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    figure.tight_layout()
    figure.savefig(folder / "mass.png", dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    tyro.cli(main)
