"""A short film of several people, drawn from a seed, with its exact truth.

Each frame is drawn from scratch by its index alone, so frames may be asked for in any order.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int16, UInt8

from tracker.demo import backdrop
from tracker.demo.backdrop import Backdrop
from tracker.demo.body import Build, Joints, Posture, stand, turned
from tracker.demo.camera import Camera
from tracker.demo.clothes import Outfit, dress
from tracker.demo.gait import Act, Motion, Step, follow
from tracker.demo.render import (
    NOBODY,
    Canvas,
    Light,
    Patch,
    darken_creases,
    draw,
    silhouette,
)

_SHOWN = 0.1
"""People with a smaller part of their extent inside the picture are not in its truth."""
_BEHIND = np.array(
    [
        0.03,
        0.035,
        0.035,
        0.05,
        0.05,
        0.13,
        0.13,
        0.085,
        0.085,
        0.07,
        0.07,
        0.17,
        0.17,
        0.12,
        0.12,
        0.085,
        0.085,
    ]
)
"""How far a keypoint may lie under the surface of its own body and still count as seen, m: about
the thickness of flesh and cloth over it."""


@dataclass(frozen=True, slots=True, eq=False)
class TruePerson:
    """One person of a drawn frame."""

    id: int
    """From 1; the same person in all frames of a scene."""
    keypoints: Float[np.ndarray, "17 2"]
    """px; hidden ones and those outside the picture too."""
    visible: Bool[np.ndarray, " 17"]
    """In the picture, and the surface in front there is this body's, close over the keypoint."""
    box: Float[np.ndarray, "4"]
    """x0, y0, x1, y1 around the whole silhouette, hidden parts too, clipped to the picture, px."""
    seen: float
    """Share of the silhouette inside the picture that nobody and nothing hides, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Scene:
    """People who cross, turn, stop and hide one another before a camera that stands still."""

    seed: int = 0
    n_people: int = 4
    n_frames: int = 240
    height: int = 480
    width: int = 640
    fps: float = 30.0
    varied: bool = False
    """Draw the camera, the light and the postures at random too: for training pictures."""

    def render(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """The picture at time index / fps, RGB."""
        return _shoot(self, self._checked(index)).image.copy()

    def truth(self, index: int) -> tuple[TruePerson, ...]:
        """The people in that picture, by id.

        Someone hidden by others stays, with nothing visible; someone of whom less than a tenth is
        inside the picture is left out.
        """
        return _shoot(self, self._checked(index)).people

    def owners(self, index: int) -> Int16[np.ndarray, "height width"]:
        """The id of the person in front at each pixel, 0 for none."""
        return _shoot(self, self._checked(index)).owner + np.int16(1)

    def space(self, index: int) -> Float[np.ndarray, "n_people 17 3"]:
        """Where the keypoints of everybody are in the world, m (z up, the floor at 0)."""
        return np.stack([_pose(p, self._checked(index)).keypoints for p in _stage(self).people])

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.n_frames:
            raise IndexError(f"frame {index} of a scene of {self.n_frames}")
        return index


def random_scene(seed: int, *, height: int = 480, width: int = 640) -> Scene:
    """A scene for training pictures: any camera, light and posture, one to five people, 2 s long.

    Its frames are much alike; for many pictures draw many scenes and few frames of each.
    """
    n_people = int(np.random.default_rng([seed, 5]).integers(1, 6))
    return Scene(seed, n_people, n_frames=60, height=height, width=width, varied=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Person:
    build: Build
    outfit: Outfit
    motion: Motion


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """Everything of a scene that does not depend on the frame."""

    camera: Camera
    light: Light
    backdrop: Backdrop
    blocks: tuple[Patch, ...]
    people: tuple[_Person, ...]
    grain: Float32[np.ndarray, "tall broad"]
    """Noise of the sensor, larger than a picture; each frame takes another piece of it."""
    softness: float
    """Blur of the lens, px."""


@dataclass(frozen=True, slots=True, eq=False)
class _Shot:
    image: UInt8[np.ndarray, "height width 3"]
    owner: Int16[np.ndarray, "height width"]
    people: tuple[TruePerson, ...]


@lru_cache(maxsize=4)
def _stage(scene: Scene) -> _Stage:
    rng = np.random.default_rng([scene.seed, 0])
    camera = _place_camera(scene, rng)
    light = _shine(scene, camera, rng)
    wall = rng.uniform(8.5, 11.0)
    looks = np.random.default_rng([scene.seed, 1])
    builds = [(Build.draw(looks), Outfit.draw(looks)) for _ in range(scene.n_people)]
    motions = _mingle(scene, camera) if scene.varied else _choreograph(scene, camera)
    hiding = rng.uniform(3.2, 3.6) if not scene.varied or rng.uniform() < 0.4 else None
    patches = [
        backdrop.trace_block(block, camera, light, rng)
        for block in backdrop.furnish(camera, wall, hiding, rng)
    ]
    return _Stage(
        camera,
        light,
        backdrop.trace(camera, wall, light, rng),
        tuple(patch for patch in patches if patch is not None),
        tuple(_Person(*b, m) for b, m in zip(builds, motions, strict=True)),
        rng.normal(0, 2.2, (scene.height + 64, scene.width + 64)).astype(np.float32),
        float(rng.uniform(0.4, 1.0) if scene.varied else 0.6),
    )


def _place_camera(scene: Scene, rng: np.random.Generator) -> Camera:
    if scene.varied:
        height, pitch = rng.uniform(0.7, 2.8), rng.uniform(-0.02, 0.06)
        pitch += 0.16 * max(0.0, height - 1.2)
        return Camera.standing(
            height, pitch, rng.uniform(0.8, 1.5) * scene.width, scene.width, scene.height
        )
    return Camera.standing(
        rng.uniform(1.5, 2.0),
        rng.uniform(0.10, 0.15),
        0.95 * scene.width,
        scene.width,
        scene.height,
    )


def _shine(scene: Scene, camera: Camera, rng: np.random.Generator) -> Light:
    """Light from above, from the viewer's side more often than not."""
    spread = 1.2 if scene.varied else 0.7
    world = np.array([rng.uniform(-spread, spread), rng.uniform(-1.2, 0.2), rng.uniform(0.7, 1.4)])
    world /= np.linalg.norm(world)
    strength = rng.uniform(0.2, 0.5) if scene.varied else 0.36
    ambient = rng.uniform(0.5, 0.8) if scene.varied else 0.68
    tint = 1 + (0.06 if scene.varied else 0.03) * rng.normal(0, 1, 3)
    return Light(camera.camera_from_world @ world, strength, ambient, tint)


