import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from tracker.crops import OUTSIDE, crop_box, cut, image_from_net, letterbox, mirrored, warp
from tracker.geometry import Affine, box_iou, overlapping

coordinate = st.floats(-300, 900)
boxes = st.tuples(coordinate, coordinate, st.floats(8, 600), st.floats(8, 600)).map(
    lambda b: np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]])
)


def smooth_picture(height: int = 120, width: int = 160) -> np.ndarray:
    """Slow waves: bilinear interpolation of it is almost exact, aliasing is not an excuse."""
    y, x = np.mgrid[:height, :width] + 0.5
    waves = [np.sin(x / 9), np.cos(y / 11), np.sin((x + y) / 13)]
    return np.stack([(128 + 90 * wave).round() for wave in waves], axis=-1).astype(np.uint8)


@given(boxes)
def test_a_crop_is_three_by_four_about_the_box_and_holds_it_with_a_margin(box):
    crop = crop_box(box)
    size = crop[2:] - crop[:2]
    np.testing.assert_allclose(size[0] / size[1], 3 / 4)
    np.testing.assert_allclose(crop[:2] + crop[2:], box[:2] + box[2:], atol=1e-9)
    np.testing.assert_allclose((size / (box[2:] - box[:2])).min(), 1.25)


@given(boxes, st.floats(-0.5, 1.5), st.floats(-0.5, 1.5))
def test_the_unit_of_the_net_is_the_height_of_the_crop(box, u, v):
    crop = crop_box(box)
    height = crop[3] - crop[1]
    due = [crop[0] + u * height, crop[1] + v * height]
    np.testing.assert_allclose(image_from_net(crop).points(np.array([u, v])), due, atol=1e-9)


@given(boxes)
def test_in_the_mirror_the_same_is_seen_the_other_way_round(box):
    crop = crop_box(box)
    straight, back = cut(smooth_picture(), [crop, mirrored(crop)], 64, 48)
    assert np.abs(straight - back[..., ::-1]).max() <= 1
    width = np.array([0.75, 0.0])
    across = image_from_net(mirrored(crop)).points(width - [0.2, -0.3])
    np.testing.assert_allclose(across, image_from_net(crop).points(np.array([0.2, 0.3])), atol=1e-6)


def test_the_view_of_the_picture_itself_is_the_picture():
    image = smooth_picture()
    np.testing.assert_array_equal(warp(image, Affine(np.eye(2), np.zeros(2)), 120, 160), image)


@given(
    angle=st.floats(-3.1, 3.1),
    scale=st.floats(1.05, 6),
    x=st.floats(0, 160),
    y=st.floats(0, 120),
    mirror=st.booleans(),
)
def test_a_view_agrees_with_scipy_at_pixel_centres(angle, scale, x, y, mirror):
    image = smooth_picture()
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([-1.0 if mirror else 1.0, 1.0])
    view_from_image = Affine(linear, np.array([24.0, 32.0]) - linear @ [x, y])
    came = warp(image, view_from_image, 64, 48)

    centres = np.stack(np.meshgrid(np.arange(48), np.arange(64)), axis=-1) + 0.5
    at = view_from_image.inverse().points(centres) - 0.5
    for channel in range(3):
        due = map_coordinates(
            image[..., channel].astype(float), at[..., ::-1].transpose(2, 0, 1), order=1, cval=-1e4
        )
        inside = due >= 0
        assume(inside.sum() > 100)
        # OpenCV places samples on a grid of 1/32 px, where the waves rise by 0.3 levels.
        assert np.abs(came[..., channel] - due)[inside].max() < 1.5


@pytest.mark.parametrize("shrink", [2.2, 3.0, 4.7, 9.1])
def test_what_shrinks_is_averaged_and_not_skipped(shrink):
    image = np.indices((600, 600)).sum(axis=0) % 2 * 255
    image = np.repeat(image[..., None], 3, axis=-1).astype(np.uint8)
    view = warp(image, Affine(np.eye(2) / shrink, np.zeros(2)), 60, 60)
    # Nine pixels of a chessboard hold four or five white ones.
    np.testing.assert_allclose(view, 127.5, atol=15)


