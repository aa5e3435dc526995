"""TensorRT by a fake of its documented API: plans, cache, buffers, recorded graphs, and faults."""

import gc
import json
import logging
import os
import sys

import fake_tensorrt
import numpy as np
import pytest
from graphs import affine, write
from onnx import helper

import engines
from engines import CacheError, DeviceError, EngineError, GraphError, build, trt
from engines.plans import PlanCache

A, B = np.arange(6.0).reshape(3, 2), np.array([10.0, -1.0])


@pytest.fixture
def path(tmp_path):
    return affine(tmp_path / "a.onnx", A, B)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUREPOSE_CACHE", str(tmp_path / "plans"))
    return PlanCache.of_user()


@pytest.fixture
def tensorrt(monkeypatch):
    return fake_tensorrt.install(monkeypatch)


def some(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)


def sidecar(cache):
    (file,) = cache.folder.glob("*.json")
    return file, json.loads(file.read_text())


@pytest.mark.usefixtures("tensorrt", "cache")
def test_every_batch_gives_what_numpy_gives_also_when_shapes_come_back(path):
    engine = engines.load(path, backend="tensorrt")
    for n in (1, 3, 16, 3, 0, 2, 1):
        x = some(n, seed=n)
        came = engine({"x": x})["y"]
        np.testing.assert_allclose(came, x @ A + B, rtol=1e-5, atol=1e-5)
    assert len(engine._programs) == 4  # buckets of 1, 2, 4 and 16


@pytest.mark.usefixtures("tensorrt", "cache")
def test_what_an_engine_gave_is_not_changed_by_the_next_call(path):
    engine = engines.load(path, backend="tensorrt")
    first = engine({"x": some(2)})["y"]
    kept = first.copy()
    engine({"x": some(2, seed=1)})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.usefixtures("tensorrt", "cache")
def test_an_engine_that_is_given_up_gives_its_memory_back(path):
    gc.collect()
    before = len(fake_tensorrt.MEMORY)
    engine = engines.load(path, backend="tensorrt")
    engine({"x": some(3)})
    assert len(fake_tensorrt.MEMORY) == before + 4  # two buffers, each with its pinned twin
    del engine
    gc.collect()
    assert len(fake_tensorrt.MEMORY) == before


@pytest.mark.usefixtures("tensorrt", "cache")
def test_a_batch_beyond_the_plan_is_refused_with_both_numbers(path):
    engine = engines.load(path, backend="tensorrt")
    with pytest.raises(EngineError, match="takes batches up to 16, got 17"):
        engine({"x": some(17)})


@pytest.mark.usefixtures("tensorrt")
def test_a_plan_is_built_once_and_found_again(path, cache, caplog):
    with caplog.at_level(logging.INFO, "engines"):
        engines.load(path, backend="tensorrt")
        engines.load(path, backend="tensorrt")
    assert sum("building" in message for message in caplog.messages) == 1
    file, content = sidecar(cache)
    assert content["key"]["gpu"] == "NVIDIA Test 1 SM86"
    assert content["key"]["version"] == fake_tensorrt.VERSION
    assert content["key"]["precision"] == "fp16"
    assert content["bytes"] == file.with_suffix(".plan").stat().st_size


@pytest.mark.usefixtures("tensorrt")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.with_suffix(".plan").write_bytes(b"PLAN"), "is not the file of its JSON"),
        (lambda f: f.write_text("{"), "cannot be read"),
        (lambda f: f.write_text('{"key": {}}'), "of another graph, GPU or version"),
        (lambda f: f.write_text("[]"), "of another graph, GPU or version"),
    ],
)
def test_a_damaged_plan_is_told_in_one_line_and_built_again(path, cache, caplog, damage, message):
    engines.load(path, backend="tensorrt")
    file, before = sidecar(cache)
    damage(file)
    with caplog.at_level(logging.WARNING, "engines"):
        engine = engines.load(path, backend="tensorrt")
    assert len(caplog.messages) == 1
    assert message in caplog.messages[0]
    assert "\n" not in caplog.messages[0]
    np.testing.assert_allclose(engine({"x": some(2)})["y"], some(2) @ A + B, rtol=1e-5)
    assert sidecar(cache)[1]["sha256"] == before["sha256"]


