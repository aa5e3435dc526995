"""Does a network learn a posterior that is known, its masses and its shapes?

    python -m benchmarks.posterior --json OUT [--plots DIR] [--quick] [--seeds 3] [--jobs 2]

A small pose network learns the heatmaps of drawn figures whose posterior is known exactly
(`benchmarks.figures`). On what it sees, frozen, as `surepose fit-sampler` does, the project's
sampler is trained by its own staged losses, and by rivals with the same parameters, pictures and
steps: the same losses at fresh latent points throughout; one Gaussian; a mixture density network,
whose K latents are learned and then fixed; plain IMLE (the nearest hypothesis learns, all weigh the
same); the mixture likelihood from the start. Labels are drawn anew in every step. All are
calibrated on the same held-out figures and measured on fresh ones, each from several seeds. Some
minute of one CPU core for each training; `--quick` trains for seconds, to see that it runs.

Keys of the JSON, under `methods` for each: `mean` and `std` over seeds, and `seeds` themselves, of
`mass_error` (mean |learned - true| mass of a pose), `mass_bias` (the largest mean error over nine
steps of the true mass), `coverage` (share of labels in the 50/90/99 % regions of highest density),
`excess_nll` (nats per keypoint over the optimum, which is KL(truth ‖ network)), `shape_kl` and
`spread_kl` (KL of the true Gaussian about a pose to the learned one, and of the covariances alone),
`stray` (mass near neither pose; due 0.001); in `seeds` also `reliability` (the curve of learned
over true mass) and `uncalibrated` (the same without calibration). `twice` is ours read at twice as
many points as it was trained with. The file is written anew after each training.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import matplotlib as mpl
import numpy as np
import torch
import tyro
from jaxtyping import Float, UInt8
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.environment import environment, store
from benchmarks.figures import MIRROR, NAMES, Truth, draw_labels, make_figures
from benchmarks.posterior_metrics import LEVELS, Predicted, Scores, reliability, score, summary
from tracker.latents import LATENT_DIM, sobol_latents
from tracker.nets.backbone import cell_centres
from tracker.nets.pose import PoseConfig, PoseModule, PoseOutput
from tracker.nets.sampler import Hypotheses, Sampler
from tracker.training.calibrate import calibrate, rescale
from tracker.training.loop import Net, Task, Trainer, channels_last, cosine
from tracker.training.losses import imle_loss, mixture_loss, winner_likelihood_loss
from tracker.training.pose import PoseBatch, StageKind, map_losses, sampler_losses

J = len(MIRROR)
HANDS = [NAMES.index("l_hand"), NAMES.index("r_hand")]
"""Where the two poses are farthest apart."""
SCALARS = ("mass_error", "mass_bias", "excess_nll", "shape_kl", "spread_kl", "stray")
NET = PoseConfig(J, stem=16, widths=(16, 24, 32, 64), blocks=(1, 1, 1, 1), features=32)
SAMPLER_DIM = 64
FALLOFF = 0.05
"""What OKS would forgive: about that of a keypoint of a person as high as the crop."""
IMLE_SHARE = 0.125
"""Of the sampler's pictures, as `surepose fit-sampler` does."""


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
    """Ours: IMLE, then the annealed mixture likelihood, exactly as `surepose fit-sampler` does."""
    if progress < IMLE_SHARE:
        return sampler_losses(StageKind.IMLE, progress / IMLE_SHARE, output, batch)
    rest = (progress - IMLE_SHARE) / (1 - IMLE_SHARE)
    return sampler_losses(StageKind.MIXTURE, rest, output, batch)


def likelihood(progress: float, output: PoseOutput, batch: PoseBatch) -> dict[str, Tensor]:
    """Minimise the exact likelihood of the mixture from the first step."""
    del progress
    return {"mixture": mixture_loss(output.hypotheses, batch.keypoints, batch.weight)}


