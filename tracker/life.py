"""The life of a track: when to believe in a person, and for how long.

A track is born tentative, is confirmed once its existence is sure, is lost while nobody sees it and
gone when it has been unseen for too long.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tracker.types import Detection, Track, TrackStatus

TENTATIVE, CONFIRMED, LOST = TrackStatus

MOST_EXISTENCE = 0.999
"""No track is believed more than this."""


@dataclass(frozen=True, slots=True)
class LifeConfig:
    """When to believe in a person, and for how long."""

    memory: float = 2.0
    """A confirmed track that is unseen for longer is dropped, s."""
    undetected_memory: float = 2.0
    """The same for a track that no detector has found for so long, but that a pose network finds
    wherever the track says: such a network always gives some pose, s."""
    looked_for: float = 0.3
    """Who has been unseen for longer is a detector's to find again, s."""
    expected_for: float = 0.6
    """Who has been unseen for longer is known again only once what came is a track, s."""
    detection_probability: float = 0.9
    """That a person who is there is seen in a frame."""
    confirm_existence: float = 0.9
    confirm_hits: int = 3
    drop_existence: float = 0.02
    least_score: float = 0.2
    """Poses with a lower score (mean visibility) are ignored: the person counts as missed."""
    least_keypoints: int = 3
    """The same for poses that measure fewer keypoints."""
    birth_score: float = 0.4
    """Detections of a lower score start nobody, and come last: they only go on with a track."""
    same_oks: float = 0.6
    """Poses or tracks that overlap more than this look like one person."""
    same_region: float = 0.3
    """So do poses of which half the keypoints lie in each other's regions of this probability."""
    same_for: float = 1.0
    """Confirmed tracks that look like one person for longer are one, s."""
    visible_half_life: float = 0.1
    """Old and new visibilities of a person who is seen weigh equally after this long, s."""
    unseen_half_life: float = 0.5
    """The visibility of a person who is not seen halves in this long, s."""

    def is_weak(self, found: Detection) -> bool:
        """Too faint to start anybody."""
        return found.track_id is None and found.score < self.birth_score

    def astray(self, track: Track, time: float) -> bool:
        """Whether somebody is known again only once what came is a track.

        Time in which no frame came counts only as far as anybody is remembered: a slow camera is
        no reason to forget, a stream that was gone is.
        """
        unseen_in_frames = track.time - track.last_seen
        unseen = time - track.last_seen
        return bool(unseen_in_frames > self.expected_for or unseen > self.memory)

    def born(self, found: Detection) -> float:
        """Existence of somebody new."""
        return min(found.score, MOST_EXISTENCE)

    def seen(self, track: Track, found: Detection, time: float) -> float:
        """Existence after a hit: odds times those of the score, over those of a birth.

        What is found is no evidence against a person. A pose network that looks where a track
        expects somebody is none for one, and little by little one whom no detector finds is gone.
        """
        if found.track_id is None:
            gain = max(1.0, _odds(found.score) / _odds(self.birth_score))
            odds = gain * _odds(track.existence)
            return min(odds / (1 + odds), MOST_EXISTENCE)
        if track.status is TENTATIVE:
            return track.existence
        return track.existence * self._rarer(time - track.time, self.undetected_memory)

    def missed(self, track: Track, dt: float) -> float:
        """Existence after a miss: r (1 - P_D) / (1 - r P_D) of a tentative track.

        A confirmed one is hidden, and ever less likely to return: misses of a person in an
        occlusion are one event, not many, so that time is what counts.
        """
        r, P_D = track.existence, self.detection_probability
        if track.status is TENTATIVE:
            return r * (1 - P_D) / (1 - r * P_D)
        return r * self._rarer(dt, self.memory)

    def confirms(self, track: Track, existence: float) -> bool:
        """Whether somebody who has been hit once more is, or stays, believed in."""
        sure = existence > self.confirm_existence and track.hits + 1 >= self.confirm_hits
        return sure or track.status is not TENTATIVE

    def _rarer(self, dt: float, memory: float) -> float:
        return self.drop_existence ** (dt / memory)


def reported(tracks: Iterable[Track]) -> tuple[Track, ...]:
    """Those that are believed in."""
    return tuple(track for track in tracks if track.status is not TENTATIVE)


def seniority(track: Track) -> tuple[bool, int]:
    """Confirmed tracks in the order of their numbers, then the tentative ones."""
    return track.id < 0, abs(track.id)


def _odds(probability: float) -> float:
    """Certainties are taken for nearly so."""
    sure = min(max(probability, 1 - MOST_EXISTENCE), MOST_EXISTENCE)
    return sure / (1 - sure)
