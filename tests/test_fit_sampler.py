"""Error bars for somebody else's heatmaps: the laws of the way in, and the way through."""

import json
import os
from dataclasses import replace
from pathlib import Path

import graphs
import numpy as np
import pytest
import torch
from onnx import helper

from engines.errors import InputError
from tracker.cli import main
from tracker.errors import TrackerError
from tracker.foreign import pose_net
from tracker.heatmaps import View
from tracker.latents import sobol_latents
from tracker.nets.adapter import GRID, HeatmapSampler, MapLogits, on_grid
from tracker.pose import PoseNet
from tracker.training.data import DataError, Split, honest_labels, pose_labels
from tracker.training.fit import FitRecipe, FitRun, foreign, new_sampler, predict
from tracker.training.fit import fit_sampler as fit
from tracker.training.loop import Trainer
from tracker.training.pose import PoseBatch, Stage, StageKind, sampler_losses
from tracker.training.synthetic import write_split
from tracker.training.views import Views
from tracker.types import Detection, Frame

SHARED = Path(os.environ.get("SUREPOSE_SHARED", Path(__file__).parents[2] / "shared"))
TEACHER = SHARED / "data/teachers/tinypose_256x192.param"
FRAME = Frame(np.full((240, 320, 3), 90, np.uint8), 0, 0.0)
PERSON = Detection(np.array([50.0, 20.0, 150.0, 220.0]), 1.0)


def bump(centre: np.ndarray, shape: tuple[int, int], sigma: float = 0.03) -> torch.Tensor:
    """Gaussians (…, h, w) around points (…, 2) in crop heights, of height 1."""
    h, w = shape
    y, x = (np.arange(h) + 0.5) / h, (np.arange(w) + 0.5) / h
    squared = (x - centre[..., :1, None]) ** 2 + (y[:, None] - centre[..., 1:, None]) ** 2
    return torch.from_numpy(np.exp(-0.5 * squared / sigma**2)).float()


def middle(p: torch.Tensor) -> np.ndarray:
    """Mean of each map, crop heights."""
    h, w = p.shape[-2:]
    p = p / p.sum(dim=(-2, -1), keepdim=True)
    x = (p.sum(dim=-2) * (torch.arange(w) + 0.5)).sum(dim=-1)
    y = (p.sum(dim=-1) * (torch.arange(h) + 0.5)).sum(dim=-1)
    return torch.stack([x, y], dim=-1).numpy() / h


def views(maps: np.ndarray, keypoints: np.ndarray) -> Views:
    """Labelled maps, every fifth kept for calibration."""
    n, j = keypoints.shape[:2]
    return Views(
        (maps.astype(np.float16),),
        keypoints,
        np.ones((n, j)),
        np.ones((n, j)),
        np.full(n, 0.4),
        np.arange(n) % 5 == 0,
    )


@pytest.mark.parametrize("shape", [(64, 48), (96, 72), (32, 24), (56, 42)])
def test_the_grid_keeps_every_peak_in_its_place(shape: tuple[int, int]) -> None:
    centre = np.random.default_rng(0).uniform([0.2, 0.2], [0.55, 0.8], (1, 30, 2))
    grid = on_grid(bump(centre, shape))
    assert grid.shape == (1, 30, *GRID)
    np.testing.assert_allclose(middle(grid), centre, atol=1e-3)
    np.testing.assert_array_equal(on_grid(grid), grid)


def test_the_logits_of_a_bump_give_the_bump() -> None:
    maps = bump(np.array([[[0.3, 0.4], [0.5, 0.7]]]), (64, 48)) * 0.7
    logits = MapLogits(torch.tensor([0.7, 0.7]), bumps=True)
    with torch.no_grad():
        logits.gain.zero_()
        logits.floor.fill_(-20.0)
    p = torch.softmax(logits(maps).flatten(2), dim=-1).reshape(1, 2, *GRID)
    due = on_grid(maps)
    np.testing.assert_allclose(p.detach(), due / due.sum(dim=(2, 3), keepdim=True), atol=1e-6)


