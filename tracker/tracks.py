"""Many people: who is there, since when, and where.

A track is born tentative from a pose that no track explains, is confirmed once its existence is
sure, is lost while nobody sees it and gone when it has been unseen for too long.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from math import exp

import numpy as np
from jaxtyping import Float

from tracker import hypotheses
from tracker.association import (
    Association,
    AssociationConfig,
    Pair,
    associate,
    birth_log_density,
    birth_spread,
    near,
)
from tracker.consistency import NOTHING_SEEN, Consistency, look
from tracker.geometry import Affine, box_iou
from tracker.hypotheses import People, ReductionConfig, Scores
from tracker.motion import BodyMotion, MotionConfig, body_height
from tracker.noise import ErrorCorrelation, Measurements, NoiseConfig, measure
from tracker.parts import Parts
from tracker.skeleton import COCO17, Skeleton
from tracker.smoothing import Past
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

MOST_TEACHERS = 4
"""People of one frame from whom the correlation of errors is learnt, at most."""


@dataclass(frozen=True, slots=True)
class LifeConfig:
    """When to believe in a person, and for how long."""

    memory: float = 2.0
    """A confirmed track that is unseen for longer is dropped, s."""
    undetected_memory: float = 2.0
    """The same for a track that no detector has found for so long, but that a pose network finds
    wherever the track says: such a network always gives some pose, s."""
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
    birth_score: float = 0.3
    """Detections of a lower score start nobody, and come last: they only go on with a track."""
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
    lag: int = 0
    """How many frames back `MultiTracker.smoothed` can look; costs time and memory for each."""
    consistency_views: int = 60
    """Views over which a track's own `consistency` is averaged."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sightings:
    """The poses of a frame, and what they measure."""

    poses: tuple[PoseMixture, ...]
    keypoints: Float[np.ndarray, "N J 2"]
    box: Float[np.ndarray, "N 4"]
    measurements: Measurements

    def select(self, index: list[int]) -> "_Sightings":
        poses = tuple(self.poses[i] for i in index)
        z = self.measurements.select(np.array(index, dtype=int))
        return _Sightings(poses, self.keypoints[index], self.box[index], z)


