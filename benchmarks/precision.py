"""What does lower precision cost on photographs, and what does it save?

    python -m benchmarks.precision --data DIR --json benchmarks/results/precision-cpu.json

The pose network looks at the people of a split whose keypoints humans placed, once on ONNX Runtime
in fp32 and once on every other engine. Told are the distance from the reference (px of the crop,
nats of the covariances), accuracy and likelihood by the labels, and processor time a crop. fp16 is
what a TensorRT plan computes with: here its rounding is done on the CPU, which saves no time.
Detector and both networks together are measured as `benchmarks.accuracy` does.

int8 needs to know what activations hold. `--card` measures it on people and pictures of `train` and
writes it into the cards: once after a network has been trained.
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

from benchmarks.environment import environment, store
from benchmarks.labelled import guess, honesty, label, placement
from benchmarks.wild import in_the_wild
from engines.errors import DeviceError
from engines.quantise import ranges
from tracker import weights
from tracker.crops import crop_box, cut, letterbox
from tracker.detector import Detector
from tracker.parity import compare
from tracker.pose import PoseNet
from tracker.training.data import HUMAN, Split, beside_box
from tracker.types import Detection, Frame

ENGINES = (
    ("ort", "fp32"),
    ("ort", "int8"),
    ("ort", "fp16"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)
BATCH = 5
WILD = ("detector", "ap50"), ("end_to_end", "ap")
SEEN = 256
"""People and pictures of train that the ranges of activations are measured on."""


def main(
    data: Path,
    name: str = "nano",
    detector: str = "nano",
    split: str = "dev",
    card: bool = False,
    json_path: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Compare all engines of this CPU.

    Args:
        data: Folder in the packed format.
        name: Of a shipped pose network, or your own .onnx.
        detector: The same of a detector.
        split: Which index of the folder.
        card: First measure the ranges of activations on train and write them into the cards.
        json_path: Where the result goes.
    """
    if card:
        write_ranges(data, name, detector)
    split_data = Split.load(data, split)
    human = split_data["person_keypoint_source"] == HUMAN
    rows = np.nonzero(human & ~beside_box(split_data))[0].tolist()
    labels = [label(split_data, row) for row in rows]
    seen = [
        (Frame(split_data.decode(person.image), 0, 0.0), [Detection(person.box, 1.0)])
        for person in progress(labels, "decoding", transient=True)
    ]
    nets, finders = {}, {}
    for backend, precision in ENGINES:
        engine = f"{backend} {precision}"
        try:
            nets[engine] = PoseNet.load(name, "cpu", 1, backend=backend, precision=precision)
            finders[engine] = Detector.load(
                detector, "cpu", 1, backend=backend, precision=precision
            )
        except DeviceError as error:
            nets.pop(engine, None)
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
            **in_the_wild(split_data, net, finders[engine]),
            "cpu_ms_per_crop": times[engine],
        }
    show(result)
    if json_path is not None:
        record = {"split": split, "batch": BATCH, "engines": result, **environment()}
        store(json_path, record)


def write_ranges(data: Path, pose: str, detector: str) -> None:
    """Measure what activations hold, on people and pictures of train, and note it on the cards."""
    split, rng = Split.load(data, "train"), np.random.default_rng(0)
    found = weights.find("pose", pose)
    size = int(found.entry("input", "height")), int(found.entry("input", "width"))
    human = np.nonzero(split["person_keypoint_source"] == HUMAN)[0]
    people = [label(split, row) for row in rng.permutation(human)[:SEEN].tolist()]
    crops = [cut(split.decode(p.image), [crop_box(p.box)], *size) for p in people]
    _note(found, [{"image": crop} for crop in crops])
    found = weights.find("detector", detector)
    side = int(found.entry("input", "long_side"))
    pictures = rng.permutation(len(split["img_source"]))[:SEEN].tolist()
    _note(found, [{"image": letterbox(split.decode(i), side)[0]} for i in pictures])


def _note(found: weights.Weights, batches: list[dict[str, np.ndarray]]) -> None:
    known = {
        name: [float(f"{value:.4g}") for value in bounds]
        for name, bounds in ranges(found.path, progress(batches, found.path.name)).items()
    }
    path = found.path.with_suffix(".json")
    text = json.dumps(found.card | {"ranges": known}, indent=2) + "\n"
    path.write_text(text, encoding="utf-8")


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
    columns = (
        "px median", "px p99", "KL mean", "KL p99", "AP", "PCK@0.1", "NLL", "boxes AP50", "both AP",
        "CPU ms",
    )  # fmt: skip
    table = Table("engine", *columns)
    for engine, row in result.items():
        off = row["parity"]
        distances = f"{off['px_median']:.3f}", f"{off['px_p99']:.3f}"
        nats = f"{off['kl_mean']:.1e}", f"{off['kl_p99']:.1e}"
        scores = f"{row['ap']:.4f}", f"{row['pck10']:.4f}", f"{row['nll']:.3f}"
        wild = [row[part][key] if row[part] else float("nan") for part, key in WILD]
        found = [f"{value:.3f}" for value in wild]
        cost = f"{row['cpu_ms_per_crop']:.2f}"
        table.add_row(engine, *distances, *nats, *scores, *found, cost)
    Console(width=120).print(table)


if __name__ == "__main__":
    tyro.cli(main)