def _choreograph(scene: Scene, camera: Camera) -> list[Motion]:
    """Ways through the picture on which everybody is in sight for a while and nobody collides.

    Ways are drawn until they are fit; the best of the draws must do if none is.
    """
    draws = (_wander(scene, camera, np.random.default_rng([scene.seed, 2, k])) for k in range(20))
    best: tuple[float, list[Motion]] = (-np.inf, [])
    for motions in draws:
        fit = _closeness(motions)
        if fit > best[0]:
            best = fit, motions
        if fit > 0.55:  # m: two people side by side
            break
    return best[1]


def _wander(scene: Scene, camera: Camera, rng: np.random.Generator) -> list[Motion]:
    """Everybody in a lane of their own depth, from side to side with a stop on the way."""
    times = np.arange(scene.n_frames) / scene.fps
    near, far = 3.9, 6.6
    lanes = np.linspace(near, far, scene.n_people) if scene.n_people > 1 else np.array([4.8])
    acts = rng.permutation([Act.WAVE, Act.LOOK, Act.REACH, Act.PHONE, Act.AKIMBO, Act.CROUCH])
    motions = []
    for i, lane in enumerate(rng.permutation(lanes)):
        side = 1.0 if i % 2 else -1.0
        steps, t = (
            [Step(side * rng.uniform(0.7, 1.1) * _half_width(camera, lane), lane, Act.LOOK, 0.0)],
            0.0,
        )
        while t < times[-1] + 8:
            side = -side
            there = lane + rng.uniform(-0.25, 0.25)
            act = Act(int(acts[(i + len(steps)) % len(acts)]))
            pause = rng.uniform(0.6, 2.0)
            middle = rng.uniform(-0.15, 0.5) * side * _half_width(camera, there)
            steps.append(Step(middle, there, act, pause))
            steps.append(Step(0.8 * side * _half_width(camera, there), lane, Act.LOOK, 0.3))
            t += 4.0
        motions.append(follow(steps, times, camera.position[:2], rng))
    return motions


