"""From an ONNX graph to a callable on this machine; knows nothing of poses."""

from engines.backends import BACKENDS, Backend, Device, load
from engines.engine import Engine, TensorSpec
from engines.errors import CacheError, DeviceError, EngineError, GraphError, InputError

__all__ = [
    "BACKENDS",
    "Backend",
    "CacheError",
    "Device",
    "DeviceError",
    "Engine",
    "EngineError",
    "GraphError",
    "InputError",
    "TensorSpec",
    "load",
]
