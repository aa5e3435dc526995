"""What does lower precision cost on photographs, and what does it save?

    python -m benchmarks.precision --data DIR --json benchmarks/results/precision-cpu.json

The pose network looks at the people of a split whose keypoints humans placed, once on ONNX Runtime
in fp32 and once on every other engine. Told are the distance from the reference (px of the crop,
nats of the covariances), accuracy and likelihood by the labels, and processor time a crop. fp16 is
what a TensorRT plan computes with: here its rounding is done on the CPU, which saves no time.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table

from benchmarks.accuracy import guess, honesty, label, placement
from engines.errors import DeviceError
from tracker.environment import environment
from tracker.parity import compare
from tracker.pose import PoseNet
from tracker.training.data import HUMAN, Split, beside_box
from tracker.types import Detection, Frame

ENGINES = (("ort", "fp32"), ("ort", "fp16"), ("openvino", "fp32"), ("openvino", "bf16"))
BATCH = 5


def main(
    data: Path,
    name: str = "nano",
    split: str = "dev",
    json_path: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Compare all engines of this CPU.

    Args:
        data: Folder in the packed format.
        name: Of a shipped pose network, or your own .onnx.
        split: Which index of the folder.
        json_path: Where the result goes.
    """
    split_data = Split.load(data, split)
    human = split_data["person_keypoint_source"] == HUMAN
    rows = np.nonzero(human & ~beside_box(split_data))[0].tolist()
    labels = [label(split_data, row) for row in rows]
    seen = [
        (Frame(split_data.decode(person.image), 0, 0.0), [Detection(person.box, 1.0)])
        for person in progress(labels, "decoding", transient=True)
    ]
    nets = {}
    for backend, precision in ENGINES:
        try:
            nets[f"{backend} {precision}"] = PoseNet.load(
                name, "cpu", 1, backend=backend, precision=precision
            )
        except DeviceError as error:
            print(error)
    reference = nets["ort fp32"]
    times = cpu_ms(nets)
    result: dict[str, Any] = {}
    for engine, net in nets.items():
        poses = [net(*people)[0] for people in progress(seen, engine, transient=True)]
        if net is reference:
            due = poses
        guesses = [guess(person.image, pose) for person, pose in zip(labels, poses, strict=True)]
        result[engine] = {
            "parity": asdict(compare(list(zip(due, poses, strict=True)))),
            **placement(labels, guesses),
            **honesty(labels, poses),
            "cpu_ms_per_crop": times[engine],
        }
    show(result)
    if json_path is not None:
        record = {"split": split, "batch": BATCH, "engines": result, **environment()}
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def cpu_ms(nets: dict[str, PoseNet], rounds: int = 30) -> dict[str, float]:
    """Processor time a crop of the engines alone, taking turns; median."""
    laps: dict[str, list[float]] = {engine: [] for engine in nets}
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for engine, net in nets.items():
            image = rng.uniform(0, 255, (BATCH, 3, net.height, net.width)).astype(np.float32)
            started = time.process_time()
            net.engine({"image": image, "latent": net.latents})
            laps[engine].append(1e3 * (time.process_time() - started) / BATCH)
    return {engine: float(np.median(times[5:])) for engine, times in laps.items()}


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    columns = "px median", "px p99", "KL mean", "KL p99", "AP", "PCK@0.1", "NLL", "CPU ms"
    table = Table("engine", *columns)
    for engine, row in result.items():
        off = row["parity"]
        distances = f"{off['px_median']:.3f}", f"{off['px_p99']:.3f}"
        nats = f"{off['kl_mean']:.1e}", f"{off['kl_p99']:.1e}"
        scores = f"{row['ap']:.4f}", f"{row['pck10']:.4f}", f"{row['nll']:.3f}"
        table.add_row(engine, *distances, *nats, *scores, f"{row['cpu_ms_per_crop']:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    tyro.cli(main)