@given(st.floats(0.3, 9), st.integers(40, 90), st.booleans())
def test_an_edge_lies_where_the_map_says_at_every_scale(scale, edge, upright):
    """One part of the picture is white: its area tells the edge to a part of a pixel."""
    image = np.zeros((130, 130, 3), np.uint8)
    image[:, edge:] = 255
    image = image if upright else image.transpose(1, 0, 2).copy()
    size = int(110 / scale)
    view = warp(image, Affine(np.eye(2) / scale, np.zeros(2)), size, size)[..., 0]
    profile = view[size // 2] if upright else view[:, size // 2]
    # An enlarged picture's own rim is half grey. After whole steps a shrinkage r < 2 is left, and
    # samples r apart know the edge to (r - 1) / 2r < 1/4.
    white = profile[int(1 / scale) + 2 :].sum() / 255
    assert size - white == pytest.approx(edge / scale, abs=0.26)


@given(boxes)
def test_past_the_picture_all_is_grey(box):
    assume(not ((box[:2] < [160, 120]) & (box[2:] > 0)).all())
    far = box + np.where(box[2:] <= 0, -30, 30)[[0, 1, 0, 1]]
    assume(not ((far[:2] < [190, 150]) & (far[2:] > -30)).all())
    assert (cut(smooth_picture(), [far], 32, 24) == OUTSIDE).all()


@pytest.mark.parametrize("size", [1e4, 1e7, 1e12])
def test_a_wild_box_costs_no_more_memory_than_the_picture(size):
    image = smooth_picture(480, 640)
    tracemalloc.start()
    view = cut(image, [np.array([-size, -size, size, size])], 256, 192)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6
    assert (view == OUTSIDE).mean() > 0.98


@given(st.lists(boxes, max_size=3))
def test_crops_of_many_boxes_are_the_crops_of_each(many):
    image = smooth_picture()
    together = cut(image, many, 32, 24)
    assert together.shape == (len(many), 3, 32, 24)
    for view, box in zip(together, many, strict=True):
        np.testing.assert_array_equal(view, cut(image, [box], 32, 24)[0])


def test_channels_stay_red_green_blue():
    image = np.broadcast_to(np.array([10, 20, 30], np.uint8), (50, 50, 3)).copy()
    np.testing.assert_array_equal(
        cut(image, [np.array([10.0, 5.0, 40.0, 45.0])], 8, 6)[0].mean(axis=(1, 2)), [10, 20, 30]
    )
    np.testing.assert_array_equal(letterbox(image, 64)[0][0, :, 30, 30], [10, 20, 30])


@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([96, 320, 416]))
def test_a_letterbox_fits_the_picture_into_multiples_of_32(rows, columns, long_side):
    view, image_from_input = letterbox(np.full((rows, columns, 3), 255, np.uint8), long_side)
    size = np.array(view.shape[:1:-1])
    end = image_from_input.inverse().points(np.array([columns, rows], float))
    np.testing.assert_allclose(end.max(), long_side)
    assert (size % 32 == 0).all()
    assert (end <= size + 1e-9).all()
    assert (size - end < 32).all()
    outside = np.ceil(end - 1e-9).astype(int) + int(long_side / max(rows, columns))
    assert (view[..., outside[1] + 1 :, :] == OUTSIDE).all()
    assert (view[..., outside[0] + 1 :] == OUTSIDE).all()


@given(st.integers(50, 700), st.integers(50, 700))
def test_a_letterbox_shows_the_whole_picture(rows, columns):
    view, image_from_input = letterbox(np.full((rows, columns, 3), 255, np.uint8), 96)
    columns_seen, rows_seen = image_from_input.inverse().points(np.array([columns, rows], float))
    shown = view[0, 0, 1 : int(rows_seen) - 2, 1 : int(columns_seen) - 2]
    assert (shown[1:, 1:] == 255).all()


@given(st.lists(boxes, min_size=1, max_size=6))
def test_boxes_overlap_where_their_union_is_less_than_their_sum(several):
    box = np.stack(several)
    iou = box_iou(box, box)
    assume(not ((iou > 0) & (iou < 1e-9)).any())  # thinner than rounding
    np.testing.assert_array_equal(overlapping(box), iou > 0)
