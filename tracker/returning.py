"""Who has come back: a new track beside the people who have left.

Where somebody would be by now, and how large, against a stranger anywhere near. The proportions of
a body tell nothing beyond its size: within three seconds the projected bones of one person change
by as much (torso 8, thigh 10, shank 7 %) as those of different people differ (4, 8, 8 %: motion
capture), the length of all together by 6 %. Where people are lost is known well, where they would
be by now is not: up and down they stay within 0.2 heights for seconds (motion capture, a level
camera), along the floor nobody knows.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import softmax

from tracker.geometry import Affine
from tracker.life import CONFIRMED
from tracker.motion import relaxing_velocity
from tracker.skeleton import Skeleton
from tracker.types import Track

HEIGHT_OF_BONES = 0.38
"""A standing person's height over the length of all bones, in the picture (motion capture)."""

EVERY = 0.5
"""People are looked at this often, s: a stride says more of where they go than a frame."""
LOOKS = 3


@dataclass(frozen=True, slots=True)
class ReturnConfig:
    """When a new track is somebody who was lost."""

    memory: float = 8.0
    """Nobody is known again who has been unseen for longer, s."""
    walk_time: float = 4.0
    """Who is out of sight walks on for about this long, s, …"""
    walk_density: float = 0.1
    """… with a white acceleration along the floor of this spectral density, heights²/s³, …"""
    rise_std: float = 0.15
    """… and stays as high in the picture, but for this, heights."""
    start_speed: float = 0.5
    """Spread of a velocity of which nothing is known, heights/s."""
    size_std: float = 0.07
    """How far the size of one person changes meanwhile, as a share of it, …"""
    other_size_std: float = 0.35
    """… and how far the sizes of two people differ beyond."""
    place_std: float = 2.0
    """Spread of the places where a stranger may appear, heights."""
    strangers: float = 4.0
    """Before looking, a stranger is this many times as likely as each of those who are absent."""
    least: float = 0.9
    """Probability from which somebody is known again."""


class _Look(NamedTuple):
    """Where a person was at some time, and how large."""

    time: float
    place: Float[np.ndarray, "2"]
    """Mean of all keypoints, px."""
    cov: Float[np.ndarray, "2 2"]
    size: float
    """Length of all bones together, px."""

    @property
    def height(self) -> float:
        return self.size * HEIGHT_OF_BONES

    def moved(self, now_from_then: Affine) -> "_Look":
        A = now_from_then.linear
        size = self.size * float(np.sqrt(abs(np.linalg.det(A))))
        return _Look(self.time, now_from_then.points(self.place), A @ self.cov @ A.T, size)


class Numbers:
    """Numbers for people: 1, 2, 3, …, and their old ones for those who come back.

    Nobody gets the number of somebody else; tentative tracks have negative ones.
    """

    def __init__(self, skeleton: Skeleton, config: ReturnConfig) -> None:
        self._skeleton, self._config = skeleton, config
        self._sure, self._tentative = count(1), count(-1, -1)
        self._looks: dict[int, deque[_Look]] = {}

    def tentative(self) -> int:
        return next(self._tentative)

    def remember(self, people: Iterable[Track], time: float) -> None:
        """Look at those who have a number now and then, and as they get lost."""
        recent = time - self._config.memory
        self._looks = {n: looks for n, looks in self._looks.items() if looks[-1].time >= recent}
        for track in people:
            looks = self._looks.get(track.id)
            if looks is None and track.status is CONFIRMED and track.id > 0:
                self._looks[track.id] = deque([_look(track, self._skeleton)], LOOKS)
            elif looks is not None:
                due = time - EVERY if track.status is CONFIRMED else track.last_seen
                if looks[-1].time < due:
                    looks.append(_look(track, self._skeleton))

    def given(self, people: Sequence[Track]) -> dict[int, int]:
        """New numbers, by the old: of those who have just been confirmed."""
        numbers: dict[int, int] = {}
        here = {track.id for track in people if track.status is CONFIRMED}
        for new in people:
            if new.status is CONFIRMED and new.id < 0:
                absent = {n: looks for n, looks in self._looks.items() if n not in here}
                old = _returned(_look(new, self._skeleton), absent, self._config)
                if old is not None:
                    del self._looks[old]
                numbers[new.id] = next(self._sure) if old is None else old
        return numbers

    def move_camera(self, now_from_then: Affine) -> None:
        """Carry along where everybody was."""
        self._looks = {
            n: deque((look.moved(now_from_then) for look in looks), maxlen=LOOKS)
            for n, looks in self._looks.items()
        }


def _returned(here: _Look, absent: dict[int, deque[_Look]], config: ReturnConfig) -> int | None:
    """The one of the absent people who this is, if that is clear."""
    if not absent:
        return None
    ratios = [_log_ratio(here, looks, config) for looks in absent.values()]
    probability = softmax([*ratios, np.log(config.strangers)])[:-1]
    best = int(probability.argmax())
    return list(absent)[best] if probability[best] > config.least else None


def _log_ratio(here: _Look, looks: Sequence[_Look], config: ReturnConfig) -> float:
    """How much better the same person explains it than a stranger would, nats."""
    place, cov = _by_now(looks, here.time, config)
    S, offset = here.cov + cov, here.place - place
    same = -0.5 * (np.log(np.linalg.det(S)) + offset @ np.linalg.solve(S, offset))
    # Expected, so that no typical place is needed.
    stranger = -np.log((config.place_std * here.height) ** 2) - 1
    growth = np.log(here.size) - np.mean([np.log(look.size) for look in looks])
    own, other = config.size_std**2, config.size_std**2 + config.other_size_std**2
    size = 0.5 * (np.log(other / own) - growth**2 * (1 / own - 1 / other))
    return float(same - stranger + size)


def _by_now(
    looks: Sequence[_Look], time: float, config: ReturnConfig
) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2 2"]]:
    """Where an unseen person is expected: walking on along the floor."""
    last, height = looks[-1], looks[-1].height
    before = [look for look in looks if last.time - look.time >= EVERY / 2]
    walk = relaxing_velocity(time - last.time, config.walk_time)
    gain, spread = walk.F[0, 1], config.walk_density * walk.Q[0, 0]
    place = last.place.copy()
    if before:
        speed = (last.place[0] - before[-1].place[0]) / (last.time - before[-1].time)
        place[0] += gain * speed
    else:
        spread += (gain * config.start_speed) ** 2
    return place, last.cov + height**2 * np.diag([spread, config.rise_std**2])


def _look(track: Track, skeleton: Skeleton) -> _Look:
    n, k = len(skeleton), track.state.heaviest
    mean = np.tile(np.eye(2) / n, n)
    a, b = np.array(skeleton.edges).T
    size = np.linalg.norm(track.keypoints[a] - track.keypoints[b], axis=1).sum()
    position, cov = track.state.mean[k, : 2 * n], track.state.cov[k, : 2 * n, : 2 * n]
    return _Look(track.time, mean @ position, mean @ cov @ mean.T, float(size))
