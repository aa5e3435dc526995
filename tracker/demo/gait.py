"""How people move: procedural walking, turning and standing about, smooth in time.

Nothing here is recorded from people. The walking angles follow the textbook curves of one stride
(heel strike at phase 0, toe-off at 0.62, greatest bend of the swinging knee at 0.72).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Float

from tracker.demo.body import Posture

TURN = 2 * np.pi

_DT = 1 / 60
"""Walking is simulated in steps of this length, s."""


class Act(IntEnum):
    """What a person does while standing."""

    LOOK = 0
    WAVE = 1
    REACH = 2
    CROUCH = 3
    PHONE = 4
    AKIMBO = 5
    FREE = 6
    """Wanders between random postures within the limits of the joints."""


@dataclass(frozen=True, slots=True)
class Step:
    """Go to a place, then do something there for a while."""

    x: float
    y: float
    act: Act
    duration: float
    """s."""


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """A person's way through a scene, one row a frame."""

    position: Float[np.ndarray, "n 2"]
    """On the floor, m."""
    heading: Float[np.ndarray, " n"]
    """rad, 0 along x."""
    phase: Float[np.ndarray, " n"]
    """Of the stride, in turns; half a turn between the feet."""
    swing: Float[np.ndarray, " n"]
    """Half the angle between the legs at heel strike, rad."""
    act: Float[np.ndarray, "n acts"]
    """How far each act is carried out, in [0, 1]."""
    time: Float[np.ndarray, " n"]
    keys: Float[np.ndarray, "keys angles"]
    """Random postures that FREE passes through."""

    def posture(self, i: int) -> Posture:
        """The posture in frame i: walking, overlaid with the acts."""
        pose = walking(float(self.phase[i]), float(self.swing[i]), float(self.time[i]))
        for act in np.flatnonzero(self.act[i] > 1e-3):
            pose = pose.towards(
                _doing(Act(int(act)), pose, float(self.time[i]), self.keys), float(self.act[i, act])
            )
        return pose


def walking(phase: float, swing: float, time: float = 0.0) -> Posture:
    """One instant of walking; swing 0 is standing with a little breath in it."""
    feet = TURN * (phase + np.array([0.0, 0.5]))  # left, right
    effort = min(swing / 0.42, 1.2)
    bob = 0.02 * np.sin(TURN * 0.25 * time)

    raise_ahead = 0.10 * effort + swing * np.cos(feet)
    knee = 0.04 + effort * (0.98 * _bump(feet, 0.72, 5.0) + 0.22 * _bump(feet, 0.13, 8.0))
    toes_down = effort * (0.75 * _bump(feet, 0.63, 9.0) - 0.28 * _bump(feet, 0.98, 9.0))
    lift = np.clip(knee - raise_ahead - toes_down, -0.7, 0.5)
    leg = np.stack([raise_ahead, np.full(2, 0.035), np.full(2, 0.12), knee, lift], axis=1)

    arm_swing = -1.0 * swing * np.cos(feet)
    arm = np.stack(
        [
            arm_swing + 0.03 + bob,
            np.full(2, 0.13),
            np.full(2, 0.25),
            0.22 + 0.35 * effort + 0.5 * np.maximum(arm_swing, 0.0),
        ],
        axis=1,
    )
    spine = np.array(
        [0.03 + 0.05 * effort, 0.04 * effort * np.sin(feet[0]), -0.25 * swing * np.cos(feet[0])]
    )
    head = np.array([0.0, 0.0, -0.6 * spine[2]])
    return Posture(spine, head, arm, leg)


def follow(
    steps: Sequence[Step],
    times: Float[np.ndarray, " n"],
    camera: Float[np.ndarray, "2"],
    rng: np.random.Generator,
) -> Motion:
    """Walk through the steps with limited speed, acceleration and rate of turn.

    Who stops on the way turns towards the camera, more or less. A single step is a place to stand
    at, facing anywhere; the last step lasts.
    """
    walker = _Walker.at_start(steps, camera, rng)
    n = int(np.ceil(times[-1] / _DT)) + 2
    table = np.array([walker.advance(k * _DT) for k in range(n)])
    at = np.stack([np.interp(times, _DT * np.arange(n), column) for column in table.T], axis=1)
    return Motion(at[:, :2], at[:, 2], at[:, 3], at[:, 4], at[:, 5:], times, _free_keys(rng))


