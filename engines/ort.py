"""ONNX Runtime: the reference engine, and the one that needs nothing but a CPU."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime as ort

from engines.backends import Precision, Ranges
from engines.cpu import usable_cores
from engines.engine import Arrays, TensorSpec, check_inputs
from engines.errors import DeviceError, EngineError, GraphError, one_line

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OrtEngine:
    """A graph on ONNX Runtime; `engines.load` builds it."""

    def __init__(
        self,
        path: Path,
        device: str,
        threads: int | None = None,
        precision: Precision = "fp32",
        ranges: Ranges | None = None,
    ) -> None:
        """
        Args:
            path: The .onnx file.
            device: "cpu" or "cuda".
            threads: Of one operator; None takes every core this process may use.
            precision: Of the trunk: fp32, fp16 (on the CPU the rounding alone is done, for
                comparison) or int8.
            ranges: Of activations, for int8.
        """
        self._name = path.name
        self._precision = precision
        self._device = device
        self._threads = threads or usable_cores()
        self._session = _open(path, device, self._threads, _rewritten(path, precision, ranges))
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())

    def describe(self) -> str:
        where = "CPU" if self._device == "cpu" else "CUDA"
        threads = f"{self._threads} thread{'s' * (self._threads != 1)}"
        low = f", trunk in {self._precision}" if self._precision != "fp32" else ""
        return f"ONNX Runtime {ort.__version__} on {where}, {threads}{low}"

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        check_inputs(self.inputs, inputs)
        names = [spec.name for spec in self.outputs]
        try:
            outputs = self._session.run(names, dict(inputs))
        except Exception as error:
            raise EngineError(
                f"{self._name} failed on {self.describe()}: {one_line(error)}"
            ) from error
        return dict(zip(names, outputs, strict=True))


def devices() -> tuple[str, ...]:
    """The devices that this installation of ONNX Runtime was built for."""
    there = ort.get_available_providers()
    return tuple(device for device, provider in _PROVIDERS.items() if provider in there)


def simplify(path: Path) -> bytes:
    """The graph after the passes that keep it standard ONNX: folding, fusing of batch norms."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / path.name)
        try:
            ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise _not_a_graph(path, error) from error
        return Path(options.optimized_model_filepath).read_bytes()


def _rewritten(path: Path, precision: Precision, ranges: Ranges | None) -> bytes | None:
    """The graph with its trunk in a lower precision; None is the file as it is."""
    if precision == "fp32":
        return None
    from engines.graph import lowered  # they need onnx, which plain use does not
    from engines.quantise import quantised

    if precision == "int8":
        assert ranges is not None
        return quantised(path, ranges).SerializeToString()
    return lowered(path, precision).SerializeToString()


def _not_a_graph(path: Path, error: Exception) -> GraphError:
    return GraphError(f"{path} is not a graph that ONNX Runtime can run: {one_line(error)}")


def _open(path: Path, device: str, threads: int, graph: bytes | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors reach the user as exceptions
    # A thread that spins between operators burns its core while the frame waits elsewhere, and
    # stalls every operator when another process has that core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(graph or path, options, providers=[_PROVIDERS[device]])
    except Exception as error:  # ONNX Runtime has a dozen kinds, all derived from Exception alone
        raise _not_a_graph(path, error) from error
    if _PROVIDERS[device] not in session.get_providers():
        raise DeviceError(
            f"ONNX Runtime could not start on {device} and fell back to "
            f"{session.get_providers()}: check the driver and the CUDA and cuDNN libraries"
        )
    return session


def _spec(node: ort.NodeArg) -> TensorSpec:
    if node.type not in _DTYPES:
        raise GraphError(f"{node.name} is a {node.type}, known are {', '.join(_DTYPES)}")
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return TensorSpec(node.name, shape, np.dtype(_DTYPES[node.type]))
