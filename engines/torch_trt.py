"""torch-tensorrt: TensorRT behind one line of torch, and the only door to that library.

It cannot even be imported without a GPU, and its versions are tied to torch's: 2.13 to torch 2.13
and TensorRT 11.0, 2.14 to torch 2.14 and TensorRT 11.1.
"""

from typing import Any

from engines.errors import DeviceError, GraphError, one_line


def compiled(module: Any, inputs: list[Any]) -> Any:
    """The module compiled for inputs like these; its own dtypes are kept (explicit typing)."""
    try:
        import torch_tensorrt
    except (ImportError, OSError, RuntimeError) as error:
        raise DeviceError(
            f"torch-tensorrt does not start here ({error}): it needs a GPU and the torch of its "
            "version; pip install 'surepose[torch-tensorrt]'"
        ) from error
    try:
        return torch_tensorrt.compile(
            module, ir="dynamo", inputs=inputs, use_explicit_typing=True, min_block_size=1
        )
    except Exception as error:  # it has many kinds, all derived from Exception alone
        raise GraphError(f"torch-tensorrt cannot take the graph: {one_line(error)}") from error
