"""TensorRT and TensorRT for RTX: from a graph to a plan, from a plan to an engine.

Every call of both libraries is here, and none is outside the API of TensorRT 11.4 but the two that
only TensorRT for RTX has: the flag of strongly typed networks and the choice of target GPUs. Plans
are strongly typed: the precision is in the graph (`engines.graph.lowered`).
"""

import importlib
import logging
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

import numpy as np

from engines.backends import Shapes
from engines.engine import Arrays, TensorSpec, bucket, check_inputs
from engines.errors import DeviceError, EngineError, GraphError, one_line

Library = Literal["tensorrt", "rtx"]
Progress = Callable[[str, int, int], None]
"""Called with the phase of a build, its steps done and its steps in all."""

TARGETS = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")
"""GPUs for which TensorRT for RTX builds, whether they are here or not."""

_MODULES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
_NAMES = {"tensorrt": "TensorRT", "rtx": "TensorRT for RTX"}
log = logging.getLogger(__name__)


def library(name: Library) -> ModuleType:
    """The library, or how to get it."""
    try:
        return importlib.import_module(_MODULES[name])
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"{_NAMES[name]} is not here ({error}): pip install 'surepose[{name}]'"
        ) from error


def version(name: Library) -> str:
    return str(library(name).__version__)


def build(
    name: Library,
    graph: bytes,
    shapes: Shapes,
    *,
    target: str | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Compile an ONNX graph into a plan.

    Args:
        name: Which of the two libraries.
        graph: The ONNX file.
        shapes: Of each input: least, usual, largest.
        target: One of TARGETS (TensorRT for RTX only); None is the GPU at hand.
        progress: Told how far it is.

    Raises:
        GraphError: the library refuses the graph; the message names the node.
    """
    trt = library(name)
    journal = _journal(trt)
    builder = _need(trt.Builder(journal), name, journal)
    network = _network(trt, builder, name)
    _parse(trt, network, journal, graph, name)
    config = builder.create_builder_config()
    if target is not None:
        if name != "rtx":
            raise DeviceError(
                f"TensorRT builds for the GPU at hand only: for {target} take --backend rtx"
            )
        if target not in TARGETS:
            raise DeviceError(f"{_NAMES[name]} builds for {', '.join(TARGETS)}, not for {target}")
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, target), 0)
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        if tensor.name not in shapes:
            raise GraphError(f"nobody said which shapes of {tensor.name} will come")
        profile.set_shape(tensor.name, *shapes[tensor.name])
    config.add_optimization_profile(profile)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise GraphError(f"{_NAMES[name]} could not build the plan: {journal.last}")
    return bytes(plan)


def _network(trt: ModuleType, builder: Any, name: Library) -> Any:
    if name == "rtx":
        typed = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return builder.create_network(1 << int(typed))
    return builder.create_network()  # 11 knows strongly typed networks only


def _parse(trt: ModuleType, network: Any, journal: Any, graph: bytes, name: Library) -> None:
    parser = trt.OnnxParser(network, journal)
    if parser.parse(graph):
        return
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    told = "; ".join(f"{e.node_operator()} {e.node_name()}: {one_line(e.desc())}" for e in errors)
    raise GraphError(f"{_NAMES[name]} cannot take the graph: {told or journal.last}")


def _need(thing: Any, name: Library, journal: Any) -> Any:
    if thing is None:
        raise DeviceError(f"{_NAMES[name]} does not start here: {journal.last}")
    return thing


def _journal(trt: ModuleType) -> Any:
    """The library's own messages, to our log instead of the standard error."""

    class Journal(trt.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.last = "it gave no reason"

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.last = one_line(message)
            log.debug("%s", message)

    return Journal()


def _monitor(trt: ModuleType, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, n_steps: int) -> None:
            self.steps[phase] = n_steps
            progress(phase, 0, n_steps)

        def step_complete(self, phase: str, step: int) -> bool:
            progress(phase, step + 1, self.steps.get(phase, step + 1))
            return True  # False would give the build up

        def phase_finish(self, phase: str) -> None:
            n_steps = self.steps.get(phase, 1)
            progress(phase, n_steps, n_steps)

    return Monitor()


class TrtEngine:
    """A plan on the GPU; batches go through pinned buffers and a CUDA graph for each shape."""

    def __init__(self, name: Library, plan: bytes, title: str) -> None:
        """
        Args:
            name: Which library built the plan.
            plan: What `build` gave, in this version on this kind of GPU.
            title: Name of the graph, for messages.

        Raises:
            EngineError: the plan is of another version or GPU, or damaged.
        """
        from engines import cuda

        self._cuda, self._trt, self._library = cuda, library(name), name
        self._title = title
        self._journal = _journal(self._trt)
        self._stream = cuda.Stream()
        runtime = _need(self._trt.Runtime(self._journal), name, self._journal)
        self._plan = runtime.deserialize_cuda_engine(plan)
        if self._plan is None:
            raise EngineError(
                f"{_NAMES[name]} cannot read the plan of {title}: {self._journal.last}"
            )
        specs = {mode: self._specs(mode) for mode in ("INPUT", "OUTPUT")}
        self.inputs, self.outputs = specs["INPUT"], specs["OUTPUT"]
        self._programs: dict[tuple[tuple[int, ...], ...], _Program] = {}
        self._lock = threading.Lock()

    def describe(self) -> str:
        return f"{_NAMES[self._library]} {self._trt.__version__} on CUDA, recorded as CUDA graphs"

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        check_inputs(self.inputs, inputs)
        n = len(inputs[self.inputs[0].name])
        largest = self._plan.get_tensor_profile_shape(self.inputs[0].name, 0)[2][0]
        if n > largest:
            raise EngineError(
                f"the plan of {self._title} takes batches up to {largest}, got {n}: "
                "build it for larger ones"
            )
        with self._lock:  # one context and one set of buffers a shape
            outputs = self._program(inputs, min(bucket(n), largest))(inputs)
        return {name: array[:n] for name, array in outputs.items()}

    def _specs(self, mode: str) -> tuple[TensorSpec, ...]:
        plan, chosen = self._plan, getattr(self._trt.TensorIOMode, mode)
        names = [plan.get_tensor_name(i) for i in range(plan.num_io_tensors)]
        return tuple(
            TensorSpec(
                name,
                tuple(None if size < 0 else size for size in plan.get_tensor_shape(name)),
                np.dtype(self._trt.nptype(plan.get_tensor_dtype(name))),
            )
            for name in names
            if plan.get_tensor_mode(name) == chosen
        )

    def _program(self, inputs: Arrays, batch: int) -> "_Program":
        first = self.inputs[0].name
        shapes = {
            spec.name: (batch, *inputs[spec.name].shape[1:])
            if spec.name == first
            else tuple(inputs[spec.name].shape)
            for spec in self.inputs
        }
        key = tuple(shapes.values())
        if key not in self._programs:
            self._programs[key] = _Program(self, shapes)
        return self._programs[key]


class _Program:
    """One shape of inputs: its context, its buffers, its recorded graph."""

    def __init__(self, engine: TrtEngine, shapes: dict[str, tuple[int, ...]]) -> None:
        self._stream = engine._stream
        context = engine._plan.create_execution_context()
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise EngineError(f"the plan of {engine._title} was not built for {name} {shape}")
        if context.infer_shapes():
            raise EngineError(f"the plan of {engine._title} lacks shapes for {list(shapes)}")
        self._context = context
        self._buffers = {
            spec.name: engine._cuda.Buffer(tuple(context.get_tensor_shape(spec.name)), spec.dtype)
            for spec in (*engine.inputs, *engine.outputs)
        }
        for name, buffer in self._buffers.items():
            context.set_tensor_address(name, buffer.pointer)
        self._inputs, self._outputs = list(shapes), [spec.name for spec in engine.outputs]
        self._launch()  # what is recorded must have run once in this shape
        self._stream.wait()
        self._replay = self._stream.record(self._launch)

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        for name in self._inputs:
            self._buffers[name].fill(inputs[name], self._stream)
        self._replay()
        for name in self._outputs:
            self._buffers[name].fetch(self._stream)
        self._stream.wait()
        return {name: self._buffers[name].host.copy() for name in self._outputs}

    def _launch(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineError("TensorRT could not run the plan")