@pytest.mark.parametrize("factor", [0.01, 255.0])
def test_a_network_may_count_its_heat_in_any_unit(factor: float) -> None:
    rng = np.random.default_rng(1)
    centre = rng.uniform([0.1, 0.1], [0.65, 0.9], (10, 17, 2))
    maps = bump(centre, (32, 24)).numpy()
    latent = torch.from_numpy(sobol_latents(4))
    told = []
    for unit in (1.0, factor):
        scaled = views(maps * unit, centre)
        torch.manual_seed(0)
        net = new_sampler(scaled).eval()
        seen, _ = scaled.batch(np.arange(10))
        told.append(net(*seen, latent))
    for one, other in zip(told[0].hypotheses, told[1].hypotheses, strict=True):
        torch.testing.assert_close(one, other, atol=5e-3, rtol=5e-3)
    assert told[0].hypotheses.mean.std(dim=0).min() > 1e-4  # it does depend on the maps


def test_bumps_and_logits_are_told_apart() -> None:
    centre = np.full((10, 17, 2), 0.4)
    maps = bump(centre, (32, 24)).numpy()
    noise = np.random.default_rng(0).normal(0, 0.01, maps.shape)
    assert new_sampler(views(0.5 * maps + noise, centre)).logits.bumps
    assert not new_sampler(views(12 * maps - 6, centre)).logits.bumps


@pytest.mark.parametrize("bumps", [True, False])
@pytest.mark.parametrize("shape", [(64, 48), (40, 30)])
def test_maps_of_any_size_and_kind_give_poses(shape: tuple[int, int], bumps: bool) -> None:
    net = HeatmapSampler(torch.ones(5), bumps).eval()
    maps = torch.rand(3, 5, *shape) - (0 if bumps else 0.5)
    logit, hypotheses, visible = net(maps, torch.from_numpy(sobol_latents(2)))
    assert logit.shape == (3, 5, *GRID)
    assert hypotheses.mean.shape == (3, 2, 5, 2)
    assert visible.shape == (3, 5)
    for part in hypotheses:
        assert torch.isfinite(part).all()
    empty = net(torch.zeros_like(maps), torch.from_numpy(sobol_latents(2)))
    assert torch.isfinite(empty.hypotheses.chol).all()


