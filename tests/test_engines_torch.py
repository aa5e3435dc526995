"""Graphs on torch (on the CPU here), torch-tensorrt by a fake, views on a device."""

import shutil
import subprocess
import sys
from types import ModuleType

import numpy as np
import onnx
import pytest
from graphs import affine, small_cnn, write
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from test_engines_graph import inputs_of, run, shipped

torch = pytest.importorskip("torch")

import engines  # noqa: E402
from engines import DeviceError, GraphError, InputError  # noqa: E402
from engines.graph import lowered  # noqa: E402
from engines.torch_graph import specialise  # noqa: E402
from engines.views import Views  # noqa: E402
from tracker.crops import cut_each, letterbox, mirrored  # noqa: E402
from tracker.pose import PoseNet  # noqa: E402
from tracker.types import Detection, Frame  # noqa: E402


@shipped
def test_shipped_graphs_give_on_torch_what_onnx_runtime_gives(path):
    engine = engines.load(path, "cpu", backend="torch-eager")
    reference = engines.load(path, "cpu", 1)
    assert engine.inputs == reference.inputs
    for batch in (1, 3):
        inputs = inputs_of(path, batch)
        due = reference(inputs)
        for name, array in engine(inputs).items():
            scale = max(1.0, float(np.abs(due[name]).max()))
            np.testing.assert_allclose(array, due[name], atol=1e-4 * scale)


@shipped
def test_shipped_graphs_give_on_torch_in_bf16_what_their_rounding_allows(path):
    inputs = inputs_of(path, 1)
    due = engines.load(path, "cpu", 1)(inputs)
    engine = engines.load(path, "cpu", backend="torch", precision="bf16")
    for name, array in engine(inputs).items():
        assert array.dtype == np.float32
        off = np.abs(array - due[name]).max() / np.abs(due[name]).max()
        assert 0 < off < 0.1, name


def test_fp16_on_torch_and_on_onnx_runtime_round_alike(tmp_path):
    path = small_cnn(tmp_path / "c.onnx")
    x = np.random.default_rng(4).normal(size=(2, 3, 8, 8)).astype(np.float32)
    due = run(lowered(path, "fp16"), {"x": x})
    came = engines.load(path, "cpu", backend="torch", precision="fp16")({"x": x})
    np.testing.assert_allclose(came["maps"], due["maps"], atol=1e-2)


