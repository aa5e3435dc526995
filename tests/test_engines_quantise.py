"""int8: the trunk alone is quantised, from ranges that are those of the activations."""

import sys

import numpy as np
import pytest
from graphs import small_cnn

import engines
from engines import DeviceError, GraphError
from engines.graph import simplified, trunk
from engines.quantise import quantised, ranges
from tracker import weights
from tracker.crops import crop_box, cut
from tracker.parity import parity
from tracker.pose import Calibration, PoseNet


def test_ranges_hold_what_the_tensors_hold(tmp_path):
    path = small_cnn(tmp_path / "c.onnx")
    x = np.random.default_rng(3).normal(size=(4, 3, 8, 8)).astype(np.float32)
    found = ranges(path, [{"x": x[:2]}, {"x": x[2:]}])
    normal = (x - 3) / 2
    assert found["normal"] == pytest.approx((normal.min(), max(0.0, normal.max())))
    assert all(low <= 0 <= high for low, high in found.values())
    assert found == ranges(path, [{"x": x}])


def test_the_trunk_and_nothing_else_is_quantised():
    path = weights.find("pose").path
    x = np.zeros((1, 3, 256, 192), np.float32)
    before = simplified(path)
    after = quantised(path, ranges(path, [{"image": x}]))
    inside = [before.graph.node[i] for i in trunk(before.graph)]
    read = {name for node in inside for name in node.input}
    n_last = sum(n.op_type == "Conv" and not read.intersection(n.output) for n in inside)
    coded = {n.output[0] for n in after.graph.node if n.op_type == "DequantizeLinear"}
    whole = [n for n in after.graph.node if n.op_type == "Conv" and n.input[1] not in coded]
    assert n_last == len(whole) > 0
    heads = {"LayerNormalization", "Softmax", "MatMul", "Gemm"}
    assert not any(coded.intersection(n.input) for n in after.graph.node if n.op_type in heads)
    assert len(after.SerializeToString()) < len(before.SerializeToString()) / 2


def test_people_are_seen_as_in_float32(drawn_people):
    """A rival pose may go to another peak; so medians, and what is reported is in the mixture."""
    found = weights.find("pose")
    crops = [
        cut(frame.image, [crop_box(person.box) for person in seen], 256, 192)
        for frame, seen in drawn_people
    ]
    known = ranges(found.path, [{"image": crop} for crop in crops])
    reference = PoseNet.load(device="cpu", threads=1)
    engine = engines.load(found.path, "cpu", 1, precision="int8", ranges=known)
    assert engine.describe().endswith("trunk in int8")
    other = PoseNet(engine, Calibration.of(found), reference.latents)
    off = parity(reference, other, drawn_people)
    assert 0 < off.px_median < 1.5
    assert off.kl_mean < 0.1
    assert off.weight_max < 0.3


def test_ranges_of_another_graph_are_refused(tmp_path):
    path = small_cnn(tmp_path / "c.onnx")
    with pytest.raises(GraphError, match=r"not those of c\.onnx: .* are missing; measure them"):
        engines.load(path, "cpu", precision="int8", ranges={"x": (0.0, 1.0)})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, r"the card of c\.onnx has none: measure them"),
        ({"ranges": {}, "device": "cuda"}, "int8 is for CPUs"),
        ({"ranges": {}, "backend": "openvino"}, "int8 is for CPUs"),
        ({"ranges": {}, "backend": "torch"}, "int8 is for CPUs"),
    ],
)
def test_what_int8_cannot_is_refused(choice, message, tmp_path):
    path = small_cnn(tmp_path / "c.onnx")
    with pytest.raises(DeviceError, match=message):
        engines.load(path, precision="int8", **choice)


def test_without_onnx_one_line_says_what_to_install(tmp_path, monkeypatch):
    path = small_cnn(tmp_path / "c.onnx")
    for module in ("engines.graph", "engines.quantise"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DeviceError, match=r"pip install 'surepose\[int8\]'"):
        engines.load(path, "cpu", precision="int8", ranges={})
