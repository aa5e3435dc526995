"""Rules of graphs, lower precision, and the cut between trunk and heads."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import affine, small_cnn, write
from onnx import TensorProto, helper

import engines
from engines import DeviceError, GraphError
from engines.graph import FORBIDDEN, broken_rules, lowered, simplified, split
from tracker import weights
from tracker.latents import sobol_latents

SHIPPED = [
    *(weights.find("pose", name).path for name in weights.shipped("pose")),
    *(weights.find("detector", name).path for name in weights.shipped("detector")),
]
shipped = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)


def inputs_of(path: Path, batch: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """What a shipped graph takes: blurred noise as pictures, the usual latents."""
    rng = np.random.default_rng(seed)
    size = (256, 192) if "pose" in path.stem else (96, 128)
    coarse = rng.uniform(0, 255, (batch, 3, size[0] // 16, size[1] // 16))
    image = coarse.repeat(16, axis=2).repeat(16, axis=3).astype(np.float32)
    return {"image": image} | ({"latent": sobol_latents(8)} if "pose" in path.stem else {})


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [value.name for value in session.get_outputs()]
    taken = {value.name: inputs[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(names, taken), strict=True))


@shipped
def test_shipped_graphs_keep_the_rules(path):
    assert broken_rules(onnx.load(path)) == []
    assert broken_rules(simplified(path)) == []


def test_broken_rules_are_told_by_name(tmp_path):
    nodes = [
        helper.make_node("ArgMax", ["x"], ["best"], axis=1, name="find_peak"),
        helper.make_node("Cast", ["best"], ["y"], to=TensorProto.FLOAT),
    ]
    path = write(tmp_path / "bad.onnx", nodes, {"x": [2, 3]}, {"y": [2, 1]}, {})
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    broken = broken_rules(model)
    assert broken[0] == "find_peak is a ArgMax, which is forbidden"
    assert "the first axis of x is not free" in broken
    assert "y is INT64, not FLOAT" in broken
    assert "NonZero" in FORBIDDEN


@shipped
def test_simplified_graphs_compute_the_same(path):
    inputs = inputs_of(path)
    due = run(onnx.load(path), inputs)
    for name, array in run(simplified(path), inputs).items():
        np.testing.assert_allclose(array, due[name], rtol=1e-4, atol=1e-4 * np.abs(due[name]).max())


@shipped
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_only_what_sees_the_picture_is_lowered(path, precision):
    model = onnx.shape_inference.infer_shapes(lowered(path, precision))
    low = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    dtype = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    dtype |= {c.name: c.data_type for c in model.graph.initializer}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert len(convolutions) > 20
    for node in convolutions:
        assert {dtype[name] for name in node.input if name in dtype} == {low}
    for node in model.graph.node:
        if node.op_type in ("Softmax", "MatMul", "Softplus", "Exp", "Tanh", "LayerNormalization"):
            assert low not in {dtype.get(name) for name in (*node.input, *node.output)}
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT


@shipped
def test_fp16_rounds_a_little_and_not_nothing(path):
    inputs = inputs_of(path)
    due, came = run(onnx.load(path), inputs), run(lowered(path, "fp16"), inputs)
    for name, array in came.items():
        off = np.abs(array - due[name]).max() / np.abs(due[name]).max()
        assert 0 < off < 0.02, name


def test_lowering_a_small_network_by_hand(tmp_path):
    path = small_cnn(tmp_path / "c.onnx")
    x = np.random.default_rng(2).normal(size=(2, 3, 8, 8)).astype(np.float32)
    due = run(onnx.load(path), {"x": x})
    model = lowered(path, "fp16")
    came = run(model, {"x": x})
    for name in ("y", "maps"):  # maps are an output of the trunk itself
        assert came[name].dtype == np.float32
        np.testing.assert_allclose(came[name], due[name], atol=0.02)
    assert np.abs(came["maps"] - due["maps"]).max() > 0
    assert not [n for n in model.graph.node if n.op_type == "BatchNormalization"]


@shipped
def test_trunk_and_heads_make_the_whole(path):
    model = simplified(path)
    trunk, heads = split(model)
    assert {n.op_type for n in heads.graph.node}.isdisjoint({"Conv"})
    assert {n.op_type for n in trunk.graph.node}.isdisjoint({"Softmax", "MatMul"})
    inputs = inputs_of(path)
    due = run(model, inputs)
    came = run(heads, inputs | run(trunk, inputs))
    for name, array in due.items():
        np.testing.assert_allclose(
            came[name], array, rtol=1e-4, atol=1e-5 * max(1, np.abs(array).max())
        )


def test_a_graph_without_convolutions_cannot_be_split(tmp_path):
    path = affine(tmp_path / "a.onnx", np.eye(3), np.zeros(3))
    with pytest.raises(GraphError, match="no trunk of convolutions"):
        split(simplified(path))


def test_onnx_runtime_rounds_as_fp16_plans_do_when_asked(tmp_path):
    path = small_cnn(tmp_path / "c.onnx")
    x = np.random.default_rng(3).normal(size=(3, 3, 8, 8)).astype(np.float32)
    half = engines.load(path, "cpu", backend="ort", precision="fp16")
    assert half.describe().endswith("trunk in fp16")
    due = run(lowered(path, "fp16"), {"x": x})
    np.testing.assert_allclose(half({"x": x})["maps"], due["maps"], atol=2e-3)
    with pytest.raises(DeviceError, match="no bf16"):
        engines.load(path, "cpu", backend="ort", precision="bf16")
