"""The real builder of TensorRT for RTX compiles what ships, with no GPU (`surepose[rtx]`)."""

import numpy as np
import pytest
from graphs import write
from onnx import helper

from engines import DeviceError, GraphError, build, trt
from engines.plans import PlanCache
from tracker import detector, pose, weights
from tracker.cli import main

pytest.importorskip("tensorrt_rtx")

SHIPPED = [
    *(("pose", name, pose.plan_shapes) for name in weights.shipped("pose")),
    *(("detector", name, detector.plan_shapes) for name in weights.shipped("detector")),
]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("kind", "name", "shapes"), SHIPPED)
def test_every_shipped_graph_compiles_and_fp16_is_smaller(tmp_path, kind, name, shapes, precision):
    found = weights.find(kind, name)
    told = set()
    built = build.plan(
        "rtx",
        found.path,
        precision,
        shapes(found),
        cache=PlanCache(tmp_path),
        target="SM86",
        progress=lambda phase, done, total: told.add(phase),
    )
    assert built.path.read_bytes() == built.plan
    assert "Building engine" in told
    n_bytes = 4 * found.entry("parameters")
    assert len(built.plan) < 1.6 * (n_bytes if precision == "fp32" else 0.75 * n_bytes)


def test_an_op_that_it_does_not_know_is_refused_with_its_node(tmp_path):
    nodes = [
        helper.make_node("Det", ["x"], ["y"], name="volume_of_covariance"),
    ]
    path = write(tmp_path / "det.onnx", nodes, {"x": ["B", 3, 3]}, {"y": ["B"]}, {})
    with pytest.raises(GraphError, match=r"Det volume_of_covariance") as caught:
        trt.build("rtx", path.read_bytes(), build.batches(path), target="SM86")
    assert "\n" not in str(caught.value)


def test_shapes_that_the_graph_cannot_take_are_refused(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = write(tmp_path / "r.onnx", nodes, {"x": ["B", 3]}, {"y": ["B", 3]}, {})
    with pytest.raises(GraphError, match="could not build the plan"):
        trt.build("rtx", path.read_bytes(), {"x": ((1, 4), (2, 4), (4, 4))}, target="SM86")


def test_an_unknown_target_is_refused_with_the_known_ones(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = write(tmp_path / "r.onnx", nodes, {"x": ["B", 3]}, {"y": ["B", 3]}, {})
    with pytest.raises(DeviceError, match=r"builds for SM75, .*SM121, not for SM90"):
        trt.build("rtx", path.read_bytes(), build.batches(path), target="SM90")


def test_the_command_builds_once_and_finds_the_plans_again(tmp_path, capsys):
    command = ["build", "--backend", "rtx", "--target", "SM89", "--cache", str(tmp_path)]
    for due in ("built in", "was there"):
        assert main(command) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert all(due in line for line in lines)
    assert len(list(tmp_path.glob("*.plan"))) == len(list(tmp_path.glob("*.json"))) == 2


def test_two_targets_have_two_plans(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = write(tmp_path / "r.onnx", nodes, {"x": ["B", 3]}, {"y": ["B", 3]}, {})
    keys = [build.key_of("rtx", path, "fp32", build.batches(path), sm) for sm in ("SM86", "SM89")]
    assert keys[0].digest != keys[1].digest
    assert np.unique([key.gpu for key in keys]).tolist() == ["SM86", "SM89"]
