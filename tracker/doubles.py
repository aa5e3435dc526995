"""Who is there twice: two poses, or two tracks, of one person."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from tracker.association import LEAST_VISIBLE, keypoint_overlap
from tracker.geometry import overlapping
from tracker.life import LifeConfig
from tracker.noise import planar_gate
from tracker.skeleton import Skeleton
from tracker.types import PoseMixture, Track


def agreeing(
    poses: Sequence[PoseMixture], compared: Bool[np.ndarray, "N N"], region: float
) -> Bool[np.ndarray, "N N"]:
    """Which of the compared poses are one person's: the error bars of most keypoints say so.

    Half of the keypoints seen in both lie in each other's region of this probability. Poses of one
    person from two boxes err alike, so that nearly all pass; those of two people nearly never.
    """
    alike = np.zeros(compared.shape, dtype=bool)
    i, k = np.nonzero(compared)
    if not len(i):
        return alike
    points = np.stack([pose.keypoints for pose in poses])
    cov = np.stack([pose.keypoint_cov for pose in poses])
    seen = np.stack([pose.visible for pose in poses]) >= LEAST_VISIBLE
    offset = points[i] - points[k]
    whitened = np.linalg.solve(cov[i] + cov[k], offset[..., None])[..., 0]
    inside = (offset * whitened).sum(axis=-1) < planar_gate(region)
    both = seen[i] & seen[k]
    alike[i, k] = 2 * (inside & both).sum(axis=1) > both.sum(axis=1)
    return alike


class Doubles:
    """Of two tracks on one person the younger goes: a tentative one at once."""

    def __init__(self, life: LifeConfig, skeleton: Skeleton) -> None:
        self._life = life
        self._skeleton = skeleton
        self._alike_for: dict[tuple[int, int], float] = {}

    def without(self, tracks: Sequence[Track], dt: float) -> tuple[Track, ...]:
        """The tracks, oldest first, of which none is another's double."""
        now = self._alike(tracks)
        here = {track.id for track in tracks}
        # Who comes back is a track first: these are given no pose.
        astray = {track.id for track in tracks if self._life.astray(track, track.time)}
        before = [pair for pair in self._alike_for if here.issuperset(pair)]
        alike_for, doubles = {}, set()
        for pair in dict.fromkeys([*now, *before]):
            # Time apart is taken off again: two noisy copies of a person part now and then.
            span = self._alike_for.get(pair, 0.0) + (dt if pair in now else -dt)
            if span > 0:
                alike_for[pair] = span
            younger = pair[1]
            # Tentative tracks have negative numbers.
            at_once = pair in now and younger < 0 and pair[0] not in astray
            if at_once or span > self._life.same_for:
                doubles.add(younger)
        self._alike_for = alike_for
        return tuple(track for track in tracks if track.id not in doubles)

    def _alike(self, tracks: Sequence[Track]) -> dict[tuple[int, int], None]:
        """Numbers of the older and the younger of each pair."""
        if len(tracks) < 2:
            return {}
        box = np.array([track.box for track in tracks])
        place = np.arange(len(tracks))
        touching = overlapping(box) & (place[:, None] < place)  # each with the younger
        if not touching.any():
            return {}
        keypoints = np.stack([track.keypoints for track in tracks])
        overlap = keypoint_overlap(self._skeleton, keypoints, keypoints, box, touching)
        pairs = np.argwhere(overlap > self._life.same_oks).tolist()
        return dict.fromkeys((tracks[i].id, tracks[j].id) for i, j in pairs)
