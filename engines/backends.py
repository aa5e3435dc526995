"""Which runtime takes a graph: what was asked for, or the best that is here, and why.

A backend, device or precision that somebody asked for is given or refused, never replaced. Where
nothing was asked, a GPU is taken if there is one with a library for it, else the CPU; the log says
which and why.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from engines.engine import Engine
from engines.errors import DeviceError, GraphError
from engines.gpu import gpu

Backend = Literal[
    "ort", "openvino", "tensorrt", "rtx", "torch-tensorrt", "torch", "torch-compile", "torch-eager"
]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Shape = tuple[int, ...]
Shapes = Mapping[str, tuple[Shape, Shape, Shape]]
"""For each input of a plan the least, the usual and the largest shape that will come."""
Ranges = Mapping[str, Sequence[float]]
"""For each tensor of a trunk the least and the greatest value, for int8."""

BACKENDS: tuple[Backend, ...] = get_args(Backend)
_PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_GPU_ONLY: tuple[Backend, ...] = ("tensorrt", "rtx", "torch-tensorrt")
_CPU_ONLY: tuple[Backend, ...] = ("openvino",)
_EXTRAS = {"ort": "int8", "torch": "train", "torch-compile": "train", "torch-eager": "train"}
"""What installs all that a backend may need, where it is not called like the backend."""
log = logging.getLogger("engines")


def load(
    path: str | Path,
    device: str = "auto",
    threads: int | None = None,
    *,
    backend: str | None = None,
    precision: str | None = None,
    shapes: Shapes | None = None,
    ranges: Ranges | None = None,
) -> Engine:
    """The graph at `path`, ready to run.

    Args:
        path: An .onnx file.
        device: "cpu", "cuda" or "auto" (CUDA where it runs, else the CPU; the log says which and
            why).
        threads: Of one operator on the CPU; None takes every core this process may use.
        backend: One of BACKENDS; None takes the best for the device. Plans that are not in the
            cache are built first.
        precision: Of the convolutions, fp32, fp16, bf16 or int8; everything behind them stays fp32.
            None is fp16 on a GPU by TensorRT or torch, else fp32.
        shapes: Of each input the least, the usual and the largest, for plans; None serves graphs
            whose batch alone is free.
        ranges: Of activations (`engines.quantise.ranges`), which int8 needs.
    """
    path = Path(path)
    if not path.is_file():
        raise GraphError(f"there is no graph at {path}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    _check(device, backend, precision)
    if precision == "int8" and ranges is None:
        raise DeviceError(
            f"int8 needs the ranges of activations, and the card of {path.name} has none: measure "
            "them (python -m benchmarks.precision --data DIR --card), or take another precision"
        )
    candidates = _candidates(device, backend, precision)
    for i, (name, where, why) in enumerate(candidates):
        try:
            with libraries_of(name):
                engine = _open(path, name, where, precision, threads, shapes, ranges)
        except DeviceError as error:
            if i + 1 == len(candidates):
                raise
            log.warning("%s; trying the next", error)
        else:
            log.info("%s runs on %s (%s)", path.name, engine.describe(), why)
            return engine
    raise AssertionError("there is always a candidate")


@contextmanager
def libraries_of(backend: str) -> Iterator[None]:
    """Turn a failing import, of onnx that rewrites the graphs for instance, into a DeviceError."""
    try:
        yield
    except ImportError as error:
        raise DeviceError(
            f"backend {backend} needs a library that is not here ({error}): "
            f"pip install 'surepose[{_EXTRAS.get(backend, backend)}]'"
        ) from error


def _check(device: str, backend: str | None, precision: str | None) -> None:
    for what, came, known in (
        ("device", device, get_args(Device)),
        ("backend", backend or "ort", BACKENDS),
        ("precision", precision or "fp32", _PRECISIONS),
    ):
        if came not in known:
            raise DeviceError(f"no {what} {came!r}: choose one of {', '.join(known)}")
    if backend in _GPU_ONLY and device == "cpu":
        raise DeviceError(f"{backend} runs on NVIDIA GPUs only, and device cpu was asked for")
    if backend in _CPU_ONLY and device == "cuda":
        raise DeviceError(f"{backend} runs on CPUs only here, and device cuda was asked for")
    if backend is None and device == "cpu" and precision == "fp16":
        raise DeviceError(
            "fp16 is for GPUs, a CPU gains nothing by it: take fp32, int8, or bf16 with OpenVINO "
            "(backend ort does its rounding, for comparison)"
        )
    if precision == "int8" and (backend not in (None, "ort") or device == "cuda"):
        raise DeviceError("int8 is for CPUs, by ONNX Runtime: take --device cpu, or fp16 on a GPU")
    if backend == "ort" and precision == "bf16":
        raise DeviceError("ONNX Runtime has no bf16 on CPUs: take openvino, or fp32")


def _candidates(
    device: str, backend: str | None, precision: str | None
) -> list[tuple[Backend, str, str]]:
    """Backend, device and the reason, best first; all but the last may turn out not to start."""
    if backend is not None:
        where = _device_of(backend, device, precision)
        return [(backend, where, "as asked")]  # type: ignore[list-item]
    there = gpu() if device != "cpu" else None
    if precision == "int8":
        return [("ort", "cpu", "int8 is for CPUs")]
    if device == "cuda" and there is None:
        raise DeviceError(
            "device cuda was asked for, and the driver finds no NVIDIA GPU: check nvidia-smi, or "
            "run with --device cpu"
        )
    found: list[tuple[Backend, str, str]] = []
    if there is not None:
        libraries = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
        found = [
            (name, "cuda", f"{there.name} and {module} are here")  # type: ignore[misc]
            for name, module in libraries.items()
            if find_spec(module)
        ]
        if "cuda" in _ort_devices() and precision != "bf16":
            found.append(("ort", "cuda", f"{there.name} and onnxruntime-gpu are here"))
        if _torch_has_cuda():
            found.append(("torch", "cuda", f"{there.name} and torch are here, TensorRT is not"))
    if device == "cuda":
        if not found:
            raise DeviceError(
                f"{there.name if there else 'a GPU'} is here, and no library that runs on it: "
                "pip install 'surepose[tensorrt]', or onnxruntime-gpu in place of onnxruntime, or "
                "a CUDA build of torch"
            )
        return found
    why = "as asked" if device == "cpu" else "no NVIDIA GPU is here"
    if there is not None:
        why = f"{there.name} is here, and no library that runs on it"
    if precision == "fp16":  # asked for, and a CPU would only pretend
        if not found:
            raise DeviceError(f"fp16 is for GPUs, and {why}: take fp32 or bf16")
        return found
    cpu: Backend = "openvino" if precision == "bf16" else "ort"
    return [*found, (cpu, "cpu", why)]


def _device_of(backend: str, device: str, precision: str | None) -> str:
    if device != "auto":
        return device
    if backend in _GPU_ONLY:
        return "cuda"
    if backend in _CPU_ONLY:
        return "cpu"
    if backend == "ort":
        return "cuda" if "cuda" in _ort_devices() and gpu() and precision != "int8" else "cpu"
    return "cuda" if _torch_has_cuda() else "cpu"


def _open(
    path: Path,
    backend: Backend,
    device: str,
    precision: str | None,
    threads: int | None,
    shapes: Shapes | None,
    ranges: Ranges | None,
) -> Engine:
    match backend:
        case "ort":
            from engines.ort import OrtEngine

            return OrtEngine(path, device, threads, precision or "fp32", ranges)  # type: ignore[arg-type]
        case "openvino":
            from engines.openvino import OpenvinoEngine

            return OpenvinoEngine(path, precision or "fp32", threads)  # type: ignore[arg-type]
        case "tensorrt" | "rtx":
            from engines.build import engine

            return engine(backend, path, precision or "fp16", shapes)  # type: ignore[arg-type]
        case _:
            from engines.torch_engine import TorchEngine, mode_of

            default = "fp16" if device == "cuda" else "fp32"
            return TorchEngine(path, device, precision or default, mode_of(backend, device))  # type: ignore[arg-type]


def _ort_devices() -> tuple[str, ...]:
    from engines import ort

    return ort.devices()


def _torch_has_cuda() -> bool:
    if not find_spec("torch"):
        return False
    import torch

    return torch.cuda.is_available()
