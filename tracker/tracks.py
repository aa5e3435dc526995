"""Many people: who is there, since when, and where.

A track is born tentative from a pose that no track explains, is confirmed once its existence is
sure, is lost while nobody sees it and gone when it has been unseen for too long.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice

import numpy as np
from jaxtyping import Float

from tracker import hypotheses
from tracker.association import (
    LEAST_VISIBLE,
    Association,
    AssociationConfig,
    Pair,
    agreeing,
    associate,
    birth_log_density,
    birth_spread,
    near,
)
from tracker.consistency import NOTHING_SEEN, Consistency, look
from tracker.geometry import Affine, box_iou
from tracker.hypotheses import People, ReductionConfig, Scores
from tracker.motion import BodyMotion, MotionConfig, body_height, livelier
from tracker.noise import ErrorCorrelation, Measurements, NoiseConfig, measure
from tracker.parts import Parts
from tracker.returning import ReturnConfig, returned
from tracker.skeleton import COCO17, Skeleton
from tracker.smoothing import Link
from tracker.types import Detection, PoseMixture, Track, TrackStatus

TENTATIVE, CONFIRMED, LOST = TrackStatus

BOX_MARGIN = np.array([-0.06, -0.09, 0.06, 0.10])
"""From the box of the keypoints to the box of the person, in parts of its long side.

