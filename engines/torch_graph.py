"""From an ONNX graph to a torch.fx module for inputs of given shapes.

Once the shapes are fixed, everything that a graph computes from them alone (sizes, grids, masks) is
worked out here on the CPU and stays in the module as constants; what is left are a few hundred
calls of torch functions on the device, which torch can run, compile or record as they are.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor
from torch.nn import functional

from engines.errors import GraphError

Shapes = Mapping[str, tuple[int, ...]]
Ints = Sequence[int]

_DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.BOOL: torch.bool,
    TensorProto.UINT8: torch.uint8,
}


def specialise(
    model: onnx.ModelProto, shapes: Shapes, device: str | torch.device = "cpu"
) -> torch.fx.GraphModule:
    """A module that takes the graph's inputs in order and gives its outputs as a tuple.

    Raises:
        GraphError: an op is not known here; the message names its node.
    """
    return _Builder(model, shapes, torch.device(device)).build()


class _Builder:
    def __init__(self, model: onnx.ModelProto, shapes: Shapes, device: torch.device) -> None:
        self.graph, self.shapes, self.device = model.graph, shapes, device
        self.known: dict[str, Tensor] = {c.name: _tensor(c) for c in model.graph.initializer}
        """Values that no input changes, on the CPU."""
        self.traced: dict[str, torch.fx.Node] = {}
        self.meta: dict[str, Tensor] = {}
        """Shapes and dtypes of the traced ones."""
        self.root = torch.nn.Module()
        self.fx = torch.fx.Graph()

    def build(self) -> torch.fx.GraphModule:
        for value in self.graph.input:
            self.traced[value.name] = self.fx.placeholder(f"input_{len(self.traced)}")
            dtype = _DTYPES[value.type.tensor_type.elem_type]
            self.meta[value.name] = torch.empty(self.shapes[value.name], dtype=dtype, device="meta")
        for node in self.graph.node:
            self._add(node)
        self.fx.output(tuple(self._on_device(value.name) for value in self.graph.output))
        module = torch.fx.GraphModule(self.root, self.fx)
        module.graph.eliminate_dead_code()
        module.recompile()
        return module.eval()

    def _add(self, node: onnx.NodeProto) -> None:
        where = f"{node.op_type} {node.name or node.output[0]}"
        if node.op_type == "Shape":
            self._add_shape(node)
            return
        if node.op_type not in _OPS:
            raise GraphError(f"{where}: the torch backend does not know {node.op_type}")
        function, ints = _OPS[node.op_type]
        attributes = {a.name: _attribute(a) for a in node.attribute}
        static = all(not name or name in self.known for name in node.input)
        try:
            if static:
                results = function(*self._values(node, ints, self.known), **attributes)
            else:
                results = function(*self._values(node, ints, self._as_meta()), **attributes)
        except (RuntimeError, TypeError, ValueError, KeyError) as error:
            raise GraphError(f"{where} cannot run on torch: {error}") from error
        named = [results] if isinstance(results, Tensor) else list(results)
        if static:
            self.known.update(zip(node.output, named, strict=False))
            return
        call = self.fx.call_function(function, tuple(self._arguments(node, ints)), attributes)
        self.meta.update(zip(node.output, named, strict=False))
        if isinstance(results, Tensor):
            self.traced[node.output[0]] = call
        else:
            for i, name in enumerate(node.output):
                self.traced[name] = self.fx.call_function(_item, (call, i))

    def _add_shape(self, node: onnx.NodeProto) -> None:
        name = node.input[0]
        sizes = (self.known[name] if name in self.known else self.meta[name]).shape
        bounds = {a.name: a.i for a in node.attribute}
        chosen = sizes[bounds.get("start", 0) : bounds.get("end", len(sizes))]
        self.known[node.output[0]] = torch.tensor(list(chosen), dtype=torch.int64)

    def _as_meta(self) -> dict[str, Tensor]:
        return {name: value.to("meta") for name, value in self.known.items()} | self.meta

    def _values(
        self, node: onnx.NodeProto, ints: frozenset[int], values: Mapping[str, Tensor]
    ) -> list[Any]:
        return [
            None if not name else self._ints(node, name) if at in ints else values[name]
            for at, name in enumerate(node.input)
        ]

    def _arguments(self, node: onnx.NodeProto, ints: frozenset[int]) -> list[Any]:
        return [
            None if not name else self._ints(node, name) if at in ints else self._on_device(name)
            for at, name in enumerate(node.input)
        ]

    def _ints(self, node: onnx.NodeProto, name: str) -> tuple[Any, ...]:
        if name not in self.known:
            where = f"{node.op_type} {node.name or node.output[0]}"
            raise GraphError(f"{where}: the size {name} depends on what the inputs hold")
        return tuple(self.known[name].reshape(-1).tolist())

    def _on_device(self, name: str) -> torch.fx.Node:
        if name not in self.traced:
            attribute = f"constant_{len(self.traced)}"
            self.root.register_buffer(attribute, self.known[name].to(self.device))
            self.traced[name] = self.fx.get_attr(attribute)
        return self.traced[name]


def _tensor(proto: onnx.TensorProto) -> Tensor:
    if proto.data_type == TensorProto.BFLOAT16:
        return torch.from_numpy(numpy_helper.to_array(proto).astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(numpy_helper.to_array(proto)))


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    return list(value) if attribute.type in (attribute.INTS, attribute.FLOATS) else value


# --- ops of ONNX in torch's words ---------------------------------------------------------------


def _item(values: tuple[Tensor, ...], i: int) -> Tensor:
    return values[i]


def _conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    strides: Ints = (1, 1),
    pads: Ints = (0, 0, 0, 0),
    dilations: Ints = (1, 1),
    group: int = 1,
    auto_pad: str = "NOTSET",
    kernel_shape: Ints = (),
) -> Tensor:
    del kernel_shape  # the weight says it
    n = w.ndim - 2
    if auto_pad not in ("NOTSET", "VALID"):
        raise ValueError(f"padding {auto_pad} is not known")
    if list(pads[:n]) != list(pads[n:]):
        x = functional.pad(x, [p for i in reversed(range(n)) for p in (pads[i], pads[n + i])])
        pads = (0,) * n
    return torch.ops.aten.convolution(
        x, w, b, list(strides), list(pads[:n]), list(dilations), False, [0] * n, group
    )


def _reshape(x: Tensor, shape: Ints, *, allowzero: int = 0) -> Tensor:
    del allowzero
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _slice(
    x: Tensor, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None
) -> Tensor:
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        step = 1 if steps is None else steps[i]
        if step < 0:
            raise ValueError("backward slices are not known")
        cut = [slice(None)] * x.ndim
        cut[i if axes is None else axes[i]] = slice(start, min(end, 2**31), step)
        x = x[tuple(cut)]
    return x


def _squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _unsqueeze(x: Tensor, axes: Ints) -> Tensor:
    n = x.ndim + len(axes)
    for axis in sorted(a % n for a in axes):
        x = x.unsqueeze(axis)
    return x


def _gather(x: Tensor, index: Tensor, *, axis: int = 0) -> Tensor:
    size = x.shape[axis]
    flat = torch.where(index < 0, index + size, index).reshape(-1)
    chosen = x.index_select(axis, flat)
    axis %= x.ndim
    return chosen.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    y = (a.T if transA else a) @ (b.T if transB else b)
    y = y if alpha == 1 else alpha * y
    return y if c is None else y + (c if beta == 1 else beta * c)


def _layer_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    del stash_type
    return functional.layer_norm(x, x.shape[axis:], scale, bias, epsilon)


def _resize(
    x: Tensor,
    roi: Any = None,
    scales: Sequence[float] | None = None,
    sizes: Ints | None = None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    **others: Any,
) -> Tensor:
    del roi
    if mode not in ("linear", "nearest") or others.get("antialias"):
        raise ValueError(f"resizing by {mode} is not known")
    if mode == "linear" and coordinate_transformation_mode not in ("half_pixel", "align_corners"):
        raise ValueError(f"resizing with {coordinate_transformation_mode} is not known")
    return functional.interpolate(
        x,
        size=None if sizes is None else list(sizes[2:]),
        scale_factor=None if sizes is not None or scales is None else list(scales[2:]),
        mode="bilinear" if mode == "linear" else "nearest",
        align_corners=(coordinate_transformation_mode == "align_corners")
        if mode == "linear"
        else None,
    )


def _reduce(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def reduce(
        x: Tensor,
        axes: Ints | None = None,
        *,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Tensor:
        if not axes and noop_with_empty_axes:
            return x
        return function(x, list(axes or range(x.ndim)), bool(keepdims))

    return reduce


def _split(
    x: Tensor, sizes: Ints | None = None, *, axis: int = 0, num_outputs: int = 0
) -> tuple[Tensor, ...]:
    each = math.ceil(x.shape[axis] / num_outputs) if sizes is None else list(sizes)
    return x.split(each, dim=axis)


def _batch_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    **_: Any,
) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return torch.clamp(x, low, high)


def _expand(x: Tensor, shape: Ints) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, shape))


def _cast(x: Tensor, *, to: int, **_: Any) -> Tensor:
    return x.to(_DTYPES[to])


def _many(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def fold(first: Tensor, *rest: Tensor) -> Tensor:
        for other in rest:
            first = function(first, other)
        return first

    return fold


def _concat(*parts: Tensor, axis: int) -> Tensor:
    return torch.cat(parts, dim=axis)


def _softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return torch.softmax(x, dim=axis)


def _log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return torch.log_softmax(x, dim=axis)


def _transpose(x: Tensor, *, perm: Ints | None = None) -> Tensor:
    return x.permute(list(perm or range(x.ndim)[::-1]))


def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return functional.gelu(x, approximate=approximate)


def _range(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def _constant_of_shape(shape: Ints, *, value: Tensor | None = None) -> Tensor:
    value = torch.zeros(1) if value is None else value
    return value.reshape(()).expand(shape).clone()


def _divide(a: Tensor, b: Tensor) -> Tensor:
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


def _max_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    strides: Ints = (1, 1),
    pads: Ints = (0, 0, 0, 0),
    dilations: Ints = (1, 1),
    **_: Any,
) -> Tensor:
    x = functional.pad(x, [pads[1], pads[3], pads[0], pads[2]], value=-math.inf)
    return functional.max_pool2d(x, list(kernel_shape), list(strides), 0, list(dilations))


_PLAIN: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "And": torch.logical_and,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Greater": torch.gt,
    "Less": torch.lt,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Pow": torch.pow,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Softplus": functional.softplus,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "Where": torch.where,
}
_NO_INTS: frozenset[int] = frozenset()
_OPS: dict[str, tuple[Callable[..., Any], frozenset[int]]] = {
    "BatchNormalization": (_batch_norm, _NO_INTS),
    "Cast": (_cast, _NO_INTS),
    "Clip": (_clip, _NO_INTS),
    "Concat": (_concat, _NO_INTS),
    "ConstantOfShape": (_constant_of_shape, frozenset({0})),
    "Conv": (_conv, _NO_INTS),
    "Div": (_divide, _NO_INTS),
    "Expand": (_expand, frozenset({1})),
    "Gather": (_gather, _NO_INTS),
    "Gelu": (_gelu, _NO_INTS),
    "Gemm": (_gemm, _NO_INTS),
    "LayerNormalization": (_layer_norm, _NO_INTS),
    "LogSoftmax": (_log_softmax, _NO_INTS),
    "Max": (_many(torch.maximum), _NO_INTS),
    "MaxPool": (_max_pool, _NO_INTS),
    "Min": (_many(torch.minimum), _NO_INTS),
    "Range": (_range, _NO_INTS),
    "ReduceLogSumExp": (_reduce(torch.logsumexp), frozenset({1})),
    "ReduceMax": (_reduce(torch.amax), frozenset({1})),
    "ReduceMean": (_reduce(torch.mean), frozenset({1})),
    "ReduceSum": (_reduce(torch.sum), frozenset({1})),
    "Reshape": (_reshape, frozenset({1})),
    "Resize": (_resize, frozenset({1, 2, 3})),
    "Slice": (_slice, frozenset({1, 2, 3, 4})),
    "Softmax": (_softmax, _NO_INTS),
    "Split": (_split, frozenset({1})),
    "Squeeze": (_squeeze, frozenset({1})),
    "Transpose": (_transpose, _NO_INTS),
    "Unsqueeze": (_unsqueeze, frozenset({1})),
    **{name: (function, _NO_INTS) for name, function in _PLAIN.items()},
}
"""Each op of ONNX as a function of torch, and which of its inputs are sizes, not tensors."""
