"""Linear algebra in one thread.

The matrices of a tracker are small. A second thread of OpenBLAS gains nothing with them, but waits
busily for more, tens of milliseconds on a core that the networks want (ADR 0067).
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np  # noqa: F401 - its BLAS must be loaded to be found
import scipy.linalg.blas  # noqa: F401 - has one of its own
from threadpoolctl import ThreadpoolController

P = ParamSpec("P")
R = TypeVar("R")

_BLAS = [pool for pool in ThreadpoolController().lib_controllers if pool.user_api == "blas"]


def one_blas_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with one thread of BLAS; the setting of before comes back after it."""

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        if all(pool.num_threads == 1 for pool in _BLAS):
            return function(*args, **kwargs)
        before = [pool.get_num_threads() for pool in _BLAS]
        _set_threads([1] * len(_BLAS))
        try:
            return function(*args, **kwargs)
        finally:
            _set_threads(before)

    return alone


def _set_threads(numbers: list[int]) -> None:
    # Not threadpoolctl's own `limit`, which takes twenty times as long.
    for pool, n in zip(_BLAS, numbers, strict=True):
        pool.set_num_threads(n)
