"""A person's build and posture, and where they put the joints.

A body has x ahead, y to its own left and z up, in metres. Pairs of limbs are arrays of two rows,
left then right. All bones keep their lengths in every posture.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

BONES = (
    ("left_shoulder", "left_elbow"),
    ("right_shoulder", "right_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_elbow", "right_wrist"),
    ("left_hip", "left_knee"),
    ("right_hip", "right_knee"),
    ("left_knee", "left_ankle"),
    ("right_knee", "right_ankle"),
    ("left_hip", "right_hip"),
)
"""Pairs of keypoints whose distance in space never changes."""

SIDES = np.array([1.0, -1.0])


class Posture(NamedTuple):
    """Angles of the joints, rad; all zero is upright with hanging arms."""

    spine: Float[np.ndarray, "3"]
    """Lean ahead, lean to the left, twist to the left; shared by waist and chest."""
    head: Float[np.ndarray, "3"]
    """Nod ahead, tilt to the left, turn to the left."""
    arm: Float[np.ndarray, "2 4"]
    """Raise ahead, raise aside, turn inwards about the upper arm, bend the elbow."""
    leg: Float[np.ndarray, "2 5"]
    """Raise ahead, raise aside, turn outwards, bend the knee, lift the toes."""

    @classmethod
    def upright(cls) -> "Posture":
        return cls(np.zeros(3), np.zeros(3), np.zeros((2, 4)), np.zeros((2, 5)))

    def towards(self, other: "Posture", part: float) -> "Posture":
        """The posture a part of the way to another, angle by angle."""
        return Posture(*(a + part * (b - a) for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class Build:
    """The measures of a body. Factors are 1 for the average adult."""

    stature: float = 1.72
    """m."""
    girth: float = 1.0
    """Thickness of trunk and limbs."""
    shoulders: float = 1.0
    """Breadth of the shoulders."""
    hips: float = 1.0
    """Breadth of the hips."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Build":
        """A plausible adult; broad hips go with narrow shoulders as often as they do in people."""
        form = rng.uniform(-1, 1)
        stature = float(np.clip(rng.normal(1.70 + 0.06 * form, 0.07), 1.5, 1.95))
        girth = float(np.clip(rng.normal(1.0, 0.1), 0.82, 1.3))
        return cls(stature, girth, 1 + 0.06 * form, 1 - 0.06 * form)


class Joints(NamedTuple):
    """A body in space: positions in metres; `turns` holds each rigid part's frame."""

    keypoints: Float[np.ndarray, "17 3"]
    """In COCO's order."""
    pelvis: Float[np.ndarray, "3"]
    chest: Float[np.ndarray, "3"]
    neck: Float[np.ndarray, "3"]
    head: Float[np.ndarray, "3"]
    """Centre of the skull."""
    fingers: Float[np.ndarray, "2 3"]
    heels: Float[np.ndarray, "2 3"]
    toes: Float[np.ndarray, "2 3"]
    turns: dict[str, Float[np.ndarray, "*pair 3 3"]]
    """Of pelvis, chest, head, arm, forearm, thigh, shin: columns are ahead, left, up."""

    def moved(self, turn: Float[np.ndarray, "3 3"], offset: Float[np.ndarray, "3"]) -> "Joints":
        """The same body after a rigid motion: turn p + offset."""

        def place(p: Float[np.ndarray, "*pair 3"]) -> Float[np.ndarray, "*pair 3"]:
            return p @ turn.T + offset

        return Joints(
            place(self.keypoints),
            place(self.pelvis),
            place(self.chest),
            place(self.neck),
            place(self.head),
            place(self.fingers),
            place(self.heels),
            place(self.toes),
            {name: turn @ part for name, part in self.turns.items()},
        )