@given(st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_every_batch_is_filled_up_and_cut_back(affine_engine, batch, seed):
    x = np.random.default_rng(seed).normal(size=(batch, 3)).astype(np.float32)
    np.testing.assert_allclose(affine_engine({"x": x})["y"], 2 * x + 1, rtol=1e-5, atol=1e-5)
    assert len(affine_engine._programs) <= 5  # of 1, 2, 4, 8 and 16 rows


@pytest.fixture(scope="module")
def affine_engine(tmp_path_factory):
    path = affine(tmp_path_factory.mktemp("t") / "a.onnx", 2 * np.eye(3), np.ones(3))
    return engines.load(path, "cpu", backend="torch")


def test_inputs_may_be_tensors_and_wrong_ones_are_refused(affine_engine):
    x = torch.ones(3, 3)
    np.testing.assert_array_equal(affine_engine({"x": x})["y"], 3)
    with pytest.raises(InputError, match=r"x float32\(\?, 3\), got x float64\(3, 3\)"):
        affine_engine({"x": x.double()})


def test_compiled_gives_the_same(tmp_path):
    """In a process of its own: the type checks of these tests are not for torch's compiler."""
    path = small_cnn(tmp_path / "c.onnx")
    x = np.random.default_rng(5).normal(size=(2, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import engines, numpy, sys; folder = sys.argv[1];"
        "engine = engines.load(folder + '/c.onnx', 'cpu', backend='torch-compile');"
        "numpy.save(folder + '/y.npy', engine({'x': numpy.load(folder + '/x.npy')})['y'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    if shutil.which("g++") is None and done.returncode:
        pytest.skip("torch.compile has no C++ compiler here")
    assert done.returncode == 0, done.stderr
    due = run(onnx.load(path), {"x": x})["y"]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), due, atol=1e-5)


def test_an_op_that_torch_is_not_taught_is_refused_with_its_node(tmp_path):
    nodes = [helper.make_node("Det", ["x"], ["y"], name="volume")]
    path = write(tmp_path / "d.onnx", nodes, {"x": ["B", 3, 3]}, {"y": ["B"]}, {})
    engine = engines.load(path, "cpu", backend="torch")
    with pytest.raises(GraphError, match="Det volume: the torch backend does not know Det"):
        engine({"x": np.zeros((1, 3, 3), np.float32)})


OPS = [
    ("Clip", {}, ["x", "low", "high"], {"low": np.float32(-0.5), "high": np.float32(0.5)}),
    ("Gather", {"axis": 1}, ["x", "i"], {"i": np.array([[2, -1], [0, 1]])}),
    ("Slice", {}, ["x", "a", "b", "axes", "steps"],
     {"a": np.array([1]), "b": np.array([2**40]), "axes": np.array([-1]), "steps": np.array([2])}),
    ("Gemm", {"transB": 1, "alpha": 0.5, "beta": 2.0}, ["flat", "w", "b"],
     {"w": np.ones((2, 12), np.float32), "b": np.ones(2, np.float32)}),
    ("ReduceLogSumExp", {"keepdims": 0}, ["x", "axes"], {"axes": np.array([1, -1])}),
    ("ReduceMean", {}, ["x"], {}),
    ("Transpose", {}, ["x"], {}),
    ("Split", {"axis": 2, "num_outputs": 2}, ["x"], {}),
    ("Concat", {"axis": 1}, ["x", "x"], {}),
    ("Max", {}, ["x", "zero"], {"zero": np.float32(0)}),
    ("Pow", {}, ["x", "two"], {"two": np.float32(2)}),
    ("LogSoftmax", {"axis": 1}, ["x"], {}),
    ("Softplus", {}, ["x"], {}),
    ("Squeeze", {}, ["x1", "axes"], {"axes": np.array([1])}),
    ("Expand", {}, ["x", "shape"], {"shape": np.array([3, 1, 1, 1])}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attributes", "names", "constants"), OPS, ids=lambda v: str(v)[:9])
def test_each_op_is_what_onnx_runtime_makes_of_it(tmp_path, op, attributes, names, constants):
    x = np.random.default_rng(6).normal(size=(2, 3, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Reshape", ["x", "flat_shape"], ["flat"]),
        helper.make_node("Unsqueeze", ["x", "first"], ["x1"]),
        helper.make_node(op, names, ["y"] if op != "Split" else ["y", "rest"], **attributes),
    ]
    constants = {name: np.asarray(array) for name, array in constants.items()}
    constants |= {"flat_shape": np.array([0, -1]), "first": np.array([1])}
    path = tmp_path / "op.onnx"
    graph = helper.make_graph(
        nodes,
        "op",
        [helper.make_tensor_value_info("x", 1, [2, 3, 4])],
        [helper.make_tensor_value_info("y", 1, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    onnx.save(model, path)
    (came,) = specialise(model, {"x": x.shape})(torch.from_numpy(x))
    np.testing.assert_allclose(came.numpy(), run(model, {"x": x})["y"], atol=1e-5)


def test_sizes_that_depend_on_numbers_are_refused(tmp_path):
    nodes = [
        helper.make_node("Cast", ["x"], ["n"], to=7),
        helper.make_node("Expand", ["one", "n"], ["y"]),
    ]
    path = write(
        tmp_path / "e.onnx", nodes, {"x": [1]}, {"y": ["N"]}, {"one": np.ones(1, np.float32)}
    )
    with pytest.raises(GraphError, match="depends on what the inputs hold"):
        specialise(onnx.load(path), {"x": (1,)})


def test_cuda_that_is_not_here_is_said(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("it is here")
    path = affine(tmp_path / "a.onnx", np.eye(3), np.zeros(3))
    with pytest.raises(DeviceError, match="finds no CUDA device: check nvidia-smi"):
        engines.load(path, "cuda", backend="torch")
    with pytest.raises(DeviceError, match="NVIDIA GPUs only, and device cpu was asked"):
        engines.load(path, "cpu", backend="torch-tensorrt")


# --- torch-tensorrt by a fake -------------------------------------------------------------------


@pytest.fixture
def torch_tensorrt(monkeypatch):
    module = ModuleType("torch_tensorrt")
    module.calls = []

    def compile(net, ir, *, inputs, use_explicit_typing, min_block_size):  # noqa: A001
        module.calls.append((ir, [tuple(x.shape) for x in inputs], use_explicit_typing))
        return net

    module.compile = compile
    monkeypatch.setitem(sys.modules, "torch_tensorrt", module)
    return module


def test_torch_tensorrt_gets_the_graph_with_its_own_dtypes(tmp_path, torch_tensorrt):
    from engines.torch_trt import compiled

    path = small_cnn(tmp_path / "c.onnx")
    x = torch.zeros(2, 3, 8, 8)
    module = compiled(specialise(lowered(path, "fp16"), {"x": x.shape}), [x])
    assert torch_tensorrt.calls == [("dynamo", [(2, 3, 8, 8)], True)]
    due = run(lowered(path, "fp16"), {"x": x.numpy()})
    np.testing.assert_allclose(module(x)[0].numpy(), due["y"], atol=1e-3)


def test_a_torch_tensorrt_that_does_not_start_or_refuses_is_one_line(torch_tensorrt, monkeypatch):
    from engines.torch_trt import compiled

    def refuse(*_, **__):
        raise RuntimeError("no converter\nfor aten.x")

    torch_tensorrt.compile = refuse
    with pytest.raises(GraphError, match=r"cannot take the graph: no converter for aten\.x"):
        compiled(torch.nn.Identity(), [])
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    with pytest.raises(DeviceError, match=r"does not start here.*surepose\[torch-tensorrt\]"):
        compiled(torch.nn.Identity(), [])


# --- views --------------------------------------------------------------------------------------


def picture(seed=0, height=240, width=320):
    """Smooth, so that OpenCV's grid of 1/32 px does not show."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, height // 12, width // 12)))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return fine[0].permute(1, 2, 0).clamp(0, 255).numpy().astype(np.uint8)


@given(
    st.floats(-100, 300), st.floats(-80, 220), st.floats(20, 180), st.integers(0, 9), st.booleans()
)  # fmt: skip
def test_views_on_a_device_are_those_of_opencv(x, y, height, seed, in_the_mirror):
    crop = np.array([x, y, x + 0.75 * height, y + height])
    crop = mirrored(crop) if in_the_mirror else crop
    image = picture(seed % 3)
    due = cut_each([(image, crop)], 64, 48)
    came = cut_each([(image, crop)], 64, 48, Views("cpu")).numpy()
    assert came.dtype == np.float32
    # Where it shrinks, OpenCV's whole steps begin elsewhere: up to one step at an edge.
    assert np.abs(came - due).mean() < (0.4 if height <= 64 else 3.0)
    assert np.percentile(np.abs(came - due), 95) <= (2 if height <= 64 else 12)


def test_a_letterbox_on_a_device_is_that_of_opencv():
    image = picture(height=480, width=640)
    due, image_from_input = letterbox(image, 320)
    came, same = letterbox(image, 320, Views("cpu"))
    np.testing.assert_array_equal(image_from_input.linear, same.linear)
    assert tuple(came.shape) == due.shape
    assert np.abs(came.numpy() - due).mean() < 0.6


def test_a_picture_is_uploaded_once_for_all_that_look_at_it(monkeypatch):
    views = Views("cpu")
    images = [picture(0), picture(1)]
    crop = np.array([20.0, 30.0, 80.0, 110.0])
    for _ in range(3):
        cut_each([(image, crop) for image in (*images, images[0])], 32, 24, views)
        letterbox(images[0], 320, views)
    assert [known is image for (known, _), image in zip(views._uploaded, images[::-1], strict=True)]
    assert len(views._uploaded) == 2


def test_nothing_to_see_is_an_empty_batch():
    assert cut_each([], 32, 24, Views("cpu")).shape == (0, 3, 32, 24)


def test_a_pose_net_on_torch_sees_what_it_sees_on_onnx_runtime():
    frame = Frame(picture(height=480, width=640), 0, 0.0)
    boxes = [np.array([100.0, 50, 220, 400]), np.array([300.0, 80, 400, 300])]
    people = [Detection(box, 0.9) for box in boxes]
    plain = PoseNet.load(device="cpu", threads=1)(frame, people)
    found = PoseNet.load(device="cpu", backend="torch-eager")(frame, people)
    for a, b in zip(plain, found, strict=True):
        off = np.abs(a.mixture.mean - b.mixture.mean)
        assert np.median(off) < 0.5  # px; the views differ by a grey level here and there
