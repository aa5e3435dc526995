from dataclasses import replace

import numpy as np
import pytest
from graphs import POSE_SHAPES, card, pose, specs
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import logsumexp

from tracker.crops import crop_box, cut
from tracker.errors import WeightsError
from tracker.geometry import Affine
from tracker.mixture import marginal
from tracker.pose import Calibration, PoseNet, factors_to_cov
from tracker.skeleton import COCO17
from tracker.types import Detection, Frame

J, K = 17, 3
LATENTS = np.zeros((K, 16), np.float32)
INPUTS = specs(image=(None, 3, 256, 192), latent=(None, 16))
OUTPUTS = specs(**{name: (None, *shape) for name, shape in POSE_SHAPES.items()})


class FakeEngine:
    """Answers with numbers that depend on each crop alone, and remembers the batches."""

    inputs, outputs = INPUTS, OUTPUTS

    def __init__(self):
        self.batches = []

    def describe(self):
        return "a fake"

    def __call__(self, inputs):
        image, n = inputs["image"], len(inputs["latent"])
        self.batches.append(len(image))
        answers = [self.look(crop, n) for crop in image]
        return {name: np.stack([a[name] for a in answers]) for name in POSE_SHAPES}

    def look(self, crop, n):
        rng = np.random.default_rng(int(crop.sum(dtype=np.float64)))
        return {
            name: rng.uniform(0.05, 0.2, shape if name == "visible" else (n, *shape))
            .astype(np.float32)
            for name, shape in POSE_SHAPES.items()
        }  # fmt: skip


class Spot(FakeEngine):
    """Puts every keypoint on the centre of mass of what is white."""

    def look(self, crop, n):
        weight = np.clip(crop[0].astype(float) - 120, 0, None)
        y, x = np.mgrid[:256, :192] + 0.5
        spot = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum() / 256
        answer = super().look(crop, n)
        answer["mean"][:] = spot
        return answer


class Sided(FakeEngine):
    """Knows only which side of a crop is the brighter."""

    def look(self, crop, n):
        left, right = crop[..., :96].mean(), crop[..., 96:].mean()
        return super().look(np.full(1, float(left > right)), n)


def frame(seed=0, height=240, width=320):
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return Frame(image, index=0, time=0.0)


def box_of(centre, width, height):
    half = np.array([width, height]) / 2
    return Detection(np.concatenate([centre - half, centre + half]), 0.9)


def some_detections(n, seed=0):
    low = np.random.default_rng(seed).uniform(0, 150, (n, 2))
    return [box_of(p + 40, 30 + i, 80 - i) for i, p in enumerate(low)]


def plain(engine):
    return PoseNet(engine, Calibration.none(J), LATENTS)


def by_loops(chol, lowrank):
    d = len(lowrank)
    cov = np.zeros((d, d))
    for a in range(d):
        for b in range(d):
            cov[a, b] = sum(float(lowrank[a, r]) * float(lowrank[b, r]) for r in range(8))
    for j, (s1, c, s2) in enumerate(chol.astype(float)):
        root = np.array([[s1, 0], [c, s2]])
        cov[2 * j : 2 * j + 2, 2 * j : 2 * j + 2] += root @ root.T
    return cov


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0, 3)])
def test_factors_make_the_covariance_of_the_textbook_loop(batch):
    rng = np.random.default_rng(1)
    chol = rng.normal(size=(*batch, J, 3)).astype(np.float32)
    lowrank = rng.normal(size=(*batch, 2 * J, 8)).astype(np.float32)
    cov = factors_to_cov(chol, lowrank)
    assert cov.shape == (*batch, 2 * J, 2 * J)
    assert cov.dtype == np.float64
    np.testing.assert_array_equal(cov, np.swapaxes(cov, -1, -2))
    for index in np.ndindex(*batch):
        np.testing.assert_allclose(cov[index], by_loops(chol[index], lowrank[index]), atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 5))
