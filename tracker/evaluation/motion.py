"""How well keypoints moved, and how honest their error bars were: along each person's time.

A `Trace` is one person as they were followed. Smoothing must not be bought with lag, so that the
noise at rest stands beside the delay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from tracker.evaluation.identity import SAME
from tracker.evaluation.people import Frames, People, by_keypoints
from tracker.metrics import coverage, match_people, squared_mahalanobis
from tracker.motion import body_height
from tracker.skeleton import COCO17

AT_REST = 0.003
"""A keypoint that moves by less than this in a frame is at rest, heights."""
MOST_LAG = 15
"""Delays are sought up to this, frames."""
PARTS = 10
"""Coverage over time is told for as many equal parts of the sequence."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One person over n frames; NaN where not known, not labelled or not followed."""

    frame: Int[np.ndarray, " n"]
    truth: Float[np.ndarray, "n J 2"]
    estimate: Float[np.ndarray, "n J 2"]
    cov: Float[np.ndarray, "n J 2 2"]
    track: Float[np.ndarray, " n"]
    """Who followed them; NaN for nobody."""
    height: float
    """Of the person, px."""


@dataclass(frozen=True, slots=True)
class MotionScores:
    """Over all keypoints of all people who were followed; NaN where nothing could be measured."""

    rmse: float
    """Root mean square distance of a keypoint from the truth, px."""
    acceleration_error: float
    """Mean length of the difference of second differences, px/frame²."""
    jitter_at_rest: float
    """Root mean square second difference where the truth is at rest, px/frame²."""
    lag: float
    """Delay at the peak of the cross-correlation of velocities, frames."""
    nees: float
    """Per coordinate: 1 where the error bars are honest, more where they are too small."""
    coverage_50: float
    coverage_95: float
    coverage_95_over_time: tuple[float, ...]
    """In equal parts of the time."""
    keypoints: int


def traces(truth: Frames, answer: Frames, least: float = SAME) -> list[Trace]:
    """Follow every person of the truth through the tracks that matched them, frame by frame."""
    frames = sorted(truth)
    held: dict[int, int] = {}
    pairs: dict[int, dict[int, tuple[int, People, int]]] = {}
    for frame in frames:
        people, tracks = truth[frame], answer.get(frame, People.nobody())
        ids = tracks.ids.tolist()
        kept = {n: ids.index(held[p]) for n, p in enumerate(people.ids) if held.get(p) in ids}
        matched = match_people(by_keypoints(people, tracks), kept, least=least)
        held = {int(people.ids[n]): ids[t] for n, t in matched}
        for n, t in matched:
            pairs.setdefault(int(people.ids[n]), {})[frame] = (n, tracks, t)
    return [_trace(np.array(frames), truth, person, found) for person, found in pairs.items()]