def _mingle(scene: Scene, camera: Camera) -> list[Motion]:
    """People standing or walking anywhere in sight, with half a metre about each."""
    rng = np.random.default_rng([scene.seed, 3])
    times = np.arange(scene.n_frames) / scene.fps
    places: list[np.ndarray] = []
    while len(places) < scene.n_people:
        y = rng.uniform(1.8, 7.5)
        place = np.array([rng.uniform(-0.95, 0.95) * _half_width(camera, y), y])
        # Whoever finds no free place after a while stands a little close.
        if (
            all(np.hypot(*(place - p)) > 0.55 - 0.002 * len(places) for p in places)
            or rng.uniform() < 0.02
        ):
            places.append(place)
    motions = []
    for x, y in places:
        steps = [Step(x, y, Act.FREE if rng.uniform() < 0.7 else Act(int(rng.integers(6))), 0.0)]
        if rng.uniform() < 0.3:
            angle = rng.uniform(-np.pi, np.pi)
            steps.append(
                Step(x + 4 * np.cos(angle), max(y + 4 * np.sin(angle), 1.5), Act.LOOK, 0.0)
            )
        motions.append(follow(steps, times, camera.position[:2], rng))
    return motions


def _half_width(camera: Camera, y: float) -> float:
    """Half of what the picture shows across at a distance, m."""
    return y * camera.width / camera.focal / 2


def _closeness(motions: list[Motion]) -> float:
    """The least distance between any two people at any time, m."""
    place = np.stack([m.position for m in motions])  # (N, n, 2)
    apart = np.linalg.norm(place[:, None] - place[None], axis=-1)
    apart[np.arange(len(motions)), np.arange(len(motions))] = np.inf
    return float(apart.min())


def _pose(person: _Person, index: int) -> Joints:
    """A person in the world."""
    posture: Posture = person.motion.posture(index)
    place = np.append(person.motion.position[index], 0.0)
    return stand(person.build, posture).moved(turned(float(person.motion.heading[index])), place)


@lru_cache(maxsize=4)
def _shoot(scene: Scene, index: int) -> _Shot:
    stage = _stage(scene)
    camera, (height, width) = stage.camera, (scene.height, scene.width)
    bodies = [_pose(person, index) for person in stage.people]
    in_camera = [
        b.moved(camera.camera_from_world, -camera.camera_from_world @ camera.position)
        for b in bodies
    ]
    canvas = Canvas(
        _shadowed(stage, bodies),
        stage.backdrop.depth.copy(),
        np.full((height, width), NOBODY, dtype=np.int16),
    )
    patches = [
        [
            p
            for surface in dress(person.build, person.outfit, body)
            if (p := draw(surface, camera, stage.light)) is not None
        ]
        for person, body in zip(stage.people, in_camera, strict=True)
    ]
    # Blocks go by their own nearest point; the parts of a body stay together, far ones first.
    layers = [(float(b.depth.min()), b, NOBODY) for b in stage.blocks]
    for i, (body, parts) in enumerate(zip(in_camera, patches, strict=True)):
        layers += [(body.pelvis[2] + 1e-3 * float(p.depth.min()), p, i) for p in parts]
    for _, patch, owner in sorted(layers, key=lambda layer: -layer[0]):
        canvas.lay(patch, owner)
    darken_creases(canvas, reach=width / 110)
    people = tuple(
        person
        for i, body in enumerate(in_camera)
        if (person := _witness(i, body, patches[i], canvas, camera)) is not None
    )
    return _Shot(_expose(canvas, stage, scene, index), canvas.owner, people)


