"""Pictures of what `benchmarks.accuracy` measured, for all people together.

python -m benchmarks.calibration_plots benchmarks/results/accuracy-dev.json FOLDER
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    "shipped": "#777777",
    "flip_test": "#3a7d44",
    "ours": "#d1495b",
    "single_gaussian": "#edae49",
    "heatmap_moments": "#00798c",
    "heatmap_argmax": "#66a3d2",
    "teacher": "#5f0f8f",
}
ENDINGS = {"": "Gaussian calibration", "+tails": "calibration with heavy tails"}
Draw = Callable[[Axes, str, dict[str, Any], dict[str, Any]], None]


def main(
    record: Annotated[Path, tyro.conf.Positional], folder: Annotated[Path, tyro.conf.Positional]
) -> None:
    """Draw a stored record."""
    draw(json.loads(record.read_text(encoding="utf-8")), folder)


def draw(result: dict[str, Any], folder: Path) -> None:
    """Write coverage-pose.png, coverage-keypoint.png, reliability.png and risk.png."""
    mpl.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    _page(folder / "coverage-pose.png", result, _coverage("coverage_pose"))
    _page(folder / "coverage-keypoint.png", result, _coverage("coverage_keypoint"))
    _page(folder / "reliability.png", result, _reliability)
    _page(folder / "risk.png", result, _risk)


def _page(path: Path, result: dict[str, Any], paint: Draw) -> None:
    """Two panels: methods with Gaussian calibration, methods with heavy tails."""
    endings = [e for e in ENDINGS if any(_belongs(name, e) for name in result["methods"])]
    figure = Figure(figsize=(8 * len(endings), 4.5), layout="constrained")
    axes = figure.subplots(1, len(endings), squeeze=False)[0]
    for ax, ending in zip(axes, endings, strict=True):
        for name, sources in result["methods"].items():
            if _belongs(name, ending):
                paint(ax, name.removesuffix("+tails"), sources["all"], result)
        ax.set_title(ENDINGS[ending])
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=110)


def _belongs(name: str, ending: str) -> bool:
    return name.endswith("+tails") == (ending == "+tails")


def _coverage(key: str) -> Draw:
    what = "whole poses" if key == "coverage_pose" else "keypoints"

    def paint(ax: Axes, name: str, row: dict[str, Any], result: dict[str, Any]) -> None:
        if not ax.lines:
            ax.plot([0, 1], [0, 1], color="black", lw=1, ls="--", label="honest")
        grid = [0.0, *result["coverage_grid"], 1.0]
        label = f"{name} (off by at most {100 * row[key]['largest_deviation']:.0f} points)"
        ax.plot(grid, [0.0, *row["curves"][key], 1.0], color=COLOURS.get(name), lw=2, label=label)
        ax.set(xlabel="probability of the region", ylabel=f"share of {what} inside", aspect=1)

    return paint


def _reliability(ax: Axes, name: str, row: dict[str, Any], result: dict[str, Any]) -> None:
    del result
    if not ax.lines:
        ax.plot([0, 1], [0, 1], color="black", lw=1, ls="--", label="honest")
    bins, label = row["curves"]["reliability"], f"{name} (mean gap {row['ece_oks']:.3f})"
    ax.plot(
        bins["promised"], bins["kept"], "o-", color=COLOURS.get(name), lw=1.5, ms=4, label=label
    )
    ax.set(xlabel="expected OKS of a keypoint", ylabel="OKS that came of it", aspect=1)


def _risk(ax: Axes, name: str, row: dict[str, Any], result: dict[str, Any]) -> None:
    """Two lines each, by what was predicted and by the error itself; their area in brackets."""
    del result
    found, best = (row["curves"][f"sparsification{end}"] for end in ("", "_oracle"))
    dropped, colour = 100 * np.arange(len(found)) / len(found), COLOURS.get(name)
    label = f"{name} ({row['ause']:.2f})"
    ax.plot(dropped, found, color=colour, label=label, lw=2)
    ax.plot(dropped, best, color=colour, lw=0.8, ls=":")
    ax.set(
        xlabel="keypoints dropped, most uncertain first, % (dotted: largest error first)",
        ylabel="mean error of the rest / mean error of all",
        ylim=(0, 1.3),
    )


if __name__ == "__main__":
    tyro.cli(main)
