"""Draw what `benchmarks.tracking` has stored: `python -m benchmarks.tracking.plots OUT DIR`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from matplotlib import color_sequences
from matplotlib.figure import Figure

Row = Mapping[str, Any]


def main(
    results: Annotated[Path, tyro.conf.Positional], folder: Annotated[Path, tyro.conf.Positional]
) -> None:
    """Draw a picture of each part.

    Args:
        results: What --json has written.
        folder: Where the pictures go.
    """
    stored = json.loads(results.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    drawings: dict[str, Callable[[Any], Figure]] = {
        "ladder": _ladder,
        "crowds": _switches,
        "speed": _costs,
    }
    for part, drawing in drawings.items():
        if part in stored:
            drawing(stored[part]["result"]).savefig(folder / f"tracking-{part}.png", dpi=90)


def _ladder(ladders: Mapping[str, Sequence[Row]]) -> Figure:
    """Of the first source of motion."""
    source, rises = next(iter(ladders.items()))
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, 3)
    at = sorted({r["on"] for r in rises})
    titles = {
        "rmse": "RMSE, px",
        "nees": "NEES per coordinate",
        "coverage_95": "inside the 95 % ellipse",
    }
    for ax, (score, title) in zip(axes, titles.items(), strict=True):
        for rung in dict.fromkeys(r["rung"] for r in rises):
            by = {r["on"]: r for r in rises if r["rung"] == rung}
            mean = [_number(by[on]["mean"][score]) for on in at]
            error = [_number(by[on]["standard_error"][score]) for on in at]
            ax.errorbar(range(len(at)), mean, error, marker="o", ms=4, capsize=2, label=rung)
        ax.set_xticks(range(len(at)), at)
        ax.set_title(title, fontsize=10)
    axes[1].axhspan(0.9, 1.15, color="0.9", zorder=0)
    axes[2].axhspan(0.93, 0.97, color="0.9", zorder=0)
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(f"One person, motion from {source}; grey: honest", fontsize=11)
    return figure


def _switches(crowds: Mapping[str, Sequence[Row]]) -> Figure:
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    axes = figure.subplots(1, len(crowds), sharey=True, squeeze=False)[0]
    for ax, (name, found) in zip(axes, crowds.items(), strict=True):
        labels = [s["tracker"] + (" (tuned)" if s["options"] else "") for s in found]
        colours = ["tab:red" if s["tracker"].startswith("ours") else "tab:blue" for s in found]
        errors = [_number(s["switches_standard_error"]) for s in found]
        ax.barh(labels, [s["switches_mean"] for s in found], xerr=errors, color=colours)
        ax.set_title(f"Crowds, {name}", fontsize=10)
        ax.set_xlabel("identity switches a scene (by OKS)")
        ax.tick_params(labelsize=8)
    axes[0].invert_yaxis()
    return figure


def _costs(costs: Sequence[Row]) -> Figure:
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set_prop_cycle(color=color_sequences["tab20"])
    most = max(c["hypotheses"] for c in costs)
    for name in dict.fromkeys(c["tracker"] for c in costs):
        line = [c for c in costs if c["tracker"] == name and c["hypotheses"] == most]
        people, took = [c["people"] for c in line], [c["median_ms"] for c in line]
        left.loglog(people, took, marker="o", ms=3, lw=2 if name == "ours" else 1, label=name)
    left.axhline(33.3, color="0.6", lw=0.8)
    left.set_xlabel(f"people, {most} hypotheses each where a tracker takes them")
    left.set_ylabel("ms a step, one core (grey: 30 frames/s)")
    for n in sorted({c["people"] for c in costs}):
        line = [c for c in costs if c["tracker"] == "ours" and c["people"] == n]
        hypotheses, took = [c["hypotheses"] for c in line], [c["median_ms"] for c in line]
        right.semilogy(hypotheses, took, marker="o", ms=3, label=f"{n} people")
    right.set_xticks(sorted({c["hypotheses"] for c in costs}))
    right.set_xlabel("hypotheses of each person (ours)")
    for ax in (left, right):
        ax.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    return figure


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


if __name__ == "__main__":
    tyro.cli(main)
