"""What a network is to the rest of the program: named arrays in, named arrays out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from engines.errors import InputError

Arrays = Mapping[str, np.ndarray]

BUCKETS = (1, 2, 4, 8, 16, 32, 64)
"""GPU engines fill a batch, the rows of their first input, up to the next of these: each has its
buffers and its CUDA graph."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    shape: tuple[int | None, ...]
    """None where the graph takes any size."""
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype}({sizes})"

    def fits(self, array: np.ndarray) -> bool:
        return (
            array.dtype == self.dtype
            and array.ndim == len(self.shape)
            and all(due in (None, size) for due, size in zip(self.shape, array.shape, strict=True))
        )


@runtime_checkable
class Engine(Protocol):
    """A compiled network. Batch sizes are the caller's choice where a shape says None."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def describe(self) -> str:
        """What runs where, in one line: "ONNX Runtime 1.32.0 on CPU, 2 threads"."""
        ...

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]: ...


def check_inputs(specs: tuple[TensorSpec, ...], inputs: Arrays) -> None:
    """Raise InputError unless every input is there, known, and of the right dtype and shape."""
    due = {spec.name: spec for spec in specs}
    if due.keys() != inputs.keys():
        raise InputError(f"the graph takes {sorted(due)}, got {sorted(inputs)}")
    for name, array in inputs.items():
        if not due[name].fits(array):
            came = TensorSpec(name, array.shape, array.dtype)
            raise InputError(f"the graph takes {due[name]}, got {came}")


def bucket(n: int) -> int:
    """The batch that n rows are filled up to."""
    return next((size for size in BUCKETS if size >= n), n)
