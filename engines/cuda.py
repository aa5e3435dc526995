"""The few calls of CUDA that an engine needs: memory, copies, one stream, recorded graphs.

This is the only door to NVIDIA's `cuda-bindings`.
"""

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from engines.errors import DeviceError, EngineError

try:
    from cuda.bindings import runtime as rt
except ImportError as error:  # pragma: no cover - the caller imports this module lazily
    raise DeviceError(
        f"TensorRT engines need cuda-bindings, which is not here ({error}): "
        "pip install 'surepose[tensorrt]'"
    ) from error

_DRIVER_TOO_OLD = 35


def _ok(result: tuple[Any, ...]) -> Any:
    """The value of a call that went well."""
    status, *values = result
    if int(status) == _DRIVER_TOO_OLD:
        raise DeviceError(
            f"the NVIDIA driver is missing or too old for CUDA {rt_version()}: update the driver "
            "(nvidia-smi shows the CUDA that it knows), or run with --device cpu"
        )
    if int(status) != 0:
        raise EngineError(f"CUDA failed: {rt.cudaGetErrorName(status)[1].decode()}")
    return values[0] if len(values) == 1 else values


def rt_version() -> str:
    """The CUDA that these bindings speak."""
    version = int(rt.cudaRuntimeGetVersion()[1])
    return f"{version // 1000}.{version % 1000 // 10}"


class Buffer:
    """Memory on the device and its pinned twin on the host, of one shape and dtype."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        # CUDA gives no memory of zero bytes.
        n_bytes = max(1, int(np.prod(shape)) * dtype.itemsize)
        self.pointer = int(_ok(rt.cudaMalloc(n_bytes)))
        self._pinned = int(_ok(rt.cudaHostAlloc(n_bytes, 0)))
        weakref.finalize(self, _free, self.pointer, self._pinned)
        raw = memoryview((ctypes.c_byte * n_bytes).from_address(self._pinned)).cast("B")
        self.host = np.frombuffer(raw, dtype, count=int(np.prod(shape))).reshape(shape)

    def fill(self, values: np.ndarray, stream: "Stream") -> None:
        """Set the first rows."""
        self.host[: len(values)] = values
        stream.copy(self.pointer, self._pinned, values.nbytes, "HostToDevice")

    def fetch(self, stream: "Stream") -> None:
        """Start to bring it to `host`; there when the stream has been waited for."""
        stream.copy(self._pinned, self.pointer, self.host.nbytes, "DeviceToHost")


def _free(pointer: int, pinned: int) -> None:
    rt.cudaFree(pointer)
    rt.cudaFreeHost(pinned)


class Stream:
    """What is done in order on the device."""

    def __init__(self) -> None:
        self.handle = int(_ok(rt.cudaStreamCreate()))

    def copy(self, target: int, source: int, n_bytes: int, kind: str) -> None:
        direction = getattr(rt.cudaMemcpyKind, f"cudaMemcpy{kind}")
        _ok(rt.cudaMemcpyAsync(target, source, n_bytes, direction, self.handle))

    def wait(self) -> None:
        _ok(rt.cudaStreamSynchronize(self.handle))

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` puts on this stream; the result replays it in one launch."""
        mode = rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _ok(rt.cudaStreamBeginCapture(self.handle, mode))
        try:
            work()
        finally:
            graph = _ok(rt.cudaStreamEndCapture(self.handle))
        recorded = _ok(rt.cudaGraphInstantiate(graph, 0))
        rt.cudaGraphDestroy(graph)
        return lambda: _ok(rt.cudaGraphLaunch(recorded, self.handle))
