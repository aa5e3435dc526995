"""What does a fitted sampler add to a heatmap network: does it keep the poses, are the bars honest?

    python -m benchmarks.samplers --data DIR --sampler SAMPLER.onnx --heatmaps NET --json OUT

SAMPLER.onnx is the result of `surepose fit-sampler` on NET (.onnx or ncnn .param). People are
cropped by their labelled boxes; only keypoints that humans placed count.

Keys of the JSON, per source of pictures: `argmax` (each map's highest cell, moved a quarter
towards its higher neighbours, as most toolboxes decode) with the scores of placement, `sampled`
(the answer of the sampler) with those and the scores of honesty; all as in
`benchmarks.accuracy`.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from jaxtyping import Float, Float32
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table

from benchmarks.environment import environment, store
from benchmarks.honesty import LEVELS
from benchmarks.labelled import Guess, guess, honesty, label, placement, sources
from tracker import foreign
from tracker.crops import crop_box, cut, image_from_net
from tracker.heatmaps import HeatmapNet
from tracker.training.data import HUMAN, Split, beside_box
from tracker.types import Detection, Frame


def main(
    data: Path,
    sampler: Path,
    heatmaps: Path,
    json_path: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    split: str = "dev",
) -> None:
    """Measure a sampler on labelled pictures.

    Args:
        data: Folder in the packed format.
        sampler: The .onnx of a fit, its card beside it.
        heatmaps: The network it was fitted on.
        json_path: Where the result goes.
        split: Which index of the folder.
    """
    split_data = Split.load(data, split)
    net = foreign.pose_net(sampler, heatmaps, "cpu")
    assert isinstance(net.engine, foreign.SampledHeatmaps)
    human = split_data["person_keypoint_source"] == HUMAN
    rows = np.nonzero(human & ~beside_box(split_data))[0].tolist()
    labels = [label(split_data, row) for row in rows]
    poses = [
        net(Frame(split_data.decode(person.image), 0, 0.0), [Detection(person.box, 1.0)])[0]
        for person in progress(labels, "sampled")
    ]
    plain = [
        highest(net.engine.heatmaps, split_data, person.image, person.box)
        for person in progress(labels, "argmax")
    ]
    sampled = [guess(person.image, found) for person, found in zip(labels, poses, strict=True)]
    result: dict[str, Any] = {"argmax": {}, "sampled": {}}
    for name, mine in sources(split_data, labels).items():
        people = [labels[i] for i in mine]
        result["argmax"][name] = placement(people, [plain[i] for i in mine])
        result["sampled"][name] = placement(people, [sampled[i] for i in mine])
        result["sampled"][name] |= honesty(people, [poses[i] for i in mine])
    show(result)
    if json_path is not None:
        record = {"split": split, **result, "environment": environment()}
        store(json_path, record)


def highest(net: HeatmapNet, split: Split, image: int, box: Float[np.ndarray, "4"]) -> Guess:
    """The usual reading of heatmaps, one cell a keypoint."""
    crop = crop_box(box)
    planes = cut(split.decode(image), [crop], net.view.height, net.view.width)
    (maps,) = net(np.ascontiguousarray(planes.astype(np.uint8).transpose(0, 2, 3, 1)))
    xy, score = decode(maps)
    return Guess(image, image_from_net(crop).points(xy), float(score.mean()))


def decode(
    maps: Float32[np.ndarray, "J h w"],
) -> tuple[Float[np.ndarray, "J 2"], Float[np.ndarray, " J"]]:
    """Highest cells in map heights, a quarter cell towards the higher neighbour; their values.

    Cell i stands for i strides, as in the toolboxes that train such networks.
    """
    j, h, w = maps.shape
    y, x = np.divmod(maps.reshape(j, -1).argmax(axis=1), w)
    joint = np.arange(j)
    right, left = maps[joint, y, np.minimum(x + 1, w - 1)], maps[joint, y, np.maximum(x - 1, 0)]
    below, above = maps[joint, np.minimum(y + 1, h - 1), x], maps[joint, np.maximum(y - 1, 0), x]
    quarter = 0.25 * np.sign(np.stack([right - left, below - above], axis=1))
    return (np.stack([x, y], axis=1) + quarter) / h, maps[joint, y, x].astype(np.float64)


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    levels = "/".join(f"{level * 100:.0f}" for level in LEVELS)
    table = Table("source", "pose", "people", "AP", "AP50", "AR", "PCK@0.1", "NLL", levels)
    for source in result["sampled"]:
        for who in ("argmax", "sampled"):
            row = result[who][source]
            covered = " ".join(f"{100 * v:.1f}" for v in row.get("coverage", {}).values())
            numbers = [f"{row[key]:.3f}" for key in ("ap", "ap50", "ar", "pck10")]
            nll = f"{row['nll']:.2f}" if "nll" in row else ""
            table.add_row(source, who, str(row["people"]), *numbers, nll, covered)
    Console(width=110).print(table)


if __name__ == "__main__":
    tyro.cli(main)
