"""What later poses say of earlier frames: the smoother of Rauch, Tung and Striebel.

Where a smoother is wanted, the filter carries the last state beside the present one, and every
pose moves both: where errors of successive frames are correlated, it speaks of two frames at once.
Given the present, the last state has nothing to do with what comes later. So each frame leaves one
link to the frame before, and a walk along the links smooths as far back as they go.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from jaxtyping import Float, Int

from tracker import mixture
from tracker.life import CONFIRMED, LOST, TENTATIVE, reported, seniority
from tracker.types import Mixture, Track

ALIKE = 0.25
"""Smoothed hypotheses nearer than this are one (`mixture.distances`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """p(last state | present state x) = N(Jx + c, C), for each hypothesis of a person."""

    number: int
    """Of the person's track in the frame before."""
    present: Mixture
    """x, as the filter knows it."""
    gain: Float[np.ndarray, "M X X"]
    """J."""
    mean: Float[np.ndarray, "M X"]
    """c."""
    cov: Float[np.ndarray, "M X X"]
    """C."""

    @classmethod
    def of(cls, number: int, both: Mixture) -> "Link":
        """From the hypotheses of the present state and, after it, the last one."""
        X = both.mean.shape[1] // 2
        present = mixture.first(both, X)
        J = np.linalg.solve(present.cov, both.cov[:, :X, X:]).mT
        rest = both.cov[:, X:, X:] - J @ present.cov @ J.mT
        mean = both.mean[:, X:] - (J @ present.mean[..., None])[..., 0]
        return cls(number, present, J, mean, (rest + rest.mT) / 2)

    def back(self, smoothed: Mixture) -> Mixture:
        """The smoothed last state, from the smoothed present one."""
        m = self._origin(smoothed)
        J = self.gain[m]
        mean = (J @ smoothed.mean[..., None])[..., 0] + self.mean[m]
        cov = J @ smoothed.cov @ J.mT + self.cov[m]
        return mixture.merge(Mixture(mean, (cov + cov.mT) / 2, smoothed.log_weight), ALIKE)

    def _origin(self, smoothed: Mixture) -> Int[np.ndarray, " S"]:
        """The filter's hypothesis that each smoothed one comes from: the most probable there."""
        if len(self.present) == 1:
            return np.zeros(len(smoothed), dtype=int)
        d = self.present.mean.shape[1] // 2
        factor = np.linalg.cholesky(self.present.cov[:, :d, :d])
        off = smoothed.mean[:, None, :d, None] - self.present.mean[:, :d, None]  # (S, M, d, 1)
        squared = np.square(np.linalg.solve(factor, off)).sum(axis=(-2, -1))
        log_det = np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
        return np.argmax(self.present.log_weight - log_det - squared / 2, axis=1)


class Past:
    """The last frames, and how their tracks lead back to the frame before."""

    def __init__(self, lag: int) -> None:
        self._frames: deque[tuple[tuple[Track, ...], Mapping[int, Link]]] = deque(maxlen=lag + 1)

    def add(self, tracks: tuple[Track, ...], links: Mapping[int, Link]) -> None:
        """The newest frame; links by the numbers of its tracks."""
        self._frames.append((tracks, links))

    def since(self, back: int) -> list[tuple[Track, ...]]:
        """The tracks of all frames from then until now, given all that has been seen since."""
        if not 0 <= back < len(self._frames):
            raise ValueError(
                f"can look 0 to {len(self._frames) - 1} frames back, got {back};"
                f" TrackerConfig.lag is {(self._frames.maxlen or 1) - 1}"
            )
        frames, later = [], list[tuple[Track, Link]]()
        for tracks, links in islice(reversed(self._frames), back + 1):
            told = {k.number: replace(track, state=k.back(track.state)) for track, k in later}
            now = [_retold(track, told.get(track.id)) for track in tracks]
            later = [(r, links[t.id]) for t, r in zip(tracks, now, strict=True) if t.id in links]
            frames.append(_each_once(reported(now)))
        return frames[::-1]


def _retold(track: Track, later: Track | None) -> Track:
    """A track as what came later tells of it: its state, and who it was."""
    if later is None:
        return track
    sure = track.status is TENTATIVE and later.id > 0
    status = CONFIRMED if sure else track.status
    return replace(track, id=later.id, status=status, state=later.state, errors=None)


def _each_once(tracks: Iterable[Track]) -> tuple[Track, ...]:
    """Of a track that was still lost and a new one that turned out to be them, the new one."""
    lost_first = sorted(tracks, key=lambda track: track.status is not LOST)
    return tuple(sorted({track.id: track for track in lost_first}.values(), key=seniority))
