"""A second look at what a detector found: false alarms to learn from, and a score of both."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from tracker.pose import BEST_SEEN, Calibration, presence_features
from tracker.training.alarms import Alarms, Found, beside_and_whole, false_alarms, on_nobody
from tracker.training.augment import CropAugment, augment_crop
from tracker.training.data import Images, Split
from tracker.training.presence import fit
from tracker.training.synthetic import write_split
from tracker.types import Detection, Frame


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("packed")
    write_split(folder, "train", scenes=2, pictures_per_scene=3, height=240, width=320)
    return Split.load(folder, "train")


@dataclass
class Always:
    """Finds somebody in the middle half of every view."""

    def __call__(self, frame: Frame) -> list[Detection]:
        height, width = frame.image.shape[:2]
        box = np.array([width, height, width, height]) * [0.25, 0.25, 0.75, 0.75]
        return [Detection(box, 0.3)]


def test_a_picture_is_searched_whole_and_beside_its_people() -> None:
    picture = np.zeros((200, 400, 3), np.uint8)
    people = np.array([[0.0, 50, 100, 150]])
    found = beside_and_whole(picture, people, Always())
    np.testing.assert_allclose(found.box, [[100, 50, 300, 150], [175, 50, 325, 150]])
    np.testing.assert_allclose(found.score, 0.3)
    alone = beside_and_whole(picture, np.zeros((0, 4)), Always())
    assert len(alone.box) == 1


def test_an_alarm_is_high_enough_and_beside_everybody() -> None:
    people = np.array([[0.0, 0, 100, 200]])
    boxes = np.array(
        [
            [150.0, 0, 250, 200],
            [150.0, 0, 160, 20],  # too low
            [80.0, 0, 180, 200],  # a fifth of it is somebody
            [20.0, 20, 50, 80],  # a part of somebody
            [-50.0, -50, 400, 400],  # somebody, and all around
        ]
    )
    alarms = on_nobody(Found(boxes, np.arange(5) / 5), people)
    np.testing.assert_array_equal(alarms.box, boxes[:1])
    np.testing.assert_array_equal(alarms.score, [0.0])


def test_alarms_are_kept_and_teach_that_nothing_is_seen(split: Split, tmp_path: Path) -> None:
    images = Images.open(split, tmp_path)
    first = false_alarms(split, images, tmp_path)
    assert len(list(tmp_path.glob("alarms-*.npz"))) == 1
    again = false_alarms(split, images, tmp_path)
    np.testing.assert_array_equal(first.box, again.box)

    alarms = Alarms(np.array([0]), np.array([[50.0, 40, 120, 200]]), np.array([0.4]))
    rng = np.random.default_rng(0)
    for _ in range(20):
        sample = augment_crop(images[0], alarms.person(0), (256, 192), rng, CropAugment())
        assert not sample.visible.any()
        assert not sample.weight.any()
        assert np.isfinite(sample.size)


def test_the_second_look_is_fitted_to_the_share_that_is_right() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    features = np.column_stack([np.ones(n), rng.normal(0, 1.5, n), rng.normal(0, 2, n)])
    odds = features @ [-0.4, 0.6, 0.9]
    right = rng.random(n) < 1 / (1 + np.exp(-odds))
    found = fit(torch.from_numpy(features), torch.from_numpy(right))
    np.testing.assert_allclose(found.weights, [-0.4, 0.6, 0.9], atol=0.06)
    assert found.nll_after < found.nll_before
    assert found.n_people + found.n_alarms == n
    nothing = fit(torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, dtype=torch.bool))
    np.testing.assert_allclose(nothing.weights, [0, 1, 0], atol=1e-4)


def test_the_second_look_weighs_both_words() -> None:
    calibration = Calibration(np.ones(17), 1.0, (0.0, 0.5, 1.0))
    found = Detection(np.array([0.0, 0, 10, 20]), 0.6)
    seen, unseen = np.full(17, 0.9), np.full(17, 0.05)
    assert calibration.second_look(found, seen).score > 0.85
    assert calibration.second_look(found, unseen).score < 0.1
    np.testing.assert_array_equal(calibration.second_look(found, seen).box, found.box)
    # Half a body is a person as well.
    half = np.where(np.arange(17) < BEST_SEEN, 0.9, 0.05)
    np.testing.assert_allclose(
        calibration.second_look(found, half).score, calibration.second_look(found, seen).score
    )
    expected = Detection(found.box, 0.6, track_id=3)
    assert calibration.second_look(expected, unseen) is expected
    assert Calibration.none(17).second_look(found, unseen) is found


def test_certainties_stay_finite() -> None:
    features = presence_features(np.array([0.0, 1.0]), np.array([[0.0] * 17, [1.0] * 17]))
    assert np.isfinite(features).all()
