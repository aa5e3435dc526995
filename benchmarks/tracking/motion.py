"""True motion of one person in place: 17 keypoints in heights of the body, 30 frames a second.

From motion capture (CMU) and from annotated videos (Penn Action) where these are at hand, else from
the project's own gait. Every clip is scaled to height 1 and has its place taken out.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.signal import savgol_filter

from tracker.demo.body import Build, stand, turned
from tracker.demo.gait import Act, Step, follow
from tracker.skeleton import COCO17

FPS = 30.0
SHARED = Path(os.environ.get("SUREPOSE_SHARED", Path(__file__).parents[3] / "shared"))
MOCAP = SHARED / "data/mocap"

Clip = Float[np.ndarray, "n 17 2"]
Draw = Callable[[np.random.Generator, int], Clip]
Source = Callable[[bool], Draw]
"""Takes whether it is for tuning: every second recording is, the others are for the test."""

_FACE = np.array([[0.10, 0.0], [0.08, 0.03], [0.08, -0.03], [0.0, 0.07], [0.0, -0.07]])
"""Nose, eyes, ears of an adult: ahead of and to the left of the middle of the head, m."""
_SIDES = [COCO17.keypoint_names.index(f"{s}_{p}") for p in ("shoulder", "elbow", "wrist", "hip",
          "knee", "ankle") for s in ("left", "right")]  # fmt: skip


def sources() -> dict[str, Source]:
    """What there is to move like."""
    found: dict[str, Source] = {}
    if (MOCAP / "cmu28_joints3d_30fps_m.npz").is_file():
        found["cmu"] = cmu
    if (MOCAP / "penn_action_2d.npz").is_file():
        found["penn"] = penn
    return found or {"gait": gait}


def gait(tuning: bool) -> Draw:
    """The walkers of the drawn scene, seen from a random side."""

    def draw(rng: np.random.Generator, n: int) -> Clip:
        build, acts = Build.draw(rng), rng.permutation(len(Act))
        steps = [Step(0.0, 0.0, Act.LOOK, 0.0)]
        for act in acts:
            steps.append(
                Step(rng.uniform(-3, 3), rng.uniform(-3, 3), Act(int(act)), rng.uniform(0.3, 1.5))
            )
        motion = follow(steps, np.arange(n) / FPS, np.array([0.0, -6.0]), rng)
        space = np.stack(
            [
                stand(build, motion.posture(i)).keypoints @ turned(float(motion.heading[i])).T
                for i in range(n)
            ]
        )
        return _in_place(_seen(space, rng))

    return draw


def cmu(tuning: bool) -> Draw:
    """Motion capture through a slowly turning orthographic camera."""
    recordings = _recordings()[(0 if tuning else 1) :: 2]

    def draw(rng: np.random.Generator, n: int) -> Clip:
        recording = recordings[rng.integers(len(recordings))]
        at = _there_and_back(len(recording), n, rng)
        return _in_place(_seen(recording[at], rng))

    return draw


def penn(tuning: bool) -> Draw:
    """Annotated sports; the jitter of the annotators' hands is smoothed away."""
    clips = _penn_clips()[(0 if tuning else 1) :: 2]

    def draw(rng: np.random.Generator, n: int) -> Clip:
        clip = clips[rng.integers(len(clips))]
        return _in_place(clip[_there_and_back(len(clip), n, rng)])

    return draw


@lru_cache(maxsize=1)
def _recordings() -> list[Float[np.ndarray, "n 17 3"]]:
    """CMU bodies with x, y on the floor, z up, and a face put on the head."""
    with np.load(MOCAP / "cmu28_joints3d_30fps_m.npz") as stored:
        names = [name for name in stored.files if name != "joints"]
        return [_with_face(stored[name][..., [0, 2, 1]].astype(float)) for name in names]


def _with_face(joints: Float[np.ndarray, "n 14 3"]) -> Float[np.ndarray, "n 17 3"]:
    neck, head = joints[:, 12], joints[:, 13]
    left = _unit(joints[:, 0] - joints[:, 1])
    # The axes came as x, height, z: swapping two of them has mirrored space once.
    ahead = _unit(np.cross(_unit(head - neck), left))
    face = head[:, None] + _FACE[:, :1] * ahead[:, None] + _FACE[:, 1:] * left[:, None]
    return np.concatenate([face, joints[:, :12]], axis=1)


@lru_cache(maxsize=1)
def _penn_clips() -> list[Clip]:
    with np.load(MOCAP / "penn_action_2d.npz") as stored:
        xy, visible, offset = stored["xy"], stored["visible"], stored["sequence_offset"]
    whole = [
        xy[a:b].astype(float) for a, b in pairwise(offset) if b - a >= 60 and visible[a:b].all()
    ]
    return [_body_of(savgol_filter(clip, 9, 3, axis=0)) for clip in whole]


def _body_of(joints: Float[np.ndarray, "n 13 2"]) -> Clip:
    """Penn's 13 joints with a face about the head; its size follows the length of the trunk."""
    size = np.linalg.norm(joints[:, 1:3].mean(axis=1) - joints[:, 7:9].mean(axis=1), axis=1)
    offset = np.array([[0.0, 0.0], [0.05, -0.05], [-0.05, -0.05], [0.12, -0.02], [-0.12, -0.02]])
    face = joints[:, :1] + offset * np.median(size)
    body = np.zeros((len(joints), 17, 2))
    body[:, :5], body[:, _SIDES] = face, joints[:, 1:]
    return body


def _seen(space: Float[np.ndarray, "n 17 3"], rng: np.random.Generator) -> Clip:
    """Orthographic, from a camera on the floor's level that goes around at up to 10°/s."""
    turn = (
        rng.uniform(0, 2 * np.pi) + np.radians(rng.uniform(-10, 10)) * np.arange(len(space)) / FPS
    )
    right = np.stack([np.cos(turn), np.sin(turn), np.zeros(len(space))], axis=1)
    x = (space * right[:, None]).sum(axis=-1)
    return np.stack([x, -space[..., 2]], axis=-1)


def _in_place(clip: Clip) -> Clip:
    """Height 1, and where the hips go over seconds taken out; what they do within stays in."""
    extent = clip.max(axis=1) - clip.min(axis=1)
    height = np.median(extent.max(axis=1))
    middle = clip[:, [11, 12]].mean(axis=1)
    way = savgol_filter(middle, min(45, len(middle) - (len(middle) + 1) % 2), 2, axis=0)
    return (clip - way[:, None]) / height


def _there_and_back(length: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Some frames from a random start on, turning back at the ends."""
    at = (rng.integers(2 * length) + np.arange(n)) % (2 * length - 2)
    return np.minimum(at, 2 * length - 2 - at)


def _unit(vector: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)
