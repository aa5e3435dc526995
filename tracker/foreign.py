"""Somebody else's heatmap network and our sampler, as the pose network that the tracker takes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import engines
from engines import InputError, TensorSpec
from engines.engine import Arrays
from tracker import heatmaps, weights
from tracker.heatmaps import HeatmapError, HeatmapNet, View
from tracker.latents import sobol_latents
from tracker.pose import OUTPUTS, Calibration, PoseNet


@dataclass(frozen=True, slots=True, eq=False)
class SampledHeatmaps:
    """An engine of two stages: crops → heatmaps → the five arrays of a pose network."""

    heatmaps: HeatmapNet
    sampler: engines.Engine

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        view, float32 = self.heatmaps.view, np.dtype(np.float32)
        latent = next(spec for spec in self.sampler.inputs if spec.name == "latent")
        return TensorSpec("image", (None, 3, view.height, view.width), float32), latent

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.sampler.outputs

    def describe(self) -> str:
        """What runs where."""
        return f"heatmaps of {type(self.heatmaps).__name__}, sampler: {self.sampler.describe()}"

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        # Planes 0..255 of whole numbers (`crops.cut`) back to pictures: other networks read those.
        crops = inputs["image"].astype(np.uint8).transpose(0, 2, 3, 1)
        maps = self.heatmaps(np.ascontiguousarray(crops))
        spec = next(spec for spec in self.sampler.inputs if spec.name == "heatmap")
        if not spec.fits(maps):
            came = TensorSpec("heatmap", maps.shape, maps.dtype)
            raise InputError(f"the sampler takes {spec}, the heatmap network gives {came}")
        return self.sampler({"heatmap": maps, "latent": inputs["latent"]})


def pose_net(
    sampler: str | Path,
    network: str | Path | HeatmapNet,
    device: str = "auto",
    threads: int | None = None,
) -> PoseNet:
    """A pose network of these two, calibrated.

    Args:
        sampler: The .onnx of `surepose fit-sampler`, its card beside it.
        network: The heatmap network it was fitted on: its file, or your own callable.
        device: Where the sampler runs, as in `engines.load`.
        threads: Of one operator.
    """
    found = weights.find("sampler", sampler)
    view = View.of(found.entry("network", "view"))
    if isinstance(network, (str, Path)):
        _check_same(found, Path(network))
        network = heatmaps.load(network, view, found.entry("network", "output"), threads)
    if (network.view.height, network.view.width) != (view.height, view.width):
        raise HeatmapError(f"{sampler} was fitted on {view}, the network takes {network.view}")
    engine = engines.load(found.path, device, threads)
    weights.check_graph(engine, inputs=("heatmap", "latent"), outputs=OUTPUTS)
    return PoseNet(
        SampledHeatmaps(network, engine),
        Calibration.of(found),
        sobol_latents(int(found.entry("n_hypotheses"))),
        height=view.height,
        width=view.width,
    )


def _check_same(found: weights.Weights, network: Path) -> None:
    """Error bars hold for the network they were fitted on and for no other."""
    due = found.entry("network", "sha256")
    if due is not None and heatmaps.digest(network) != due:
        raise HeatmapError(
            f"{found.path} was fitted on another network than {network}: fit it anew, "
            f"or give it the file of its card, {found.entry('network', 'file')}"
        )
