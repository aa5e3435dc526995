"""Who is who: all trackers on the same frozen detections, tuned by the same number of draws.

Tuning maximises HOTA (by OKS) on crowds of motions and seeds that the test does not use. A track
answers in a frame only if it was seen there. Peers answer with the detections that they joined, we
with our states.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.tracking import ours, simple
from benchmarks.tracking.crowd import CrowdConfig, crowd
from benchmarks.tracking.frozen import Detections
from benchmarks.tracking.motion import Draw
from benchmarks.tracking.ours import Answer, Knob
from benchmarks.tracking.peers import PEERS, Job, Peers
from tracker.evaluation.identity import IdentityScores, Pairing, Similarity, identity_scores
from tracker.evaluation.people import by_boxes, by_keypoints

Options = dict[str, float]
FollowAll = Callable[[Sequence[Detections], Sequence[Options]], list[list[Answer]]]
"""Scenes and set-ups to answers: one list for each set-up."""


@dataclass(frozen=True, slots=True)
class Contestant:
    follow: FollowAll
    knobs: Mapping[str, Knob]

    def draws(self, trials: int) -> list[Options]:
        """The way it comes, and random others."""
        rng = np.random.default_rng(23)
        drawn = [{n: k.draw(rng) for n, k in self.knobs.items()} for _ in range(trials - 1)]
        return [{}, *drawn]


@dataclass(frozen=True, slots=True)
class Standing:
    """One tracker on the test scenes."""

    tracker: str
    options: Options
    """Empty for the way it comes."""
    keypoints: IdentityScores | None
    boxes: IdentityScores
    switches: list[int]
    """Of each scene, by OKS where there are keypoints."""
    switches_mean: float
    switches_standard_error: float
    step_ms: float
    """Median processor time of a step."""


def contestants(peers: Peers) -> dict[str, Contestant]:
    """All that can take part."""
    entered = {name: Contestant(_ours(name), ours.KNOBS) for name in ours.WAYS} | {
        name: Contestant(_simple(name), simple.KNOBS) for name in simple.BASELINES
    }
    return entered | {name: Contestant(_peer(peers, name), PEERS[name]) for name in peers.found}


def crowds(
    draw: Callable[[bool], Draw], entered: Mapping[str, Contestant], config: CrowdConfig,
    seeds: int, trials: int, tuned: Mapping[str, Options],
) -> tuple[dict[str, Options], list[Standing]]:  # fmt: skip
    """Tune on some crowds (if not done before), stand on others, both as they come and tuned."""
    tests = [crowd(draw(False), config, seed) for seed in range(seeds)]
    best = dict(tuned)
    if trials > 1 and not best:
        held_out = [crowd(draw(True), config, 1000 + seed) for seed in range(2)]
        best = {name: tune(one, held_out, trials) for name, one in entered.items()}
    standings = []
    for name, one in entered.items():
        setups = [{}, best[name]] if best.get(name) else [{}]
        for options, answers in zip(setups, one.follow(tests, setups), strict=True):
            standings.append(standing(name, options, tests, answers))
    return best, standings


def standing(
    name: str, options: Options, scenes: Sequence[Detections], answers: Sequence[Answer]
) -> Standing:
    """Score answers."""
    by = similarity_of(scenes)
    each = [scores([s], [a], by).switches for s, a in zip(scenes, answers, strict=True)]
    return Standing(
        name,
        options,
        scores(scenes, answers, by) if by is by_keypoints else None,
        scores(scenes, answers, by_boxes),
        each,
        float(np.mean(each)),
        float(np.std(each, ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan"),
        float(1e3 * np.median(np.concatenate([a.seconds for a in answers]))),
    )


def scores(
    scenes: Sequence[Detections], answers: Sequence[Answer], by: Similarity
) -> IdentityScores:
    pairs = zip(scenes, answers, strict=True)
    return identity_scores([Pairing.of(s.truth, a.people, by) for s, a in pairs])


def tune(one: Contestant, scenes: Sequence[Detections], trials: int) -> Options:
    """The draw of highest HOTA; the way it comes is the first."""
    draws = one.draws(trials)
    answers = one.follow(scenes, draws)
    return draws[int(np.argmax([scores(scenes, a, similarity_of(scenes)).hota for a in answers]))]


def similarity_of(scenes: Sequence[Detections]) -> Similarity:
    """By OKS where the truth has keypoints, else by boxes."""
    labelled = all(p.keypoints is not None for s in scenes for p in s.truth.values() if len(p))
    return by_keypoints if labelled else by_boxes


def _ours(name: str) -> FollowAll:
    def follow(scenes: Sequence[Detections], setups: Sequence[Options]) -> list[list[Answer]]:
        configs = [ours.configured(options, ours.WAYS[name]) for options in setups]
        return [[ours.run(scene, config) for scene in scenes] for config in configs]

    return follow


def _simple(name: str) -> FollowAll:
    def follow(scenes: Sequence[Detections], setups: Sequence[Options]) -> list[list[Answer]]:
        baseline = simple.BASELINES[name]
        return [[baseline(scene, options) for scene in scenes] for options in setups]

    return follow


def _peer(peers: Peers, name: str) -> FollowAll:
    def follow(scenes: Sequence[Detections], setups: Sequence[Options]) -> list[list[Answer]]:
        answers = peers.run([Job(name, o, s.name) for o in setups for s in scenes], scenes)
        n = len(scenes)
        return [answers[i * n : (i + 1) * n] for i in range(len(setups))]

    return follow