@pytest.mark.usefixtures("tensorrt")
def test_a_whole_plan_that_the_library_refuses_is_built_again(path, cache, caplog):
    engines.load(path, backend="tensorrt")
    key = build.key_of("tensorrt", path, "fp16", build.batches(path))
    cache.store(key, b"PLAN 10.0.0 0\n", {})
    with caplog.at_level(logging.WARNING, "engines"):
        engine = engines.load(path, backend="tensorrt")
    assert "cannot read the plan of a.onnx: The engine plan file is not" in caplog.messages[0]
    np.testing.assert_allclose(engine({"x": some(1)})["y"], some(1) @ A + B, rtol=1e-5)


@pytest.mark.usefixtures("cache")
def test_another_gpu_version_precision_shape_or_graph_has_another_key(path, monkeypatch):
    fake_tensorrt.install(monkeypatch)
    shapes = build.batches(path)
    keys = [build.key_of("tensorrt", path, "fp16", shapes)]
    keys.append(build.key_of("tensorrt", path, "fp32", shapes))
    keys.append(build.key_of("tensorrt", path, "fp16", build.batches(path, largest=32)))
    affine(path, A + 1, B)  # the same name, another content
    keys.append(build.key_of("tensorrt", path, "fp16", shapes))
    fake_tensorrt.install(monkeypatch, gpu=("NVIDIA Test 2", "SM86", "13.0"))
    keys.append(build.key_of("tensorrt", path, "fp16", shapes))
    sys.modules["tensorrt"].__version__ = "11.5.0"
    keys.append(build.key_of("tensorrt", path, "fp16", shapes))
    assert len({key.digest for key in keys}) == len({key.stem for key in keys}) == 6


@pytest.mark.usefixtures("tensorrt")
def test_a_refused_graph_names_its_node(tmp_path, cache):
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"], name="find_them"),
        helper.make_node("Cast", ["where"], ["y"], to=1),
    ]
    path = write(tmp_path / "n.onnx", nodes, {"x": ["B", 3]}, {"y": [2, "N"]}, {})
    with pytest.raises(GraphError, match=r"cannot take the graph: NonZero find_them: No importer"):
        engines.load(path, backend="tensorrt")
    assert not cache.folder.exists()


@pytest.mark.usefixtures("tensorrt")
def test_a_build_that_fails_says_why(path):
    with pytest.raises(GraphError, match="nobody said which shapes of x"):
        trt.build("tensorrt", path.read_bytes(), {})


@pytest.mark.usefixtures("tensorrt")
def test_progress_is_told(path):
    told = []
    trt.build(
        "tensorrt", path.read_bytes(), build.batches(path), progress=lambda *step: told.append(step)
    )
    assert told[0] == ("Building engine", 0, 2)
    assert told[-1] == ("Building engine", 2, 2)


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_builds_for_no_other_gpu(path):
    with pytest.raises(DeviceError, match="for SM86 take --backend rtx"):
        trt.build("tensorrt", path.read_bytes(), build.batches(path), target="SM86")


