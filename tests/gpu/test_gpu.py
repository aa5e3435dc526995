"""On a machine with an NVIDIA GPU: every backend that starts there computes what the CPU does."""

import numpy as np
import pytest

import engines
from engines import DeviceError
from engines.gpu import gpu
from tracker import weights
from tracker.parity import parity
from tracker.pose import PoseNet

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(gpu() is None, reason="no NVIDIA GPU is here"),
    pytest.mark.filterwarnings("ignore"),  # of torch's compiler and TensorRT about themselves
]
BACKENDS = ("tensorrt", "rtx", "torch-tensorrt", "torch", "torch-compile", "torch-eager")


def load(backend, precision):
    try:
        return PoseNet.load(device="cuda", backend=backend, precision=precision)
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_poses_are_those_of_the_cpu(backend, precision, drawn_people):
    reference = PoseNet.load(device="cpu")
    found = parity(reference, load(backend, precision), drawn_people)
    assert found.px_p99 < 0.25
    assert found.kl_p99 < 1e-2


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_of_every_size_in_any_order(backend):
    net = load(backend, "fp32")
    path = weights.find("pose").path
    reference = engines.load(path, "cpu")
    rng = np.random.default_rng(0)
    for n in (3, 16, 1, 0, 7, 3):
        image = rng.uniform(0, 255, (n, 3, 256, 192)).astype(np.float32)
        inputs = {"image": image, "latent": net.latents}
        due, came = reference(inputs), net.engine(inputs)
        for name, array in came.items():
            np.testing.assert_allclose(array, due[name], atol=2e-2)


def test_auto_takes_the_gpu_and_says_so(caplog):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    net = PoseNet.load()
    assert "on CPU" not in net.engine.describe()