@dataclass(frozen=True, slots=True, eq=False)
class _Expected:
    """The live tracks as they are expected at some time."""

    tracks: tuple[Track, ...]
    """As they were left behind."""
    people: People | None
    """Where they should be now; None where there is nobody."""
    keypoints: Float[np.ndarray, "T J 2"]
    box: Float[np.ndarray, "T 4"]
    time: float


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
        self.consistency = NOTHING_SEEN
        """Of all tracks since the start: whether error bars are honest in this video."""
        self._parts = Parts(len(skeleton) if self.config.reduction.per_keypoint else 1)
        self._birth_spread = birth_spread(self.motion, self._parts, self.config.association)
        self._correlation = ErrorCorrelation(self.config.noise)
        self._tracks: tuple[Track, ...] = ()
        self._pasts: dict[int, Past] = {}
        self._reports: deque[tuple[Track, ...]] = deque(maxlen=self.config.lag + 1)
        self._became: dict[int, int] = {}
        self._alike_for: dict[tuple[int, int], float] = {}
        self._numbers = count(1)
        self._tentative_numbers = count(-1, -1)

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All live tracks, tentative ones too."""
        return self._tracks

    @property
    def error_correlation(self) -> float:
        """Correlation of the errors of poses 1/30 s apart, as it is believed now."""
        return self._correlation.rho

    def update(
        self,
        poses: Sequence[PoseMixture],
        time: float,
        unwatched: Collection[int] = (),
    ) -> tuple[Track, ...]:
        """Take in all poses of one frame; give the confirmed and lost tracks, by id.

        A pose found in a track's predicted box may belong to any track, but starts none. Where
        nobody looked for a track, it is `unwatched`: not being seen is then no evidence against it.
        """
        if self.time is not None and time <= self.time:
            raise ValueError(f"time must grow: got {time} s after {self.time} s")
        dt = 0.0 if self.time is None else time - self.time
        seen, before = self._sightings(poses), self._expect(time)
        scores, found = self._associate(before, seen, dt)
        people = [
            *self._follow(before, seen, scores, found, dt),
            *self._restart(before, seen, found),
            *self._miss(before, found, dt, unwatched),
            *self._start(seen, found, time),
        ]
        alive = [track for track in people if track.existence >= self.config.life.drop_existence]
        self._tracks = self._without_doubles(sorted(alive, key=_seniority), dt)
        self._pasts = {t.id: self._pasts[t.id] for t in self._tracks if t.id in self._pasts}
        self._reports.append(self._tracks)
        known = {track.id for report in self._reports for track in report}
        self._became = {a: b for a, b in self._became.items() if a in known}
        self.time = time
        return _reported(self._tracks)

    def smoothed(self, back: int) -> tuple[Track, ...]:
        """The tracks of some frames ago, given all that has been seen since.

        Of people who were confirmed later or are gone by now, too; `TrackerConfig.lag` says how far
        back one may look.
        """
        if not 0 <= back < len(self._reports):
            raise ValueError(
                f"can look 0 to {len(self._reports) - 1} frames back, got {back};"
                f" TrackerConfig.lag is {self.config.lag}"
            )
        revised = (self._revised(track, back) for track in self._reports[-1 - back])
        return tuple(sorted(_reported(revised), key=_seniority))

    def _revised(self, track: Track, back: int) -> Track:
        """A track of some frames ago as it is seen now; as it was where nothing was learnt."""
        number = self._became.get(track.id, track.id)
        now = next((t for t in self._tracks if t.id == number), None)
        past = self._pasts.get(number)
        if track.status is TENTATIVE and number > 0:
            track = replace(track, id=number, status=CONFIRMED)
        if back == 0 or now is None or past is None or past.depth.min(initial=back) < back:
            return track
        state = Mixture(
            self._parts.whole_vector(past.mean[:, back - 1], 2),
            self._parts.whole_matrix(past.cov[:, back - 1], 2),
            now.state.log_weight,
        )
        return replace(track, state=state, errors=None)

    def predicted(self, time: float) -> tuple[Detection, ...]:
        """Where to look for the live tracks at some time: boxes as a detector would draw them."""
        self._check_ahead(time)
        return tuple(
            Detection(track.box + self._drift(track, time), track.existence, track.id)
            for track in self._tracks
        )

    def at(self, time: float) -> tuple[Track, ...]:
        """The confirmed and lost tracks as they are expected at some later time."""
        self._check_ahead(time)
        ahead = self._expect(time)
        if ahead.people is None:
            return ()
        states = ahead.people.states(self._parts)
        return _reported(
            replace(track, state=state, time=time, box=box)
            for track, (state, _), box in zip(ahead.tracks, states, ahead.box, strict=True)
        )

    def move_camera(self, now_from_then: Affine) -> None:
        """Carry everybody along with the picture, whose background moved so since the last frame.

        Smoothed states of the past stay in the picture of their own time: with a lag, cameras must
        stand still.
        """
        if self.config.lag:
            raise ValueError("a tracker with a lag cannot follow a moving camera yet")
        self._tracks = tuple(_carried(track, now_from_then) for track in self._tracks)

    def _check_ahead(self, time: float) -> None:
        if self.time is not None and time < self.time:
            raise ValueError(f"cannot predict back: asked for {time} s after {self.time} s")

    def _expect(self, time: float) -> _Expected:
        tracks = self._tracks
        if not tracks:
            return _Expected((), None, np.zeros((0, len(self.skeleton), 2)), np.zeros((0, 4)), time)
        box = np.stack([track.box for track in tracks])
        pasts = [self._pasts[track.id] for track in tracks] if self.config.lag else []
        states = [(track.state, track.errors) for track in tracks]
        was = hypotheses.gather(states, self._parts, pasts)
        people = hypotheses.predict(
            was,
            np.array([track.last_seen == track.time for track in tracks]),
            time - tracks[0].time,
            body_height(box),
            self.motion,
            self._parts,
        )
        keypoints = people.keypoints(self._parts)
        shift = (keypoints - was.keypoints(self._parts)).mean(axis=1)
        return _Expected(tracks, people, keypoints, box + np.tile(shift, 2), time)

    def _drift(self, track: Track, time: float) -> Float[np.ndarray, "4"]:
        """How far a box goes until some time: as far as the mean of the keypoints."""
        dt = time - track.time
        if track.last_seen != track.time:
            relaxation = self.config.motion.drift_time
            dt = -relaxation * np.expm1(-dt / relaxation)
        return np.tile(dt * track.velocity.mean(axis=0), 2)

    def _sightings(self, poses: Sequence[PoseMixture]) -> _Sightings | None:
        """The poses that say something, each person once: the better seen of two alike."""
        life = self.config.life
        good = sorted((p for p in poses if p.score >= life.least_score), key=lambda p: -p.score)
        if not good:
            return None
        z = measure(good, self.config.noise, self._correlation.rho, self._parts)
        keypoints = np.stack([pose.keypoints for pose in good])
        box = person_box(keypoints, np.stack([pose.visible for pose in good]))
        alike = self._oks(keypoints, keypoints, box) > life.same_oks
        kept: list[int] = []
        for i in np.flatnonzero(z.measured.sum(axis=(1, 2)) >= 2 * life.least_keypoints):
            if not alike[i, kept].any():
                kept.append(int(i))
        people = _Sightings(tuple(good), keypoints, box, z)
        return people if len(kept) == len(good) else people.select(kept) if kept else None

    def _associate(
        self, before: _Expected, seen: _Sightings | None, dt: float
    ) -> tuple[Scores | None, Association]:
        """How everything that may go together scores, and who is who."""
        n = 0 if seen is None else len(seen.poses)
        if seen is None or before.people is None:
            return None, Association((), tuple(range(len(before.tracks))), tuple(range(n)))
        config, z = self.config.association, seen.measurements
        pairs = near(before.people, z, config)
        scores = hypotheses.score(
            before.people, z, pairs, self._correlation.over(dt), self.config.noise
        )
        new_person = birth_log_density(z, self._birth_spread)
        log_ratio = np.full((len(before.tracks), n), -np.inf)
        log_ratio[tuple(pairs.T)] = scores.log_likelihood - new_person[pairs[:, 1]]
        weak = np.array([self._is_weak(pose.detection) for pose in seen.poses])
        return scores, associate(log_ratio, self._overlap(before, seen), weak, config)

    def _is_weak(self, found: Detection) -> bool:
        return found.track_id is None and found.score < self.config.life.birth_score

    def _overlap(self, before: _Expected, seen: _Sightings) -> Float[np.ndarray, "T N"]:
        """Of keypoints and boxes together; zero where neither is large enough."""
        config = self.config.association
        iou = box_iou(before.box, seen.box)
        similar = self._oks(before.keypoints, seen.keypoints, before.box)
        enough = (similar >= config.least_oks) | (iou >= config.least_iou)
        return np.where(enough, similar + iou, 0.0)

    def _oks(
        self,
        a: Float[np.ndarray, "T J 2"],
        b: Float[np.ndarray, "N J 2"],
        box: Float[np.ndarray, "T 4"],
    ) -> Float[np.ndarray, "T N"]:
        # COCO measures a person's area inside the outline, about half of the box.
        area = 0.5 * (box[:, 2:] - box[:, :2]).prod(axis=-1)
        return self.skeleton.oks(a[:, None], b, area[:, None]).mean(axis=-1)

    def _follow(
        self,
        before: _Expected,
        seen: _Sightings | None,
        scores: Scores | None,
        found: Association,
        dt: float,
    ) -> list[Track]:
        """The tracks that a pose was likely to belong to."""
        pairs = [pair for pair in found.pairs if not pair.by_overlap]
        if before.people is None or seen is None or scores is None or not pairs:
            return []
        z = seen.measurements
        place = {(t, n): i for i, (t, n) in enumerate(scores.pairs.tolist())}
        chosen = np.array([place[pair.track, pair.pose] for pair in pairs])
        best = hypotheses.best_rows(scores, chosen)
        told = hypotheses.learn_correlation(
            before.people, z, scores, best[:MOST_TEACHERS], self._correlation.over(dt)
        )
        self._correlation.learn(*told, dt)
        after = hypotheses.update(before.people, z, scores, chosen, self.config.reduction)
        innovations = scores.innovation.whitened[best].reshape(len(best), -1)
        last = [before.tracks[pair.track].innovation for pair in pairs]
        measured = scores.innovation.measured[best].reshape(len(best), -1)
        views = look(innovations, last, scores.nis[best], measured)
        self.consistency = self.consistency.after(*views)
        return self._hits(before, seen, pairs, after, list(innovations), views)

    def _restart(
        self, before: _Expected, seen: _Sightings | None, found: Association
    ) -> list[Track]:
        """The tracks that only overlap speaks for.

        Their prediction has failed, and a filter that is sure of it would not let go.
        """
        pairs = [pair for pair in found.pairs if pair.by_overlap]
        if seen is None or not pairs:
            return []
        z = seen.measurements.select(np.array([pair.pose for pair in pairs]))
        fresh = hypotheses.start(z, self.motion, self._parts, self.config.lag)
        return self._hits(before, seen, pairs, fresh, [None] * len(pairs), [None] * len(pairs))

    def _hits(
        self,
        before: _Expected,
        seen: _Sightings,
        pairs: Sequence[Pair],
        after: People,
        innovations: Sequence[Float[np.ndarray, " D"] | None],
        views: Sequence[Consistency | None],
    ) -> list[Track]:
        """Tracks that were seen: surer of their existence, with the state after the pose."""
        life = self.config.life
        t, n = np.array([(pair.track, pair.pose) for pair in pairs]).T
        tracks, poses = [before.tracks[i] for i in t], [seen.poses[i] for i in n]
        keypoints = after.keypoints(self._parts)
        age = before.time - np.array([track.last_seen for track in tracks])
        visible = np.stack([track.visible for track in tracks])
        now_visible = np.stack([pose.visible for pose in poses])
        new_share = 1 - 0.5 ** (age / life.visible_half_life)
        visible = visible + new_share[:, None] * (now_visible - visible)
        shift = np.tile((keypoints - before.keypoints[t]).mean(axis=1), 2)
        box = _seen_box(before.box[t] + shift, keypoints, visible, [p.detection for p in poses])
        followed = []
        for i, (state, errors) in enumerate(after.states(self._parts)):
            track, pair, looked = tracks[i], pairs[i], views[i]
            detected = poses[i].detection.track_id is None
            existence, hits = self._surer(track, pair, detected, before.time), track.hits + 1
            sure = existence > life.confirm_existence and hits >= life.confirm_hits
            known = track.status is not TENTATIVE
            number = next(self._numbers) if sure and not known else track.id
            if number != track.id and self.config.lag:
                self._became[track.id] = number
            followed.append(
                Track(
                    id=number,
                    status=CONFIRMED if sure or known else TENTATIVE,
                    state=state,
                    time=before.time,
                    visible=visible[i],
                    box=box[i],
                    existence=existence,
                    hits=hits,
                    last_seen=before.time,
                    errors=errors,
                    contested=pair.contested,
                    consistency=track.consistency
                    if looked is None
                    else track.consistency.after(looked, horizon=self.config.consistency_views),
                    innovation=innovations[i],
                )
            )
        self._keep_pasts(followed, after)
        return followed

    def _keep_pasts(self, tracks: Sequence[Track], people: People) -> None:
        self._pasts |= dict(zip([track.id for track in tracks], people.pasts(), strict=False))

    def _surer(self, track: Track, pair: Pair, detected: bool, time: float) -> float:
        """Existence after being seen.

        That is no evidence against a person, even where overlap alone made the pair; but a pose
        network that looks where a track expects somebody is little evidence for one.
        """
        life, existence = self.config.life, track.existence
        if not detected and track.status is not TENTATIVE:
            return existence * life.drop_existence ** ((time - track.time) / life.undetected_memory)
        evidence = exp(min(max(pair.log_ratio, 0.0), life.most_evidence))
        odds = existence / (1 - existence) * max(1.0, life.detection_probability * evidence)
        return min(odds / (1 + odds), MOST_EXISTENCE)

    def _miss(
        self, before: _Expected, found: Association, dt: float, unwatched: Collection[int]
    ) -> list[Track]:
        """Tentative: r (1 - P_D) / (1 - r P_D). Confirmed: hidden, and ever less likely to return.

        Misses of a person in an occlusion are one event, not many, so that time is what counts.
        """
        if before.people is None or not found.missed:
            return []
        life, P_D = self.config.life, self.config.life.detection_probability
        missed = np.isin(np.arange(len(before.tracks)), found.missed)
        people = before.people.select(missed)
        states = people.states(self._parts)
        unseen = []
        for t, (state, _) in zip(found.missed, states, strict=True):
            track = before.tracks[t]
            new, r = track.status is TENTATIVE, track.existence
            if track.id in unwatched:
                existence, fades = r, 1.0
            else:
                fades = 0.5 ** (dt / life.unseen_half_life)
                lasts = r * life.drop_existence ** (dt / life.memory)
                existence = r * (1 - P_D) / (1 - r * P_D) if new else lasts
            unseen.append(
                replace(
                    track,
                    status=TENTATIVE if new else LOST,
                    state=state,
                    time=before.time,
                    visible=track.visible * fades,
                    box=before.box[t],
                    existence=existence,
                    errors=None,
                    contested=False,
                    innovation=None,
                )
            )
        self._keep_pasts(unseen, people)
        return unseen

    def _start(self, seen: _Sightings | None, found: Association, time: float) -> list[Track]:
        """New people, where a good detection is not explained by anybody.

        Poses that were looked for where a track expected its person start no other.
        """
        if seen is None:
            return []
        new = [n for n in found.new if seen.poses[n].detection.track_id is None]
        new = [n for n in new if not self._is_weak(seen.poses[n].detection)]
        if not new:
            return []
        z = seen.measurements.select(np.array(new))
        people = hypotheses.start(z, self.motion, self._parts, self.config.lag)
        states = people.states(self._parts)
        born = [
            Track(
                id=next(self._tentative_numbers),
                status=TENTATIVE,
                state=state,
                time=time,
                visible=seen.poses[n].visible,
                box=(seen.box[n] + seen.poses[n].detection.box) / 2,
                existence=0.1 + 0.5 * seen.poses[n].detection.score,
                hits=1,
                last_seen=time,
                errors=errors,
            )
            for n, (state, errors) in zip(new, states, strict=True)
        ]
        self._keep_pasts(born, people)
        return born

    def _without_doubles(self, tracks: Sequence[Track], dt: float) -> tuple[Track, ...]:
        """Of two tracks on one person the younger goes: a tentative one at once."""
        if len(tracks) < 2:
            self._alike_for = {}
            return tuple(tracks)
        keypoints = np.stack([track.keypoints for track in tracks])
        box = np.stack([track.box for track in tracks])
        alike = self._oks(keypoints, keypoints, box) > self.config.life.same_oks
        by_id = {track.id: i for i, track in enumerate(tracks)}
        now = [(tracks[i].id, tracks[j].id) for i, j in np.argwhere(np.triu(alike, 1))]
        before = [pair for pair in self._alike_for if pair[0] in by_id and pair[1] in by_id]
        alike_for, doubles = {}, set()
        for older, younger in dict.fromkeys([*now, *before]):
            is_alike = alike[by_id[older], by_id[younger]]
            # Time apart is taken off again: two noisy copies of a person part now and then.
            span = self._alike_for.get((older, younger), 0.0) + (dt if is_alike else -dt)
            if span > 0:
                alike_for[older, younger] = span
            # Tentative tracks have negative numbers.
            if (is_alike and younger < 0) or span > self.config.life.same_for:
                doubles.add(younger)
        self._alike_for = alike_for
        return tuple(track for track in tracks if track.id not in doubles)


def person_box(
    keypoints: Float[np.ndarray, "*batch J 2"], visible: Float[np.ndarray, "*batch J"]
) -> Float[np.ndarray, "*batch 4"]:
    """The box that a detector would draw around a person with these keypoints."""
    seen = visible >= LEAST_VISIBLE
    # Keypoints out of sight, say behind a desk, would draw the box after them.
    shown = (seen | (seen.sum(axis=-1, keepdims=True) < 3))[..., None]
    low = np.where(shown, keypoints, np.inf).min(axis=-2)
    high = np.where(shown, keypoints, -np.inf).max(axis=-2)
    box = np.concatenate([low, high], axis=-1)
    return box + BOX_MARGIN * body_height(box)[..., None]


def _seen_box(
    box: Float[np.ndarray, "n 4"],
    keypoints: Float[np.ndarray, "n J 2"],
    visible: Float[np.ndarray, "n J"],
    found: Sequence[Detection],
) -> Float[np.ndarray, "n 4"]:
    """Boxes, corrected by what is seen of people in this frame: the less, the more is hidden.

    A detector's opinion counts half.
    """
    now = person_box(keypoints, visible)
    by_detector = np.array([detection.track_id is None for detection in found])
    half = np.where(by_detector[:, None], 0.5, 0.0)
    now = now + half * (np.stack([detection.box for detection in found]) - now)
    return box + BOX_GAIN * visible.mean(axis=1)[:, None] * (now - box)


def _carried(track: Track, now_from_then: Affine) -> Track:
    """A track in the picture of a camera that has moved: p' = Ap + b, v' = Av, P' = TPTᵀ."""
    D = track.state.mean.shape[1] // 2
    mean = track.state.mean
    T = np.kron(np.eye(D), now_from_then.linear)
    moved = now_from_then.points(mean[:, :D].reshape(-1, 2)).reshape(-1, D)
    state = replace(
        track.state,
        mean=np.hstack([moved, now_from_then.vectors(mean[:, D:])]),
        cov=T @ track.state.cov @ T.T,
    )
    errors = track.errors
    if errors is not None:
        errors = replace(errors, mean=now_from_then.vectors(errors.mean))
    return replace(track, state=state, errors=errors, box=now_from_then.box(track.box))


def _reported(tracks: Iterable[Track]) -> tuple[Track, ...]:
    return tuple(track for track in tracks if track.status is not TENTATIVE)


def _seniority(track: Track) -> tuple[bool, int]:
    """Confirmed tracks in the order of their numbers, then the tentative ones."""
    return track.id < 0, abs(track.id)
