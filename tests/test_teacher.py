"""A teacher labels the people whom nobody labelled, and is believed only so far."""

from pathlib import Path
from typing import ClassVar

import graphs
import numpy as np
import pytest
import torch
from onnx import helper

from tracker.crops import crop_box
from tracker.geometry import Affine
from tracker.heatmaps import View
from tracker.nets.detector import STRIDES
from tracker.skeleton import COCO17
from tracker.training.augment import CropAugment, augment_crop
from tracker.training.data import DataError, Images, Split, held_out
from tracker.training.detector import (
    DetectorBatch,
    DetectorRecipe,
    DetectorStage,
    DetectorTask,
    anchor_points,
    detection_losses,
    hint_loss,
)
from tracker.training.pose import PoseSource, collate
from tracker.training.synthetic import write_split
from tracker.training.teacher import (
    FIRST_CELL,
    DenseTeacher,
    TeacherMaps,
    believe,
    both_ways,
    peaks,
    teacher_labels,
)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Rendered people of whom nobody labelled any, found by a detector."""
    folder = tmp_path_factory.mktemp("packed")
    write_split(folder, "train", scenes=2, pictures_per_scene=3, height=240, width=320)
    arrays = dict(Split.load(folder, "train").arrays)
    arrays["det_box"], arrays["det_img"] = arrays["person_box"], arrays["person_img"]
    arrays["det_score"] = np.full(len(arrays["person_box"]), 0.9)
    arrays |= {name: value[:0] for name, value in arrays.items() if name.startswith("person_")}
    return Split(folder, "train", arrays)


class Middle:
    """Sees every keypoint in the middle of the crop."""

    view = View()
    asked: ClassVar[list[int]] = []

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        self.asked.append(len(crops))
        assert crops.shape[1:] == (256, 192, 3)
        y, x = np.mgrid[:64, :48] + FIRST_CELL
        maps = 0.9 * np.exp(-((x - 24) ** 2 + (y - 32) ** 2) / 8)
        return np.broadcast_to(maps, (len(crops), 17, 64, 48)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_a_peak_is_found_between_the_cells(seed: int) -> None:
    rng = np.random.default_rng(seed)
    place = rng.uniform([6, 6], [42, 58], (17, 2))
    y, x = np.mgrid[:64, :48] + 0.5
    apart = (x - place[:, 0, None, None]) ** 2 + (y - place[:, 1, None, None]) ** 2
    xy, score = peaks(0.8 * np.exp(-apart / (2 * 2.0**2)))
    np.testing.assert_allclose(xy, place, atol=0.05)
    assert ((score > 0.7) & (score <= 0.8)).all()


def test_a_peak_on_the_border_and_an_empty_map_stay_in_the_picture() -> None:
    maps = np.zeros((17, 64, 48))
    maps[:9, 0, 0] = 1.0
    xy, score = peaks(maps)
    assert ((xy >= -0.5) & (xy <= [48.5, 64.5])).all()
    assert (score[9:] == 0).all()


def test_labels_land_on_the_picture_and_are_asked_for_once(split: Split, tmp_path: Path) -> None:
    """The teacher points at the middle of each crop, which is the middle of the box."""
    look, calls = Middle(), Middle.asked
    images = Images.open(split, tmp_path)
    labels = teacher_labels(split, images, look, tmp_path)
    assert sum(calls) == 2 * len(labels) > 0
    centre = (labels.box[:, :2] + labels.box[:, 2:]) / 2
    np.testing.assert_allclose(labels.keypoints, np.repeat(centre[:, None], 17, axis=1), atol=0.05)
    assert not labels.human.any()
    assert (labels.weight < 1).all()

    again = teacher_labels(split, images, look, tmp_path)
    assert sum(calls) == 2 * len(labels)
    np.testing.assert_array_equal(again.keypoints, labels.keypoints)
    assert len(PoseSource.of(split, images).labels) == 0
    trained = PoseSource.of(split, images, labels).labels
    assert len(trained) == (~held_out(labels.image)).sum() > 0


class Row:
    """Sees the keypoints along two slanted lines, in the mirror, too: each in its own place."""

    view = View()
    pair = (np.arange(17) + 1) // 2
    place = np.column_stack([24 + 2 * pair * np.resize([-1, 1], 17), 10 + 5.5 * pair])

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        y, x = np.mgrid[:64, :48] + FIRST_CELL
        apart = (x - self.place[:, 0, None, None]) ** 2 + (y - self.place[:, 1, None, None]) ** 2
        return np.broadcast_to(np.exp(-apart / 8), (len(crops), 17, 64, 48)).astype(np.float32)


class Dot:
    """Sees every keypoint at the crop's white pixel, each as surely as it likes."""

    view = View()
    height = np.linspace(0.5, 0.9, 17)

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        return np.stack([self._look(crop[..., 0]) for crop in crops]).astype(np.float32)

    def _look(self, crop: np.ndarray) -> np.ndarray:
        row, column = np.unravel_index(crop.argmax(), crop.shape)
        y, x = np.mgrid[:64, :48]  # cell k is pixel 4 k
        bump = np.exp(-((x - column / 4) ** 2 + (y - row / 4) ** 2) / 8)
        return self.height[:, None, None] * bump