def _witness(
    i: int, body: Joints, patches: list[Patch], canvas: Canvas, camera: Camera
) -> TruePerson | None:
    """The truth about one person; None when too little of them is in the picture."""
    if body.keypoints[:, 2].min() < 0.3 or not patches:
        return None
    height, width = canvas.depth.shape
    xy = camera.project(body.keypoints)
    mask = silhouette(patches, height, width)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)
    extent = np.concatenate(
        [np.minimum(xy.min(axis=0), box[:2]), np.maximum(xy.max(axis=0), box[2:])]
    )
    if (box[2:] - box[:2]).prod() < _SHOWN * (extent[2:] - extent[:2]).prod():
        return None
    seen = float((canvas.owner[mask] == i).mean())
    return TruePerson(i + 1, xy, _visible(i, xy, body.keypoints[:, 2], canvas), box, seen)


def _visible(
    i: int, xy: Float[np.ndarray, "J 2"], depth: Float[np.ndarray, " J"], canvas: Canvas
) -> Bool[np.ndarray, " J"]:
    height, width = canvas.depth.shape
    inside = ((xy >= 0) & (xy < [width, height])).all(axis=1)
    column, row = np.clip(np.floor(xy), 0, [width - 1, height - 1]).astype(int).T
    own = canvas.owner[row, column] == i
    return inside & own & (depth - canvas.depth[row, column] < _BEHIND)


def _shadowed(stage: _Stage, bodies: list[Joints]) -> Float32[np.ndarray, "height width 3"]:
    """The backdrop with soft shadows on the floor: one cast by the light, one of contact."""
    camera = stage.camera
    toward = camera.camera_from_world.T @ stage.light.direction
    height, width = stage.backdrop.depth.shape
    mask = np.zeros((height // 4, width // 4), dtype=np.float32)
    for body in bodies:
        k = body.keypoints
        trunk = k[5:7].mean(axis=0)
        bones = [(body.pelvis, trunk, 0.30), (trunk, body.head, 0.16)]
        bones += [(k[a], k[a + 2], 0.13) for a in (11, 12, 13, 14)]
        bones += [(k[a], k[a + 2], 0.08) for a in (5, 6, 7, 8)]
        cast = np.zeros_like(mask)
        for a, b, thick in bones:
            _stroke(cast, np.stack([a, b]), toward, thick, camera)
        mask = np.maximum(mask, 0.45 * cast)
        for heel, toe in zip(body.heels, body.toes, strict=True):
            touch = np.zeros_like(mask)
            _stroke(touch, np.stack([heel, toe]), np.array([0.0, 0.0, 1.0]), 0.14, camera)
            mask = np.maximum(
                mask, 0.7 * np.float32(np.exp(-12 * max(float(toe[2]) - 0.04, 0))) * touch
            )
    mask = cv2.GaussianBlur(mask, (0, 0), width / 500)
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR) * stage.backdrop.floor
    return stage.backdrop.colour * (1 - mask)[..., None]


def _stroke(
    mask: Float32[np.ndarray, "h w"],
    bone: Float[np.ndarray, "2 3"],
    toward: Float[np.ndarray, "3"],
    thick: float,
    camera: Camera,
) -> None:
    """Draw what a bone shades on the floor, on a mask of a quarter of the size."""
    ground = bone - bone[:, 2:] / max(float(toward[2]), 0.3) * toward
    there = camera.points(ground)
    if there[:, 2].min() < 0.3:
        return
    ends = camera.project(there) / 4
    if np.abs(ends).max() > 4 * max(mask.shape):
        return
    pixels = max(1, round(0.6 * thick * camera.focal / float(there[:, 2].mean()) / 4))
    a, b = (tuple(int(c) for c in np.floor(end)) for end in ends)
    cv2.line(mask, a, b, 1.0, pixels, cv2.LINE_AA)


def _expose(
    canvas: Canvas, stage: _Stage, scene: Scene, index: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Lens blur and the sensor's noise, fresh in each frame."""
    rng = np.random.default_rng([scene.seed, 4, index])
    y, x = rng.integers(0, 64, 2)
    grain = stage.grain[y : y + scene.height, x : x + scene.width, None]
    image = cv2.GaussianBlur(canvas.colour, (0, 0), stage.softness)
    image += grain
    return np.clip(image, 0, 255, out=image).astype(np.uint8)
