"""The drawn scene: what it shows, and that its truth is the truth of its pixels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float

from tracker.demo import Scene, TruePerson, random_scene
from tracker.demo.body import BONES, Build, Posture, stand, turned
from tracker.demo.camera import Camera
from tracker.demo.gait import walking
from tracker.demo.render import NOBODY, Canvas, Light, Limb, draw
from tracker.skeleton import COCO17

SMALL = Scene(seed=0, height=240, width=320)
INDEX = {name: i for i, name in enumerate(COCO17.keypoint_names)}

angles = st.floats(-1.5, 1.5)


@st.composite
def postures(draw: st.DrawFn) -> Posture:
    values = [draw(st.lists(angles, min_size=n, max_size=n)) for n in (3, 3, 8, 10)]
    spine, head, arm, leg = map(np.array, values)
    return Posture(spine, head, arm.reshape(2, 4), leg.reshape(2, 5))


def truths(scene: Scene, step: int = 1) -> list[tuple[TruePerson, ...]]:
    return [scene.truth(i) for i in range(0, scene.n_frames, step)]


def lengths(keypoints: Float[np.ndarray, "17 3"]) -> Float[np.ndarray, " bones"]:
    at = [(INDEX[a], INDEX[b]) for a, b in BONES]
    return np.array([np.linalg.norm(keypoints[a] - keypoints[b]) for a, b in at])


@given(postures())
def test_bones_keep_their_lengths_in_every_posture(posture: Posture) -> None:
    build = Build()
    upright = stand(build, Posture.upright())
    np.testing.assert_allclose(
        lengths(stand(build, posture).keypoints), lengths(upright.keypoints), rtol=1e-9
    )


@given(postures())
def test_no_body_sinks_into_the_floor(posture: Posture) -> None:
    body = stand(Build(), posture)
    assert min(body.heels[:, 2].min(), body.toes[:, 2].min()) > 0


@given(st.floats(0, 1), st.floats(0, 0.5))
def test_half_a_stride_later_the_legs_have_changed_sides(phase: float, swing: float) -> None:
    now, later = walking(phase, swing), walking(phase + 0.5, swing)
    np.testing.assert_allclose(now.leg, later.leg[::-1], atol=1e-9)
    np.testing.assert_allclose(now.arm, later.arm[::-1], atol=1e-9)


def test_a_person_has_human_proportions() -> None:
    body = stand(Build(stature=1.75), Posture.upright())
    k = body.keypoints
    assert 1.55 < k[INDEX["left_eye"], 2] < 1.68
    shoulders = np.linalg.norm(k[INDEX["left_shoulder"]] - k[INDEX["right_shoulder"]])
    hips = np.linalg.norm(k[INDEX["left_hip"]] - k[INDEX["right_hip"]])
    assert 0.19 < shoulders / 1.75 < 0.24
    assert hips < 0.6 * shoulders
    assert k[INDEX["left_knee"], 2] < 0.31 * 1.75


def test_whoever_faces_the_camera_has_their_left_on_the_pictures_right() -> None:
    camera = Camera.standing(1.5, 0.1, 500.0, 640, 480)
    body = stand(Build(), Posture.upright())
    there = body.moved(turned(-np.pi / 2), np.array([0.0, 5.0, 0.0]))
    xy = camera.project(camera.points(there.keypoints))
    for name in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        assert xy[INDEX[f"left_{name}"], 0] > xy[INDEX[f"right_{name}"], 0]
    assert xy[INDEX["nose"], 1] < xy[INDEX["left_hip"], 1] < xy[INDEX["left_ankle"], 1]


@given(st.floats(5, 315), st.floats(5, 235))
def test_rays_are_the_inverse_of_projection(x: float, y: float) -> None:
    camera = Camera.standing(1.7, 0.12, 300.0, 320, 240)
    ray = camera.rays(np.array([x]), np.array([y]))[0, 0]
    np.testing.assert_allclose(
        camera.project(camera.points(camera.position + 3 * ray)), [x, y], atol=1e-9
    )


def test_a_round_limb_covers_as_much_as_it_should() -> None:
    camera = Camera.standing(0.0, 0.0, 500.0, 320, 240)
    texture = np.full((4, 4, 3), 100, dtype=np.float32)
    radius, length, z = 0.1, 0.5, 4.0
    limb = Limb(
        np.array([-length / 2, 0.013, z]),
        np.array([length / 2, 0.013, z]),
        np.array([0.0, 1.0, 0.0]),
        np.full(2, radius),
        np.full(2, radius),
        texture,
    )
    patch = draw(limb, camera, Light(np.array([0.0, 0.0, -1.0]), 0.4, 0.7, np.ones(3)))
    assert patch is not None
    pixels = (500.0 / z) ** 2
    want = pixels * (2 * radius * length + np.pi * radius**2)
    assert patch.cover.sum() == pytest.approx(want, rel=0.01)
    assert patch.depth[patch.cover > 0].min() == pytest.approx(z - radius, abs=0.003)


def test_the_nearer_surface_is_in_front_in_whichever_order_they_come() -> None:
    camera = Camera.standing(0.0, 0.0, 200.0, 64, 64)
    light = Light(np.array([0.0, 0.0, -1.0]), 0.4, 0.7, np.ones(3))
    texture = np.full((4, 4, 3), 100, dtype=np.float32)
    near, far = (
        draw(
            Limb(
                np.array([-0.1, 0.0, z]),
                np.array([0.1, 0.0, z]),
                np.array([0.0, 1.0, 0.0]),
                np.full(2, 0.1),
                np.full(2, 0.1),
                texture,
            ),
            camera,
            light,
        )
        for z in (2.0, 3.0)
    )
    assert near is not None
    assert far is not None
    for order in ((0, 1), (1, 0)):
        canvas = Canvas(
            np.zeros((64, 64, 3), np.float32),
            np.full((64, 64), 10, np.float32),
            np.full((64, 64), NOBODY, np.int16),
        )
        for k in order:
            canvas.lay((near, far)[k], k)
        assert canvas.owner[32, 32] == 0
        assert (canvas.owner == 0).sum() == (near.cover > 0.5).sum()


def test_frames_depend_on_seed_and_index_alone() -> None:
    again = replace(SMALL)
    later = SMALL.render(70)
    np.testing.assert_array_equal(SMALL.render(7), again.render(7))
    np.testing.assert_array_equal(later, again.render(70))
    assert (replace(SMALL, seed=1).render(7) != SMALL.render(7)).mean() > 0.5


def test_a_frame_beyond_the_end_is_refused() -> None:
    with pytest.raises(IndexError, match="frame 240 of a scene of 240"):
        SMALL.render(240)


def test_a_picture_that_was_given_away_can_be_painted_on() -> None:
    SMALL.render(3)[:] = 0
    assert SMALL.render(3).any()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 59))
def test_the_truth_is_consistent_in_any_scene(seed: int, index: int) -> None:
    scene = random_scene(seed, height=240, width=320)
    image, people, owners = scene.render(index), scene.truth(index), scene.owners(index)
    assert image.shape == (240, 320, 3)
    assert len({p.id for p in people}) == len(people) <= scene.n_people
    for p in people:
        x0, y0, x1, y1 = p.box
        assert 0 <= x0 < x1 <= 320
        assert 0 <= y0 < y1 <= 240
        shown = p.keypoints[p.visible]
        assert ((shown >= p.box[:2] - 1) & (shown <= p.box[2:] + 1)).all()
        rows, columns = np.floor(shown).astype(int)[:, ::-1].T
        assert (owners[rows, columns] == p.id).all()
        mine = np.argwhere(owners == p.id)[:, ::-1]
        assert (mine >= p.box[:2]).all()
        assert (mine < p.box[2:]).all()
        assert (len(mine) > 0) == (p.seen > 0)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_demo_shows_what_a_tracker_must_bear(seed: int) -> None:
    """Everybody is there for over 2 s, some cross, some are hidden for a while and come back."""
    scene = Scene(seed, height=120, width=160)
    step = 8
    frames = truths(scene, step)
    present = [sum(any(p.id == k for p in people) for people in frames) for k in range(1, 5)]
    assert min(present) * step / scene.fps > 2
    centres = [{p.id: p.box[[0, 2]].mean() for p in people} for people in frames]
    pairs = [(a, b) for a in range(1, 5) for b in range(a + 1, 5)]
    crossings = sum(len({c[a] > c[b] for c in centres if a in c and b in c}) == 2 for a, b in pairs)
    assert crossings >= 3
    seen = np.array([p.seen for people in frames for p in people])
    assert (seen < 0.5).any()
    assert (seen > 0.95).any()
    assert np.mean([p.visible.mean() for people in frames for p in people]) > 0.5


def test_people_move_smoothly_and_never_collide() -> None:
    scene = Scene(0, height=120, width=160)
    space = np.stack([scene.space(i) for i in range(90, 180)])
    speed = np.linalg.norm(np.diff(space, axis=0), axis=-1) * scene.fps
    assert speed.max() < 9  # m/s: a fast hand
    hips = space[:, :, 11:13].mean(axis=2)[..., :2]
    assert np.linalg.norm(np.diff(hips, axis=0), axis=-1).max() * scene.fps < 2.5
    apart = np.linalg.norm(hips[:, :, None] - hips[:, None], axis=-1) + 9 * np.eye(4)
    assert apart.min() > 0.4


def test_a_standing_foot_hardly_slides() -> None:
    scene = Scene(0, height=120, width=160)
    space = np.stack([scene.space(i) for i in range(90)])
    ankles = space[:, :, 15:17]
    speed = np.linalg.norm(np.diff(ankles[..., :2], axis=0), axis=-1) * scene.fps
    hips = np.linalg.norm(np.diff(space[:, :, 11, :2], axis=0), axis=-1) * scene.fps
    walking_fast = hips > 1.0
    slower_foot = speed.min(axis=-1)[walking_fast]
    assert np.median(slower_foot) < 0.35  # m/s, of people who walk at over 1 m/s


def test_visibility_comes_and_goes_with_turning_away() -> None:
    """The nose is seen when the head faces the camera and hidden when it faces away."""
    scene = Scene(0, height=240, width=320)
    seen: list[bool] = []
    hidden: list[bool] = []
    for i in range(0, scene.n_frames, 12):
        space = scene.space(i)
        for p in scene.truth(i):
            k = space[p.id - 1]
            ahead = k[0] - k[3:5].mean(axis=0)
            away = ahead[1] / np.linalg.norm(ahead)
            if away > 0.3:
                hidden.append(bool(p.visible[0]))
            elif away < -0.5 and p.seen > 0.95:
                seen.append(bool(p.visible[0]))
    assert len(seen) > 5
    assert np.mean(seen) > 0.9  # a hand or a post may be before the nose
    assert hidden
    assert not any(hidden)