def test_a_cache_that_cannot_be_written_costs_a_line_and_not_the_run(
    path, tensorrt, cache, caplog, monkeypatch
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engines.plans.os.replace", full)
    with caplog.at_level(logging.WARNING, "engines"):
        engine = engines.load(path, backend="tensorrt")
    assert "no space left on device; free some space" in caplog.messages[0]
    np.testing.assert_allclose(engine({"x": some(1)})["y"], some(1) @ A + B, rtol=1e-5)
    assert not list(cache.folder.iterdir())  # no half-written file
    with pytest.raises(CacheError, match="choose a folder by --cache"):
        build.plan("tensorrt", path, "fp16", cache=cache, must_keep=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_is_told(path, tensorrt, cache):
    cache.folder.mkdir(mode=0o500)
    with pytest.raises(CacheError, match="permission denied"):
        build.plan("tensorrt", path, "fp16", cache=cache, must_keep=True)


def test_a_file_where_the_cache_should_be_is_told_before_a_long_build(
    path, tensorrt, cache, monkeypatch
):
    cache.folder.write_text("")
    monkeypatch.setattr(trt, "build", lambda *_, **__: pytest.fail("it was built"))
    with pytest.raises(CacheError, match=r"cannot keep the plan in .*plans"):
        build.plan("tensorrt", path, "fp16", cache=cache, must_keep=True)


@pytest.mark.usefixtures("cache")
def test_an_old_driver_is_one_clear_line(path, monkeypatch):
    fake_tensorrt.install(monkeypatch, cuda_status=35)
    with pytest.raises(DeviceError, match=r"missing or too old for CUDA 13\.0: update the driver"):
        engines.load(path, backend="tensorrt")


@pytest.mark.usefixtures("cache")
def test_a_failing_cuda_call_is_named(path, monkeypatch):
    fake_tensorrt.install(monkeypatch, cuda_status=2)
    with pytest.raises(EngineError, match="CUDA failed: cudaErrorTest"):
        engines.load(path, backend="tensorrt")


def test_auto_takes_tensorrt_where_it_is_and_says_why(path, tensorrt, cache, caplog, monkeypatch):
    monkeypatch.setattr("engines.backends.find_spec", lambda name: name == "tensorrt")
    with caplog.at_level(logging.INFO, "engines"):
        engine = engines.load(path)
    assert engine.describe().startswith("TensorRT 11.4.0 on CUDA")
    assert caplog.messages[-1].endswith("(NVIDIA Test 1 and tensorrt are here)")


def test_a_library_that_does_not_start_is_passed_over_aloud_by_auto_only(
    path, cache, caplog, monkeypatch
):
    fake_tensorrt.install(monkeypatch, cuda_status=35)
    monkeypatch.setattr("engines.backends.find_spec", lambda name: name == "tensorrt")
    with caplog.at_level(logging.INFO, "engines"):
        engine = engines.load(path)
    assert "ONNX Runtime" in engine.describe()
    assert any("too old for CUDA 13.0" in message for message in caplog.messages)
    for asked in ({"device": "cuda"}, {"backend": "tensorrt"}):
        with pytest.raises(DeviceError, match="too old"):
            engines.load(path, **asked)


def test_the_fake_promises_nothing_that_the_real_bindings_lack():
    real = pytest.importorskip("tensorrt_rtx")  # the same bindings, built from the same sources
    for name in ("Builder", "OnnxParser", "ParserError", "Runtime", "ICudaEngine",
                 "IExecutionContext", "INetworkDefinition", "IBuilderConfig",
                 "IOptimizationProfile", "ITensor"):  # fmt: skip
        ours = {n for n in vars(getattr(fake_tensorrt, name)) if not n.startswith("_")}
        assert ours <= set(dir(getattr(real, name))), name
    assert {"INPUT", "OUTPUT"} <= set(real.TensorIOMode.__members__)
    assert callable(real.nptype)


def test_the_fake_of_cuda_promises_nothing_that_the_real_bindings_lack():
    real = pytest.importorskip("cuda.bindings.runtime")
    fake = fake_tensorrt._cuda_runtime()
    assert {n for n in vars(fake) if n.startswith("cuda")} <= set(dir(real))
    assert {kind.name for kind in fake.cudaMemcpyKind} <= set(real.cudaMemcpyKind.__members__)
    modes = real.cudaStreamCaptureMode.__members__
    assert {mode.name for mode in fake.cudaStreamCaptureMode} <= set(modes)
