"""The trunk of a graph in int8: what makes CPUs fast, at a cost in accuracy that is to be measured.

Weights get a scale for each channel, activations one for each tensor, from the least and greatest
values that it took on pictures like those to come. The last convolutions, which the heads read,
and everything behind them stay in float32.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from engines.backends import Ranges
from engines.engine import Arrays
from engines.errors import GraphError
from engines.graph import part, simplified, trunk

_OPS = ["Add", "Concat", "Conv", "MaxPool", "Relu", "Resize"]


def ranges(path: Path, batches: Iterable[Arrays]) -> dict[str, tuple[float, float]]:
    """What the tensors of the trunk hold when the graph sees these inputs."""
    model = simplified(path)
    names = _tensors(model, _lowered(model))
    inputs = {value.name for value in model.graph.input}
    made = [name for name in names if name not in inputs]
    outputs = [onnx.ValueInfoProto(name=name) for name in made]
    inside = [model.graph.node[i] for i in trunk(model.graph)]
    model = part(model, inside, model.graph.input, outputs)
    options = ort.SessionOptions()
    options.log_severity_level = 4  # it warns of outputs without shapes
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = dict.fromkeys(names, (0.0, 0.0))  # zero is to be exact: the padding is zero
    for batch in batches:
        read = {name: array for name, array in batch.items() if name in inputs}
        values = read | dict(zip(made, session.run(made, read), strict=True))
        for name, (low, high) in found.items():
            found[name] = (
                min(low, float(values[name].min())),
                max(high, float(values[name].max())),
            )
    return found


def quantised(path: Path, known: Ranges) -> onnx.ModelProto:
    """The simplified graph with its trunk in int8.

    Raises:
        GraphError: the ranges are not of this graph.
    """
    model = simplified(path)
    nodes = _lowered(model)
    if missing := [name for name in _tensors(model, nodes) if name not in known]:
        raise GraphError(
            f"the ranges of activations are not those of {path.name}: "
            f"{', '.join(missing[:3])} are missing; measure them again"
        )
    for i, node in enumerate(nodes):
        node.name = node.name or f"trunk_{i}"
    spans = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in known.items()
    }
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        # Weights of 7 bits: the sums of CPUs without VNNI would overflow with 8.
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, spans),
        nodes_to_quantize=[node.name for node in nodes],
        nodes_to_exclude=[],
        op_types_to_quantize=_OPS,
        extra_options={},
    )
    quantizer.quantize_model()
    return quantizer.model.model


def _lowered(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of the trunk that become int8."""
    nodes = [model.graph.node[i] for i in trunk(model.graph)]
    read = {name for node in nodes for name in node.input}
    return [
        node
        for node in nodes
        if node.op_type in _OPS and (node.op_type != "Conv" or read.intersection(node.output))
    ]


def _tensors(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """What they read and make, constants apart."""
    constants = {c.name for c in model.graph.initializer} | {""}
    names = dict.fromkeys(name for node in nodes for name in (*node.input, *node.output))
    return [name for name in names if name not in constants]
