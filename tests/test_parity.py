"""Distances between engines against textbook formulas."""

from dataclasses import replace

import fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.parity import covariance_kl, parity
from tracker.pose import PoseNet
from tracker.types import Detection, Mixture


def spd(rng, d):
    root = rng.normal(size=(d, d))
    return root @ root.T + 0.1 * np.eye(d)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_kl_is_the_textbook_formula_and_no_less_than_zero(seed, d):
    rng = np.random.default_rng(seed)
    p, q = spd(rng, d), spd(rng, d)
    inverse = np.linalg.inv(q)
    due = 0.5 * (np.trace(inverse @ p) - d - np.linalg.slogdet(inverse @ p)[1])
    np.testing.assert_allclose(covariance_kl(p, q), due, rtol=1e-6, atol=1e-9)
    assert covariance_kl(p, q) >= 0
    np.testing.assert_allclose(covariance_kl(p, p), 0, atol=1e-9)


def test_a_known_shift_is_found_in_px_of_the_crop():
    # 300 px high with the margin of a quarter: a crop of 375 px.
    box = Detection(np.array([100.0, 50.0, 200.0, 350.0]), 0.9)
    poses = [fakes.make_pose(box, fakes.person(150)) for _ in range(4)]

    def moved(pose):
        mean = pose.mixture.mean + np.tile([3.0, 4.0], 17)
        mixture = Mixture(mean, 1.21 * pose.mixture.cov, pose.mixture.log_weight)
        return replace(pose, mixture=mixture, visible=pose.visible - 0.25)

    found = parity(
        lambda *_: poses, lambda *_: [moved(pose) for pose in poses], [(fakes.frame(), [box] * 4)]
    )
    assert found.people == 4
    due = 5 * 256 / 375
    np.testing.assert_allclose([found.px_median, found.px_p99, found.px_max], due)
    ratio = 1 / 1.21
    np.testing.assert_allclose(found.kl_mean, 17 * (ratio - 1 - np.log(ratio)))
    assert found.weight_max == 0
    np.testing.assert_allclose(found.visible_max, 0.25)
    assert "4 people: keypoints 3.413 px (median)" in str(found)


def test_one_engine_is_nowhere_from_itself():
    net = PoseNet.load(device="cpu", threads=1)
    box = Detection(np.array([100.0, 50.0, 200.0, 350.0]), 0.9)
    found = parity(net, net, [(fakes.frame(), [box])])
    assert found.px_max == found.weight_max == 0
    assert abs(found.kl_mean) < 1e-9


def test_fp16_is_within_its_bars_on_the_drawn_scene():
    from tracker.demo import Scene
    from tracker.types import Frame

    scene = Scene(seed=4, n_people=3, n_frames=60)
    seen = [
        (
            Frame(scene.render(i), i, i / 30),
            [Detection(p.box, 1.0) for p in scene.truth(i) if p.seen > 0.5],
        )
        for i in range(0, 60, 10)
    ]
    net = PoseNet.load(device="cpu", threads=1)
    pytest.importorskip("onnx")
    found = parity(
        net, PoseNet.load(device="cpu", threads=1, backend="ort", precision="fp16"), seen
    )
    assert found.people > 6
    assert 0 < found.px_p99 < 0.25
    assert found.kl_p99 < 1e-2


def test_nobody_to_compare_on_is_said():
    with pytest.raises(ValueError, match="nobody to compare"):
        parity(lambda *_: [], lambda *_: [], [(fakes.frame(), [])])
