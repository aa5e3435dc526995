import cv2
import fakes
import numpy as np
import pytest
from numpy.testing import assert_allclose
from simulated_people import seen, walker

from tracker.camera_motion import STILL, CameraMotion
from tracker.geometry import Affine
from tracker.noise import NoiseConfig
from tracker.pipeline import PoseTracker
from tracker.tracks import MultiTracker, TrackerConfig
from tracker.types import Frame

FPS = 30


def scenery(rng, size=900):
    """Blobs of all sizes, as grey values."""
    small = rng.integers(0, 255, (size // 12, size // 12), np.uint8)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)


def view(scene, now_from_scene, height=480, width=640):
    grey = cv2.warpAffine(scene, now_from_scene.for_cv2(), (width, height))
    return np.repeat(grey[..., None], 3, axis=-1)


def turned(degrees, zoom, shift):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Affine(zoom * turn, np.array(shift, float))


@pytest.mark.parametrize(
    "moved", [turned(0, 1, (7.5, -3.0)), turned(1.5, 1.02, (-4.0, 6.0)), turned(0, 1, (0, 0))]
)
def test_the_motion_of_the_background_is_found(moved):
    scene, start = scenery(np.random.default_rng(0)), turned(0, 1, (-100.0, -100.0))
    camera = CameraMotion()
    assert camera(view(scene, start)) is STILL
    found = camera(view(scene, moved.after(start)))
    corners = np.array([[0.0, 0.0], [640, 0], [0, 480], [640, 480]])
    assert_allclose(found.points(corners), moved.points(corners), atol=0.6)


def test_people_who_move_are_not_taken_for_the_background():
    rng = np.random.default_rng(1)
    scene, person = scenery(rng), scenery(rng)[:400, :420]
    pictures = [view(scene, turned(0, 1, (-100.0, -100.0))) for _ in range(2)]
    for k, picture in enumerate(pictures):
        picture[40:440, 100 + 9 * k : 520 + 9 * k] = person[..., None]
    camera = CameraMotion()
    camera(pictures[0])
    found = camera(pictures[1], [np.array([100.0, 40.0, 520.0, 440.0])])
    assert_allclose(found.points(np.array([320.0, 240.0])), [320.0, 240.0], atol=0.3)


def test_without_anything_to_follow_the_camera_stands_still():
    camera = CameraMotion()
    for _ in range(2):
        assert camera(fakes.frame().image) is STILL


def test_a_pan_is_not_a_run():
    """A still person under a camera that pans ever faster keeps their number and stands still."""
    rng, people = np.random.default_rng(2), MultiTracker()
    place = np.zeros(2)
    for frame in range(40):
        shift = np.array([0.0 if frame < 10 else -1.5 * (frame - 10), 0.0])
        place = place + shift
        people.move_camera(Affine(np.eye(2), shift))
        truth = walker(0.0) + place
        tracks = people.update([seen(truth, rng)], frame / FPS)
    (track,) = tracks
    assert track.id == 1
    assert np.linalg.norm(track.velocity.mean(axis=0)) < 100  # the pan is at 1300 px/s
    assert np.linalg.norm(track.keypoints - truth, axis=1).mean() < 5


def test_a_turned_picture_turns_everything():
    config = TrackerConfig(noise=NoiseConfig(lasting=0.2))
    rng, people = np.random.default_rng(3), MultiTracker(config)
    for frame in range(10):
        people.update([seen(walker(frame / FPS), rng)], frame / FPS)
    (before,) = people.tracks
    quarter = Affine(np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([300.0, 0.0]))
    people.move_camera(quarter)
    (after,) = people.tracks
    assert_allclose(after.keypoints, quarter.points(before.keypoints))
    assert_allclose(after.velocity, before.velocity @ quarter.linear.T)
    want = quarter.linear @ before.keypoint_cov @ quarter.linear.T
    assert_allclose(after.keypoint_cov, want)


def test_a_pipeline_asks_the_camera_before_it_looks():
    person, asked = fakes.person(150), []

    def camera(image, boxes):
        asked.append(len(boxes))
        return STILL

    networks = fakes.FakeDetector(person), fakes.FakePoseNet(person)
    follow = PoseTracker(*networks, camera_motion=lambda: camera)
    for index in range(3):
        follow(Frame(fakes.frame().image, index, index / FPS))
    assert asked == [0, 1, 1]


def test_a_lag_and_a_moving_camera_exclude_each_other():
    with pytest.raises(ValueError, match="cannot follow a moving camera"):
        MultiTracker(TrackerConfig(lag=2)).move_camera(STILL)
