"""Many people: who is there, since when, and where.

A track is born tentative from a pose that no track explains, is confirmed once its existence is
sure, is lost while nobody sees it and gone when it has been unseen for too long.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, count
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tracker import hypotheses
from tracker.association import AssociationConfig, Pair, associate
from tracker.geometry import box_around, box_iou
from tracker.hypotheses import Measurement, NoiseConfig, ReductionConfig
from tracker.motion import BodyMotion, MotionConfig, Step, body_height
from tracker.skeleton import COCO17, Skeleton
from tracker.types import Detection, Mixture, PoseMixture, Track, TrackStatus

TENTATIVE, CONFIRMED, LOST = TrackStatus

BOX_MARGIN = np.array([-0.06, -0.09, 0.06, 0.10])
"""From the box of the keypoints to the box of the person, in parts of its long side.

The top of the head is above the eyes, the soles below the ankles: medians over COCO and full-body
photographs with human boxes."""

LEAST_VISIBLE = 0.3
"""Keypoints that are less probably visible than this do not shape the box of a person."""

BOX_GAIN = 0.3
"""Share of a new box that is believed in one frame, if all of the person is visible."""

MOST_EXISTENCE = 0.999
"""No track is believed more than this."""


@dataclass(frozen=True, slots=True)
class LifeConfig:
    """When to believe in a person, and for how long."""

    memory: float = 2.0
    """A confirmed track that is unseen for longer is dropped, s."""
    detection_probability: float = 0.9
    """That a person who is there is seen in a frame."""
    confirm_existence: float = 0.95
    confirm_hits: int = 3
    drop_existence: float = 0.02
    most_evidence: float = 20.0
    """A single frame moves the log odds of existence by no more, nats."""
    least_score: float = 0.2
    """Poses with a lower score (mean visibility) are ignored: the person counts as missed."""
    least_keypoints: int = 3
    """The same for poses that measure fewer keypoints."""
    same_oks: float = 0.6
    """Poses or tracks that overlap more than this look like one person."""
    same_for: float = 1.0
    """Confirmed tracks that look like one person for longer are one, s."""
    visible_half_life: float = 0.1
    """Old and new visibilities of a person who is seen weigh equally after this long, s."""
    unseen_half_life: float = 0.5
    """The visibility of a person who is not seen halves in this long, s."""


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """Everything that can be set about a tracker; the defaults run."""

    motion: MotionConfig = field(default_factory=MotionConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    reduction: ReductionConfig = field(default_factory=ReductionConfig)
    association: AssociationConfig = field(default_factory=AssociationConfig)
    life: LifeConfig = field(default_factory=LifeConfig)


class _Sighting(NamedTuple):
    """A pose, and what it measures."""

    pose: PoseMixture
    measurement: Measurement
    keypoints: Float[np.ndarray, "J 2"]
    box: Float[np.ndarray, "4"]

    @classmethod
    def of(cls, pose: PoseMixture, noise: NoiseConfig) -> "_Sighting":
        box = person_box(pose.keypoints, pose.visible)
        return cls(pose, hypotheses.measure(pose, noise), pose.keypoints, box)

    @property
    def may_start(self) -> bool:
        """Poses that were looked for where a track expected its person start no other."""
        return self.pose.detection.track_id is None


class MultiTracker:
    """Follows all people of one stream.

    People get their numbers 1, 2, 3, … when they are confirmed; a tentative track has a negative
    one. Numbers are never used again.
    """

    def __init__(self, config: TrackerConfig | None = None, skeleton: Skeleton = COCO17) -> None:
        self.config = TrackerConfig() if config is None else config
        self.skeleton = skeleton
        self.motion = BodyMotion.of(skeleton, self.config.motion)
        self.time: float | None = None
        self._tracks: tuple[Track, ...] = ()
        self._alike_for: dict[tuple[int, int], float] = {}
        self._numbers = count(1)
        self._tentative_numbers = count(-1, -1)

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All live tracks, tentative ones too."""
        return self._tracks

    def update(self, poses: Sequence[PoseMixture], time: float) -> tuple[Track, ...]:
        """Take in all poses of one frame; give the confirmed and lost tracks, by id.

        A pose found in a track's predicted box may belong to any track, but starts none.
        """
        if self.time is not None and time <= self.time:
            raise ValueError(f"time must grow: got {time} s after {self.time} s")
        dt = self._elapsed(time)
        before = self._predict(time)
        people = self._sightings(poses)
        found = associate(
            [track.state for track in before],
            [person.measurement for person in people],
            self._overlap(before, people),
            self.motion,
            self.config.association,
        )
        seen = [self._hit(before[p.track], people[p.pose], p, time) for p in found.pairs]
        missed = [self._miss(before[t], dt) for t in found.missed]
        born = [self._start(people[n], time) for n in found.new if people[n].may_start]
        alive = [t for t in missed if t.existence >= self.config.life.drop_existence]
        people_now = sorted((*seen, *alive, *born), key=_seniority)
        self._tracks = self._without_doubles(people_now, dt)
        self.time = time
        return tuple(track for track in self._tracks if track.status is not TENTATIVE)

    def predicted(self, time: float) -> tuple[Detection, ...]:
        """Where to look for the live tracks at some time: boxes as a detector would draw them."""
        if self.time is not None and time < self.time:
            raise ValueError(f"cannot predict back: asked for {time} s after {self.time} s")
        moved = self._predict(time)
        return tuple(Detection(track.box, track.existence, track.id) for track in moved)

    def _elapsed(self, time: float) -> float:
        return 0.0 if self.time is None else time - self.time

    def _predict(self, time: float) -> list[Track]:
        """All tracks as they are expected at some time."""
        dt = self._elapsed(time)
        seen, unseen = self.motion.seen(dt), self.motion.unseen(dt)
        return [
            _moved(track, seen if track.last_seen == track.time else unseen, time)
            for track in self._tracks
        ]

    def _sightings(self, poses: Sequence[PoseMixture]) -> list[_Sighting]:
        """The poses that say something, each person once: the better seen of two alike."""
        life = self.config.life
        good = sorted((p for p in poses if p.score >= life.least_score), key=lambda p: -p.score)
        people = [_Sighting.of(pose, self.config.noise) for pose in good]
        useful = [p for p in people if p.measurement.measured.sum() >= 2 * life.least_keypoints]
        alike = self._oks(useful, useful) > life.same_oks
        kept: list[int] = []
        for i in range(len(useful)):
            if not alike[i, kept].any():
                kept.append(i)
        return [useful[i] for i in kept]

    def _overlap(
        self, tracks: Sequence[Track], people: Sequence[_Sighting]
    ) -> Float[np.ndarray, "T N"]:
        """Of keypoints and boxes together; zero where neither is large enough."""
        config = self.config.association
        if not tracks or not people:
            return np.zeros((len(tracks), len(people)))
        iou = box_iou(np.stack([t.box for t in tracks]), np.stack([p.box for p in people]))
        similar = self._oks(tracks, people)
        enough = (similar >= config.least_oks) | (iou >= config.least_iou)
        return np.where(enough, similar + iou, 0.0)

    def _oks(
        self, a: Sequence[Track | _Sighting], b: Sequence[Track | _Sighting]
    ) -> Float[np.ndarray, "T N"]:
        if not a or not b:
            return np.zeros((len(a), len(b)))
        # COCO measures a person's area inside the outline, about half of the box.
        area = np.array([0.5 * (x.box[2:] - x.box[:2]).prod() for x in a])
        poses = np.stack([x.keypoints for x in a]), np.stack([x.keypoints for x in b])
        return self.skeleton.oks(poses[0][:, None], poses[1], area[:, None]).mean(axis=-1)

    def _hit(self, track: Track, person: _Sighting, pair: Pair, time: float) -> Track:
        life = self.config.life
        if pair.match is None:
            # The prediction has failed, and a filter that is sure of it would not let go.
            state = hypotheses.start(person.measurement, self.motion)
        else:
            state = hypotheses.update(track.state, pair.match, self.config.reduction)
        evidence = np.clip(pair.log_ratio, 0.0, life.most_evidence)
        odds = track.existence / (1 - track.existence)
        # Being seen is no evidence against a person, even where overlap alone made the pair.
        odds *= max(1.0, life.detection_probability * float(np.exp(evidence)))
        existence = min(float(odds / (1 + odds)), MOST_EXISTENCE)
        hits = track.hits + 1
        sure = existence > life.confirm_existence and hits >= life.confirm_hits
        known = track.status is not TENTATIVE
        new_share = 1 - 0.5 ** ((time - track.last_seen) / life.visible_half_life)
        updated = replace(
            _with_state(track, state),
            id=next(self._numbers) if sure and not known else track.id,
            status=CONFIRMED if sure or known else TENTATIVE,
            visible=track.visible + new_share * (person.pose.visible - track.visible),
            existence=existence,
            hits=hits,
            last_seen=time,
        )
        return replace(updated, box=_seen_box(updated, person.pose.detection))

    def _miss(self, track: Track, dt: float) -> Track:
        """Tentative: r (1 - P_D) / (1 - r P_D). Confirmed: hidden, and ever less likely to return.

        Misses of a person in an occlusion are one event, not many, so that time is what counts.
        """
        life = self.config.life
        visible = track.visible * 0.5 ** (dt / life.unseen_half_life)
        if track.status is TENTATIVE:
            r, P_D = track.existence, life.detection_probability
            return replace(track, visible=visible, existence=r * (1 - P_D) / (1 - r * P_D))
        existence = track.existence * life.drop_existence ** (dt / life.memory)
        return replace(track, visible=visible, existence=existence, status=LOST)

    def _start(self, person: _Sighting, time: float) -> Track:
        pose = person.pose
        return Track(
            id=next(self._tentative_numbers),
            status=TENTATIVE,
            state=hypotheses.start(person.measurement, self.motion),
            time=time,
            visible=pose.visible,
            box=(person.box + pose.detection.box) / 2,
            existence=0.1 + 0.5 * pose.detection.score,
            hits=1,
            last_seen=time,
        )

    def _without_doubles(self, tracks: Sequence[Track], dt: float) -> tuple[Track, ...]:
        """Of two tracks on one person the younger goes: a tentative one at once."""
        alike = self._oks(tracks, tracks) > self.config.life.same_oks
        alike_for, doubles = {}, set()
        for (i, older), (j, younger) in combinations(enumerate(tracks), 2):
            pair = older.id, younger.id
            # Time apart is taken off again: two noisy copies of a person part now and then.
            span = self._alike_for.get(pair, 0.0) + (dt if alike[i, j] else -dt)
            if span > 0:
                alike_for[pair] = span
            new_born = alike[i, j] and younger.status is TENTATIVE
            if new_born or span > self.config.life.same_for:
                doubles.add(younger.id)
        self._alike_for = alike_for
        return tuple(track for track in tracks if track.id not in doubles)