def nearest(progress: float, output: PoseOutput, batch: PoseBatch) -> dict[str, Tensor]:
    """Pull the nearest hypothesis, without rejection, and teach it its residual."""
    del progress
    target, weight = batch.keypoints, batch.weight
    pull, chosen = imle_loss(output.hypotheses, target, weight, batch.scale, epsilon=0.0)
    winner = winner_likelihood_loss(output.hypotheses, chosen, target, weight)
    return {"imle": pull, "winner": 0.3 * winner}


METHODS = {
    "ours": Method("staged (ours)", staged, Latents.SHIPPED),
    "single": Method("single Gaussian", likelihood, Latents.NONE),
    "mdn": Method("MDN, fixed K", likelihood, Latents.LEARNED),
    "fresh": Method("staged, fresh points throughout", staged),
    "imle": Method("plain IMLE", nearest, weighted=False),
    "mixture": Method("mixture from the start", likelihood),
}


@dataclass(frozen=True, slots=True)
class Budget:
    """How many pictures each part gets."""

    maps: int = 32_000
    """For backbone and heatmaps, once for all methods and seeds."""
    pictures: int = 12_000
    """That the frozen network looks at for the samplers to learn from."""
    sampler: int = 32_000
    """For each method and seed: those pictures, again and again, with fresh labels."""
    calibration: int = 1024
    test: int = 2048
    batch: int = 32
    hypotheses: int = 8
    learning_rate: float = 1.5e-3
    seeds: int = 3


PARTS = ("sampler", "calibration", "test")
QUICK = Budget(maps=960, pictures=256, sampler=640, calibration=128, test=128, seeds=2)


class Seen(NamedTuple):
    """Figures as the frozen network sees them."""

    truth: Truth
    maps: list[Tensor]
    """Heatmap, features, context; float16."""

    def take(self, rows: np.ndarray) -> "Seen":
        columns = (self.truth.mean, self.truth.cov, self.truth.log_mass)
        return Seen(Truth(*(c[rows] for c in columns)), [part[rows] for part in self.maps])

    def label(self, rng: np.random.Generator) -> PoseBatch:
        """Draw a label for each; nobody says which keypoints are visible."""
        return _labels(torch.empty(0), torch.from_numpy(draw_labels(self.truth, rng)).float())


class Reader(nn.Module):
    """A sampler and the points at which it is read."""

    def __init__(self, latents: Latents, hypotheses: int) -> None:
        super().__init__()
        self.sampler = Sampler(J, NET.features, NET.widths[-1], SAMPLER_DIM)
        self.latents = latents
        self.hypotheses = hypotheses
        learned = latents is Latents.LEARNED
        self.points = nn.Parameter(torch.randn(hypotheses, LATENT_DIM)) if learned else None

    def forward(self, maps: list[Tensor], latent: Float[Tensor, "K z"]) -> PoseOutput:
        heatmap, features, context = (part.float() for part in maps)
        return PoseOutput(heatmap, *self.sampler(heatmap, features, context, latent))

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


class MapsTask:
    """Stage 0, which all methods share: backbone and heatmaps."""

    def __init__(self, budget: Budget) -> None:
        torch.manual_seed(0)
        self.net = channels_last(PoseModule(NET))
        self.budget = budget
        self.total = budget.maps

    def learning_rate(self, seen: int) -> float:
        """As `surepose train pose` does."""
        return cosine(seen / self.total, 1.5e-3, 3e-4)

    def batch(self, step_seed: int, seen: int) -> PoseBatch:
        del seen
        rng = _rng(0, "maps", step_seed)
        figures = make_figures(self.budget.batch, rng)
        label = torch.from_numpy(draw_labels(figures.truth, rng)).float()
        return _labels(_planes(figures.image), label)

    def loss(self, batch: PoseBatch, seen: int) -> dict[str, Tensor]:
        del seen
        return map_losses(self.net.look(batch.image)[0], batch)


