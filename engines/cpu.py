"""How much of this machine's CPU there is to use."""

import os


def usable_cores() -> int:
    """Those that this process may use, where the system says; else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
