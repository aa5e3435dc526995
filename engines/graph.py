"""ONNX graphs as data: what is in one, the rules that every shipped graph keeps, lower precision.

Half precision is put into the graph, not asked of a runtime: TensorRT 11 knows no other way, and so
every runtime computes the same. Only the trunk, the convolutions that see the picture, is lowered;
soft-argmax, softplus and everything else behind it stay in float32, where a keypoint has more
digits than a pixel.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.backends import Precision
from engines.engine import TensorSpec
from engines.errors import GraphError

FORBIDDEN = frozenset(
    """
    ArgMax ArgMin Bernoulli Compress Det If Loop Multinomial NonMaxSuppression NonZero RandomNormal
    RandomNormalLike RandomUniform RandomUniformLike ScatterElements ScatterND Scan TopK Unique
    """.split()  # noqa: SIM905
)
"""Ops that a shipped graph must not hold: random, of unknown sizes, or slow on a GPU."""

TRUNK = frozenset(
    """
    Add AveragePool BatchNormalization Clip Concat Conv ConvTranspose Div GlobalAveragePool
    HardSigmoid HardSwish LeakyRelu MaxPool Mul PRelu Relu Resize Sigmoid Sub
    """.split()  # noqa: SIM905
)
_LOW: dict[str, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spec_of(value: onnx.ValueInfoProto) -> TensorSpec:
    """An input or output of a graph; axes that have a name take any size."""
    tensor = value.type.tensor_type
    shape = tuple(None if d.dim_param else d.dim_value for d in tensor.shape.dim)
    return TensorSpec(value.name, shape, helper.tensor_dtype_to_np_dtype(tensor.elem_type))


def simplified(path: Path) -> onnx.ModelProto:
    """The graph as ONNX Runtime's standard passes leave it: constants folded, batch norms fused."""
    from engines.ort import simplify

    model = onnx.load_from_string(simplify(path))
    used = {node.domain for node in model.graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


def broken_rules(model: onnx.ModelProto) -> list[str]:
    """What would keep this graph from running everywhere and fast, one line each."""
    broken = [
        f"{node.name or node.output[0]} is a {node.op_type}, which is forbidden"
        for node in model.graph.node
        if node.op_type in FORBIDDEN
    ]
    broken += [
        f"{node.name} is a {node.domain}::{node.op_type}, not standard ONNX"
        for node in model.graph.node
        if node.domain not in ("", "ai.onnx")
    ]
    for value in (*model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type != TensorProto.FLOAT:
            broken.append(
                f"{value.name} is {TensorProto.DataType.Name(tensor.elem_type)}, not FLOAT"
            )
        if not tensor.shape.dim or not tensor.shape.dim[0].dim_param:
            broken.append(f"the first axis of {value.name} is not free")
    return broken


def lowered(path: Path, precision: Precision) -> onnx.ModelProto:
    """The simplified graph with its trunk in this precision; inputs and outputs stay float32."""
    model = simplified(path)
    if precision != "fp32":
        _Lowering(model.graph, _LOW[precision]).run()
        onnx.checker.check_model(model)
    return model


def split(model: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Trunk and heads as two graphs, for runtimes that take one precision a graph."""
    model = onnx.shape_inference.infer_shapes(model)
    inside = set(trunk(model.graph))
    parts = [[n for i, n in enumerate(model.graph.node) if (i in inside) == t] for t in (1, 0)]
    made = {name for node in parts[0] for name in node.output}
    crossing = sorted(made & {name for node in parts[1] for name in node.input})
    known = {v.name: v for v in (*model.graph.value_info, *model.graph.input)}
    unknown = [name for name in crossing if name not in known]
    if not crossing or unknown:
        what = f"of unknown sizes: {', '.join(unknown)}" if unknown else "there is none"
        raise GraphError(f"the graph has no trunk of convolutions to split off: {what}")
    borders = [known[name] for name in crossing]
    return (
        part(model, parts[0], model.graph.input, borders),
        part(model, parts[1], [*model.graph.input, *borders], model.graph.output),
    )


def part(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """A graph of some of the nodes."""
    read = {name for node in nodes for name in node.input}
    constants = [c for c in model.graph.initializer if c.name in read]
    graph = helper.make_graph(
        nodes, model.graph.name, [v for v in inputs if v.name in read], outputs, constants
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def trunk(graph: onnx.GraphProto) -> list[int]:
    """Positions of the nodes that only see the picture and that a convolution reads, or is."""
    constants = {c.name for c in graph.initializer} | {""}
    seen = {v.name for v in graph.input}
    forward = []
    for i, node in enumerate(graph.node):
        if node.op_type in TRUNK and all(n in seen or n in constants for n in node.input):
            forward.append(i)
            seen.update(node.output)
    wanted: set[str] = set()
    kept = []
    for i in reversed(forward):
        node = graph.node[i]
        if node.op_type.startswith("Conv") or wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(i)
    return kept[::-1]


class _Lowering:
    """One pass over a graph that rewrites its trunk; the new nodes come in `nodes`."""

    def __init__(self, graph: onnx.GraphProto, low: int) -> None:
        self.graph, self.low = graph, low
        self.trunk = set(trunk(graph))
        self.made = {name for i in self.trunk for name in graph.node[i].output}
        """What the trunk makes: of low precision from now on."""
        self.constants = {c.name: c for c in graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self._casts: set[str] = set()

    def run(self) -> None:
        for i, node in enumerate(self.graph.node):
            if i in self.trunk:
                for part in self._as_multiply_add(node):
                    self._lower(part)
            else:
                self._widen(node)
        self._widen_outputs()
        read = {name for node in self.nodes for name in node.input}
        kept = [c for c in self.constants.values() if c.name in read]
        for field, items in ((self.graph.node, self.nodes), (self.graph.initializer, kept)):
            copies = [type(item).FromString(item.SerializeToString()) for item in items]
            del field[:]
            field.extend(copies)
        del self.graph.value_info[:]

    def _lower(self, node: onnx.NodeProto) -> None:
        for at in range(1 if node.op_type == "Resize" else len(node.input)):  # the rest are sizes
            name = node.input[at]
            if name in self.constants:
                node.input[at] = self._low_constant(name)
            elif name and name not in self.made:
                node.input[at] = self._cast(name, self.low, f"{name}.low")
        self.nodes.append(node)

    def _widen(self, node: onnx.NodeProto) -> None:
        for at, name in enumerate(node.input):
            if name in self.made:
                node.input[at] = self._cast(name, TensorProto.FLOAT, f"{name}.fp32")
        self.nodes.append(node)

    def _widen_outputs(self) -> None:
        """An output of the trunk that is one of the graph keeps its name and dtype."""
        for name in sorted(self.made & {value.name for value in self.graph.output}):
            inner = f"{name}.low"
            for node in self.nodes:
                node.input[:] = [inner if n == name else n for n in node.input]
                node.output[:] = [inner if n == name else n for n in node.output]
            self.nodes.append(helper.make_node("Cast", [inner], [name], to=TensorProto.FLOAT))

    def _cast(self, name: str, to: int, as_name: str) -> str:
        if as_name not in self._casts:
            self._casts.add(as_name)
            cast = helper.make_node("Cast", [name], [as_name], f"cast_{as_name}", to=to)
            self.nodes.append(cast)
        return as_name

    def _low_constant(self, name: str) -> str:
        low_name = f"{name}.low"
        array = numpy_helper.to_array(self.constants[name])
        if low_name not in self.constants:
            self.constants[low_name] = (
                numpy_helper.from_array(array.astype(np.float16), low_name)
                if self.low == TensorProto.FLOAT16
                else helper.make_tensor(low_name, self.low, array.shape, array.ravel().tolist())
            )
        return low_name

    def _as_multiply_add(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """A batch norm as y = x·a + b, since its own parameters may not be of half precision."""
        if node.op_type != "BatchNormalization":
            return [node]
        gamma, beta, mean, variance = (
            numpy_helper.to_array(self.constants[name]).astype(np.float64)
            for name in node.input[1:5]
        )
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        a = gamma / np.sqrt(variance + epsilon)
        out = node.output[0]
        for name, values in ((f"{out}.a", a), (f"{out}.b", beta - mean * a)):
            column = values.astype(np.float32)[:, None, None]
            self.constants[name] = numpy_helper.from_array(column, name)
        self.made.add(f"{out}.scaled")
        return [
            helper.make_node("Mul", [node.input[0], f"{out}.a"], [f"{out}.scaled"]),
            helper.make_node("Add", [f"{out}.scaled", f"{out}.b"], [out]),
        ]
