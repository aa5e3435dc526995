"""Who comes back after seconds out of sight: do they get their old numbers, or somebody else's?

How many could be known again at all is what our rule makes of perfect tracks: nobody is lost but by
going away, and there are no ghosts (`INFORMED`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from benchmarks.tracking.crowd import CrowdConfig, crowd
from benchmarks.tracking.frozen import Detections
from benchmarks.tracking.identities import Contestant, Options
from benchmarks.tracking.motion import FPS, Draw
from benchmarks.tracking.ours import Answer
from tracker.evaluation.identity import SAME
from tracker.evaluation.people import People, by_keypoints
from tracker.metrics import match_people
from tracker.returning import Numbers, ReturnConfig
from tracker.skeleton import COCO17
from tracker.types import Mixture, Track, TrackStatus

AWAY = (1.0, 5.0)
SETTLED = FPS
"""Frames after the return within which a tracker may make up its mind."""
INFORMED = "ours, told who is where"
PATIENT: Mapping[str, Options] = {
    "norfair": {"hit_counter_max": 150},
    "botsort": {"lost_track_buffer": 150},
    "bytetrack": {"lost_track_buffer": 150},
    "ocsort": {"lost_track_buffer": 150},
    "stonesoup": {"patience": 150},
    "ultralytics_bytetrack": {"track_buffer": 150},
    "ultralytics_botsort": {"track_buffer": 150},
}
"""Peers that remember for as long as anybody is away."""


@dataclass(frozen=True, slots=True)
class Returns:
    """What became of those who were away."""

    tracker: str
    options: Options
    kept: int
    """Have their old number a second later, …"""
    renamed: int
    """… one that is new, …"""
    confused: int
    """… or one that was somebody else's."""
    unseen: int
    """Were not followed before or after."""


def compare(
    draw: Draw, entered: Mapping[str, Contestant], people: int, frames: int, seeds: int
) -> list[Returns]:
    """Everybody is away once, for one to five seconds; the others walk on."""
    config = CrowdConfig(people=people, frames=frames, away=AWAY)
    scenes = [crowd(draw, config, 500 + seed) for seed in range(seeds)]
    perfect = [_informed(scene) for scene in scenes]
    found = [count(INFORMED, {}, scenes, perfect)]
    for name, one in entered.items():
        setups: list[Options] = [{}, *([PATIENT[name]] if name in PATIENT else [])]
        for options, answers in zip(setups, one.follow(scenes, setups), strict=True):
            found.append(count(name, options, scenes, answers))
    return found


def count(
    name: str, options: Options, scenes: Sequence[Detections], answers: Sequence[Answer]
) -> Returns:
    told: Counter[str] = Counter()
    for scene, answer in zip(scenes, answers, strict=True):
        told.update(_outcomes(scene, answer))
    return Returns(name, options, told["kept"], told["renamed"], told["confused"], told["unseen"])


def _informed(scene: Detections) -> Answer:
    """The true tracks, and the numbers that ours would give them."""
    numbers = Numbers(COCO17, ReturnConfig())
    ids: dict[int, int] = {}
    answer: dict[int, People] = {}
    for frame, people in sorted(scene.truth.items()):
        here = people.ids.tolist()
        ids = {n: ids.get(n, 0) or numbers.tentative() for n in here}
        tracks = [_true_track(people, i, ids[n], frame / scene.fps) for i, n in enumerate(here)]
        numbers.remember(tracks, frame / scene.fps)
        given = numbers.given(tracks)
        ids = {n: given.get(number, number) for n, number in ids.items()}
        answer[frame] = replace(people, ids=np.array([ids[n] for n in here], int))
    return Answer(answer, np.zeros(len(scene.poses)))


def _true_track(people: People, i: int, number: int, time: float) -> Track:
    assert people.keypoints is not None
    keypoints = people.keypoints[i]
    state = Mixture(
        np.append(keypoints.ravel(), np.zeros(2 * len(keypoints)))[None],
        np.eye(4 * len(keypoints))[None],
        np.zeros(1),
    )
    return Track(
        id=number,
        status=TrackStatus.CONFIRMED,
        state=state,
        time=time,
        visible=np.ones(len(keypoints)),
        box=people.box[i],
        existence=1.0,
        hits=1,
        last_seen=time,
    )


def _outcomes(scene: Detections, answer: Answer) -> list[str]:
    """Of each time that somebody was out of sight."""
    numbers = _followed_by(scene, answer)
    present: dict[int, list[int]] = {}
    for frame, people in sorted(scene.truth.items()):
        for person in people.ids.tolist():
            present.setdefault(person, []).append(frame)
    return [
        _outcome(numbers, person, left, back)
        for person, frames in present.items()
        for left, back in pairwise(frames)
        if back > left + 1
    ]


def _outcome(numbers: Mapping[int, Mapping[int, int]], person: int, left: int, back: int) -> str:
    """A person was seen last in one frame and next in another: by which tracks?"""
    before = [n for f, n in numbers[person].items() if f <= left]
    settled = [n for f, n in numbers[person].items() if SETTLED <= f - back < 2 * SETTLED]
    if not before or not settled:
        return "unseen"
    number = Counter(settled).most_common(1)[0][0]
    if number == before[-1]:
        return "kept"
    others = {
        n for who, had in numbers.items() if who != person for f, n in had.items() if f < back
    }
    return "confused" if number in others else "renamed"


def _followed_by(scene: Detections, answer: Answer) -> dict[int, dict[int, int]]:
    """Of each person, the number of the track in each frame in which there is one."""
    numbers: dict[int, dict[int, int]] = {}
    for frame, people in sorted(scene.truth.items()):
        for person in people.ids.tolist():
            numbers.setdefault(person, {})
        tracks = answer.people.get(frame)
        if tracks is None or not len(tracks):
            continue
        for n, t in match_people(np.asarray(by_keypoints(people, tracks)), least=SAME):
            numbers[int(people.ids[n])][frame] = int(tracks.ids[t])
    return numbers
