"""The accuracy benchmark finds perfect guesses perfect and honest error bars honest."""

import json
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import pytest
from onnx import helper
from scipy.stats import multivariate_normal

from benchmarks import accuracy
from benchmarks.labelled import (
    Guess,
    Label,
    honesty,
    label,
    negative_log_likelihood,
    placement,
)
from benchmarks.person_free import empty_strip
from benchmarks.rtmdet import RtmDet
from benchmarks.wild import at_labelled, holds_somebody_else, in_the_wild
from tracker.detector import Detector
from tracker.geometry import person_area
from tracker.pose import PoseNet
from tracker.skeleton import COCO17
from tracker.training.data import Split
from tracker.training.synthetic import write_split
from tracker.types import Detection, Mixture, PoseMixture

BOX = np.array([50.0, 20.0, 150.0, 260.0])


def person(rng: np.random.Generator, image: int) -> Label:
    keypoints = rng.uniform(BOX[:2], BOX[2:], (17, 2))
    return Label(image, BOX, float(person_area(BOX)), False, keypoints, np.arange(17) % 5 != 0)


def pose(mean: np.ndarray, std: float) -> PoseMixture:
    one = Mixture(mean.reshape(1, -1), std**2 * np.eye(34)[None], np.zeros(1))
    return PoseMixture(Detection(BOX, 1.0), one, np.ones(17))


@pytest.mark.parametrize(("source", "moved"), [("coco", 0.5), ("lspet", 0.0)])
def test_cocos_numbers_of_pixels_become_their_middles(
    tmp_path: Path, source: str, moved: float
) -> None:
    write_split(tmp_path, "dev", scenes=1, pictures_per_scene=1, height=240, width=320)
    split = Split.load(tmp_path, "dev")
    arrays = split.arrays | {"sources": np.array([source])}
    found = label(Split(split.folder, split.name, arrays), 0)
    assert found.keypoints == pytest.approx(split["person_keypoints"][0, :, :2] + moved)
    assert found.box == pytest.approx(split["person_box"][0])


def test_perfect_guesses_score_one_and_far_ones_nothing() -> None:
    rng = np.random.default_rng(0)
    people = [person(rng, i) for i in range(5)]
    perfect = placement(people, [Guess(p.image, p.keypoints, 0.9) for p in people])
    assert perfect["ap"] == perfect["ar"] == perfect["pck10"] == pytest.approx(1.0)
    far = placement(people, [Guess(p.image, p.keypoints + 200, 0.9) for p in people])
    assert far["ap"] == far["pck10"] == 0.0


def test_error_bars_that_made_the_errors_are_found_honest() -> None:
    rng = np.random.default_rng(1)
    people = [person(rng, i) for i in range(300)]
    std = 4.0
    poses = [pose(p.keypoints + std * rng.standard_normal((17, 2)), std) for p in people]
    found = honesty(people, poses)
    n = sum(p.labelled.sum() for p in people)
    for level, covered in zip((0.5, 0.9, 0.95, 0.99), found["coverage"].values(), strict=True):
        assert abs(covered - level) < 6 * np.sqrt(level * (1 - level) / n)
    assert found["expected_oks"] == pytest.approx(found["oks"], abs=0.01)


def test_the_likelihood_is_that_of_the_labelled_keypoints_in_fall_offs() -> None:
    rng = np.random.default_rng(2)
    label = person(rng, 0)
    guess = pose(label.keypoints + rng.normal(0, 5, (17, 2)), 6.0)
    falloff = COCO17.falloff(np.array(label.area)).repeat(2)
    seen = label.labelled.repeat(2)
    scaled = multivariate_normal(
        (guess.mixture.mean[0] / falloff)[seen], np.diag((6.0 / falloff[seen]) ** 2)
    )
    due = -scaled.logpdf((label.keypoints.ravel() / falloff)[seen])
    assert negative_log_likelihood(label, guess) == pytest.approx(due)


def test_boxes_beside_everybody_labelled_prove_nothing() -> None:
    def labelled(image: int, *box: float) -> Label:
        nothing = np.zeros((17, 2))
        return Label(image, np.array(box, float), 1.0, False, nothing, np.zeros(17, bool))

    def box(image: int, *xywh: float) -> dict[str, Any]:
        return {"image_id": image, "bbox": list(xywh), "score": 0.9}

    people = [labelled(1, 10, 10, 30, 50), labelled(1, 100, 10, 120, 50), labelled(2, 0, 0, 9, 9)]
    found = [
        box(1, 10, 10, 20, 40),
        box(1, 29, 49, 5, 5),
        box(1, 40, 10, 50, 40),
        box(3, 0, 0, 9, 9),
    ]
    assert at_labelled(people, found) == [True, True, False, False]


