"""Where a number was measured: what every stored result carries."""

import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from engines.cpu import usable_cores
from engines.gpu import gpu

_PACKAGES = (
    "surepose",
    "numpy",
    "scipy",
    "onnxruntime",
    "openvino",
    "opencv-python",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "torch",
)


def environment() -> dict[str, object]:
    """The command, the machine, the versions, the commit, the time."""
    return {
        "command": ["python", *sys.orig_argv[1:]],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "cpu": _cpu(),
            "cores": usable_cores(),
            "gpu": asdict(found) if (found := gpu()) else None,
            "load": [round(load, 1) for load in psutil.getloadavg()],
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _commit() -> str | None:
    """Of the checkout that holds this file; "+" when it has changes."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
