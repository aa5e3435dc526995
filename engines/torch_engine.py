"""Graphs on torch: what runs on a GPU without TensorRT, and on the CPU for comparison.

For each shape of inputs there is one program: the graph as a torch module, compiled if asked, and
on CUDA recorded as one CUDA graph that reads and writes the same memory every time.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from engines.backends import Precision
from engines.engine import TensorSpec, bucket, check_inputs
from engines.errors import DeviceError, EngineError, one_line
from engines.graph import lowered, spec_of

try:
    import torch

    from engines.torch_graph import specialise
    from engines.views import views_on
except (ImportError, OSError) as error:
    raise DeviceError(f"torch is not here ({error}): pip install 'surepose[train]'") from error

Mode = Literal["eager", "compile", "graphs", "compile+graphs", "torch-tensorrt"]
"""How a program runs; "graphs" are CUDA graphs."""


def mode_of(backend: str, device: str) -> Mode:
    """What a backend's name means on a device."""
    if backend == "torch-tensorrt":
        return "torch-tensorrt"
    if backend == "torch-compile":
        return "compile+graphs" if device == "cuda" else "compile"
    return "graphs" if backend == "torch" and device == "cuda" else "eager"


class TorchEngine:
    """A graph on torch; `engines.load` builds it. Inputs may already lie on its device."""

    def __init__(
        self, path: Path, device: str, precision: Precision = "fp32", mode: Mode = "eager"
    ) -> None:
        """
        Args:
            path: The .onnx file.
            device: "cpu" or "cuda".
            precision: Of the trunk.
            mode: CUDA graphs and torch-tensorrt need CUDA.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError(
                f"torch {torch.__version__} finds no CUDA device: check nvidia-smi, install a CUDA "
                "build of torch, or run with --device cpu"
            )
        if device == "cpu" and ("graphs" in mode or mode == "torch-tensorrt"):
            raise DeviceError(f"{mode} needs CUDA; on the CPU torch runs eager or compiled")
        self._name, self._device, self._precision, self._mode = path.name, device, precision, mode
        self._model = lowered(path, precision)
        self.inputs = tuple(map(spec_of, self._model.graph.input))
        self.outputs = tuple(map(spec_of, self._model.graph.output))
        self._programs: dict[tuple[tuple[int, ...], ...], _Program] = {}
        self._lock = threading.Lock()
        self.views = views_on(device)
        """Looks at parts of pictures on the device: each picture is uploaded once."""

    def describe(self) -> str:
        where = "CPU" if self._device == "cpu" else torch.cuda.get_device_name()
        return f"torch {torch.__version__} ({self._mode}, {self._precision}) on {where}"

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        check_inputs(self.inputs, {name: _stand_in(x) for name, x in inputs.items()})
        first = self.inputs[0].name
        n = len(inputs[first])
        rows = {name: len(x) for name, x in inputs.items()} | {first: bucket(n)}
        shapes = {
            spec.name: (rows[spec.name], *inputs[spec.name].shape[1:]) for spec in self.inputs
        }
        with self._lock, torch.inference_mode():
            found = self._program(shapes)([inputs[spec.name] for spec in self.inputs])
        return {spec.name: x[:n] for spec, x in zip(self.outputs, found, strict=True)}

    def _program(self, shapes: dict[str, tuple[int, ...]]) -> "_Program":
        key = tuple(shapes.values())
        if key not in self._programs:
            module: Any = specialise(self._model, shapes, self._device)
            self._programs[key] = _Program(module, shapes, self.inputs, self._device, self._mode)
        return self._programs[key]


class _Program:
    """One shape of inputs: its memory on the device and what runs on it."""

    def __init__(
        self,
        module: Any,
        shapes: Mapping[str, tuple[int, ...]],
        specs: tuple[TensorSpec, ...],
        device: str,
        mode: Mode,
    ) -> None:
        self._on_gpu = device == "cuda"
        dtypes = [getattr(torch, str(spec.dtype)) for spec in specs]
        self._inputs = [
            torch.zeros(shape, dtype=dtype, device=device)
            for shape, dtype in zip(shapes.values(), dtypes, strict=True)
        ]
        self._staged = [
            torch.zeros(x.shape, dtype=x.dtype, pin_memory=True) if self._on_gpu else x
            for x in self._inputs
        ]
        self._run = _accelerated(module, self._inputs, mode)
        outputs = self._run()
        self._fetched = [
            torch.empty(y.shape, dtype=y.dtype, pin_memory=self._on_gpu) for y in outputs
        ]

    def __call__(self, arrays: list[Any]) -> list[np.ndarray]:
        for x, staged, array in zip(self._inputs, self._staged, arrays, strict=True):
            if isinstance(array, torch.Tensor):
                x[: len(array)].copy_(array)
                continue
            # Rows past the batch keep what they held: nobody reads what becomes of them.
            staged[: len(array)].copy_(torch.from_numpy(array))
            if self._on_gpu:
                x[: len(array)].copy_(staged[: len(array)], non_blocking=True)
        for fetched, y in zip(self._fetched, self._run(), strict=True):
            fetched.copy_(y, non_blocking=self._on_gpu)
        if self._on_gpu:
            torch.cuda.current_stream().synchronize()
        return [fetched.numpy().copy() for fetched in self._fetched]


def _accelerated(module: Any, inputs: list[Any], mode: Mode) -> Callable[[], Any]:
    """The module on these inputs as a call without arguments, warmed up."""
    if mode == "torch-tensorrt":
        from engines.torch_trt import compiled

        module = compiled(module, inputs)
    elif "compile" in mode:
        module = torch.compile(module, dynamic=False)
    try:
        module(*inputs)
        return _recorded(module, inputs) if "graphs" in mode else lambda: module(*inputs)
    except Exception as error:  # torch has many kinds, all derived from Exception alone
        raise EngineError(f"torch ({mode}) failed: {one_line(error)}") from error


def _recorded(module: Any, inputs: list[Any]) -> Callable[[], Any]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries choose their kernels and memory before the recording
        for _ in range(3):
            module(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the GPU meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = module(*inputs)

    def replay() -> Any:
        graph.replay()
        return outputs

    return replay


def _stand_in(x: Any) -> np.ndarray:
    """An array of the same shape and dtype for checks, without its numbers."""
    if isinstance(x, np.ndarray):
        return x
    return np.broadcast_to(np.zeros((), str(x.dtype).removeprefix("torch.")), tuple(x.shape))
