"""Which NVIDIA GPU is here, asked of the driver itself, so that no library needs to be there."""

import ctypes
import sys
from dataclasses import dataclass
from functools import cache

from engines.errors import DeviceError

_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76  # CUdevice_attribute


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU of this machine."""

    name: str
    sm: str
    """Its architecture as compilers write it: SM86."""
    driver_cuda: str
    """The newest CUDA that its driver knows: 13.0."""


@cache
def gpu() -> Gpu | None:
    """The GPU, or None where there is no driver or no device."""
    driver = _driver()
    if driver is None or driver.cuInit(0) != 0:
        return None
    device, version = ctypes.c_int(), ctypes.c_int()
    major, minor = ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    if driver.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_MINOR, device)
    driver.cuDriverGetVersion(ctypes.byref(version))
    return Gpu(
        name.value.decode(),
        f"SM{major.value}{minor.value}",
        f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def need_gpu(what: str) -> Gpu:
    """The GPU, or an error that says who wanted it."""
    found = gpu()
    if found is None:
        raise DeviceError(
            f"{what} needs an NVIDIA GPU, and the driver finds none: check nvidia-smi, "
            "or run with --device cpu"
        )
    return found


def _driver() -> ctypes.CDLL | None:
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(library)
    except OSError:
        return None