def motion_scores(followed: Sequence[Trace]) -> MotionScores:
    """Sum up."""
    if not followed:
        nan = float("nan")
        return MotionScores(nan, nan, nan, nan, nan, nan, nan, (nan,) * PARTS, 0)
    error = np.concatenate([(t.estimate - t.truth).reshape(-1, 2) for t in followed])
    cov = np.concatenate([t.cov.reshape(-1, 2, 2) for t in followed])
    # The parts are of the sequence, the same for all people.
    last = max(int(t.frame[-1]) for t in followed) + 1
    part = np.concatenate([np.repeat(t.frame * PARTS // last, t.truth.shape[1]) for t in followed])
    known = np.isfinite(error).all(axis=1)
    barred = known & np.isfinite(cov).all(axis=(1, 2))
    nees = squared_mahalanobis(error[barred], cov[barred])
    return MotionScores(
        rmse=_root_mean(np.square(error[known]).sum(axis=1)),
        acceleration_error=_mean(np.concatenate([_acceleration_error(t) for t in followed])),
        jitter_at_rest=_root_mean(np.concatenate([_restless(t) for t in followed])),
        lag=lag(followed),
        nees=_mean(nees) / 2,
        coverage_50=coverage(nees, 0.5),
        coverage_95=coverage(nees, 0.95),
        coverage_95_over_time=tuple(coverage(nees[part[barred] == p], 0.95) for p in range(PARTS)),
        keypoints=int(known.sum()),
    )


def second_difference(xy: Float[np.ndarray, "n J 2"], trace: Trace) -> Float[np.ndarray, "m J 2"]:
    """xₜ₊ₛ - 2xₜ + xₜ₋ₛ over s², at the m frames `_middles`."""
    t = _middles(trace)
    step = (trace.frame[t + 1] - trace.frame[t])[:, None, None]
    return (xy[t + 1] - 2 * xy[t] + xy[t - 1]) / step**2


def _middles(trace: Trace) -> Int[np.ndarray, " m"]:
    """Positions whose two neighbours are equally far, and followed by the same track."""
    step, stays = np.diff(trace.frame), trace.track[1:] == trace.track[:-1]
    return 1 + np.nonzero((step[1:] == step[:-1]) & stays[1:] & stays[:-1])[0]


def lag(followed: Sequence[Trace], most: int = MOST_LAG) -> float:
    """Delay of the estimates in frames, positive where they come late.

    The peak of Σ v̂ₜ₊ₖ·vₜ over k, of velocities in truths without gaps, refined by a parabola.
    """
    lags = np.arange(-most, most + 1)
    total = np.zeros(len(lags))
    for trace in followed:
        if len(trace.frame) < 2 * most or (np.diff(trace.frame) != 1).any():
            continue
        true, told = np.diff(trace.truth, axis=0), np.diff(trace.estimate, axis=0)
        inner = slice(most, len(true) - most)
        for i, k in enumerate(lags):
            total[i] += np.nansum(true[inner] * told[most + k : len(true) - most + k])
    peak = int(total.argmax())
    if not total.any() or peak in (0, len(lags) - 1):
        return float("nan")
    left, top, right = total[peak - 1 : peak + 2]
    return float(lags[peak] + 0.5 * (left - right) / (left - 2 * top + right))


def _acceleration_error(trace: Trace) -> Float[np.ndarray, " m"]:
    difference = second_difference(trace.estimate - trace.truth, trace)
    length = np.linalg.norm(difference, axis=-1).ravel()
    return length[np.isfinite(length)]


def _restless(trace: Trace) -> Float[np.ndarray, " m"]:
    """Squared second differences of the estimate where the truth is at rest."""
    t = _middles(trace)
    speed = np.linalg.norm(np.diff(trace.truth, axis=0), axis=-1)
    speed = speed / np.diff(trace.frame)[:, None]
    at_rest = np.maximum(speed[t - 1], speed[t]) < AT_REST * trace.height
    squared = np.square(second_difference(trace.estimate, trace)).sum(axis=-1)
    return squared[at_rest & np.isfinite(squared)]


def _trace(
    frames: Int[np.ndarray, " n"],
    truth: Frames,
    person: int,
    pairs: Mapping[int, tuple[int, People, int]],
) -> Trace:
    """From the frames in which somebody (a row of the tracks) followed the person (a row)."""
    n, j = len(frames), len(COCO17)
    true, told = np.full((n, j, 2), np.nan), np.full((n, j, 2), np.nan)
    cov, track = np.full((n, j, 2, 2), np.nan), np.full(n, np.nan)
    heights = []
    for i, frame in enumerate(frames.tolist()):
        if frame not in pairs:
            continue
        row, tracks, t = pairs[frame]
        people = truth[frame]
        assert people.keypoints is not None
        assert tracks.keypoints is not None
        true[i] = np.where(people.known[row][:, None], people.keypoints[row], np.nan)
        told[i], track[i] = tracks.keypoints[t], tracks.ids[t]
        if tracks.cov is not None:
            cov[i] = tracks.cov[t]
        heights.append(body_height(people.box[row]))
    return Trace(frames, true, told, cov, track, float(np.median(heights)))


def _mean(values: Float[np.ndarray, " n"]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _root_mean(squares: Float[np.ndarray, " n"]) -> float:
    return float(np.sqrt(squares.mean())) if len(squares) else float("nan")
