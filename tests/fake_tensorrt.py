"""TensorRT 11.4 as far as we use it: these names and no others; plans run on ONNX Runtime.

`install` puts it where `import tensorrt` and `cuda.bindings` will find it. What the real libraries
lack is an AttributeError here, too: classes have slots and the documented methods alone.
"""

import ctypes
import sys
from enum import Enum
from types import ModuleType

import numpy as np
import onnx
import onnxruntime

VERSION = "11.4.0"
REFUSED = {"Det", "NonZero"}


class TensorIOMode(Enum):
    NONE, INPUT, OUTPUT = range(3)


class DataType(Enum):
    FLOAT, HALF = range(2)


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self):
        pass


class IProgressMonitor:
    def __init__(self):
        pass


class Builder:
    __slots__ = ("_logger",)

    def __init__(self, logger):
        self._logger = logger

    def create_network(self):
        return INetworkDefinition()

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        (profile,) = config._profiles
        if profile._shapes.keys() != {v.name for v in network._graph.input}:
            self._logger.log(ILogger.ERROR, "[optimizationProfile.cpp] profile lacks\n an input")
            return None
        monitor = config.progress_monitor
        if monitor is not None:
            monitor.phase_start("Building engine", None, 2)
            assert monitor.step_complete("Building engine", 0) is True
            assert monitor.step_complete("Building engine", 1) is True
            monitor.phase_finish("Building engine")
        shapes = repr(profile._shapes).encode()
        head = f"PLAN {VERSION} {len(shapes)}\n".encode()
        return head + shapes + network._model.SerializeToString()


class INetworkDefinition:
    __slots__ = ("_graph", "_model")

    @property
    def num_inputs(self):
        return len(self._graph.input)

    def get_input(self, i):
        return ITensor(self._graph.input[i].name)


class ITensor:
    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name


class IBuilderConfig:
    __slots__ = ("_profiles", "progress_monitor")

    def __init__(self):
        self._profiles, self.progress_monitor = [], None

    def add_optimization_profile(self, profile):
        self._profiles.append(profile)
        return len(self._profiles) - 1


class IOptimizationProfile:
    __slots__ = ("_shapes",)

    def __init__(self):
        self._shapes = {}

    def set_shape(self, input, min, opt, max):  # noqa: A002 - its names
        self._shapes[input] = (tuple(min), tuple(opt), tuple(max))


class OnnxParser:
    __slots__ = ("_errors", "_network")

    def __init__(self, network, logger):
        self._network, self._errors = network, []

    def parse(self, model):
        self._network._model = onnx.load_from_string(model)
        self._network._graph = self._network._model.graph
        nodes = self._network._graph.node
        self._errors = [ParserError(node) for node in nodes if node.op_type in REFUSED]
        return not self._errors

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, i):
        return self._errors[i]


class ParserError:
    __slots__ = ("_node",)

    def __init__(self, node):
        self._node = node

    def desc(self):
        return "No importer\nregistered for op"

    def node_name(self):
        return self._node.name

    def node_operator(self):
        return self._node.op_type


class Runtime:
    __slots__ = ("_logger",)

    def __init__(self, logger):
        self._logger = logger

    def deserialize_cuda_engine(self, plan):
        head, _, rest = plan.partition(b"\n")
        if not head.startswith(f"PLAN {VERSION} ".encode()):
            self._logger.log(ILogger.ERROR, "The engine plan file is not compatible\n with this")
            return None
        n = int(head.split()[-1])
        return ICudaEngine(eval(rest[:n]), rest[n:])


class ICudaEngine:
    __slots__ = ("_profile", "_session", "_values")

    def __init__(self, profile, model):
        self._profile = profile
        self._session = onnxruntime.InferenceSession(model)
        self._values = {v.name: v for v in self._session.get_inputs()}
        self._values |= {v.name: v for v in self._session.get_outputs()}

    @property
    def num_io_tensors(self):
        return len(self._values)

    def get_tensor_name(self, i):
        return list(self._values)[i]

    def get_tensor_mode(self, name):
        inputs = [v.name for v in self._session.get_inputs()]
        return TensorIOMode.INPUT if name in inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return {"tensor(float)": DataType.FLOAT}[self._values[name].type]

    def get_tensor_shape(self, name):
        return tuple(n if isinstance(n, int) else -1 for n in self._values[name].shape)

    def get_tensor_profile_shape(self, name, profile):
        assert profile == 0
        return list(self._profile[name])

    def create_execution_context(self):
        return IExecutionContext(self)


