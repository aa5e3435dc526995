"""From labelled pictures to a network that runs, by the commands that users type."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tracker import weights
from tracker.cli import main
from tracker.detector import Detector
from tracker.errors import WeightsError
from tracker.latents import sobol_latents
from tracker.nets.detector import DetectorConfig, DetectorModule
from tracker.nets.pose import PoseConfig, PoseModule
from tracker.pose import PoseNet
from tracker.training.detector import DetectorBatch, anchor_points, assign, detection_losses
from tracker.training.loop import ahead
from tracker.training.pose import PoseRecipe, PoseTask, StageKind
from tracker.training.precision import bfloat16_is_quicker, mixed_precision, seconds
from tracker.training.restore import restore, restore_mean
from tracker.training.synthetic import write_split
from tracker.types import Detection, Frame


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("train", "synthetic"):
        write_split(folder, name, scenes=2, pictures_per_scene=3, height=240, width=320)
    return folder


def test_train_resume_publish_average_and_run_a_pose_network(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    command = ["train", "pose", "--data", str(data), "--cache", str(data), "--out", str(tmp_path)]
    assert main([*command, "--stages", "heatmap:64:128", "imle:32:128", "mixture:32:128"]) == 0
    card = json.loads((tmp_path / "pose-nano.json").read_text())
    assert card["crops_seen"] == 128
    assert card["calibration"]["nll_after"] < card["calibration"]["nll_before"]
    net = PoseNet.load(tmp_path / "pose-nano.onnx")
    frame = Frame(np.full((240, 320, 3), 90, np.uint8), 0, 0.0)
    (pose,) = net(frame, [Detection(np.array([50.0, 20.0, 150.0, 220.0]), 1.0)])
    np.linalg.cholesky(pose.mixture.cov)

    # Same folder, longer recipe: it goes on; and the shipped file alone restores the network.
    assert main([*command, "--stages", "heatmap:64:128", "imle:32:128", "mixture:64:128"]) == 0
    assert json.loads((tmp_path / "pose-nano.json").read_text())["crops_seen"] == 160
    assert "going on from" in caplog.text
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 5
    restored = PoseModule()
    restore(restored, tmp_path / "pose-nano.onnx")
    average = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["average"]
    for name, value in restored.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, average[name], atol=2e-3, rtol=2e-3)

    # Of several networks their mean, here without training on.
    folder, both = tmp_path / "mean", [str(tmp_path / "pose-nano.onnx"), "nano"]
    assert main([*command, "--out", str(folder), "--start-from", *both, "--publish-only"]) == 0
    mean, shipped = PoseModule(), PoseModule()
    restore(mean, folder / "pose-nano.onnx")
    restore(shipped, weights.find("pose").path)
    for name, value in mean.state_dict().items():
        if value.dtype.is_floating_point:
            due = (restored.state_dict()[name] + shipped.state_dict()[name]) / 2
            torch.testing.assert_close(value, due, atol=2e-3, rtol=2e-3)
    card = json.loads((folder / "pose-nano.json").read_text())
    before = [160, weights.find("pose").entry("crops_seen")]
    assert [start["crops_seen"] for start in card["started_from"]] == before
    assert card["crops_seen"] == max(before)


def test_a_changed_sampler_takes_what_fits_and_a_changed_backbone_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    old = {f"net.{name}": value.numpy() for name, value in PoseModule().state_dict().items()}
    lost = {
        "net.sampler.query.bias": None,
        "net.sampler.query.weight": np.zeros((3, 3), np.float32),
    }
    state = {n: lost.get(n, v) for n, v in old.items()}
    state = {n: v for n, v in state.items() if v is not None}
    monkeypatch.setattr("tracker.training.restore.load_state", lambda path: state)
    new = PoseModule()
    own_query = new.sampler.query.weight.clone()
    restore(new, tmp_path / "old.onnx")
    assert "sampler.query.bias" in caplog.text
    assert "sampler.query.weight" in caplog.text
    assert torch.equal(new.sampler.query.weight, own_query)
    for name, value in new.state_dict().items():
        if name not in ("sampler.query.bias", "sampler.query.weight"):
            np.testing.assert_array_equal(value, old[f"net.{name}"])

    state["net.heatmap.weight"] = np.zeros((3, 64, 1, 1), np.float32)
    with pytest.raises(WeightsError, match=r"lacks 1 parameters .* heatmap\.weight"):
        restore(new, tmp_path / "old.onnx")


def test_a_deeper_network_starts_as_the_one_it_grew_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    old, new = PoseModule(), PoseModule(PoseConfig(blocks=(2, 3, 4, 2)))
    for parameter in old.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    state = {f"net.{name}": value.numpy() for name, value in old.state_dict().items()}
    monkeypatch.setattr("tracker.training.restore.load_state", lambda path: state)
    restore(new, tmp_path / "old.onnx")
    image = 255 * torch.rand(2, 3, 64, 64)
    for grown, due in zip(new.look(image), old.look(image), strict=True):
        torch.testing.assert_close(grown, due)

    # A part of a block that is there, or the first of a stage, may not be missing.
    for name in (
        "net.backbone.stages.1.1.first.0.weight",
        "net.backbone.stages.1.0.first.0.weight",
    ):
        kept = state.pop(name)
        with pytest.raises(WeightsError, match="lacks 1 parameters"):
            restore(new, tmp_path / "old.onnx")
        state[name] = kept


def test_the_mean_with_a_shallower_network_halves_what_the_deeper_one_adds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = PoseConfig(blocks=(2, 2, 2, 2))
    nets = {"shallow": PoseModule(), "deep": PoseModule(config)}
    for net in nets.values():
        for parameter in net.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    states = {kind: net.state_dict() for kind, net in nets.items()}
    monkeypatch.setattr(
        "tracker.training.restore.load_state",
        lambda path: {f"net.{name}": value.numpy() for name, value in states[path.name].items()},
    )
    mean = PoseModule(config)
    restore_mean(mean, [tmp_path / "shallow", tmp_path / "deep"])
    for name, value in mean.state_dict().items():
        deep = states["deep"][name]
        if name.startswith("backbone.stages.0.1."):
            last = name.endswith(("second.1.weight", "second.1.bias"))
            torch.testing.assert_close(value, deep / 2 if last else deep)
        elif value.dtype.is_floating_point:
            torch.testing.assert_close(value, (states["shallow"][name] + deep) / 2)


@pytest.mark.parametrize("units", [{}, {"avx2": True}, {"avx512_bf16": True}, {"bf16": True}])
@pytest.mark.parametrize("quicker", [True, False])
def test_bfloat16_only_where_a_cpu_has_units_for_it_and_is_quicker(
    monkeypatch: pytest.MonkeyPatch, units: dict[str, bool], quicker: bool
) -> None:
    took = {torch.bfloat16: 1.0, torch.float32: 2.0 if quicker else 0.6}
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: units)
    monkeypatch.setattr("tracker.training.precision.seconds", took.get)
    bfloat16_is_quicker.cache_clear()
    with mixed_precision("cpu"):
        computed = torch.ones(2, 2) @ torch.ones(2, 2)
    bfloat16_is_quicker.cache_clear()
    half = quicker and any("bf16" in name for name in units)
    assert computed.dtype is (torch.bfloat16 if half else torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_time_of_a_convolution_is_taken_and_no_random_number(dtype: torch.dtype) -> None:
    before = torch.get_rng_state()
    assert seconds(dtype) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_train_and_run_a_detector(data: Path, tmp_path: Path) -> None:
    command = ["train", "detector", "--data", str(data), "--cache", str(data)]
    command += ["--backbone-from", "nano"]
    assert main([*command, "--out", str(tmp_path), "--stages", "32:128"]) == 0
    find = Detector.load(tmp_path / "detector-nano.onnx")
    for size in ((240, 320), (100, 400)):
        find(Frame(np.full((*size, 3), 90, np.uint8), 0, 0.0))


def test_a_checkpoint_of_an_older_version_is_told(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = PoseModule().state_dict()
    torch.save({"net": net, "average": net, "optimizer": {}}, tmp_path / "checkpoint.pt")
    command = ["train", "pose", "--data", str(data), "--cache", str(data), "--out", str(tmp_path)]
    assert main(command) == 1
    assert "was trained by an older version" in capsys.readouterr().err


def test_nothing_is_published_where_nothing_was_trained(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "detector", "--data", str(data), "--cache", str(data), "--publish-only"]
    assert main([*command, "--out", str(tmp_path)]) == 1
    assert "no checkpoint" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))


def test_a_wrong_stage_and_a_missing_folder_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: Path
) -> None:
    assert main(["train", "pose", "--data", str(tmp_path)]) == 1
    assert "train.npz" in capsys.readouterr().err
    assert main(["train", "pose", "--data", str(data), "--stages", "warm:10"]) == 1
    assert "'warm:10'" in capsys.readouterr().err


def test_the_best_cells_of_a_person_learn_it_and_no_cell_learns_two() -> None:
    points = anchor_points(128, 128, torch.zeros(()))
    person = torch.tensor([[[20.0, 20, 60, 100], [70, 30, 110, 120], [0, 0, 0, 0]]])
    exists = torch.tensor([[True, True, False]])
    batch = DetectorBatch(torch.zeros(1, 3, 128, 128), person, exists, torch.zeros_like(exists))
    box = torch.cat([points - 10, points + 10], dim=1)[None]
    best = 6 * 16 + 5  # the cell of stride 8 with its centre at (44, 52)
    box[0, best] = person[0, 0]
    quality, owner = assign(box, torch.full((1, len(points)), 0.5), points, batch)
    taught = (quality > 0)[0]
    for number in (0, 1):
        mine = points[taught & (owner[0] == number)]
        assert 1 <= len(mine) <= 10
        assert (mine >= person[0, number, :2]).all()
        assert (mine < person[0, number, 2:]).all()
    assert owner[0, best] == 0
    assert quality[0, best] == pytest.approx(1.0, abs=1e-5)


def test_a_detector_may_begin_with_the_backbone_of_a_pose_network() -> None:
    pose, found = PoseModule(), DetectorModule()
    restore(pose, weights.find("pose").path)
    restore(found.backbone, weights.find("pose").path, "backbone.")
    for name, value in found.backbone.state_dict().items():
        assert torch.equal(value, pose.backbone.state_dict()[name]), name


def test_ignored_people_teach_nothing() -> None:
    torch.manual_seed(0)
    net = DetectorModule(DetectorConfig(stem=8, widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1)))
    image = torch.rand(1, 3, 64, 64) * 255
    whole = torch.tensor([[[0.0, 0.0, 64.0, 64.0]]])
    yes = torch.tensor([[True]])
    box, logit = net(image)
    losses = detection_losses(
        box, logit, anchor_points(64, 64, logit), DetectorBatch(image, whole, yes, ignore=yes)
    )
    assert losses["score"].item() == losses["box"].item() == 0.0


def test_what_fails_while_making_a_batch_fails_in_the_loop() -> None:
    def broken() -> object:
        yield 1
        raise OSError("disk gone")

    made = ahead(broken())  # type: ignore[arg-type]
    assert next(made) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(made)


def test_the_likelihood_is_learned_where_the_sampler_will_be_read(data: Path) -> None:
    task = PoseTask(PoseRecipe(), data, data)
    shipped = torch.from_numpy(sobol_latents(PoseRecipe().hypotheses))
    assert torch.equal(task._latent(StageKind.MIXTURE), shipped)
    first, second = (task._latent(StageKind.IMLE) for _ in range(2))
    assert first.shape == shipped.shape
    assert not torch.equal(first, second)
