"""From a torch module to an ONNX file that also keeps its parameters by name.

The file is both what runs and what training can resume from: parameters stay initialisers under
their names in the module's state_dict. So nothing is fused here (ONNX Runtime folds batch norms
itself when it loads the graph), and large parameters may lie in the file as float16, each with a
Cast behind it that is folded at load too.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnx_ir.passes.common as ir_passes
import torch
from onnxscript.optimizer import fold_constants_ir

import engines

_HALF_MIN_SIZE = 1024
_HALF_MAX = float(np.finfo(np.float16).max)


def export_onnx(
    module: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    path: str | Path,
    *,
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, Any]] | None = None,
    fp16_storage: bool = True,
) -> dict[str, float]:
    """Write `module` as ONNX; give the largest difference of each output from torch.

    Args:
        module: In eval mode.
        inputs: Example arrays, in the order of `forward`; sizes of 2 or more on dynamic axes.
        path: The .onnx file to write.
        outputs: Names of what `forward` returns, in order.
        dynamic: For an input, its free axes: {"image": {0: torch.export.Dim("B", min=1, max=64)}}.
            (torch 2.13 exports `repeat_interleave` by a dynamic count to a graph that does not
            run; broadcasting does.)
        fp16_storage: Halve the file; parameters are rounded to 11 bits.
    """
    if module.training:
        raise ValueError("export takes a module in eval mode: call module.eval() first")
    model = _to_onnx(module, inputs, outputs, dynamic or {})
    _warn_of_lost(module, model)
    if fp16_storage:
        _store_half(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return parity(module, path, inputs)


def parity(
    module: torch.nn.Module, path: str | Path, inputs: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """Largest absolute difference between torch and the file on the CPU, for each output."""
    engine = engines.load(path, "cpu")
    with torch.no_grad():
        due = module(*inputs.values())
    due = (due,) if isinstance(due, torch.Tensor) else due
    came = engine({name: tensor.numpy(force=True) for name, tensor in inputs.items()})
    return {
        name: float(np.abs(array - tensor.numpy(force=True)).max())
        for (name, array), tensor in zip(came.items(), due, strict=True)
    }


def load_state(path: str | Path) -> dict[str, np.ndarray]:
    """Parameters and buffers in the file by their names in the module, float16 widened again.

    For `module.load_state_dict({k: torch.from_numpy(v) for …}, strict=False)`: the file also holds
    constants of the graph, and no counters of training such as `num_batches_tracked`.
    """
    state = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(path).graph.initializer
    }
    return {
        name: array.astype(np.float32) if array.dtype == np.float16 else array.copy()
        for name, array in state.items()
    }


def _to_onnx(
    module: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, Any]],
) -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own dependencies
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=tuple(dict(dynamic.get(name, {})) for name in inputs),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=18,
            external_data=False,
            optimize=False,  # it would fuse and merge parameters out of their names
            verbose=False,
        )
    assert program is not None
    model = program.model
    parameters = set(model.graph.initializers)
    fold_constants_ir(model, should_fold=lambda node: _reads_none_of(node, parameters))
    ir_passes.RemoveUnusedNodesPass()(model)
    # Stack traces with the paths of the machine that exported.
    ir_passes.ClearMetadataAndDocStringPass()(model)
    return onnx_ir.serde.serialize_model(model)


def _reads_none_of(node: onnx_ir.Node, names: set[str]) -> bool | None:
    """For the folder: False forbids, None leaves it to the usual rules."""
    return False if any(x is not None and x.name in names for x in node.inputs) else None


def _warn_of_lost(module: torch.nn.Module, model: onnx.ModelProto) -> None:
    kept = {tensor.name for tensor in model.graph.initializer}
    lost = [name for name, _ in module.named_parameters() if name not in kept]
    if lost:
        logging.getLogger(__name__).warning("not used by the graph, so not in the file: %s", lost)


def _store_half(model: onnx.ModelProto) -> None:
    """Keep large float32 initialisers as float16 under their own names, a Cast behind each."""
    wide = {}
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        fits = array.size and np.abs(array).max() <= _HALF_MAX
        if array.dtype == np.float32 and array.size >= _HALF_MIN_SIZE and fits:
            wide[tensor.name] = f"{tensor.name}.float32"
            half = onnx.numpy_helper.from_array(array.astype(np.float16), tensor.name)
            tensor.CopyFrom(half)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = wide.get(name, name)
    casts = [
        onnx.helper.make_node("Cast", [name], [cast], to=onnx.TensorProto.FLOAT)
        for name, cast in wide.items()
    ]
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    shapes = [info for info in model.graph.value_info if info.name not in wide]
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)