class IExecutionContext:
    __slots__ = ("_addresses", "_engine", "_shapes")

    def __init__(self, engine):
        self._engine, self._shapes, self._addresses = engine, {}, {}

    def set_input_shape(self, name, shape):
        least, _, most = self._engine._profile[name]
        inside = all(a <= n <= b for a, n, b in zip(least, shape, most, strict=True))
        if inside:
            self._shapes[name] = tuple(shape)
        return inside

    def infer_shapes(self):
        missing = [v.name for v in self._engine._session.get_inputs() if v.name not in self._shapes]
        if not missing:
            for name, array in self._run(
                {n: np.zeros(s, np.float32) for n, s in self._shapes.items()}
            ).items():
                self._shapes[name] = array.shape
        return missing

    def get_tensor_shape(self, name):
        return self._shapes[name]

    def set_tensor_address(self, name, address):
        assert isinstance(address, int)
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle):
        def work():
            inputs = [v.name for v in self._engine._session.get_inputs()]
            for name, array in self._run({name: self._at(name) for name in inputs}).items():
                self._at(name)[...] = array

        STREAMS[stream_handle].put(work)
        return True

    def _run(self, inputs):
        names = [v.name for v in self._engine._session.get_outputs()]
        return dict(zip(names, self._engine._session.run(names, inputs), strict=True))

    def _at(self, name):
        shape = self._shapes[name]
        raw = (ctypes.c_float * int(np.prod(shape))).from_address(self._addresses[name])
        return np.frombuffer(raw, np.float32).reshape(shape)


def nptype(dtype):
    return {DataType.FLOAT: np.float32, DataType.HALF: np.float16}[dtype]


class FakeStream:
    """Does at once what is put on it, or keeps it while it is recorded."""

    def __init__(self):
        self.recording = None

    def put(self, work):
        if self.recording is None:
            work()
        else:
            self.recording.append(work)


STREAMS: dict[int, FakeStream] = {}
MEMORY: dict[int, object] = {}


_DIRECTIONS = "HostToDevice", "DeviceToHost"
_Kind = Enum("_Kind", [f"cudaMemcpy{direction}" for direction in _DIRECTIONS])
_Capture = Enum("_Capture", ["cudaStreamCaptureModeThreadLocal"])


def _cuda_runtime(status=0):
    rt = ModuleType("cuda.bindings.runtime")
    graphs: dict[int, list] = {}

    def malloc(size, flags=0):
        block = ctypes.create_string_buffer(size)
        MEMORY[ctypes.addressof(block)] = block
        return status, ctypes.addressof(block)

    def free(pointer):
        del MEMORY[pointer]
        return (0,)

    def copy(target, source, count, kind, stream):
        assert isinstance(kind, _Kind)
        STREAMS[stream].put(lambda: ctypes.memmove(target, source, count))
        return (0,)

    def stream_create():
        STREAMS[len(STREAMS) + 1] = FakeStream()
        return status, len(STREAMS)

    def begin(stream, mode):
        assert isinstance(mode, _Capture)
        STREAMS[stream].recording = []
        return (0,)

    def end(stream):
        work, STREAMS[stream].recording = STREAMS[stream].recording, None
        graphs[len(graphs) + 1] = work
        return 0, len(graphs)

    def launch(graph, stream):
        for work in graphs[graph]:
            STREAMS[stream].put(work)
        return (0,)

    rt.cudaMalloc, rt.cudaHostAlloc, rt.cudaFree, rt.cudaFreeHost = malloc, malloc, free, free
    rt.cudaMemcpyAsync, rt.cudaMemcpyKind = copy, _Kind
    rt.cudaStreamCreate, rt.cudaStreamSynchronize = stream_create, lambda stream: (0,)
    rt.cudaStreamCaptureMode = _Capture
    rt.cudaStreamBeginCapture, rt.cudaStreamEndCapture = begin, end
    rt.cudaGraphInstantiate = lambda graph, flags: (0, graph)
    rt.cudaGraphLaunch, rt.cudaGraphDestroy = launch, lambda graph: (0,)
    rt.cudaGetErrorName = lambda status: (0, b"cudaErrorTest")
    rt.cudaRuntimeGetVersion = lambda: (0, 13000)
    return rt


def install(monkeypatch, *, cuda_status=0, gpu=("NVIDIA Test 1", "SM86", "13.0")):
    """Make this the TensorRT, the CUDA and the GPU of this machine."""
    from engines.gpu import Gpu

    trt = ModuleType("tensorrt")
    for name in (
        "Builder ILogger IProgressMonitor OnnxParser Runtime TensorIOMode DataType nptype".split()  # noqa: SIM905
    ):
        setattr(trt, name, globals()[name])
    trt.__version__ = VERSION
    runtime = _cuda_runtime(cuda_status)
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = runtime
    cuda = ModuleType("cuda")
    cuda.bindings = bindings
    modules = {
        "tensorrt": trt, "cuda": cuda, "cuda.bindings": bindings, "cuda.bindings.runtime": runtime,
    }  # fmt: skip
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    import engines

    monkeypatch.delitem(sys.modules, "engines.cuda", raising=False)
    monkeypatch.delattr(engines, "cuda", raising=False)
    here = Gpu(*gpu)
    for module in ("engines.gpu", "engines.build", "engines.backends"):
        monkeypatch.setattr(f"{module}.gpu", lambda: here)
    return trt