The top of the head is above the eyes, the soles below the ankles: medians over COCO and full-body
photographs with human boxes."""

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


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """Everything that can be set about a tracker; the defaults run."""

    motion: MotionConfig = field(default_factory=MotionConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    reduction: ReductionConfig = field(default_factory=ReductionConfig)
    association: AssociationConfig = field(default_factory=AssociationConfig)
    life: LifeConfig = field(default_factory=LifeConfig)
    returns: ReturnConfig = field(default_factory=ReturnConfig)
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
    one. Nobody gets the number of somebody else, but who comes back has the old one.
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
        # Errors that are alike and not modelled would be taken for motion.
        modelled = self.config.noise.model == "ar1"
        self._adaptation = self.config.motion.adaptation if modelled else 0.0
        self._tracks: tuple[Track, ...] = ()
        self._gone: tuple[Track, ...] = ()
        self._links: dict[int, Link] = {}
        self._reports: deque[tuple[tuple[Track, ...], dict[int, Link]]] = deque(
            maxlen=self.config.lag + 1
        )
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
        self._links = {}
        seen, before = self._sightings(poses), self._expect(time)
        scores, found = self._associate(before, seen, dt)
        people = [
            *self._follow(before, seen, scores, found, dt),
            *self._restart(before, seen, found),
            *self._miss(before, found, dt, unwatched),
            *self._start(seen, found, time),
        ]
        people = self._known_again(people)
        alive = [track for track in people if track.existence >= self.config.life.drop_existence]
        self._remember(people, time)
        self._tracks = self._without_doubles(sorted(alive, key=_seniority), dt)
        self._reports.append((self._tracks, self._links))
        self.time = time
        return _reported(self._tracks)

    def _known_again(self, people: Sequence[Track]) -> list[Track]:
        """Numbers for those who have just been confirmed: their old ones, if they had any."""
        absent = [*(t for t in people if t.status is LOST), *self._gone]
        named = []
        for track in people:
            if track.status is CONFIRMED and track.id < 0:
                old = returned(track, absent, self.motion, self.skeleton, self.config.returns)
                number = next(self._numbers) if old is None else old.id
                absent = [other for other in absent if other is not old]
                if track.id in self._links:
                    self._links[number] = self._links.pop(track.id)
                track = replace(track, id=number)
            named.append(track)
        here = {track.id for track in named if track.status is CONFIRMED}
        return [t for t in named if t.status is not LOST or t.id not in here]

    def _remember(self, people: Sequence[Track], time: float) -> None:
        """Who is gone by now, and not for too long."""
        here = {track.id for track in people}
        gone = [t for t in people if t.existence < self.config.life.drop_existence and t.id > 0]
        gone += [t for t in self._gone if t.id not in here]
        self._gone = tuple(t for t in gone if time - t.last_seen <= self.config.returns.memory)

    def smoothed(self, back: int) -> tuple[Track, ...]:
        """The tracks of some frames ago, given all that has been seen since.

        Of people who were confirmed later or are gone by now, too; `TrackerConfig.lag` says how far
        back one may look.
        """
        return self.smoothed_since(back)[0]

    def smoothed_since(self, back: int) -> list[tuple[Track, ...]]:
        """The same for all frames from then until now."""
        if not 0 <= back < len(self._reports):
            raise ValueError(
                f"can look 0 to {len(self._reports) - 1} frames back, got {back};"
                f" TrackerConfig.lag is {self.config.lag}"
            )
        frames, later = [], list[tuple[Track, Link]]()
        for tracks, links in islice(reversed(self._reports), back + 1):
            told = {k.number: replace(track, state=k.back(track.state)) for track, k in later}
            now = [_retold(track, told.get(track.id)) for track in tracks]
            later = [(r, links[t.id]) for t, r in zip(tracks, now, strict=True) if t.id in links]
            frames.append(_each_once(_reported(now)))
        return frames[::-1]

    def predicted(self, time: float) -> tuple[Detection, ...]:
        """Where to look for the live tracks at some time: boxes as a detector would draw them.

        Not for people who have been lost for a while: a pose network would find somebody near.
        """
        self._check_ahead(time)
        return tuple(
            Detection(track.box + self._drift(track, time), track.existence, track.id)
            for track in self._tracks
            if track.time - track.last_seen <= self.config.life.looked_for
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
        self._gone = tuple(_carried(track, now_from_then) for track in self._gone)

    def _check_ahead(self, time: float) -> None:
        if self.time is not None and time < self.time:
            raise ValueError(f"cannot predict back: asked for {time} s after {self.time} s")

    def _expect(self, time: float) -> _Expected:
        tracks = self._tracks
        if not tracks:
            return _Expected((), None, np.zeros((0, len(self.skeleton), 2)), np.zeros((0, 4)), time)
        box = np.stack([track.box for track in tracks])
        states = [(track.state, track.errors) for track in tracks]
        was = hypotheses.gather(states, self._parts)
        people = hypotheses.predict(
            was,
            np.array([track.last_seen == track.time for track in tracks]),
            time - tracks[0].time,
            body_height(box),
            np.array([track.liveliness for track in tracks]),
            self.motion,
            self._parts,
            keep_last=self.config.lag > 0,
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
        alike |= agreeing(good, box_iou(box, box) > 0, life.same_region)
        kept: list[int] = []
        for i in np.flatnonzero(z.measured.sum(axis=(1, 2)) >= 2 * life.least_keypoints):
            double = next((k for k in kept if alike[i, k]), None)
            if double is None:
                kept.append(int(i))
            elif good[double].detection.track_id is not None:
                # Looked for where a track expected it, and found by the detector all the same.
                good[double] = replace(good[double], detection=good[i].detection)
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
        overlap = self._overlap(before, seen)
        # Almost any pose near goes with a state so vague: see `_known_again`.
        unseen = before.time - np.array([track.last_seen for track in before.tracks])
        astray = unseen > self.config.life.expected_for
        log_ratio[astray], overlap[astray] = -np.inf, 0.0
        return scores, associate(log_ratio, overlap, weak, config)

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
        fresh = hypotheses.start(z, self.motion, self._parts)
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
            existence = self._surer(track, poses[i].detection, before.time)
            hits = track.hits + 1
            sure = existence > life.confirm_existence and hits >= life.confirm_hits
            known = track.status is not TENTATIVE
            followed.append(
                Track(
                    id=track.id,
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
                    liveliness=track.liveliness
                    if looked is None
                    else livelier(track.liveliness, looked.autocorrelation, self._adaptation),
                    innovation=innovations[i],
                )
            )
        self._link([track.id for track in tracks], followed, after)
        return followed

    def _link(self, numbers: Sequence[int], tracks: Sequence[Track], people: People) -> None:
        """Remember how tracks lead back to the frame before, where they had these numbers."""
        # Those who have just begun lead nowhere.
        for number, track, both in zip(
            numbers, tracks, people.with_last(self._parts), strict=False
        ):
            self._links[track.id] = Link.of(number, both)

    def _surer(self, track: Track, found: Detection, time: float) -> float:
        """Existence after being seen: odds times those of the score, over those of a birth.

        What is found is no evidence against a person. A pose network that looks where a track
        expects somebody is none for one, and little by little one whom no detector finds is gone.
        """
        life, existence = self.config.life, track.existence
        if found.track_id is None:
            gain = max(1.0, _odds(found.score) / _odds(life.birth_score))
            odds = gain * _odds(existence)
            return min(odds / (1 + odds), MOST_EXISTENCE)
        if track.status is TENTATIVE:
            return existence
        return existence * life.drop_existence ** ((time - track.time) / life.undetected_memory)

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
        self._link([track.id for track in unseen], unseen, people)
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
        people = hypotheses.start(z, self.motion, self._parts)
        states = people.states(self._parts)
        return [
            Track(
                id=next(self._tentative_numbers),
                status=TENTATIVE,
                state=state,
                time=time,
                visible=seen.poses[n].visible,
                box=(seen.box[n] + seen.poses[n].detection.box) / 2,
                existence=min(seen.poses[n].detection.score, MOST_EXISTENCE),
                hits=1,
                last_seen=time,
                errors=errors,
            )
            for n, (state, errors) in zip(new, states, strict=True)
        ]

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


def _each_once(tracks: Iterable[Track]) -> tuple[Track, ...]:
    """Of a track that was still lost and a new one that turned out to be them, the new one."""
    lost_first = sorted(tracks, key=lambda track: track.status is not LOST)
    return tuple(sorted({track.id: track for track in lost_first}.values(), key=_seniority))


def _retold(track: Track, later: Track | None) -> Track:
    """A track as what came later tells of it: its state, and who it was."""
    if later is None:
        return track
    sure = track.status is TENTATIVE and later.id > 0
    status = CONFIRMED if sure else track.status
    return replace(track, id=later.id, status=status, state=later.state, errors=None)


def _odds(probability: float) -> float:
    """Certainties are taken for nearly so."""
    sure = min(max(probability, 1 - MOST_EXISTENCE), MOST_EXISTENCE)
    return sure / (1 - sure)


def _reported(tracks: Iterable[Track]) -> tuple[Track, ...]:
    return tuple(track for track in tracks if track.status is not TENTATIVE)


def _seniority(track: Track) -> tuple[bool, int]:
    """Confirmed tracks in the order of their numbers, then the tentative ones."""
    return track.id < 0, abs(track.id)
