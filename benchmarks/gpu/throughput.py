"""How many crops a second does the pose network look at, and how near is that to the roofline?

    python -m benchmarks.gpu.throughput --json benchmarks/results/throughput-GPU.json

Every backend that starts is timed on the same batches, whole calls with copies to and from the
host; the least of the medians of several rounds is what the card can do. The roofline is counted
from the graph: multiplications and additions of convolutions and matrix products, and the bytes
that these read and write if everything between them were fused; peaks are measured on the card by
one large matrix product and one large copy. Parity with ONNX Runtime in fp32 is told for each.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

import engines
from benchmarks.environment import environment, store
from engines import EngineError
from engines.graph import lowered
from engines.torch_graph import specialise
from tracker import weights
from tracker.latents import sobol_latents
from tracker.pose import plan_shapes

BACKENDS = ("tensorrt", "torch-tensorrt", "torch", "torch-compile", "torch-eager")


@dataclass(frozen=True, slots=True)
class Throughput:
    """One backend at one batch."""

    backend: str
    precision: str
    batch: int
    ms: float
    """Of a call, copies included."""
    crops_per_second: float
    of_roofline: float
    """Part of what the card could do at most."""
    worst_px: float
    """Largest distance of a mean from ONNX Runtime's, px of the crop."""


@dataclass(frozen=True, slots=True)
class Roof:
    """What a card can do."""

    flops: float
    """A second, in fp16."""
    bytes: float
    """A second, to and from its memory."""

    def seconds(self, work: "Work") -> float:
        """The least time for a piece of work."""
        return max(work.flops / self.flops, work.bytes / self.bytes)


@dataclass(frozen=True, slots=True)
class Work:
    """What a batch needs."""

    flops: float
    bytes: float


def main(
    name: str = "nano",
    batches: tuple[int, ...] = (1, 8, 32, 64),
    device: str = "cuda",
    precision: str = "fp16",
    rounds: int = 30,
    json_path: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Time the pose network on every backend that starts here.

    Args:
        name: Of a shipped pose network, or your own .onnx.
        batches: Crops at once.
        device: cuda; cpu tries the script out.
        precision: Of the trunk.
        rounds: Calls of each batch.
        json_path: Where the result goes.
    """
    found = weights.find("pose", name)
    latent = sobol_latents(int(found.entry("n_hypotheses")))
    size = int(found.entry("input", "height")), int(found.entry("input", "width"))
    inputs = {n: {"image": crops(n, *size), "latent": latent} for n in batches}
    reference = engines.load(found.path, "cpu")
    due = {n: reference(x)["mean"] for n, x in inputs.items()}
    top = roof(device)
    work = {n: count(found.path, precision, x) for n, x in inputs.items()}
    shapes = dict(plan_shapes(found))
    least, usual, _ = shapes["image"]
    shapes["image"] = least, usual, (max(batches), *least[1:])
    results = []
    chosen = BACKENDS if device == "cuda" else ("torch-eager",)
    for backend in chosen:
        for which in dict.fromkeys((precision, "fp32")):
            try:
                engine = engines.load(
                    found.path, device, backend=backend, precision=which, shapes=shapes
                )
                for n, x in inputs.items():
                    ms = 1e3 * median_time(lambda x=x: engine(x), rounds)  # type: ignore[misc]  # noqa: B023
                    off = np.abs(engine(x)["mean"] - due[n]).max() * size[0]
                    results.append(
                        Throughput(
                            backend, which, n, ms, 1e3 * n / ms, top.seconds(work[n]) / ms * 1e3,
                            float(off),
                        )
                    )  # fmt: skip
            except EngineError as error:
                print(f"{backend} {which}: {error}")
    show(results)
    if json_path is not None:
        record = {
            "roof": asdict(top),
            "work": {n: asdict(w) for n, w in work.items()},
            "results": [asdict(result) for result in results],
            **environment(),
        }
        store(json_path, record)


def crops(n: int, height: int, width: int) -> np.ndarray:
    """Blurred noise."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (n, 3, height // 16, width // 16))
    return coarse.repeat(16, axis=2).repeat(16, axis=3).astype(np.float32)


def median_time(call: Callable[[], Any], rounds: int) -> float:
    """Seconds, after warming up; engines give arrays of the host, so that each call has ended."""
    for _ in range(5):
        call()
    laps = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        laps.append(time.perf_counter() - started)
    return float(np.median(laps))


def count(path: Path, precision: str, inputs: dict[str, np.ndarray]) -> Work:
    """FLOPs and bytes of convolutions and matrix products."""
    module = specialise(lowered(path, precision), {n: x.shape for n, x in inputs.items()}, "meta")  # type: ignore[arg-type]
    tensors = [torch.empty(x.shape, device="meta") for x in inputs.values()]
    moved = _Moved(module)
    with FlopCounterMode(display=False) as counter:
        moved.run(*tensors)
    return Work(float(counter.get_total_flops()), float(moved.bytes))


class _Moved(torch.fx.Interpreter):
    """Adds up the bytes that convolutions and matrix products read and write."""

    bytes = 0

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        result = super().call_function(target, args, kwargs)
        if getattr(target, "__name__", "") in ("_conv", "matmul", "_gemm"):
            tensors = [x for x in (*args, result) if isinstance(x, torch.Tensor)]
            self.bytes += sum(x.numel() * x.element_size() for x in tensors)
        return result


def roof(device: str) -> Roof:
    """Measured: a matrix product of fp16 and a copy, the best of several."""
    n, dtype = (8192, torch.float16) if device == "cuda" else (512, torch.float32)
    a = torch.randn(n, n, device=device, dtype=dtype)
    block = torch.empty(2**30 if device == "cuda" else 2**24, dtype=torch.uint8, device=device)

    def best(call: Callable[[], Any]) -> float:
        laps = []
        for _ in range(10):
            started = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            laps.append(time.perf_counter() - started)
        return min(laps)

    copied = torch.empty_like(block)
    return Roof(
        2 * n**3 / best(lambda: a @ a), 2 * block.numel() / best(lambda: copied.copy_(block))
    )


def show(results: list[Throughput]) -> None:
    """Print the table."""
    table = Table("backend", "precision", "batch", "ms", "crops/s", "of roofline", "worst px")
    for r in results:
        numbers = f"{r.ms:.2f}", f"{r.crops_per_second:.0f}", f"{r.of_roofline:.0%}"
        table.add_row(r.backend, r.precision, str(r.batch), *numbers, f"{r.worst_px:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    tyro.cli(main)