def test_calibration_is_g_sigma_g_and_a_temperature(seed, temperature):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2 * J, 2 * J))
    sigma, scale = root @ root.T, rng.uniform(0.3, 3, J)
    calibration = Calibration(scale, temperature)
    g = np.diag([scale[i // 2] for i in range(2 * J)])
    np.testing.assert_allclose(calibration.cov(sigma), g @ sigma @ g)
    logit = rng.normal(size=(2, K))
    log_weight = calibration.log_weight(logit)
    np.testing.assert_allclose(logsumexp(log_weight, axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(np.diff(log_weight), np.diff(logit) / temperature, atol=1e-12)


@given(
    st.floats(60, 200), st.floats(50, 150), st.floats(20, 200), st.floats(20, 200),
    st.floats(-0.3, 0.3), st.floats(-0.3, 0.3),
)  # fmt: skip
def test_a_spot_is_reported_where_it_is_for_every_box_around_it(x, y, width, height, dx, dy):
    image = np.zeros((240, 320, 3), np.uint8)
    image[int(y) : int(y) + 8, int(x) : int(x) + 6] = 255
    due = np.array([int(x) + 3, int(y) + 4])
    detection = box_of(due + np.array([dx * width, dy * height]), width, height)
    crop = crop_box(detection.box)
    assume((due - 5 > crop[:2]).all() and (due + 5 < crop[2:]).all())
    (found,) = plain(Spot())(Frame(image, index=0, time=0.0), [detection])
    off = found.mixture.mean.reshape(K, J, 2) - due
    # Bright pixels count alone: the spot's soft rim moves its centre by a part of a crop pixel.
    assert np.abs(off).max() < 0.1 + 0.3 * (crop[3] - crop[1]) / 256


def test_means_and_covariances_reach_image_px_together():
    engine = FakeEngine()
    detection = Detection(np.array([40.0, 30.0, 100.0, 190.0]), 0.9)
    calibration = Calibration(np.linspace(0.5, 2, J), 1.7)
    (found,) = PoseNet(engine, calibration, LATENTS)(frame(), [detection])

    # Aspect 3:4 about the centre (70, 110), a quarter larger than 160 px.
    corner, height = np.array([70 - 75.0, 110 - 100.0]), 200.0
    crop = cut(frame().image, [np.array([-5.0, 10.0, 145.0, 210.0])], 256, 192)[0]
    said = engine.look(crop, K)
    g = np.diag(np.repeat(calibration.scale, 2))
    for k in range(K):
        mean = corner + height * said["mean"][k].astype(float)
        cov = height**2 * g @ by_loops(said["chol"][k], said["lowrank"][k]) @ g
        np.testing.assert_allclose(found.mixture.mean[k], mean.ravel(), rtol=1e-9)
        np.testing.assert_allclose(found.mixture.cov[k], cov, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.visible, said["visible"], rtol=1e-6)
    assert found.detection is detection


def test_seventeen_people_are_seen_as_each_alone_in_two_calls():
    engine, people = FakeEngine(), some_detections(17)
    together = plain(engine)(frame(), people)
    assert engine.batches == [16, 1]
    for detection, found in zip(people, together, strict=True):
        (alone,) = plain(FakeEngine())(frame(), [detection])
        assert found.detection is detection
        np.testing.assert_allclose(found.mixture.mean, alone.mixture.mean)
        np.testing.assert_allclose(found.mixture.cov, alone.mixture.cov)
        np.testing.assert_allclose(found.mixture.log_weight, alone.mixture.log_weight)


def test_people_of_several_frames_share_batches_and_come_back_frame_by_frame():
    engine = FakeEngine()
    views = [
        (frame(1), some_detections(9)),
        (frame(2, 100, 90), []),
        (frame(3, 480, 640), some_detections(8, seed=1)),
    ]
    together = plain(engine).many(views)
    assert engine.batches == [16, 1]
    assert [len(found) for found in together] == [9, 0, 8]
    for (seen, detections), found in zip(views, together, strict=True):
        for one, other in zip(found, plain(FakeEngine())(seen, detections), strict=True):
            assert one.detection is other.detection
            np.testing.assert_allclose(one.mixture.mean, other.mixture.mean)
            np.testing.assert_allclose(one.mixture.cov, other.mixture.cov)


def test_the_flip_test_looks_twice_and_says_the_mirrored_of_a_mirrored_picture():
    engine, people = Sided(), some_detections(9)
    image = frame().image // 2
    image[:, :130] += 100
    twice = replace(plain(engine), flip_test=True)
    found = twice(Frame(image, 0, 0.0), people)
    assert engine.batches == [16, 2]
    other = Frame(np.ascontiguousarray(image[:, ::-1]), 0, 0.0)
    mirror = Affine(np.diag([-1.0, 1.0]), np.array([320.0, 0.0]))
    swapped = (2 * COCO17.mirror[:, None] + np.arange(2)).ravel()
    for ours, one in zip(found, plain(Sided())(Frame(image, 0, 0.0), people), strict=True):
        (back,) = twice(other, [Detection(mirror.box(ours.detection.box), 0.9)])
        # What was seen straight comes first, and there it is what was seen in the mirror.
        due = marginal(mirror.mixture(ours.mixture), swapped)
        np.testing.assert_allclose(back.mixture.mean, np.roll(due.mean, K, axis=0))
        np.testing.assert_allclose(back.mixture.cov, np.roll(due.cov, K, axis=0), atol=1e-9)
        np.testing.assert_allclose(back.visible, ours.visible[COCO17.mirror])
        np.testing.assert_array_equal(ours.mixture.mean[:K], one.mixture.mean)
        np.testing.assert_allclose(ours.mixture.log_weight[:K], one.mixture.log_weight - np.log(2))
        np.testing.assert_allclose(logsumexp(ours.mixture.log_weight), 0, atol=1e-12)


def test_nobody_there_means_no_call():
    engine = FakeEngine()
    assert plain(engine)(frame(), []) == []
    assert plain(engine).many([(frame(), []), (frame(), [])]) == [[], []]
    assert plain(engine).many([]) == []
    assert engine.batches == []


@pytest.mark.parametrize(
    "box",
    [
        [-1e9, -1e9, 1e9, 1e9],  # huge
        [5e5, 5e5, 5e5 + 9, 5e5 + 9],  # far away
        [-90, -90, -10, -10],  # just past the picture
        [0, 0, 1e-3, 400],  # a line
    ],
)
def test_predicted_boxes_may_be_wild(box):
    (found,) = plain(FakeEngine())(frame(), [Detection(np.array(box, float), 0.5, track_id=3)])
    assert np.isfinite(found.mixture.mean).all()
    assert found.mixture.mean.shape == (K, 2 * J)


@pytest.mark.parametrize("box", [[0, 0, 0, 9], [5, 5, 9, 4], [0, 0, np.nan, 9], [0, 0, np.inf, 9]])
def test_a_box_without_an_area_is_refused_before_anything_runs(box):
    engine = FakeEngine()
    with pytest.raises(ValueError, match="a box must be finite"):
        plain(engine)(frame(), [*some_detections(1), Detection(np.array(box, float), 0.5)])
    assert engine.batches == []


def test_a_pose_net_loads_from_a_file_and_its_card(tmp_path):
    rng = np.random.default_rng(4)
    said = {name: rng.uniform(0.1, 0.4, shape) for name, shape in POSE_SHAPES.items()}
    path = card(
        pose(tmp_path / "p.onnx", said),
        kind="pose",
        input={"height": 64, "width": 48},
        n_hypotheses=8,
        calibration={"scale": [2.0] * J, "temperature": 1.5},
    )
    net = PoseNet.load(path, device="cpu", threads=1)
    found = net(frame(), some_detections(3))
    assert len(found) == 3
    detection = found[2].detection
    crop = crop_box(detection.box)
    net_from_image = Affine((crop[3] - crop[1]) * np.eye(2), crop[:2]).inverse()
    seen = net_from_image.mixture(found[2].mixture)
    assert len(seen) == 8
    np.testing.assert_allclose(seen.mean[7], said["mean"].ravel(), atol=1e-6)
    np.testing.assert_allclose(seen.cov[0], 4 * by_loops(said["chol"], said["lowrank"]), atol=1e-5)
    np.testing.assert_allclose(seen.log_weight, -np.log(8))
    np.testing.assert_allclose(found[2].visible, said["visible"], atol=1e-6)


def test_a_calibration_of_another_skeleton_is_refused():
    with pytest.raises(WeightsError, match="of 5 keypoints, the skeleton has 17"):
        PoseNet(FakeEngine(), Calibration.none(5), LATENTS)
