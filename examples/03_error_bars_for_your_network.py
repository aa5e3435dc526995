"""Fit error bars to a heatmap network of your own, then track with it.

    python examples/03_error_bars_for_your_network.py

The network in the role of yours is our own, of which only the heatmaps are shown, squeezed into
0..1 as many networks give them. The labelled people are rendered; with so few of them, and so short
a fit, the error bars are wide. Needs the training extra.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from tracker import Detector, PoseTracker, open_source
from tracker.foreign import pose_net
from tracker.heatmaps import View
from tracker.training.fit import FitRecipe, FitRun, fit_sampler, foreign, ours
from tracker.training.pose import Stage, StageKind
from tracker.training.synthetic import write_split


class YourNetwork:
    """RGB crops (B, 256, 192, 3) → heatmaps (B, 17, 32, 24)."""

    view = View(256, 192)

    def __init__(self) -> None:
        self._look = ours("nano").look

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        logits = self._look(crops)["heatmap"]
        return torch.sigmoid(torch.from_numpy(logits)).numpy()


def main(n_scenes: int = 20, n_views: int = 512, n_crops: int = 8000, n_frames: int = 20) -> float:
    """Fit and follow; the mean error bar of the reported keypoints, px."""
    with TemporaryDirectory() as folder:
        data = Path(folder)
        write_split(data, "train", scenes=n_scenes, pictures_per_scene=6)
        stages = Stage(StageKind.IMLE, n_crops // 4), Stage(StageKind.MIXTURE, n_crops)
        recipe = FitRecipe(stages, views=n_views)
        network = YourNetwork()
        path = fit_sampler(FitRun(data / "fit", data, data), recipe, foreign(network))
        follow = PoseTracker(Detector.load(), pose_net(path, network))
        return watch(follow, n_frames)


def watch(follow: PoseTracker, n_frames: int) -> float:
    """Follow the people of the demo."""
    bars = []
    with open_source("demo") as frames:
        for frame, _ in zip(frames, range(n_frames), strict=False):
            for person in follow(frame).tracks:
                bar = np.sqrt(np.trace(person.keypoint_cov, axis1=1, axis2=2).mean())
                bars.append(float(bar))
                print(f"frame {frame.index:3}  person {person.id}  error bar {bar:5.1f} px")
    return float(np.mean(bars))


if __name__ == "__main__":
    main()