@pytest.mark.parametrize(("row", "column"), [(128, 40), (77, 131), (200, 96)])
def test_in_the_mirror_a_teacher_sees_the_same_place(row: int, column: int) -> None:
    crop = np.zeros((256, 192, 3), np.uint8)
    crop[row, column] = 255
    xy, score = peaks(both_ways(Dot(), crop).transpose(2, 0, 1))
    np.testing.assert_allclose(4 * (xy - 0.5), np.tile([column, row], (17, 1)), atol=0.3)
    due = (Dot.height + Dot.height[COCO17.mirror]) / 2
    np.testing.assert_allclose(score, due, rtol=0.05)


def test_a_teachers_maps_follow_the_person_into_every_view(split: Split, tmp_path: Path) -> None:
    images = Images.open(split, tmp_path)
    labels = teacher_labels(split, images, Middle(), tmp_path)
    maps = TeacherMaps.open(labels, images, Row(), tmp_path)
    rng = np.random.default_rng(3)
    n_mirrored = n_seen = n_beyond = 0
    for row, shape in enumerate([(256, 192), (128, 96)] * 10):
        row %= len(labels)
        picture = images[int(labels.image[row])]
        sample = augment_crop(picture, labels.person(row), shape, rng)
        mirrored = np.linalg.det(sample.view.linear) < 0
        n_mirrored += mirrored
        grid = Affine.between_boxes(np.array([0.0, 0.0, 48.0, 64.0]), crop_box(labels.box[row]))
        place = sample.view.points(grid.points(Row.place)) / 8
        place = place[COCO17.mirror] if mirrored else place
        h, w = shape[0] // 8, shape[1] // 8
        within = Affine.between_boxes(sample.frame, np.array([0.0, 0.0, 1.0, 1.0]))
        lies = within.points(sample.view.inverse().points(8 * place))
        there = ((lies > 0.05) & (lies < 0.95)).all(axis=1)
        inside = there & ((place > 1) & (place < [w - 1, h - 1])).all(axis=1)
        seen = maps.seen(row, sample.view, sample.frame, shape)
        at = seen.reshape(17, -1).argmax(axis=1)
        peak = np.column_stack([at % w, at // w]) + 0.5
        assert np.abs(peak - place)[inside].max(initial=0) < 1
        beyond = ((lies < -0.1) | (lies > 1.1)).any(axis=1)
        assert seen[beyond].max(initial=0) < 0.8
        n_beyond += beyond.sum()
        n_seen += inside.sum()
    assert 0 < n_mirrored < 20
    assert n_seen > 200
    assert n_beyond > 10


def test_crops_without_a_teacher_are_taught_nothing(split: Split, tmp_path: Path) -> None:
    images = Images.open(split, tmp_path)
    source = PoseSource.of(split, images, teacher_labels(split, images, Middle(), tmp_path))
    taught = source._replace(teacher=TeacherMaps.open(source.labels, images, Row(), tmp_path))
    rng = np.random.default_rng(0)
    alone = source.sample((256, 192), rng, CropAugment(negative=0.0))
    assert collate([alone]).taught is None
    both = collate([alone, taught.sample((256, 192), rng, CropAugment(negative=0.0))]).taught
    assert both is not None
    assert both[0].max() == 0
    assert both[1].max() > 0.5


def test_unsure_points_count_less_and_ghosts_not_at_all() -> None:
    n = 17
    answer = np.zeros((3, n, 3))
    answer[0, :, 2] = 0.9
    answer[1, :, 2] = np.where(np.arange(n) < 9, 0.6, 0.35)
    answer[2, :, 2] = 0.2  # a statue
    labels = believe(np.arange(3), np.tile([0.0, 0, 50, 100], (3, 1)), answer)
    assert labels.image.tolist() == [0, 1]
    assert labels.weight[0].min() > labels.weight[1, 9:].max() > 0
    assert (labels.visible[0] == 1).all()
    assert np.isnan(labels.visible[1, 9:]).all()


@pytest.fixture
def detector(tmp_path: Path) -> DenseTeacher:
    """Sees a person of 30 × 40 px below the corner of every white cell of stride 16; for 64 px."""
    white, black = (
        (np.array([255.0, 0.0]) - DenseTeacher.MEAN[0]) / DenseTeacher.SPREAD[0]
    ).tolist()
    slope = 11 / (white - black)
    nodes, constants, shapes = [], {}, {}
    for stride, inside in zip(STRIDES, DenseTeacher.FEATURES, strict=True):
        weight, bias = np.zeros((5, 3, stride, stride), np.float32), np.zeros(5, np.float32)
        bias[:] = [-9.0, 0.0, 0.0, 30.0, 40.0]
        if stride == 16:
            weight[0, 0], bias[0] = slope / stride**2, 2 - slope * white
        constants |= {f"w{stride}": weight, f"b{stride}": bias}
        taken = ["image", f"w{stride}", f"b{stride}"]
        nodes += [helper.make_node("Conv", taken, [inside], strides=[stride, stride])]
        last = [f"stride{stride}"]
        nodes += [helper.make_node("Transpose", [inside], last, perm=[0, 2, 3, 1])]
        shapes |= {f"stride{stride}": [1, 64 // stride, 64 // stride, 5]}
    path = graphs.write(
        tmp_path / "teacher.onnx", nodes, {"image": [1, 3, 64, 64]}, shapes, constants
    )
    return DenseTeacher(path, tmp_path / "cache")


@pytest.mark.parametrize("side", [64, 96])
def test_a_detector_teaches_in_the_order_of_our_own_cells(
    detector: DenseTeacher, side: int
) -> None:
    canvas = np.zeros((2, side, side, 3), np.uint8)
    canvas[1, 16:32, 32:48] = 255
    taught = detector(canvas)
    points = anchor_points(side, side, torch.zeros(()))
    assert taught.box.shape == (2, len(points), 4)
    best = int(taught.score[1].argmax())
    assert points[best].tolist() == [40.0, 24.0]  # the centre of the cell whose corner is (32, 16)
    assert taught.box[1, best].tolist() == [32.0, 16.0, 62.0, 56.0]
    assert taught.score[1, best] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-5)
    assert taught.score[0].max() < 0.001


def test_a_detector_shows_its_features_fine_to_coarse(detector: DenseTeacher) -> None:
    canvas = np.zeros((2, 64, 64, 3), np.uint8)
    canvas[1, 16:32, 32:48] = 255
    taught = detector(canvas)
    assert detector.widths == (5, 5, 5)
    told = torch.cat([level[:, 0].flatten(1) for level in taught.features], dim=1)
    torch.testing.assert_close(told.sigmoid(), taught.score)


def test_who_tells_all_features_has_nothing_to_learn(detector: DenseTeacher) -> None:
    canvas = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3)).astype(np.uint8)
    due = [level + torch.randn_like(level) for level in detector(canvas).features]
    spread = [torch.std_mean(level, dim=(0, 2, 3), keepdim=True) for level in due]
    told = [(level - mean) / std for level, (std, mean) in zip(due, spread, strict=True)]
    assert hint_loss(told, due) < 1e-4
    assert hint_loss([0 * level for level in told], due) == pytest.approx(1, abs=0.05)


def test_hints_shape_the_features_and_fade(split: Split, detector: DenseTeacher) -> None:
    recipe = DetectorRecipe(stages=(DetectorStage(100, (64,)),), batch=2, synthetic=0.0)
    task = DetectorTask(recipe, split.folder, split.folder, teacher=detector)
    batch = task.batch(0, 0)
    parts = [task.loss(batch, seen)["hint"].detach() for seen in (0, 50, 100)]
    assert parts[1] == pytest.approx(float(parts[0]) / 2, rel=0.1)
    assert parts[2] == 0
    task.loss(batch, 0)["hint"].backward()
    detector_net = task.net.detector
    assert all(p.grad is not None for p in detector_net.backbone.parameters())
    assert all(p.grad is None for p in detector_net.score.parameters())


def test_cells_learn_from_the_surer_of_label_and_teacher(detector: DenseTeacher) -> None:
    """Nobody is labelled: the best box and score are the teacher's, and cost nearly nothing."""
    canvas = np.zeros((1, 64, 64, 3), np.uint8)
    canvas[0, 16:32, 32:48] = 255
    taught = detector(canvas)
    nobody = torch.zeros(1, 1, dtype=torch.bool)
    batch = DetectorBatch(torch.zeros(1), torch.zeros(1, 1, 4), nobody, nobody, taught)
    points = anchor_points(64, 64, torch.zeros(()))
    as_taught = detection_losses(taught.box, torch.logit(taught.score), points, batch)
    assert sum(as_taught.values()) < 1e-3
    elsewhere = detection_losses(taught.box + 8, torch.logit(taught.score), points, batch)
    unsure = detection_losses(taught.box, torch.logit(taught.score) - 2, points, batch)
    assert elsewhere["box"] > as_taught["box"] + 0.2
    assert unsure["score"] > as_taught["score"] + 0.1


def test_a_teacher_that_is_no_network_is_told(tmp_path: Path) -> None:
    path = tmp_path / "teacher.onnx"
    path.write_text("not a network")
    with pytest.raises(DataError, match=r"teacher\.onnx cannot be read as a detector"):
        DenseTeacher(path, tmp_path)
    with pytest.raises(DataError, match=r"other\.onnx cannot be read as a detector"):
        DenseTeacher(tmp_path / "other.onnx", tmp_path)
