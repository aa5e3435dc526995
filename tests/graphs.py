"""Tiny ONNX graphs with known outputs, and the cards that go with them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines import TensorSpec

POSE_SHAPES = {"mean": (17, 2), "chol": (17, 3), "lowrank": (34, 8), "logit": (), "visible": (17,)}


def write(path: Path, nodes: Sequence[Any], inputs: Any, outputs: Any, constants: Any) -> Path:
    """Each input and output is name: shape, float32; constants are name: array."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, producer_name="tests"
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def affine(path: Path, a: np.ndarray, b: np.ndarray) -> Path:
    """y = x @ a + b over a free batch."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["xa"]),
        helper.make_node("Add", ["xa", "b"], ["y"]),
    ]
    constants = {"a": a.astype(np.float32), "b": b.astype(np.float32)}
    return write(path, nodes, {"x": ["B", a.shape[0]]}, {"y": ["B", a.shape[1]]}, constants)


def small_cnn(path: Path) -> Path:
    """(x - 3) / 2 → conv → batch norm → relu → conv → mean over the picture → softmax."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Sub", ["x", "three"], ["centred"]),
        helper.make_node("Div", ["centred", "two"], ["normal"]),
        helper.make_node("Conv", ["normal", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r0"]),
        helper.make_node("BatchNormalization", ["r0", "g", "b", "m", "v"], ["n1"]),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["maps"]),
        helper.make_node("ReduceMean", ["maps", "axes"], ["means"], keepdims=0),
        helper.make_node("Softmax", ["means"], ["y"]),
    ]
    weight = {"w1": (8, 3, 3, 3), "w2": (4, 8, 1, 1), "g": (8,), "b": (8,), "m": (8,)}
    constants = {n: rng.normal(size=s).astype(np.float32) for n, s in weight.items()}
    constants |= {"v": rng.uniform(0.5, 2, 8).astype(np.float32)}
    constants |= {"three": np.float32(3), "two": np.float32(2), "axes": np.array([2, 3])}
    constants = {name: np.asarray(array) for name, array in constants.items()}
    inputs, outputs = {"x": ["B", 3, 8, 8]}, {"y": ["B", 4], "maps": ["B", 4, 8, 8]}
    return write(path, nodes, inputs, outputs, constants)


def pose(path: Path, values: Mapping[str, np.ndarray], height: int = 64, width: int = 48) -> Path:
    """A pose net that says the same of every crop, whatever it sees; values have no B and K."""
    nodes = [
        helper.make_node("Shape", ["image"], ["B"], start=0, end=1),
        helper.make_node("Shape", ["latent"], ["K"], start=0, end=1),
        helper.make_node("Concat", ["B", "K"], ["BK"], axis=0),
    ]
    for name, array in values.items():
        batch = "B" if name == "visible" else "BK"
        if array.ndim:
            tail = helper.make_node("Concat", [batch, f"{name}_tail"], [f"{name}_shape"], axis=0)
            nodes.append(tail)
        shape = f"{name}_shape" if array.ndim else batch
        nodes.append(helper.make_node("Expand", [f"{name}_value", shape], [name]))
    constants = {f"{name}_value": array.astype(np.float32) for name, array in values.items()}
    constants |= {
        f"{name}_tail": np.array(array.shape, np.int64)
        for name, array in values.items()
        if array.ndim
    }
    outputs = {
        name: ["B", *([] if name == "visible" else ["K"]), *array.shape]
        for name, array in values.items()
    }
    inputs = {"image": ["B", 3, height, width], "latent": ["K", 16]}
    return write(path, nodes, inputs, outputs, constants)


def detector(path: Path, box: np.ndarray, score: np.ndarray) -> Path:
    """A detector that finds the same boxes in every picture."""
    nodes = [
        helper.make_node("Identity", ["box_value"], ["box"]),
        helper.make_node("Identity", ["score_value"], ["score"]),
    ]
    constants = {"box_value": box[None].astype(np.float32)}
    constants["score_value"] = score[None].astype(np.float32)
    inputs = {"image": ["B", 3, "H", "W"]}
    outputs = {"box": [1, len(box), 4], "score": [1, len(box)]}
    return write(path, nodes, inputs, outputs, constants)


def card(path: Path, **entries: Any) -> Path:
    """Write the card of a graph beside it, with its true digest unless told otherwise."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    content = {"name": path.stem, "version": "0", "sha256": digest, **entries}
    path.with_suffix(".json").write_text(json.dumps(content))
    return path


def specs(**shapes: tuple[int | None, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(n, shape, np.dtype(np.float32)) for n, shape in shapes.items())