@dataclass(slots=True, eq=False)
class _Walker:
    """The state of someone on their way; `advance` changes it."""

    steps: Sequence[Step]
    camera: Float[np.ndarray, "2"]
    pace: float
    """m/s."""
    askew: float
    """How far from the camera they turn when they stop, rad."""
    place: Float[np.ndarray, "2"]
    heading: float
    phase: float
    speed: float
    swing: float
    act: Float[np.ndarray, " acts"]
    drive: Float[np.ndarray, " acts"]
    leg: int = 0
    arrived: float | None = None
    rate: float = 0.0
    """Of turning, rad/s."""

    @classmethod
    def at_start(
        cls, steps: Sequence[Step], camera: Float[np.ndarray, "2"], rng: np.random.Generator
    ) -> "_Walker":
        """Already walking, or already at what is done at the only step."""
        place = np.array([steps[0].x, steps[0].y])
        pace, askew, phase = rng.uniform(1.05, 1.4), rng.normal(0, 0.4), rng.uniform()
        if len(steps) == 1:
            act = np.eye(len(Act))[steps[0].act]
            heading = rng.uniform(-np.pi, np.pi)
            return cls(
                steps, camera, pace, askew, place, heading, phase, 0.0, 0.0, act, act.copy(), 0, 0.0
            )
        heading = _bearing(np.array([steps[1].x, steps[1].y]) - place)
        none = np.zeros(len(Act))
        return cls(
            steps,
            camera,
            pace,
            askew,
            place,
            heading,
            phase,
            pace,
            0.3 * pace,
            none,
            none.copy(),
            1,
        )

    def advance(self, now: float) -> tuple[float, ...]:
        """The row of this instant: place, heading, phase, swing, acts; then go on by _DT."""
        row = (*self.place.tolist(), self.heading, self.phase, self.swing, *self.act.tolist())
        self._choose_leg(now)
        error = (self._wanted_heading() - self.heading + np.pi) % TURN - np.pi
        wanted = 0.0 if self.arrived is not None else self.pace * max(0.0, np.cos(error))
        self._step(float(error), float(wanted))
        target = np.zeros(len(Act))
        target[self.steps[self.leg].act] = float(self.arrived is not None)
        # Two first-order lags: the act sets in and ends without a jerk.
        self.drive = self.drive + _DT * 7.0 * (target - self.drive)
        self.act = self.act + _DT * 7.0 * (self.drive - self.act)
        return row

    def _choose_leg(self, now: float) -> None:
        if self.arrived is None and float(np.hypot(*self._goal())) < 0.3:
            self.arrived = now
        on = self.leg + 1 < len(self.steps)
        if on and self.arrived is not None and now > self.arrived + self.steps[self.leg].duration:
            self.leg, self.arrived = self.leg + 1, None

    def _goal(self) -> Float[np.ndarray, "2"]:
        step = self.steps[self.leg]
        return np.array([step.x, step.y]) - self.place

    def _wanted_heading(self) -> float:
        if self.arrived is None:
            return _bearing(self._goal())
        if len(self.steps) == 1:
            return self.heading
        return _bearing(self.camera - self.place) + self.askew

    def _step(self, error: float, wanted_speed: float) -> None:
        self.rate += _DT * 6.0 * (float(np.clip(3.0 * error, -2.8, 2.8)) - self.rate)
        self.heading += _DT * self.rate
        self.speed += float(np.clip(wanted_speed - self.speed, -2.5 * _DT, 1.8 * _DT))
        ahead = np.array([np.cos(self.heading), np.sin(self.heading)])
        self.place = self.place + _DT * self.speed * ahead
        strides = 0.5 + 0.32 * self.speed + 0.1 * abs(self.rate)  # 1/s
        # A step of speed/(2 strides) m is taken by legs of 0.9 m that open by twice the swing.
        swing = float(np.arcsin(min(self.speed / (2 * strides) / 1.8, 0.6)))
        self.swing += _DT * 8.0 * (swing + 0.05 * abs(self.rate) - self.swing)
        self.phase += _DT * strides


