"""OpenVINO beside ONNX Runtime, in fp32 and with its trunk in bf16."""

import numpy as np
import pytest
from graphs import affine
from test_engines_graph import inputs_of, shipped

import engines
from engines import DeviceError

openvino = pytest.importorskip("openvino")
CAPABILITIES = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif("BF16" not in CAPABILITIES, reason="this CPU has no bf16")


@shipped
def test_fp32_is_what_onnx_runtime_gives_for_every_batch(path):
    engine = engines.load(path, "cpu", 1, backend="openvino")
    reference = engines.load(path, "cpu", 1)
    assert engine.inputs == reference.inputs
    assert [spec.name for spec in engine.outputs] == [spec.name for spec in reference.outputs]
    for batch in (1, 3):
        inputs = inputs_of(path, batch)
        due = reference(inputs)
        for name, array in engine(inputs).items():
            scale = max(1.0, float(np.abs(due[name]).max()))
            np.testing.assert_allclose(array, due[name], atol=1e-4 * scale)


@needs_bf16
@shipped
def test_bf16_rounds_the_trunk_and_says_so(path):
    engine = engines.load(path, "cpu", 1, backend="openvino", precision="bf16")
    assert engine.describe().endswith("1 thread, trunk in bf16")
    inputs = inputs_of(path)
    due = engines.load(path, "cpu", 1)(inputs)
    for name, array in engine(inputs).items():
        off = np.abs(array - due[name]).max() / np.abs(due[name]).max()
        assert 0 < off < 0.1, name


@needs_bf16
def test_bf16_on_the_cpu_means_openvino(tmp_path):
    path = inputs_path()
    assert "OpenVINO" in engines.load(path, "cpu", 1, precision="bf16").describe()


def inputs_path():
    from tracker import weights

    return weights.find("pose").path


def test_results_are_the_callers_own(tmp_path):
    path = affine(tmp_path / "a.onnx", np.eye(3), np.zeros(3))
    engine = engines.load(path, "cpu", 1, backend="openvino")
    first = engine({"x": np.ones((2, 3), np.float32)})["y"]
    engine({"x": np.zeros((2, 3), np.float32)})
    np.testing.assert_array_equal(first, 1)


def test_fp16_and_cuda_are_refused(tmp_path):
    path = affine(tmp_path / "a.onnx", np.eye(3), np.zeros(3))
    with pytest.raises(DeviceError, match=r"does not run a\.onnx in fp16"):
        engines.load(path, "cpu", backend="openvino", precision="fp16")
    with pytest.raises(DeviceError, match="runs on CPUs only"):
        engines.load(path, "cuda", backend="openvino")