def stand(build: Build, posture: Posture) -> Joints:
    """Put a body over the origin, facing x, with its lowest sole on the floor.

    Bone lengths are the shares of stature of Drillis and Contini (in Winter, Biomechanics and Motor
    Control of Human Movement, 2009).
    """
    h = build.stature
    spine, nod = posture.spine / 2, posture.head
    pelvis_turn = np.eye(3)
    waist_turn = _lean(spine)
    chest_turn = waist_turn @ _lean(spine)
    head_turn = chest_turn @ _lean(nod)

    pelvis = np.zeros(3)
    waist = pelvis + h * np.array([0.0, 0.0, 0.07])
    chest = waist + waist_turn @ (h * np.array([-0.005, 0.0, 0.10]))
    neck = chest + chest_turn @ (h * np.array([-0.005, 0.0, 0.135]))
    head = neck + head_turn @ (h * np.array([0.018, 0.0, 0.098]))
    face = head + _face(build) @ head_turn.T

    out = SIDES[:, None]
    shoulder = chest + _aside(0.104 * h * build.shoulders, 0.0, 0.105 * h) @ chest_turn.T
    arm = chest_turn @ _limb(-posture.arm[:, 0], out[:, 0] * posture.arm[:, 1])
    arm = arm @ _about(2, -SIDES * posture.arm[:, 2])
    elbow = shoulder - 0.172 * h * arm[..., 2]
    forearm = arm @ _about(1, -posture.arm[:, 3])
    wrist = elbow - 0.150 * h * forearm[..., 2]
    fingers = wrist - 0.098 * h * forearm[..., 2]

    hip = pelvis + _aside(0.053 * h * build.hips, 0.0, -0.015 * h)
    thigh = _limb(-posture.leg[:, 0], SIDES * posture.leg[:, 1])
    thigh = thigh @ _about(2, SIDES * posture.leg[:, 2])
    knee = hip - 0.245 * h * thigh[..., 2]
    shin = thigh @ _about(1, posture.leg[:, 3])
    ankle = knee - 0.240 * h * shin[..., 2]
    foot = shin @ _about(1, -posture.leg[:, 4])
    heels = ankle + foot @ (h * np.array([-0.030, 0.0, -0.022]))
    toes = ankle + foot @ (h * np.array([0.098, 0.0, -0.028]))

    keypoints = np.concatenate(
        [face, np.stack([shoulder, elbow, wrist, hip, knee, ankle]).reshape(-1, 3)]
    )
    turns = {
        "pelvis": pelvis_turn,
        "waist": waist_turn,
        "chest": chest_turn,
        "head": head_turn,
        "arm": arm,
        "forearm": forearm,
        "thigh": thigh,
        "shin": shin,
        "foot": foot,
    }
    body = Joints(keypoints, pelvis, chest, neck, head, fingers, heels, toes, turns)
    # A kneeling body rests on its knees, not on its feet.
    lowest = min(heels[:, 2].min(), toes[:, 2].min(), knee[:, 2].min() - 0.01 * h)
    return body.moved(np.eye(3), np.array([0.0, 0.0, 0.018 * h - lowest]))


def turned(heading: float) -> Float[np.ndarray, "3 3"]:
    """The frame in the world of a body that faces (cos heading, sin heading)."""
    return _about(2, np.array([heading]))[0]


def _face(build: Build) -> Float[np.ndarray, "5 3"]:
    """Nose, eyes and ears about the centre of the skull; heads vary half as much as bodies."""
    size = 0.5 + 0.5 * build.stature / 1.72
    return size * np.array(
        [
            [0.112, 0.0, -0.034],
            [0.088, 0.032, 0.002],
            [0.088, -0.032, 0.002],
            [-0.004, 0.078, -0.016],
            [-0.004, -0.078, -0.016],
        ]
    )


def _aside(y: float, x: float, z: float) -> Float[np.ndarray, "2 3"]:
    return np.array([[x, y, z], [x, -y, z]])


def _lean(angles: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    ahead, left, twist = (
        _about(axis, np.array([a]))[0]
        for axis, a in zip((1, 0, 2), angles * [1, -1, 1], strict=True)
    )
    return twist @ ahead @ left


def _limb(
    ahead: Float[np.ndarray, "2"], aside: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "2 3 3"]:
    return _about(1, ahead) @ _about(0, aside)


def _about(axis: int, angle: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 3 3"]:
    """Rotations about a coordinate axis, right-handed."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn = np.zeros((len(angle), 3, 3))
    turn[:, axis, axis] = 1.0
    turn[:, i, i] = turn[:, j, j] = np.cos(angle)
    turn[:, j, i], turn[:, i, j] = np.sin(angle), -np.sin(angle)
    return turn