class SamplerTask:
    """A method at work on frozen heatmaps."""

    def __init__(self, method: Method, pictures: Seen, budget: Budget, seed: int) -> None:
        torch.manual_seed(seed + 1)
        self.net = Reader(method.latents, budget.hypotheses)
        self.method = method
        self.pictures = pictures
        self.budget = budget
        self.seed = seed
        self.total = budget.sampler

    def learning_rate(self, seen: int) -> float:
        """As `surepose fit-sampler` does."""
        return cosine(seen / self.total, self.budget.learning_rate, 1e-5)

    def batch(self, step_seed: int, seen: int) -> tuple[list[Tensor], PoseBatch]:
        del seen
        rng = _rng(self.seed, "sampler", step_seed)
        seen_now = self.pictures.take(rng.integers(0, self.budget.pictures, self.budget.batch))
        return seen_now.maps, seen_now.label(rng)

    def loss(self, batch: tuple[list[Tensor], PoseBatch], seen: int) -> dict[str, Tensor]:
        maps, labels = batch
        progress = seen / self.total
        return self.method.loss(progress, self.net(maps, self.net.draw(progress)), labels)


@torch.no_grad()
def look(net: PoseModule, n: int, part: str) -> Seen:
    """Show new figures to the frozen network."""
    rng = _rng(0, part, 0)
    truths: list[Truth] = []
    maps: list[tuple[Tensor, ...]] = []
    for start in range(0, n, 128):
        figures = make_figures(min(128, n - start), rng)
        maps.append(tuple(seen.half() for seen in net.look(_planes(figures.image))))
        truths.append(figures.truth)
    columns = ("mean", "cov", "log_mass")
    truth = Truth(*(np.concatenate([getattr(t, name) for t in truths]) for name in columns))
    return Seen(truth, [torch.cat(part) for part in zip(*maps, strict=True)])


@torch.no_grad()
def say(reader: Reader, method: Method, seen: Seen, k: int) -> Hypotheses:
    """What a trained sampler says of some pictures."""
    # In parts, for the memory of many hypotheses.
    parts = zip(*(part.split(64) for part in seen.maps), strict=True)
    said = [reader(list(part), reader.fixed(k)).hypotheses for part in parts]
    found = Hypotheses(*(torch.cat(parts) for parts in zip(*said, strict=True)))
    return found if method.weighted else found._replace(logit=torch.zeros_like(found.logit))


