"""Other people's pose networks: crops in, one heatmap per keypoint out.

A network that gives heatmaps (B, J, h, w) is read through one call, whatever runs it: an .onnx by
ONNX Runtime, an ncnn .param with its .bin, or any Python callable of the same form. Behind it
`surepose fit-sampler` puts a sampler; `tracker.foreign` makes of both what the tracker takes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

import engines
from tracker.errors import TrackerError


class HeatmapError(TrackerError):
    """A heatmap network cannot be loaded, or gives no heatmaps."""


@dataclass(frozen=True, slots=True)
class View:
    """How a network wants its crops; the default is ImageNet's way, on RGB in 0..255."""

    height: int = 256
    width: int = 192
    """A crop is 4:3 high: `tracker.crops.crop_box`."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Subtracted from R, G and B."""
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    """Then divided by, in the same order."""
    order: Literal["rgb", "bgr"] = "rgb"
    """Of the channels that the network gets; mean and std are given in RGB all the same."""

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "View":
        """What a card says: lists where we keep tuples."""
        return cls(**{**entry, "mean": tuple(entry["mean"]), "std": tuple(entry["std"])})

    def planes(self, crops: UInt8[np.ndarray, "B H W 3"]) -> Float32[np.ndarray, "B 3 H W"]:
        """Normalise crops and lay them out as networks take them."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        normal = (crops.astype(np.float32) - mean) / std
        ordered = normal if self.order == "rgb" else normal[..., ::-1]
        return np.ascontiguousarray(ordered.transpose(0, 3, 1, 2))


IMAGENET = View()


@runtime_checkable
class HeatmapNet(Protocol):
    """A network as a callable; your own class with these two is one, too."""

    @property
    def view(self) -> View:
        """The size of its crops, and how it prepares them (if it does not do so otherwise)."""

    def __call__(
        self, crops: UInt8[np.ndarray, "B H W 3"]
    ) -> Float32[np.ndarray, "B J h w"]: ...  # RGB crops of the size of `view`


class OnnxHeatmaps:
    """Heatmaps of an .onnx, of free batch size or of one crop."""

    def __init__(
        self,
        path: str | Path,
        view: View = IMAGENET,
        output: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """
        Args:
            path: The .onnx file; its one input is (B, 3, H, W).
            view: How it wants its crops.
            output: Name of the heatmaps; by default the first output with four axes.
            device: As in `engines.load`.
            threads: Of one operator; None takes every core.
        """
        self.view = view
        self._engine = engines.load(path, device, threads)
        if len(self._engine.inputs) != 1:
            names = ", ".join(map(str, self._engine.inputs))
            raise HeatmapError(f"{path} must take one input, the crops; it takes {names}")
        maps = [
            spec.name
            for spec in self._engine.outputs
            if (len(spec.shape) == 4 if output is None else spec.name == output)
        ]
        if not maps:
            given = ", ".join(map(str, self._engine.outputs))
            due = f"output {output!r}" if output else "output of four axes (B, J, h, w)"
            raise HeatmapError(f"{path} has no {due}; it gives {given}")
        self._output = maps[0]

    def __call__(self, crops: UInt8[np.ndarray, "B H W 3"]) -> Float32[np.ndarray, "B J h w"]:
        (spec,) = self._engine.inputs
        planes = self.view.planes(crops)
        if spec.shape[0] == 1:
            return np.concatenate([self._look(spec.name, plane[None]) for plane in planes])
        return self._look(spec.name, planes)

    def _look(self, name: str, planes: Float32[np.ndarray, "B 3 H W"]) -> np.ndarray:
        return self._engine({name: planes})[self._output].astype(np.float32)


class NcnnHeatmaps:
    """Heatmaps of an ncnn network, crop by crop (`pip install ncnn`)."""

    def __init__(
        self,
        param_path: str | Path,
        view: View = IMAGENET,
        output: str | None = None,
        threads: int = 1,
    ) -> None:
        """
        Args:
            param_path: The .param; its .bin lies beside it under the same name.
            view: How it wants its crops.
            output: Name of the heatmaps; by default the first output.
            threads: Of one operator.
        """
        try:
            import ncnn
        except ImportError as error:
            raise HeatmapError(
                f"{param_path} needs ncnn, which is not here: pip install ncnn"
            ) from error
        self.view = view
        path = Path(param_path)
        for file in (path, path.with_suffix(".bin")):
            if not file.is_file():  # ncnn itself would only write to the standard error
                raise HeatmapError(f"there is no {file}: an ncnn network is a .param and a .bin")
        self._ncnn, self._net = ncnn, ncnn.Net()
        self._net.opt.num_threads = threads
        if self._net.load_param(str(path)) or self._net.load_model(str(path.with_suffix(".bin"))):
            raise HeatmapError(f"ncnn cannot read {path} or its .bin")
        self._input = self._net.input_names()[0]
        self._output = output or self._net.output_names()[0]
        if self._output not in self._net.output_names():
            raise HeatmapError(
                f"{path} has no output {output!r}; it gives {self._net.output_names()}"
            )

    def __call__(self, crops: UInt8[np.ndarray, "B H W 3"]) -> Float32[np.ndarray, "B J h w"]:
        return np.stack([self._look(plane) for plane in self.view.planes(crops)])

    def _look(self, planes: Float32[np.ndarray, "3 H W"]) -> Float32[np.ndarray, "J h w"]:
        extractor = self._net.create_extractor()
        extractor.input(self._input, self._ncnn.Mat(planes))
        failed, maps = extractor.extract(self._output)
        if failed or maps.dims != 3:
            raise HeatmapError(f"the ncnn network gives no (J, h, w) maps as {self._output}")
        return np.array(maps, np.float32)


def load(
    path: str | Path, view: View = IMAGENET, output: str | None = None, threads: int | None = None
) -> OnnxHeatmaps | NcnnHeatmaps:
    """The heatmap network in this file, by its suffix."""
    match Path(path).suffix:
        case ".onnx":
            return OnnxHeatmaps(path, view, output, threads=threads)
        case ".param":
            return NcnnHeatmaps(path, view, output, threads or 1)
    raise HeatmapError(f"heatmap networks are .onnx or .param (ncnn, with a .bin), got {path}")


def digest(path: Path) -> str:
    """SHA-256 of a network's weights: the .onnx, or the .bin beside an ncnn .param."""
    file = path.with_suffix(".bin") if path.suffix == ".param" else path
    if not file.is_file():
        raise HeatmapError(f"there is no {file}")
    return hashlib.sha256(file.read_bytes()).hexdigest()
