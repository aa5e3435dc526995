import logging
import re

import numpy as np
import pytest
from graphs import affine
from hypothesis import given
from hypothesis import strategies as st

import engines
from engines import DeviceError, EngineError, GraphError, InputError, TensorSpec

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


def test_a_missing_device_is_an_error_and_never_a_step_down(tmp_path):
    path = affine(tmp_path / "a.onnx", A, B)
    with pytest.raises(DeviceError, match=r"'npu'.*runs on .*cpu"):
        engines.load(path, "npu")


def test_cuda_without_its_provider_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("engines.ort.devices", lambda: ("cpu",))
    with pytest.raises(DeviceError, match=r"runs on cpu; install onnxruntime-gpu"):
        engines.load(affine(tmp_path / "a.onnx", A, B), "cuda")


def test_auto_picks_a_device_that_is_there_and_says_so(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("engines.ort.devices", lambda: ("cpu",))
    with caplog.at_level(logging.INFO, "engines"):
        engine = engines.load(affine(tmp_path / "a.onnx", A, B))
    assert caplog.messages == [f"a.onnx runs on {engine.describe()}"]
    assert "on CPU" in engine.describe()


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
    assert all(issubclass(e, EngineError) for e in (DeviceError, GraphError, InputError))
    assert issubclass(InputError, ValueError)