def measure(
    reader: Reader, method: Method, held_out: Seen, test: Seen, seed: int, k: int
) -> dict[str, Any]:
    """Calibrate on held-out figures, compare with the truth on fresh ones."""
    labels = held_out.label(_rng(seed, "calibration", 1))
    fit = calibrate(say(reader, method, held_out, k), labels.keypoints, labels.weight)
    scale, temperature = torch.tensor(fit.scale), torch.tensor(fit.temperature)
    raw: list[Scores] = []
    calibrated: list[Scores] = []
    for rows in np.array_split(np.arange(len(test.truth.cov)), -(-len(test.truth.cov) // 128)):
        some = test.take(rows)
        label = some.label(_rng(seed, "test", 1 + int(rows[0]))).keypoints.double().numpy()
        found = say(reader, method, some, k)
        for into, said in ((raw, found), (calibrated, rescale(found, scale, temperature))):
            into.append(score(Predicted.of(said), some.truth, label, seed=int(rows[0])))
    fitted = {"scale": fit.scale, "temperature": fit.temperature}
    return {
        **summary(Scores.join(calibrated)),
        "calibration": fitted,
        "uncalibrated": summary(Scores.join(raw)),
    }


def heatmap_masses(test: Seen) -> dict[str, Any]:
    """What the heatmaps alone say of the masses: of all that lies by either hand, where."""
    heatmap = test.maps[0].float()
    place = cell_centres(heatmap) / heatmap.shape[2]
    mean = torch.from_numpy(test.truth.mean).float()[:, :, HANDS]  # (B, M, 2, 2)
    near = (place - mean[..., None, :]).square().sum(dim=-1) < 0.08**2  # (B, M, 2, hw)
    share = (torch.softmax(heatmap[:, HANDS].flatten(2), dim=-1)[:, None] * near).sum(dim=-1)
    mass = (share[:, 0] / share.sum(dim=1)).mean(dim=1).double().numpy()
    true = np.exp(test.truth.log_mass[:, 0])
    return {"mass_error": float(np.abs(mass - true).mean()), "reliability": reliability(true, mass)}


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


@dataclass(frozen=True, slots=True)
class Worker:
    """Trains and measures one method from one seed, in a process of its own."""

    folder: Path
    """Holds what the frozen network saw."""
    budget: Budget

    def __call__(self, name: str, seed: int) -> dict[str, Any]:
        torch.set_num_threads(1)
        started = time.process_time()
        method, k = METHODS[name], self.budget.hypotheses
        pictures, held_out, test = (self.seen(part) for part in PARTS)
        reader = _run(SamplerTask(method, pictures, self.budget, seed), self.budget.batch)
        found = {"scores": measure(reader, method, held_out, test, seed, k)}
        if name == "ours" and seed == 0:
            found["twice"] = measure(reader, method, held_out, test, seed, 2 * k)
        return found | {"cpu_seconds": time.process_time() - started}

    def prepare(self) -> dict[str, Any]:
        """Train the heatmaps and show all figures to them; their own masses."""
        net = _run(MapsTask(self.budget), self.budget.batch)
        shown = self.budget.pictures, self.budget.calibration, self.budget.test
        for n, part in zip(shown, PARTS, strict=True):
            torch.save(look(net, n, part), self.folder / part)
        return heatmap_masses(self.seen("test"))

    def seen(self, part: str) -> Seen:
        """Figures that the network has looked at."""
        found: Seen = torch.load(self.folder / part, weights_only=False, mmap=True)
        return found


def train_all(
    worker: Worker, methods: Sequence[str], jobs: int
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Run every method from every seed, some at a time; name, seed and result as they come."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        runs = {
            pool.submit(worker, name, seed): (name, seed)
            for seed in range(worker.budget.seeds)
            for name in methods
        }
        for run in as_completed(runs):
            yield *runs[run], run.result()


def _labels(image: Tensor, label: Float[Tensor, "B J 2"]) -> PoseBatch:
    ones = torch.ones(label.shape[:2])
    return PoseBatch(image, label, ones, torch.full_like(ones, torch.nan), FALLOFF * ones)


def _planes(image: UInt8[np.ndarray, "B h w 3"]) -> Float[Tensor, "B 3 h w"]:
    return torch.from_numpy(image).permute(0, 3, 1, 2).float()


def _run(task: Task[Net], batch: int) -> Net:
    with tempfile.TemporaryDirectory() as folder:
        return Trainer(task, Path(folder), batch).run()


def _rng(seed: int, part: str, index: int) -> np.random.Generator:
    """Figures and labels that no other part of the benchmark has seen."""
    return np.random.default_rng((seed, ("maps", *PARTS).index(part), index))


def main(
    json_path: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    plots: Path | None = None,
    quick: bool = False,
    seeds: int | None = None,
    methods: tuple[str, ...] = tuple(METHODS),
    jobs: int = 2,
) -> None:
    """Train all methods and compare them with the truth.

    Args:
        json_path: Where the result goes.
        plots: Folder for the curves.
        quick: Train for seconds only: shows that it runs, not how well.
        seeds: How often each is trained.
        methods: Only these.
        jobs: How many are trained at a time, a CPU core for each.
    """
    torch.set_num_threads(1)
    budget, started = QUICK if quick else Budget(), time.process_time()
    budget = replace(budget, seeds=seeds or budget.seeds)
    record: dict[str, Any] = {"budget": asdict(budget), "environment": environment()}
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in methods}
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(Path(folder), budget)
        record["heatmaps"] = worker.prepare()
        record["cpu_seconds"] = time.process_time() - started
        for name, seed, result in train_all(worker, methods, jobs):
            found[name][seed] = result["scores"]
            record |= {"twice": result["twice"]} if "twice" in result else {}
            record["cpu_seconds"] += result["cpu_seconds"]
            in_order = {n: [some[i] for i in sorted(some)] for n, some in found.items() if some}
            record["methods"] = {n: over_seeds(some) for n, some in in_order.items()}
            print(f"{name}, seed {seed}: {record['cpu_seconds']:.0f} s of CPU so far", flush=True)
            if json_path is not None:
                store(json_path, record)
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
