"""Learning curves: log.jsonl drawn beside itself while a training runs."""

import json
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt


def draw_curves(folder: Path) -> Path:
    """Draw every part of the loss in FOLDER/log.jsonl against the samples seen; the picture."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    names = sorted({name for row in rows for name in row} - {"seen", "per_s"})
    figure, axes = plt.subplots(
        len(names), 1, figsize=(8, 2.2 * len(names)), sharex=True, squeeze=False, layout="tight"
    )
    for name, axis in zip(names, axes[:, 0], strict=True):
        # Missing where another stage ran: NaN breaks the line there.
        seen, value = np.array([[row["seen"], row.get(name, np.nan)] for row in rows]).T
        axis.plot(seen, value, color="0.8", linewidth=0.8)
        axis.plot(seen, _smooth(value), color="tab:blue")
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
        for row, later in pairwise(rows):
            if row.keys() != later.keys():  # another stage
                axis.axvline(later["seen"], color="tab:red", linewidth=0.8)
    axes[-1, 0].set_xlabel("samples seen")
    path = folder / "curves.png"
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path


def _smooth(value: np.ndarray, rows: int = 15) -> np.ndarray:
    """Median of the rows around each."""
    padded = np.pad(value, rows // 2, constant_values=np.nan)
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, rows), axis=1)
