"""Labels are cleaned as promised and stay on their pixels through every augmentation."""

from pathlib import Path

import numpy as np
import pytest

from tracker.skeleton import COCO17
from tracker.training.augment import (
    CropAugment,
    Person,
    Scene,
    augment_canvas,
    augment_crop,
    negative_crop,
    plain_crop,
)
from tracker.training.data import (
    DataError,
    Images,
    Split,
    beside_box,
    box_labels,
    held_out,
    pose_labels,
)
from tracker.training.synthetic import write_split

TRUE_LIGHT = CropAugment(half_body=0.0, edge=0.0, occlude=0.0, low_resolution=0.0)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("packed")
    write_split(folder, "train", scenes=2, pictures_per_scene=3, height=240, width=320)
    return Split.load(folder, "train")


def test_pictures_come_out_of_the_cache_as_they_were_encoded(split: Split, tmp_path: Path) -> None:
    images = Images.open(split, tmp_path)
    for index in range(6):
        np.testing.assert_array_equal(images[index], split.decode(index))
    again = Images.open(split, tmp_path)
    np.testing.assert_array_equal(again.pixels, images.pixels)


def test_a_missing_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs a folder with dev\.npz"):
        Split.load(tmp_path, "dev")


def test_who_is_labelled_beside_the_own_box_is_not_labelled(split: Split) -> None:
    box = split["person_box"].copy()
    box[1] += 200.0  # the box of somebody else
    box[2] += 0.2 * (box[2, 2:] - box[2, :2]).min()  # only a careless one
    moved = Split(split.folder, split.name, dict(split.arrays) | {"person_box": box})
    assert np.nonzero(beside_box(moved))[0].tolist() == [1]
    clean, asked = pose_labels(moved), split["person_keypoints"][..., 2] > 0
    assert (clean.weight[1] < 1).all()
    assert (clean.weight[[0, 2]][asked[[0, 2]]] == 1).all()


def test_humans_are_trusted_and_their_swapped_sides_are_swapped_back(split: Split) -> None:
    arrays = dict(split.arrays)
    arrays["person_teacher"] = arrays["person_teacher"].copy()
    arrays["person_teacher"][..., 2] = 0.9
    keypoints = arrays["person_keypoints"].copy()
    keypoints[0, 9] = 0.0  # nobody labelled the left wrist of the first person
    arrays["person_teacher"][0, 9, 2] = 0.0
    clean = pose_labels(Split(split.folder, split.name, arrays | {"person_keypoints": keypoints}))
    assert clean.weight[0, 9] == 0
    assert (clean.weight[1:] == 1).all()
    keypoints = keypoints.copy()
    keypoints[0] = keypoints[0][COCO17.mirror]
    swapped = pose_labels(Split(split.folder, split.name, arrays | {"person_keypoints": keypoints}))
    np.testing.assert_array_equal(swapped.weight, clean.weight)
    used = clean.weight > 0
    np.testing.assert_allclose(swapped.keypoints[used], clean.keypoints[used])


def test_a_networks_labels_count_where_the_teacher_confirms_them(split: Split) -> None:
    arrays = dict(split.arrays)
    arrays["person_keypoint_source"] = np.full_like(arrays["person_keypoint_source"], 2)
    keypoints = arrays["person_keypoints"].copy()
    keypoints[0, 3, :2] += 80  # against a sure teacher
    keypoints[0, 4, 0] = 0.0  # clipped to the picture's border
    arrays["person_keypoints"] = keypoints
    arrays["person_teacher"] = arrays["person_teacher"].copy()
    arrays["person_teacher"][..., 2] = 0.9
    weight = pose_labels(Split(split.folder, split.name, arrays)).weight
    assert weight[0, 3] == weight[0, 4] == 0
    assert weight[0, 5] == 1


def test_the_same_people_are_held_out_every_time(split: Split) -> None:
    labels = pose_labels(split)
    many = labels.take(np.zeros(4000, int))
    object.__setattr__(many, "image", np.arange(4000))
    share = held_out(many.image).mean()
    assert 0.03 < share < 0.07
    np.testing.assert_array_equal(held_out(many.image), held_out(many.image))


def test_boxes_that_lie_beyond_the_picture_are_ghosts(split: Split) -> None:
    arrays = dict(split.arrays)
    arrays["det_box"] = arrays["det_box"] + [1000, 0, 1000, 0]
    ghosts = box_labels(Split(split.folder, split.name, arrays))
    plain = box_labels(split)
    assert [len(b.box) for b in ghosts] == [len(b.box) for b in plain]