def _bearing(to: Float[np.ndarray, "2"]) -> float:
    return float(np.arctan2(to[1], to[0]))


def _bump(angle: Float[np.ndarray, "2"], centre: float, sharp: float) -> Float[np.ndarray, "2"]:
    """A smooth periodic bump of height 1 about a phase: exp(κ (cos(angle - 2π centre) - 1))."""
    return np.exp(sharp * (np.cos(angle - TURN * centre) - 1))


def _doing(act: Act, pose: Posture, time: float, keys: Float[np.ndarray, "keys angles"]) -> Posture:
    if act is Act.FREE:
        return _free(time, keys)
    return _ACTS[act](pose, time)


def _look(pose: Posture, time: float) -> Posture:
    return pose._replace(head=np.array([0.1, 0.0, 0.7 * np.sin(1.6 * time)]))


def _wave(pose: Posture, time: float) -> Posture:
    arm = pose.arm.copy()
    arm[1] = [0.35, 1.25, -1.35, 1.5 + 0.45 * np.sin(8.0 * time)]
    return pose._replace(arm=arm, spine=pose.spine + np.array([0, 0.06, 0]))


def _reach(pose: Posture, time: float) -> Posture:
    arm = pose.arm.copy()
    arm[0] = [2.3 + 0.15 * np.sin(2.0 * time), 0.2, 0.1, 0.25]
    return pose._replace(arm=arm, head=np.array([-0.25, 0, 0.1]))


def _crouch(pose: Posture, time: float) -> Posture:
    sway = 0.05 * np.sin(1.5 * time)
    arm = np.tile([0.9 + sway, 0.15, 0.2, 0.7], (2, 1))
    leg = np.tile([1.55, 0.25, 0.3, 2.0, 0.35], (2, 1))
    return Posture(np.array([0.55 + sway, 0, 0]), np.array([-0.3, 0, 0]), arm, leg)


def _phone(pose: Posture, time: float) -> Posture:
    arm = pose.arm.copy()
    arm[1] = [0.55 + 0.04 * np.sin(time), 0.15, 0.45, 1.75]
    return pose._replace(arm=arm, head=np.array([0.4, 0, -0.1]))


def _akimbo(pose: Posture, time: float) -> Posture:
    arm = np.tile([-0.35, 0.75, 1.15, 1.75], (2, 1))
    return pose._replace(arm=arm, spine=pose.spine + np.array([0, 0.05 * np.sin(time), 0]))


_ACTS: dict[Act, Callable[[Posture, float], Posture]] = {
    Act.LOOK: _look,
    Act.WAVE: _wave,
    Act.REACH: _reach,
    Act.CROUCH: _crouch,
    Act.PHONE: _phone,
    Act.AKIMBO: _akimbo,
}

# Spine, head, arm, leg (twice the last two), as in Posture; rad.
_LOW = np.array(
    [-0.2, -0.35, -0.5, -0.35, -0.3, -0.9]
    + 2 * [-0.6, 0.0, -1.2, 0.0]
    + 2 * [-0.4, 0.0, -0.2, 0.0, -0.3]
)
_HIGH = np.array(
    [0.8, 0.35, 0.5, 0.5, 0.3, 0.9] + 2 * [2.8, 1.9, 0.9, 2.2] + 2 * [1.4, 0.6, 0.5, 1.7, 0.4]
)


def _free_keys(rng: np.random.Generator) -> Float[np.ndarray, "keys angles"]:
    # The cube pulls most angles towards rest: bodies seldom use all their range at once.
    rest = np.clip(0.0, _LOW, _HIGH)
    draw = rng.uniform(-1, 1, size=(12, len(_LOW)))
    reach = np.where(draw > 0, _HIGH - rest, rest - _LOW)
    return rest + np.sign(draw) * np.abs(draw) ** 1.6 * reach


def _free(time: float, keys: Float[np.ndarray, "keys angles"]) -> Posture:
    at = time / 0.9
    k, part = int(at), at % 1.0
    ease = part * part * (3 - 2 * part)
    angles = (1 - ease) * keys[k % len(keys)] + ease * keys[(k + 1) % len(keys)]
    return Posture(angles[:3], angles[3:6], angles[6:14].reshape(2, 4), angles[14:].reshape(2, 5))