def test_whom_the_witness_sees_and_nobody_labelled_is_no_mistake() -> None:
    labelled = np.array([[0.0, 0, 10, 20]])
    seen = np.array([[1.0, 0, 11, 20], [50, 0, 60, 20]])  # the labelled one, and somebody else
    found = np.array([[0.0, 1, 10, 20], [51, 0, 61, 20], [57, 0, 67, 20], [8, 0, 18, 20]])
    assert holds_somebody_else(found, labelled, seen).tolist() == [False, True, False, False]
    nobody = np.zeros((0, 4))
    assert holds_somebody_else(found, nobody, seen).tolist() == [True, True, False, False]
    assert not holds_somebody_else(found, labelled, nobody).any()
    assert holds_somebody_else(nobody, labelled, seen).tolist() == []


def test_rtmdets_cells_become_boxes_of_the_picture(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["most"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("ReduceMean", ["most", "colours"], ["light"], keepdims=1),
        helper.make_node("Sub", ["light", "two"], ["map"]),  # more than the grey margin has
        helper.make_node("Transpose", ["map"], ["logit"], perm=[0, 2, 3, 1]),
        helper.make_node("Concat", ["logit", "sides"], ["y"], axis=3),
    ]
    sides = np.broadcast_to(np.array([8, 16, 24, 32], np.float32), (1, 40, 40, 4))
    inputs, outputs = {"x": [1, 3, 320, 320]}, {"y": [1, 40, 40, 5]}
    constants = {"colours": np.array([1]), "two": np.float32([2]), "sides": sides.copy()}
    path = graphs.write(tmp_path / "cells.onnx", nodes, inputs, outputs, constants)
    picture = np.zeros((480, 640, 3), np.uint8)
    assert len(RtmDet(path)(picture)) == 0
    picture[96:112, 320:336] = 255  # one cell of 8 px, at half the size
    np.testing.assert_allclose(RtmDet(path)(picture), [[304, 64, 368, 160]])


def test_the_largest_strip_beside_everybody_is_empty() -> None:
    people = np.array([[30.0, 10, 50, 90], [40.0, 20, 80, 95]])
    assert empty_strip(people, np.array([200, 100])).tolist() == [80, 0, 200, 100]
    assert empty_strip(people[:0], np.array([200, 100])).tolist() == [0, 0, 200, 100]


def test_the_command_measures_the_shipped_networks_on_any_packed_folder(tmp_path: Path) -> None:
    write_split(tmp_path, "dev", scenes=2, pictures_per_scene=2)
    accuracy.main(tmp_path, tmp_path / "result.json")
    record = json.loads((tmp_path / "result.json").read_text())
    ours = record["ours"]["synthetic"]
    assert ours["people"] > 0
    assert 0 <= ours["ap"] <= 1
    assert set(ours["coverage"]) == {"50%", "90%", "95%", "99%"}
    assert record["false_people"]["views"] > 0
    assert record["teacher"]["synthetic"]["pck10"] == 1.0  # rendered people have a perfect one
    assert record["detector"] is None  # no pictures of the source coco
    assert {"command", "machine", "versions"} <= set(record["environment"])


def test_people_whom_nobody_labelled_are_left_out_where_a_witness_sees_them(tmp_path: Path) -> None:
    write_split(tmp_path, "dev", scenes=2, pictures_per_scene=3, height=480, width=640)
    whole = Split.load(tmp_path, "dev")
    everybody = whole["person_box"].astype(float)
    # Every other person is labelled.
    some = {n: v[::2] for n, v in whole.arrays.items() if n.startswith("person_")}
    names = {"sources": np.array(["coco"])}
    split = Split(whole.folder, whole.name, dict(whole.arrays) | some | names)
    pictures = [whole.decode(i) for i in range(len(whole["img_wh"]))]

    def witness(picture: np.ndarray) -> np.ndarray:
        shown = next(i for i, p in enumerate(pictures) if (p == picture).all())
        return everybody[whole["person_img"] == shown]

    net, finder = PoseNet.load("nano", threads=1), Detector.load("nano", threads=1)
    told = in_the_wild(split, net, finder, witness)["end_to_end"]
    assert told["completed"]["ap"] > told["ap"] > 0
    assert told["completed"]["ar"] == told["ar"]
