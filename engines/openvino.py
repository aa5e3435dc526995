"""OpenVINO: the second engine for CPUs, in float32 or, on CPUs that have it, in bfloat16.

In bfloat16 only the trunk of the graph runs so: it is cut off and compiled by itself, because
OpenVINO takes one precision a graph.
"""

import threading
from pathlib import Path

import numpy as np
import onnx

from engines.backends import Precision
from engines.cpu import usable_cores
from engines.engine import Arrays, check_inputs
from engines.errors import DeviceError, EngineError, GraphError, one_line
from engines.graph import simplified, spec_of, split

try:
    import openvino as ov
except (ImportError, OSError) as error:
    raise DeviceError(
        f"OpenVINO is not here ({error}): pip install 'surepose[openvino]'"
    ) from error


class OpenvinoEngine:
    """A graph on OpenVINO; `engines.load` builds it."""

    def __init__(
        self, path: Path, precision: Precision = "fp32", threads: int | None = None
    ) -> None:
        """
        Args:
            path: The .onnx file.
            precision: fp32 or bf16.
            threads: None takes every core this process may use.
        """
        self._name, self._precision = path.name, precision
        self._threads = threads or usable_cores()
        core = ov.Core()
        if precision == "fp16" or precision.upper() not in _precisions(core):
            raise DeviceError(
                f"OpenVINO does not run {path.name} in {precision} on this CPU: take --precision "
                f"fp32{' or bf16' if 'BF16' in _precisions(core) else ''}"
            )
        try:
            model = simplified(path)
            parts = [model] if precision == "fp32" else list(split(model))
            hints = ["f32"] if precision == "fp32" else ["bf16", "f32"]
            self._parts = [
                _Part(core, part, hint, self._threads)
                for part, hint in zip(parts, hints, strict=True)
            ]
        except RuntimeError as error:
            raise GraphError(
                f"{path} is not a graph that OpenVINO can run: {one_line(error)}"
            ) from error
        self.inputs = tuple(map(spec_of, model.graph.input))
        self.outputs = tuple(map(spec_of, model.graph.output))
        self._lock = threading.Lock()

    def describe(self) -> str:
        threads = f"{self._threads} thread{'s' * (self._threads != 1)}"
        low = ", trunk in bf16" if self._precision == "bf16" else ""
        return f"OpenVINO {ov.__version__.split('-')[0]} on CPU, {threads}{low}"

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        check_inputs(self.inputs, inputs)
        known = dict(inputs)
        try:
            with self._lock:  # an infer request serves one caller at a time
                for part in self._parts:
                    known |= part(known)
        except RuntimeError as error:
            raise EngineError(
                f"{self._name} failed on {self.describe()}: {one_line(error)}"
            ) from error
        return {spec.name: known[spec.name] for spec in self.outputs}


class _Part:
    """One compiled graph; tensors by their ONNX names."""

    def __init__(self, core: "ov.Core", model: onnx.ModelProto, hint: str, threads: int) -> None:
        self._inputs = [value.name for value in model.graph.input]
        self._outputs = [value.name for value in model.graph.output]
        compiled = core.compile_model(
            core.read_model(model.SerializeToString()),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": hint,
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
                # Pinned threads of two processes would meet on the same cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._request = compiled.create_infer_request()

    def __call__(self, known: Arrays) -> dict[str, np.ndarray]:
        found = self._request.infer([known[name] for name in self._inputs])
        return {
            name: np.array(found[i]) for i, name in enumerate(self._outputs)
        }  # copies: the request will write over its own


def _precisions(core: "ov.Core") -> list[str]:
    return list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
