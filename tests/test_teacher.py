"""A teacher labels the people whom nobody labelled, and is believed only so far."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from tracker.heatmaps import View
from tracker.training.data import Images, Split, held_out
from tracker.training.pose import PoseSource
from tracker.training.synthetic import write_split
from tracker.training.teacher import believe, peaks, teacher_labels


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
        y, x = np.mgrid[:64, :48] + 0.5
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
    assert sum(calls) == len(labels) > 0
    centre = (labels.box[:, :2] + labels.box[:, 2:]) / 2
    np.testing.assert_allclose(labels.keypoints, np.repeat(centre[:, None], 17, axis=1), atol=1e-3)
    assert not labels.human.any()
    assert (labels.weight < 1).all()

    again = teacher_labels(split, images, look, tmp_path)
    assert sum(calls) == len(labels)
    np.testing.assert_array_equal(again.keypoints, labels.keypoints)
    assert len(PoseSource.of(split, images).labels) == 0
    trained = PoseSource.of(split, images, labels).labels
    assert len(trained) == (~held_out(labels)).sum() > 0


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
