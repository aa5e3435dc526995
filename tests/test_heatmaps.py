"""Other people's networks: fed as they want it, read as they mean it."""

from pathlib import Path

import graphs
import numpy as np
import pytest
from onnx import helper

from tracker.heatmaps import HeatmapError, HeatmapNet, NcnnHeatmaps, OnnxHeatmaps, View, load

SMALL = View(32, 24, mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0))

POOL = """7767517
2 2
Input image 0 1 image
Pooling pool 1 1 image maps 0=1 1=4 2=4
"""


def crops(n: int, view: View = SMALL) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, view.height, view.width, 3), np.uint8)


def pooled(crops: np.ndarray, view: View = SMALL) -> np.ndarray:
    """What a network of one 4 × 4 average must give."""
    normal = (crops.astype(float) - view.mean) / view.std
    n, h, w, _ = normal.shape
    return normal.reshape(n, h // 4, 4, w // 4, 4, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)


@pytest.fixture
def ncnn_file(tmp_path: Path) -> Path:
    pytest.importorskip("ncnn")
    path = tmp_path / "pool.param"
    path.write_text(POOL)
    path.with_suffix(".bin").write_bytes(b"")
    return path


def onnx_file(path: Path, batch: int | str = "B") -> Path:
    nodes = [
        helper.make_node("AveragePool", ["x"], ["maps"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("ReduceMean", ["x"], ["score"], keepdims=0),
    ]
    outputs = {"score": [], "maps": [batch, 3, 8, 6]}
    return graphs.write(path, nodes, {"x": [batch, 3, 32, 24]}, outputs, {})


@pytest.mark.parametrize("batch", ["B", 1])
def test_an_onnx_network_sees_normalised_crops(tmp_path: Path, batch: int | str) -> None:
    net = load(onnx_file(tmp_path / "pool.onnx", batch), SMALL, threads=1)
    assert isinstance(net, OnnxHeatmaps)
    assert isinstance(net, HeatmapNet)
    np.testing.assert_allclose(net(crops(3)), pooled(crops(3)), atol=1e-4)


def test_an_ncnn_network_sees_the_same(ncnn_file: Path) -> None:
    net = load(ncnn_file, SMALL)
    assert isinstance(net, NcnnHeatmaps)
    assert isinstance(net, HeatmapNet)
    np.testing.assert_allclose(net(crops(3)), pooled(crops(3)), atol=1e-4)


def test_bgr_turns_the_channels_after_normalising_them() -> None:
    image = crops(2)
    turned = View(32, 24, SMALL.mean, SMALL.std, order="bgr").planes(image)
    np.testing.assert_array_equal(turned, SMALL.planes(image)[:, ::-1])
    red = (image[0, 5, 7, 0] - 10.0) / 1.0
    assert turned[0, 2, 5, 7] == pytest.approx(red)


def test_what_is_no_heatmap_network_is_told(tmp_path: Path, ncnn_file: Path) -> None:
    affine = graphs.affine(tmp_path / "affine.onnx", np.eye(2), np.zeros(2))
    with pytest.raises(HeatmapError, match=r"no output of four axes .* it gives y"):
        OnnxHeatmaps(affine)
    with pytest.raises(HeatmapError, match="no output 'heat'"):
        OnnxHeatmaps(onnx_file(tmp_path / "pool.onnx"), output="heat")
    with pytest.raises(HeatmapError, match="no output 'heat'"):
        NcnnHeatmaps(ncnn_file, output="heat")
    with pytest.raises(HeatmapError, match=r"\.onnx or \.param"):
        load(tmp_path / "net.pth")
    ncnn_file.with_suffix(".bin").unlink()
    with pytest.raises(HeatmapError, match=r"no .*pool\.bin"):
        NcnnHeatmaps(ncnn_file)
