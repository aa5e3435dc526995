import logging
import re
import sys

import numpy as np
import pytest
from graphs import affine
from hypothesis import given
from hypothesis import strategies as st

import engines
from engines import CacheError, DeviceError, EngineError, GraphError, InputError, TensorSpec
from engines.gpu import Gpu, gpu
from tracker.commands import build

A, B = np.arange(6.0).reshape(3, 2), np.array([10.0, -1.0])


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return engines.load(affine(tmp_path_factory.mktemp("e") / "a.onnx", A, B), "cpu", threads=1)


@given(st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_an_engine_gives_what_numpy_gives_for_every_batch(engine, batch, seed):
    x = np.random.default_rng(seed).normal(size=(batch, 3)).astype(np.float32)
    np.testing.assert_allclose(engine({"x": x})["y"], x @ A + B, rtol=1e-5, atol=1e-5)


def test_an_engine_says_what_it_takes_and_gives(engine):
    assert isinstance(engine, engines.Engine)
    assert engine.inputs == (TensorSpec("x", (None, 3), np.dtype(np.float32)),)
    assert engine.outputs == (TensorSpec("y", (None, 2), np.dtype(np.float32)),)
    assert re.fullmatch(r"ONNX Runtime [\d.]+ on CPU, 1 thread", engine.describe())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"takes \['x'\], got \[\]"),
        ({"x": np.zeros((1, 3), np.float32), "z": np.zeros(1)}, r"got \['x', 'z'\]"),
        ({"x": np.zeros((1, 3))}, r"x float32\(\?, 3\), got x float64\(1, 3\)"),
        ({"x": np.zeros(3, np.float32)}, r"got x float32\(3\)"),
        ({"x": np.zeros((1, 4), np.float32)}, r"got x float32\(1, 4\)"),
    ],
)
def test_wrong_inputs_are_refused_with_what_came_and_what_was_due(engine, inputs, message):
    with pytest.raises(InputError, match=message):
        engine(inputs)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"device": "npu"}, "no device 'npu': choose one of auto, cpu, cuda"),
        ({"backend": "tvm"}, "no backend 'tvm': choose one of ort, openvino, tensorrt"),
        ({"precision": "int4"}, "no precision 'int4': choose one of fp32, fp16, bf16, int8"),
        ({"precision": "fp16"}, "fp16 is for GPUs, and no NVIDIA GPU is here"),
        ({"precision": "fp16", "device": "cpu"}, "fp16 is for GPUs, a CPU gains nothing"),
        ({"device": "cuda"}, "the driver finds no NVIDIA GPU: check nvidia-smi"),
        ({"backend": "tensorrt"}, "backend tensorrt needs an NVIDIA GPU"),
        ({"backend": "rtx"}, "backend rtx needs an NVIDIA GPU"),
        ({"backend": "tensorrt", "device": "cpu"}, "runs on NVIDIA GPUs only"),
    ],
)
def test_what_is_not_there_is_an_error_and_never_a_step_down(
    tmp_path, no_gpu, asked, message, caplog
):
    path = affine(tmp_path / "a.onnx", A, B)
    with caplog.at_level(logging.INFO, "engines"), pytest.raises(DeviceError, match=message):
        engines.load(path, **asked)
    assert not caplog.messages


@pytest.fixture
def no_gpu(monkeypatch):
    for module in ("engines.gpu", "engines.build", "engines.backends"):
        monkeypatch.setattr(f"{module}.gpu", lambda: None)


@pytest.fixture
def bare_gpu(monkeypatch):
    """A GPU, and no library that runs on it."""
    monkeypatch.setattr("engines.backends.gpu", lambda: Gpu("NVIDIA Test 1", "SM86", "13.0"))
    monkeypatch.setattr("engines.ort.devices", lambda: ("cpu",))
    monkeypatch.setattr("engines.backends.find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("backend", "extra"), [("openvino", "openvino"), ("rtx", "rtx"), ("torch", "train")]
)
def test_without_onnx_a_backend_says_what_to_install(tmp_path, monkeypatch, backend, extra):
    path = affine(tmp_path / "a.onnx", A, B)
    for module in ("engines.graph", "engines.build", "engines.openvino", "engines.torch_engine"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DeviceError, match=rf"\(.*onnx.*\): pip install 'surepose\[{extra}\]'"):
        engines.load(path, backend=backend)
    with pytest.raises(DeviceError, match=r"\(.*onnx.*\): pip install 'surepose\[rtx\]'"):
        build(backend="rtx", target="SM86")


def test_a_gpu_without_a_library_says_what_to_install(tmp_path, bare_gpu):
    path = affine(tmp_path / "a.onnx", A, B)
    with pytest.raises(DeviceError, match=r"NVIDIA Test 1 is here, .*surepose\[tensorrt\]"):
        engines.load(path, "cuda")


def test_auto_says_why_it_leaves_a_gpu_alone(tmp_path, caplog, bare_gpu):
    path = affine(tmp_path / "a.onnx", A, B)
    with caplog.at_level(logging.INFO, "engines"):
        engine = engines.load(path)
    assert "on CPU" in engine.describe()
    assert caplog.messages[-1].endswith("(NVIDIA Test 1 is here, and no library that runs on it)")


def test_auto_picks_a_device_that_is_there_and_says_so(tmp_path, caplog, no_gpu):
    with caplog.at_level(logging.INFO, "engines"):
        engine = engines.load(affine(tmp_path / "a.onnx", A, B))
    assert caplog.messages == [f"a.onnx runs on {engine.describe()} (no NVIDIA GPU is here)"]
    assert "on CPU" in engine.describe()


def test_this_machine_has_the_gpu_that_the_driver_tells_of():
    found = gpu()
    assert found is None or re.fullmatch(r"SM\d+", found.sm)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x0a" * 50])
def test_a_foreign_file_is_refused_in_one_line_that_names_it(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(GraphError, match=r"broken\.onnx is not a graph") as caught:
        engines.load(path, "cpu")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_no_threads_are_refused(tmp_path):
    with pytest.raises(GraphError, match=r"no graph at .*nowhere\.onnx"):
        engines.load(tmp_path / "nowhere.onnx")
    with pytest.raises(ValueError, match="at least 1, got 0"):
        engines.load(affine(tmp_path / "a.onnx", A, B), threads=0)


def test_every_engine_error_is_an_engine_error():
    assert all(
        issubclass(e, EngineError) for e in (CacheError, DeviceError, GraphError, InputError)
    )
    assert issubclass(InputError, ValueError)