@pytest.mark.parametrize("seed", range(8))
def test_keypoints_stay_on_their_pixels(seed: int) -> None:
    """A dot of its own colour under either shoulder is found where the label says it is."""
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform([100, 60], [200, 300], (17, 2))
    keypoints[5], keypoints[6] = [120, 150], [180, 150]
    image = np.full((400, 300, 3), 80, np.uint8)
    image[146:155, 116:125] = [250, 20, 20]
    image[146:155, 176:185] = [20, 20, 250]
    person = Person(np.array([90.0, 50, 210, 310]), keypoints, np.ones(17), np.ones(17))
    sample = augment_crop(image, person, (256, 192), rng, TRUE_LIGHT)
    red, blue = (sample.image[..., c].astype(int) - sample.image[..., 1] for c in (0, 2))
    # In a mirrored picture the blue dot comes first, and it is the left shoulder's.
    mirrored = blue.max(axis=0).argmax() < red.max(axis=0).argmax()
    left, right = (blue, red) if mirrored else (red, blue)
    for shoulder, colour in ((5, left), (6, right)):
        x, y = (sample.keypoints[shoulder] * 256).astype(int)
        assert 0 <= x < 192
        assert 0 <= y < 256
        assert colour[y, x] > 0.7 * colour.max() > 20


@pytest.mark.parametrize("seed", range(20))
def test_beyond_the_edge_of_a_picture_nothing_is_seen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform([100, 60], [200, 300], (17, 2))
    image = np.full((400, 300, 3), 250, np.uint8)
    person = Person(np.array([90.0, 50, 210, 310]), keypoints, np.ones(17), np.ones(17))
    always = CropAugment(half_body=0.0, edge=1.0, occlude=0.0, low_resolution=0.0)
    sample = augment_crop(image, person, (256, 192), rng, always)
    x0, y0, x1, y1 = sample.frame
    assert (x1 - x0) * (y1 - y0) < 300 * 400
    inside = ((keypoints > [x0, y0]) & (keypoints < [x1, y1])).all(axis=1)
    far = np.maximum([x0, y0] - keypoints, keypoints - [x1, y1]).max(axis=1) > 130
    if np.linalg.det(sample.view.linear) < 0:
        inside, far = inside[COCO17.mirror], far[COCO17.mirror]
    assert not sample.visible[~inside].any()
    assert not sample.weight[far].any()
    across = np.stack(np.meshgrid(np.arange(192), np.arange(256)), axis=-1).reshape(-1, 2)
    in_picture = sample.view.inverse().points(across + 0.5)
    outside = np.maximum([x0, y0] - in_picture, in_picture - [x1, y1]).max(axis=1)
    pixels = sample.image.mean(axis=-1).ravel()
    photo, grey = pixels[outside < -3], pixels[outside > 3]
    assert len(photo) > 100
    assert len(grey) > 100
    assert np.quantile(photo, 0.01) > np.quantile(grey, 0.99) + 20


def test_the_plain_view_is_the_one_that_the_runtime_cuts() -> None:
    from tracker.crops import crop_box, cut

    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (300, 400, 3), np.uint8)
    person = Person(np.array([100.0, 80, 180, 260]), np.zeros((17, 2)), np.ones(17), np.ones(17))
    sample = plain_crop(image, person, (256, 192))
    (due,) = cut(image, [crop_box(person.box)], 256, 192)
    np.testing.assert_array_equal(sample.image.transpose(2, 0, 1), due)


def test_a_negative_crop_shows_nobody(split: Split, tmp_path: Path) -> None:
    images = Images.open(split, tmp_path)
    everything = np.array([[0.0, 0, 320, 240]])
    rng = np.random.default_rng(0)
    assert negative_crop(images[0], everything, (128, 96), rng) is None
    empty = negative_crop(images[0], np.zeros((0, 4)), (128, 96), rng)
    assert empty is not None
    assert not empty.visible.any()
    assert not empty.weight.any()


@pytest.mark.parametrize("seed", range(6))
def test_boxes_on_a_canvas_hold_what_they_held(seed: int) -> None:
    """Red people on grey pictures: the red of the canvas lies in its boxes."""
    rng = np.random.default_rng(seed)
    scenes = []
    for _ in range(4):
        image = np.full((200, 240, 3), 90, np.uint8)
        x0, y0 = rng.integers(10, 120, 2)
        image[y0 : y0 + 70, x0 : x0 + 40] = [255, 0, 0]
        box = np.array([[x0, y0, x0 + 40, y0 + 70]], float)
        scenes.append(Scene(image, box, np.zeros(1, bool)))
    sample = augment_canvas(scenes, 256, rng)
    colour = sample.image.astype(int)
    red = colour[..., 0] - colour[..., 1] > 60
    covered = np.zeros_like(red)
    for x0, y0, x1, y1 in np.round(sample.box).astype(int):
        covered[max(y0 - 3, 0) : y1 + 3, max(x0 - 3, 0) : x1 + 3] = True
        assert red[y0:y1, x0:x1].mean() > 0.7 or not red.any()
    assert not (red & ~covered).any()
