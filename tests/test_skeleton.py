"""The 17 keypoints of COCO and their similarity."""

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from tracker.skeleton import COCO17


def test_the_mirror_swaps_left_and_right_and_undoes_itself() -> None:
    names = COCO17.keypoint_names
    for i, j in enumerate(COCO17.mirror):
        swapped = names[i].replace("left", "RIGHT").replace("right", "left").lower()
        assert names[j] == swapped
    np.testing.assert_array_equal(COCO17.mirror[COCO17.mirror], np.arange(17))


def test_oks_is_that_of_cocos_own_evaluation() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(50, 250, (17, 2))
    found = truth + rng.normal(0, 8, (17, 2))
    area = 9000.0
    label = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "area": area,
        "bbox": [50.0, 50.0, 200.0, 200.0],
        "num_keypoints": 17,
        "keypoints": np.column_stack([truth, np.full(17, 2.0)]).ravel().tolist(),
    }
    guess = {
        "image_id": 1,
        "category_id": 1,
        "score": 1.0,
        "keypoints": np.column_stack([found, np.ones(17)]).ravel().tolist(),
    }
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}]
    gt = COCO({"images": [{"id": 1}], "annotations": [label], "categories": categories})
    evaluation = COCOeval_faster(gt, gt.loadRes([guess]), "keypoints", print_function=lambda *_: 0)
    evaluation.params.imgIds = [1]
    evaluation._prepare()
    due = np.ravel(evaluation.computeOks(1, 1))[0]
    assert COCO17.oks(truth, found, np.array(area)).mean() == pytest.approx(due, rel=1e-6)