class TwoPeaks:
    """Every map shows two peaks and the truth lies on one; people 80 to 95 are never trained on."""

    total = 200 * 16
    recipe = FitRecipe((Stage(StageKind.IMLE, total // 2), Stage(StageKind.MIXTURE, total // 2)))

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(0)
        self.left = rng.uniform([0.1, 0.3], [0.25, 0.7], (96, 1, 2))
        self.right = self.left + np.array([0.35, 0.0])
        truth = np.where(rng.random((96, 1, 1)) < 0.5, self.left, self.right)
        self.truth = torch.from_numpy(truth).float()
        self.maps = bump(self.left, GRID) + bump(self.right, GRID)
        torch.manual_seed(seed)
        self.net: torch.nn.Module = HeatmapSampler(torch.ones(1), bumps=True, width=8)

    def learning_rate(self, seen: int) -> float:
        return 3e-3  # of which the warm-up reaches two thirds

    def batch(self, step_seed: int, seen: int) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng(step_seed).choice(80, 16))

    def loss(self, rows: torch.Tensor, seen: int) -> dict[str, torch.Tensor]:
        stage, _ = self.recipe.at(seen)
        one = torch.ones(len(rows), 1)
        batch = PoseBatch(torch.empty(0), self.truth[rows], one, one, 0.05 * one)
        output = self.net(self.maps[rows], self.recipe.draw(stage.kind))
        return sampler_losses(stage.kind, 1.0, output, batch)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_sampler_learns_that_either_of_two_peaks_may_be_true(seed: int, tmp_path: Path) -> None:
    task = TwoPeaks(seed)
    net = Trainer(task, tmp_path, 16).run()
    with torch.no_grad():
        _, hypotheses, _ = net(task.maps[80:], task.recipe.latent)
    weight = torch.softmax(hypotheses.logit, dim=-1).numpy()
    for peak in (task.left, task.right):
        off = np.linalg.norm(hypotheses.mean.numpy()[:, :, 0] - peak[80:], axis=-1)
        mass = (weight * (off < 0.08)).sum(axis=1).mean()
        assert 0.25 < mass < 0.75


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_split(folder, "train", scenes=4, pictures_per_scene=8, height=160, width=208)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up network: seventeen mixtures of the colours, every fourth pixel, 0 and above."""
    path = tmp_path_factory.mktemp("network") / "colours.onnx"
    kernel = np.random.default_rng(0).normal(0, 1, (17, 3, 4, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["crops", "kernel"], ["mixed"], strides=[4, 4]),
        helper.make_node("Relu", ["mixed"], ["maps"]),
    ]
    shapes = {"crops": ["B", 3, 128, 96]}, {"maps": ["B", 17, 32, 24]}
    return graphs.write(path, nodes, *shapes, {"kernel": kernel})


@pytest.fixture(scope="module")
def fitted(data: Path, network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    command = ["fit-sampler", "--heatmaps", str(network), "--data", str(data), "--out", str(out)]
    crops = ["--cache", str(data), "--view.height", "128", "--view.width", "96", "--views", "48"]
    assert main([*command, *crops, "--stages", "imle:64", "mixture:64", "--name", "colours"]) == 0
    return out / "sampler-colours.onnx"


def test_the_fit_is_told_on_its_card(fitted: Path) -> None:
    card = json.loads(fitted.with_suffix(".json").read_text())
    assert card["kind"] == "sampler"
    assert card["network"]["file"] == "colours.onnx"
    assert card["calibration"]["nll_after"] < card["calibration"]["nll_before"]
    assert card["views"]["trained"] == 48
    assert max(card["parity_with_torch"].values()) < 1e-3


def test_network_and_sampler_together_are_a_pose_net(fitted: Path, network: Path) -> None:
    net = pose_net(fitted, network, "cpu")
    assert isinstance(net, PoseNet)
    (pose,) = net(FRAME, [PERSON])
    assert len(pose.mixture) == 8
    np.linalg.cholesky(pose.mixture.cov)
    assert net(FRAME, []) == []

    class Mine:
        view = View(128, 96)

        def __call__(self, crops: np.ndarray) -> np.ndarray:
            assert crops.shape == (1, 128, 96, 3)
            return np.zeros((len(crops), 17, 32, 24), np.float32)

    (blind,) = pose_net(fitted, Mine(), "cpu")(FRAME, [PERSON])
    assert np.abs(blind.mixture.mean - pose.mixture.mean).max() > 1e-3


def test_error_bars_of_another_network_are_refused(
    fitted: Path, network: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(network.read_bytes() + b"\n")
    with pytest.raises(TrackerError, match="was fitted on another network"):
        pose_net(fitted, other, "cpu")

    class Large:
        view = View(256, 192)

        def __call__(self, crops: np.ndarray) -> np.ndarray:
            raise NotImplementedError

    with pytest.raises(TrackerError, match="was fitted on View"):
        pose_net(fitted, Large(), "cpu")

    class Coarse:
        view = View(128, 96)

        def __call__(self, crops: np.ndarray) -> np.ndarray:
            return np.zeros((len(crops), 17, 16, 12), np.float32)

    with pytest.raises(InputError, match="the sampler takes heatmap"):
        pose_net(fitted, Coarse(), "cpu")(FRAME, [PERSON])


def test_views_serve_a_second_fit_and_may_be_made_by_hand(
    fitted: Path, network: Path, tmp_path: Path
) -> None:
    folder = fitted.parent / "views"
    stages = ["--stages", "imle:32", "mixture:32", "--hypotheses", "1"]
    again = ["fit-sampler", "--heatmaps", str(folder), "--out", str(tmp_path / "one")]
    assert main([*again, *stages]) == 0
    (single,) = pose_net(tmp_path / "one/sampler-own.onnx", network, "cpu")(FRAME, [PERSON])
    assert len(single.mixture) == 1

    hand = tmp_path / "hand"
    hand.mkdir()
    for name in ("heatmap.npy", "labels.npz"):
        (hand / name).write_bytes((folder / name).read_bytes())
    made = ["fit-sampler", "--heatmaps", str(hand), "--out", str(tmp_path / "two")]
    assert main([*made, *stages, "--view.height", "128", "--view.width", "96"]) == 0
    card = json.loads((tmp_path / "two/sampler-own.json").read_text())
    assert card["network"]["maps"] == [17, 32, 24]
    assert card["network"]["sha256"] is None


def test_our_own_heatmaps_get_a_new_sampler(data: Path, tmp_path: Path) -> None:
    command = ["fit-sampler", "--heatmaps", "nano", "--data", str(data), "--cache", str(data)]
    sizes = ["--views", "16", "--stages", "imle:32", "mixture:32", "--hypotheses", "1"]
    assert main([*command, "--out", str(tmp_path), *sizes]) == 0
    net = PoseNet.load(tmp_path / "pose-own.onnx", "cpu")
    assert len(net(FRAME, [PERSON])[0].mixture) == 1


def test_calibration_needs_people_who_are_labelled(fitted: Path) -> None:
    data = Views.open(fitted.parent / "views")
    net = new_sampler(data).eval()
    _, target, labelled = predict(net, data, torch.from_numpy(sobol_latents(1)))
    assert 0 < len(target) <= data.held_out.sum()
    assert (labelled.sum(dim=1) > 0).all()
    unknown = replace(data, weight=0.0 * data.weight)
    with pytest.raises(DataError, match="nobody who is labelled"):
        predict(net, unknown, torch.from_numpy(sobol_latents(1)))


def test_what_is_missing_is_told_in_one_line(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--view.height", "128", "--view.width", "96"]
    for heatmaps, more, told in (
        (str(network), small, "--data"),
        (str(network), [*small, "--data", str(tmp_path)], "train.npz"),
        (str(tmp_path), [], "heatmap.npy"),
        ("nobody", [], "there are no pose weights"),
        (str(network), [*small, "--hypotheses", "0"], "--hypotheses must be at least 1"),
    ):
        assert main(["fit-sampler", "--heatmaps", heatmaps, "--out", str(tmp_path), *more]) == 1
        error = capsys.readouterr().err.splitlines()
        assert told in error[-1]
        assert error[-1].startswith("surepose: error: ")


def test_the_network_under_study_has_no_say_in_its_labels(data: Path) -> None:
    split = Split.load(data, "train")
    arrays = dict(split.arrays)
    keypoints = arrays["person_keypoints"].copy()
    keypoints[0, 9] = 0.0  # nobody labelled the left wrist of the first person
    arrays["person_keypoints"] = keypoints
    arrays["person_teacher"] = arrays["person_teacher"].copy()
    arrays["person_teacher"][..., 2] = 0.9
    asked = Split(data, "train", arrays)
    assert pose_labels(asked).weight[0, 9] > 0
    honest = honest_labels(asked)
    assert honest.weight[0, 9] == 0
    assert (honest.weight[1:] == 1).all()

    arrays["person_keypoint_source"] = np.full_like(arrays["person_keypoint_source"], 2)
    arrays["person_teacher"][..., 0] += 500.0  # it contradicts everything
    height, width = 160, 208
    xy = keypoints[..., :2]
    inside = ((xy > 1) & (xy < np.array([width, height]) - 1)).all(axis=-1)
    weight = honest_labels(Split(data, "train", arrays)).weight
    np.testing.assert_array_equal(weight, 0.5 * (inside & (keypoints[..., 2] > 0)))


@pytest.mark.skipif(not TEACHER.is_file(), reason="the teacher's files are not here")
def test_a_real_network_gets_error_bars(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    command = ["fit-sampler", "--heatmaps", str(TEACHER), "--data", str(data), "--cache", str(data)]
    sizes = ["--views", "16", "--stages", "imle:32", "mixture:32"]
    assert main([*command, "--out", str(tmp_path), *sizes]) == 0
    card = json.loads((tmp_path / "sampler-own.json").read_text())
    assert card["network"]["maps"] == [17, 64, 48]
    (pose,) = pose_net(tmp_path / "sampler-own.onnx", TEACHER, "cpu")(FRAME, [PERSON])
    np.linalg.cholesky(pose.mixture.cov)


def test_a_callable_is_fitted_in_python(data: Path, tmp_path: Path) -> None:
    class Mine:
        view = View(64, 48)

        def __call__(self, crops: np.ndarray) -> np.ndarray:
            grey = crops.mean(axis=-1, dtype=np.float32) / 255
            return np.repeat(grey[:, None], 17, axis=1)

    recipe = FitRecipe(
        (Stage(StageKind.IMLE, 32), Stage(StageKind.MIXTURE, 32)), views=16, hypotheses=2
    )
    path = fit(FitRun(tmp_path, data, data), recipe, foreign(Mine()))
    (pose,) = pose_net(path, Mine(), "cpu")(FRAME, [PERSON])
    assert len(pose.mixture) == 2
