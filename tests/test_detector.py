import cv2
import numpy as np
import pytest
from graphs import card, detector, specs
from hypothesis import given
from hypothesis import strategies as st

from tracker.detector import Detector, suppress
from tracker.errors import WeightsError
from tracker.geometry import box_iou
from tracker.types import Frame


def random_boxes(rng, n):
    low = rng.uniform(0, 60, (n, 2))
    return np.concatenate([low, low + rng.uniform(5, 50, (n, 2))], axis=1)


class White:
    """An engine that finds the one white rectangle of a dark picture."""

    inputs = specs(image=(None, 3, None, None))
    outputs = specs(box=(None, None, 4), score=(None, None))

    def describe(self):
        return "a fake"

    def __call__(self, inputs):
        y, x = np.nonzero(inputs["image"][0, 0] > 180)
        box = np.array([[[x.min(), y.min(), x.max() + 1, y.max() + 1]]], np.float32)
        return {"box": box, "score": np.array([[0.8]], np.float32)}


class Says(White):
    def __init__(self, box, score):
        self.answer = {
            "box": np.array(box, np.float32).reshape(1, -1, 4),
            "score": np.array(score, np.float32)[None],
        }

    def __call__(self, inputs):
        return self.answer


def dark(height, width):
    return Frame(np.zeros((height, width, 3), np.uint8), index=0, time=0.0)


def brute_force(box, score, max_iou):
    """Take the best of what is left and strike out what overlaps it."""
    left, kept = set(range(len(box))), []
    while left:
        best = max(left, key=lambda i: (score[i], -i))
        kept.append(best)
        left = {i for i in left if box_iou(box[[best]], box[[i]])[0, 0] <= max_iou} - {best}
    return kept


@given(st.integers(0, 25), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_suppression_agrees_with_brute_force(n, max_iou, seed):
    rng = np.random.default_rng(seed)
    box, score = random_boxes(rng, n), rng.integers(0, 10, n) / 10  # with ties
    assert suppress(box, score, max_iou).tolist() == brute_force(box, score, max_iou)


@given(st.integers(1, 25), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1))
def test_suppression_agrees_with_opencv(n, max_iou, seed):
    rng = np.random.default_rng(seed)
    box, score = random_boxes(rng, n), rng.permutation(n) / n + 0.01
    xywh = np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], axis=1)
    due = cv2.dnn.NMSBoxes(xywh.tolist(), score.tolist(), 0.0, max_iou)
    assert suppress(box, score, max_iou).tolist() == list(due)


@given(
    height=st.integers(60, 500),
    width=st.integers(60, 500),
    long_side=st.sampled_from([320, 416]),
    part=st.tuples(*[st.floats(0, 0.45)] * 4),
)
def test_a_rectangle_is_found_where_it_is_for_every_size_of_picture(height, width, long_side, part):
    frame = dark(height, width)
    x0, y0 = int(part[0] * width), int(part[1] * height)
    x1, y1 = int((1 - part[2]) * width), int((1 - part[3]) * height)
    frame.image[y0:y1, x0:x1] = 255
    (found,) = Detector(White(), long_side, 0.5)(frame)
    # The engine rounds to its own pixels, and an enlarged edge is soft over one of the picture's.
    within = 1.01 * max(height, width) / long_side + 0.3
    assert np.abs(found.box - [x0, y0, x1, y1]).max() <= within
    assert found.score == pytest.approx(0.8)
    assert found.track_id is None


def test_weak_boxes_are_left_out_and_the_best_comes_first():
    engine = Says([[0, 0, 9, 9], [20, 20, 40, 40], [50, 0, 60, 20]], [0.6, 0.2, 0.9])
    found = Detector(engine, 64, 0.5)(dark(64, 64))
    assert [round(d.score, 3) for d in found] == [0.9, 0.6]
    np.testing.assert_allclose(found[0].box, [50, 0, 60, 20])


def test_boxes_end_at_the_picture_and_those_past_it_are_gone():
    engine = Says([[-9, -9, 30, 90], [70, 0, 90, 20], [5, 5, 5, 20]], [0.9, 0.9, 0.9])
    found = Detector(engine, 64, 0.5)(dark(48, 64))
    assert [d.box.tolist() for d in found] == [[0, 0, 30, 48]]


def test_a_picture_without_people_gives_an_empty_list():
    assert Detector(Says(np.zeros((0, 4)), []), 64, 0.5)(dark(64, 64)) == []


def test_a_flood_of_boxes_is_bounded():
    rng = np.random.default_rng(0)
    engine = Says(random_boxes(rng, 20_000), rng.random(20_000))
    assert 1 <= len(Detector(engine, 128, 0.01)(dark(128, 128))) <= 300


def test_a_detector_loads_from_a_file_and_its_card(tmp_path):
    path = detector(tmp_path / "d.onnx", np.array([[0, 0, 32, 64], [1, 1, 2, 2]]), np.array([1, 0]))
    card(path, kind="detector", input={"long_side": 64}, threshold=0.3)
    (found,) = Detector.load(path, device="cpu", threads=1)(dark(128, 128))
    np.testing.assert_allclose(found.box, [0, 0, 64, 128])
    assert Detector.load(path, "cpu", long_side=640).long_side == 640


def test_a_graph_with_other_outputs_is_refused():
    engine = White()
    engine.outputs = specs(boxes=(None, 4))
    with pytest.raises(WeightsError, match=r"gives \['boxes'\], due were \['box', 'score'\]"):
        Detector(engine, 416, 0.5)
