"""From an ONNX graph to a callable on this machine; knows nothing of poses."""

import logging
from pathlib import Path

from engines.engine import Engine, TensorSpec
from engines.errors import DeviceError, EngineError, GraphError, InputError

__all__ = [
    "DeviceError",
    "Engine",
    "EngineError",
    "GraphError",
    "InputError",
    "TensorSpec",
    "load",
]


def load(path: str | Path, device: str = "auto", threads: int | None = None) -> Engine:
    """The graph at `path`, ready to run.

    Args:
        path: An .onnx file.
        device: "cpu", "cuda" or "auto" (CUDA where it runs, else the CPU; the log says which).
            A device that was asked for and is not there is an error, never a quiet step down.
        threads: Threads of one operator; None takes every core this process may use.
    """
    path = Path(path)
    if not path.is_file():
        raise GraphError(f"there is no graph at {path}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")

    from engines import ort

    there = ort.devices()
    chosen = ("cuda" if "cuda" in there else "cpu") if device == "auto" else device
    if chosen not in there:
        raise DeviceError(
            f"no device {device!r}: this ONNX Runtime runs on {', '.join(there)}"
            + ("; install onnxruntime-gpu in place of onnxruntime" if device == "cuda" else "")
        )
    log = logging.getLogger(__name__)
    try:
        engine = ort.OrtEngine(path, chosen, threads)
    except DeviceError as error:
        if device != "auto":
            raise
        # A GPU build of ONNX Runtime also lands on machines without a driver.
        log.warning("%s; running on the CPU", error)
        engine = ort.OrtEngine(path, "cpu", threads)
    log.info("%s runs on %s", path.name, engine.describe())
    return engine