def _moved(track: Track, step: Step, time: float) -> Track:
    state = hypotheses.predict(track.state, step, body_height(track.box))
    return replace(_with_state(track, state), time=time)


def _with_state(track: Track, state: Mixture) -> Track:
    """The same person in another state; the box is carried along with the keypoints."""
    changed = replace(track, state=state)
    shift = (changed.keypoints - track.keypoints).mean(axis=0)
    return replace(changed, box=track.box + np.tile(shift, 2))


def person_box(
    keypoints: Float[np.ndarray, "J 2"], visible: Float[np.ndarray, " J"]
) -> Float[np.ndarray, "4"]:
    """The box that a detector would draw around a person with these keypoints."""
    seen = visible >= LEAST_VISIBLE
    # Keypoints out of sight, say behind a desk, would draw the box after them.
    shown = keypoints[seen] if seen.sum() >= 3 else keypoints
    box = box_around(shown, margin=0.0)
    return box + BOX_MARGIN * body_height(box)


def _seen_box(track: Track, detection: Detection) -> Float[np.ndarray, "4"]:
    """The box of a track, corrected by what is seen in this frame: the less, the more is hidden.

    A detector's opinion counts half.
    """
    now = person_box(track.keypoints, track.visible)
    if detection.track_id is None:
        now = (now + detection.box) / 2
    return track.box + BOX_GAIN * track.visible.mean() * (now - track.box)


def _seniority(track: Track) -> tuple[bool, int]:
    """Confirmed tracks in the order of their numbers, then the tentative ones."""
    return track.id < 0, abs(track.id)
