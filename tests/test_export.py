import logging

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

import engines  # noqa: E402
from engines.export import export_onnx, load_state, parity  # noqa: E402


class Tiny(torch.nn.Module):
    """Convolution, batch norm, linear: one of each that exporters like to fuse or rename."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 64, 3, bias=False)
        self.norm = torch.nn.BatchNorm2d(64)
        self.head = torch.nn.Linear(64, 20)
        self.register_buffer("grid", torch.linspace(0, 1, 20))

    def forward(self, image, latent):
        seen = torch.relu(self.norm(self.conv(image))).mean(dim=(2, 3))
        # Of rank 3, so that the weight is transposed in the graph: a folder would take its name.
        return self.head(seen[:, None]) * latent.sum(dim=1)[:, None], self.grid + seen.mean()


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(3)
    module = Tiny().eval()
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(module.norm.weight)
    return module


def some_inputs(batch, latents, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.rand(batch, 3, 12, 10, generator=generator),
        "latent": torch.randn(latents, 4, generator=generator),
    }


def export(module, path, **options):
    size = {name: torch.export.Dim(name, min=1, max=64) for name in "BK"}
    return export_onnx(
        module,
        some_inputs(2, 3),
        path,
        outputs=("pose", "sum"),
        dynamic={"image": {0: size["B"]}, "latent": {0: size["K"]}},
        **options,
    )


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "tiny.onnx"
    return path, export(tiny, path, fp16_storage=False)


@pytest.fixture(scope="module")
def halved(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("halved") / "tiny.onnx"
    return path, export(tiny, path)


def test_the_graph_computes_what_torch_computes(whole):
    _, difference = whole
    assert difference.keys() == {"pose", "sum"}
    assert max(difference.values()) < 1e-5


@pytest.mark.parametrize(("batch", "latents"), [(1, 1), (5, 8)])
def test_free_axes_stay_free(tiny, whole, batch, latents):
    assert max(parity(tiny, whole[0], some_inputs(batch, latents, seed=1)).values()) < 1e-5


def test_parity_sees_a_difference(tiny, whole):
    other = Tiny().eval()
    other.load_state_dict(tiny.state_dict())
    with torch.no_grad():
        other.head.bias[4] += 0.5
    inputs = some_inputs(2, 3, seed=2)
    due = 0.5 * inputs["latent"].sum(dim=1).abs().max()
    assert parity(other, whole[0], inputs)["pose"] == pytest.approx(float(due), rel=1e-3)


def test_parameters_come_back_bit_by_bit_under_their_names(tiny, whole):
    state = load_state(whole[0])
    for name, tensor in tiny.state_dict().items():
        if name != "norm.num_batches_tracked":
            np.testing.assert_array_equal(state[name], tensor.numpy())


def test_half_storage_rounds_large_parameters_and_nothing_else(tiny, halved):
    state = load_state(halved[0])
    assert {array.dtype for name, array in state.items() if "." in name} == {np.dtype(np.float32)}
    for name, tensor in tiny.named_parameters():
        due = tensor.half().float() if tensor.numel() >= 1024 else tensor
        np.testing.assert_array_equal(state[name], due.detach().numpy())


def test_half_storage_is_half_as_large_and_within_half_rounding(whole, halved):
    # conv and head have 1728 + 1280 of the 3312 numbers.
    assert whole[0].stat().st_size - halved[0].stat().st_size > 2 * 3000 - 1000
    assert 1e-6 < halved[1]["pose"] < 1e-2


def test_training_goes_on_from_a_halved_file_as_the_runtime_sees_it(tiny, halved):
    other = Tiny().eval()
    state = {name: torch.from_numpy(array) for name, array in load_state(halved[0]).items()}
    missing, _ = other.load_state_dict(state, strict=False)
    assert not missing
    assert max(parity(other, halved[0], some_inputs(2, 3)).values()) < 1e-5


def test_what_half_precision_cannot_hold_stays_whole(tiny, tmp_path):
    other = Tiny().eval()
    other.load_state_dict(tiny.state_dict())
    with torch.no_grad():
        other.head.weight[0, 0] = 1e6
    export(other, tmp_path / "big.onnx")
    np.testing.assert_array_equal(
        load_state(tmp_path / "big.onnx")["head.weight"], other.head.weight.detach().numpy()
    )


def test_the_file_tells_nothing_of_the_machine_that_wrote_it(halved):
    content = halved[0].read_bytes()
    assert b".py" not in content
    assert b"site-packages" not in content
    assert not onnx.load(halved[0]).graph.node[-1].metadata_props


def test_a_parameter_that_the_graph_does_not_use_is_named(tiny, tmp_path, caplog):
    other = Tiny().eval()
    other.unused = torch.nn.Parameter(torch.zeros(3))
    with caplog.at_level(logging.WARNING, "engines"):
        export(other, tmp_path / "t.onnx")
    assert caplog.messages[-1].endswith("['unused']")


def test_a_module_in_training_is_refused(tmp_path):
    with pytest.raises(ValueError, match="eval mode"):
        export(Tiny().train(), tmp_path / "t.onnx")


def test_a_graph_that_fails_while_running_says_so_in_one_line(whole):
    engine = engines.load(whole[0], "cpu")
    inputs = {name: x.numpy() for name, x in some_inputs(2, 3).items()}
    engine._session.run = lambda *_: (_ for _ in ()).throw(RuntimeError("node X\n broke"))
    with pytest.raises(engines.EngineError, match=r"tiny\.onnx failed on ONNX .*: node X broke"):
        engine(inputs)
