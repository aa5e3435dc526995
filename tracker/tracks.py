"""Many people: who is there, since when, and where.

A frame's way: the poses that say something (`sightings`), the tracks moved ahead (`hypotheses`),
who is who (`association`), the states after it (`hypotheses`), and what it means for each life
(`life`).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import isfinite

import numpy as np
from jaxtyping import Bool, Float, Int

from tracker import hypotheses
from tracker.association import (
    Association,
    AssociationConfig,
    Pair,
    associate,
    birth_log_density,
    birth_spread,
    keypoint_overlap,
    near,
)
from tracker.consistency import NOTHING_SEEN, Consistency, look, together
from tracker.doubles import Doubles
from tracker.errors import PoseError
from tracker.geometry import Affine, box_iou, centre, shifted
from tracker.hypotheses import People, ReductionConfig, Scores
from tracker.life import CONFIRMED, LOST, TENTATIVE, LifeConfig, reported, seniority
from tracker.motion import BodyMotion, MotionConfig, body_height, livelier
from tracker.noise import ErrorCorrelation, Measurements, NoiseConfig, measure
from tracker.one_thread import one_blas_thread
from tracker.parts import WHOLE, Parts
from tracker.returning import Numbers, ReturnConfig
from tracker.sightings import Sightings, seen_box, sight
from tracker.skeleton import COCO17, Skeleton
from tracker.smoothing import Link, Past
from tracker.types import Detection, Mixture, PoseMixture, Track

MOST_TEACHERS = 4
"""People of one frame from whom the correlation of errors is learnt, at most."""


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
        self._whole_birth_spread = birth_spread(self.motion, WHOLE, self.config.association)
        self._correlation = ErrorCorrelation(self.config.noise)
        # Errors that are alike and not modelled would be taken for motion.
        modelled = self.config.noise.model == "ar1"
        self._adaptation = self.config.motion.adaptation if modelled else 0.0
        self._tracks: tuple[Track, ...] = ()
        self._followed: tuple[People, list[Mixture]] | None = None
        self._numbers = Numbers(skeleton, self.config.returns)
        self._doubles = Doubles(self.config.life, skeleton)
        self._past = Past(self.config.lag)
        self._links: dict[int, Link] = {}

    @property
    def tracks(self) -> tuple[Track, ...]:
        """All live tracks, tentative ones too."""
        return self._tracks

    @property
    def error_correlation(self) -> float:
        """Correlation of the errors of poses 1/30 s apart, as it is believed now."""
        return self._correlation.rho

    @one_blas_thread
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
        if not (isfinite(time) and (self.time is None or time > self.time)):
            raise ValueError(f"time must grow: got {time} s after {self.time} s")
        self._check_keypoints(poses)
        dt = 0.0 if self.time is None else time - self.time
        life, noise = self.config.life, self.config.noise
        seen = sight(poses, life, noise, self._correlation.rho, self._parts, self.skeleton)
        before = self._expect(time)
        scores, found = self._associate(before, seen, dt)
        self._links = {}
        people = [
            *self._follow(before, seen, scores, found, dt),
            *self._restart(before, seen, found),
            *self._miss(before, found, dt, unwatched),
            *self._start(seen, found, time),
        ]
        self._numbers.remember(people, time)
        people = [t for t in self._named(people) if t.existence >= life.drop_existence]
        self._tracks = self._doubles.without(sorted(people, key=seniority), dt)
        self._past.add(self._tracks, self._links)
        self.time = time
        return reported(self._tracks)

    def _named(self, people: Sequence[Track]) -> list[Track]:
        """With numbers for those who have just been confirmed."""
        numbers = self._numbers.given(people)
        if not numbers:
            return list(people)
        back = set(numbers.values())  # no longer lost
        links = {n: link for n, link in self._links.items() if n not in back}
        self._links = {numbers.get(n, n): link for n, link in links.items()}
        return [
            replace(track, id=numbers.get(track.id, track.id))
            for track in people
            if track.id not in back
        ]

    def smoothed(self, back: int) -> tuple[Track, ...]:
        """The tracks of some frames ago, given all that has been seen since.

        Of people who were confirmed later or are gone by now, too; `TrackerConfig.lag` says how far
        back one may look.
        """
        return self.smoothed_since(back)[0]

    @one_blas_thread
    def smoothed_since(self, back: int) -> list[tuple[Track, ...]]:
        """The same for all frames from then until now."""
        return self._past.since(back)

    def predicted(self, time: float) -> tuple[Detection, ...]:
        """Where to look for the live tracks at some time: boxes as a detector would draw them.

        Not for people who have been lost for a while: a pose network would find somebody near.
        """
        self._check_ahead(time)
        return tuple(
            Detection(shifted(track.box, self._drift(track, time)), track.existence, track.id)
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
        return reported(
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
        self._tracks = tuple(now_from_then.track(track) for track in self._tracks)
        self._numbers.move_camera(now_from_then)

    def _check_keypoints(self, poses: Sequence[PoseMixture]) -> None:
        due = len(self.skeleton)
        for pose in poses:
            came, numbers = len(pose.visible), pose.mixture.mean.shape[1]
            if came != due or numbers != 2 * due:
                raise PoseError(
                    f"a pose of {came} keypoints and {numbers} coordinates came, but this tracker"
                    f" follows {due} keypoints, {2 * due} coordinates: make another"
                    " MultiTracker(skeleton=...) for poses of another skeleton"
                )

    def _check_ahead(self, time: float) -> None:
        if self.time is not None and time < self.time:
            raise ValueError(f"cannot predict back: asked for {time} s after {self.time} s")

    def _expect(self, time: float) -> _Expected:
        tracks = self._tracks
        if not tracks:
            return _Expected((), None, np.zeros((0, len(self.skeleton), 2)), np.zeros((0, 4)), time)
        box = np.array([track.box for track in tracks])
        was = self._together(tracks)
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
        shift = centre(keypoints - was.keypoints(self._parts))
        return _Expected(tracks, people, keypoints, shifted(box, shift), time)

    def _together(self, tracks: Sequence[Track]) -> People:
        """The states of all as one batch: the last update's, if nothing has happened since."""
        if self._followed is not None:
            people, states = self._followed
            same = len(tracks) == len(states)
            if same and all(t.state is state for t, state in zip(tracks, states, strict=True)):
                return people
        return hypotheses.gather([(track.state, track.errors) for track in tracks], self._parts)

    def _drift(self, track: Track, time: float) -> Float[np.ndarray, "2"]:
        """How far a box goes until some time: as far as the mean of the keypoints."""
        dt = time - track.time
        if track.last_seen != track.time:
            relaxation = self.config.motion.drift_time
            dt = -relaxation * np.expm1(-dt / relaxation)
        return dt * centre(track.velocity)

    def _associate(
        self, before: _Expected, seen: Sightings | None, dt: float
    ) -> tuple[Scores | None, Association]:
        """How everything that may go together scores, and who is who."""
        n = 0 if seen is None else len(seen)
        if seen is None or before.people is None:
            return None, Association((), tuple(range(len(before.tracks))), tuple(range(n)))
        config, life, z = self.config.association, self.config.life, seen.measurements
        pairs = near(before.people, z, config)
        scores = hypotheses.score(
            before.people, z, pairs, self._correlation.over(dt), self.config.noise
        )
        new_person = birth_log_density(z, self._birth_spread)
        log_ratio = np.full((len(before.tracks), n), -np.inf)
        log_ratio[tuple(pairs.T)] = scores.log_likelihood - new_person[pairs[:, 1]]
        # Almost any pose near goes with a state so vague: see `Numbers`.
        astray = np.array([life.astray(track, before.time) for track in before.tracks])
        log_ratio[astray] = -np.inf
        likely = pairs[log_ratio[tuple(pairs.T)] >= 0]
        log_ratio[tuple(self._apart(before, seen, likely).T)] = -np.inf
        weak = np.array([life.is_weak(found) for found in seen.detections])
        return scores, associate(
            log_ratio, cache(lambda: self._overlap(before, seen, astray)), weak, config
        )

    def _apart(
        self, before: _Expected, seen: Sightings, pairs: Int[np.ndarray, "P 2"]
    ) -> Int[np.ndarray, "p 2"]:
        """The pairs with somebody who was unseen that are told apart by whole bodies only.

        Keypoints that have drifted err together. Each by itself finds the same shift likely enough,
        and all would excuse it once more.
        """
        unseen = np.array([track.last_seen != track.time for track in before.tracks])
        pairs = pairs[unseen[pairs[:, 0]]]
        if self._parts == WHOLE or before.people is None or not len(pairs):
            return pairs[:0]
        poses, n = np.unique(pairs[:, 1], return_inverse=True)
        noise = self.config.noise
        z = measure([seen.poses[i] for i in poses], noise, self._correlation.rho, WHOLE)
        people = before.people.as_wholes(self._parts)
        scores = hypotheses.score(people, z, np.stack([pairs[:, 0], n], axis=1), 0.0, noise)
        return pairs[scores.log_likelihood < birth_log_density(z, self._whole_birth_spread)[n]]

    def _overlap(
        self, before: _Expected, seen: Sightings, astray: Bool[np.ndarray, " T"]
    ) -> Float[np.ndarray, "T N"]:
        """Of keypoints and boxes together; -inf where neither is large enough."""
        config = self.config.association
        iou = box_iou(before.box, seen.box)
        compared = (iou > 0) & ~astray[:, None]
        similar = keypoint_overlap(
            self.skeleton, before.keypoints, seen.keypoints, before.box, compared
        )
        enough = (similar >= config.least_oks) | (iou >= config.least_iou)
        return np.where(compared & enough, similar + iou, -np.inf)

    def _follow(
        self,
        before: _Expected,
        seen: Sightings | None,
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
        self.consistency = self.consistency.after(together(views))
        return self._hits(before, seen, pairs, after, list(innovations), views)

    def _restart(
        self, before: _Expected, seen: Sightings | None, found: Association
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
        seen: Sightings,
        pairs: Sequence[Pair],
        after: People,
        innovations: Sequence[Float[np.ndarray, " D"] | None],
        views: Sequence[Consistency | None],
    ) -> list[Track]:
        """Tracks that were seen: surer of their existence, with the state after the pose."""
        life, time = self.config.life, before.time
        t, n = np.array([(pair.track, pair.pose) for pair in pairs]).T
        tracks, found = [before.tracks[i] for i in t], [seen.poses[i].detection for i in n]
        keypoints = after.keypoints(self._parts)
        age = time - np.array([track.last_seen for track in tracks])
        visible = np.array([track.visible for track in tracks])
        new_share = 1 - 0.5 ** (age / life.visible_half_life)
        visible = visible + new_share[:, None] * (seen.visible[n] - visible)
        box = shifted(before.box[t], centre(keypoints - before.keypoints[t]))
        box = seen_box(box, keypoints, visible, found)
        followed = []
        states, lasting = after.states(self._parts), self._lasting(seen.measurements, n)
        if not self.config.lag:
            self._followed = after, [state for state, _ in states]
        for i, (state, errors) in enumerate(states):
            track, view = tracks[i], views[i]
            existence = life.seen(track, found[i], time)
            consistency, liveliness = track.consistency, track.liveliness
            if view is not None:
                consistency = consistency.after(view, horizon=self.config.consistency_views)
                liveliness = livelier(liveliness, view.autocorrelation, self._adaptation)
            followed.append(
                Track(
                    id=track.id,
                    status=CONFIRMED if life.confirms(track, existence) else TENTATIVE,
                    state=state,
                    time=time,
                    visible=visible[i],
                    box=box[i],
                    existence=existence,
                    hits=track.hits + 1,
                    last_seen=time,
                    errors=errors,
                    contested=pairs[i].contested,
                    consistency=consistency,
                    liveliness=liveliness,
                    innovation=innovations[i],
                    lasting=lasting[i],
                )
            )
        self._link([track.id for track in tracks], after)
        return followed

    def _miss(
        self, before: _Expected, found: Association, dt: float, unwatched: Collection[int]
    ) -> list[Track]:
        """The tracks that nobody saw: their states are predictions."""
        if before.people is None or not found.missed:
            return []
        life = self.config.life
        people = before.people.select(np.isin(np.arange(len(before.tracks)), found.missed))
        unseen = []
        for t, (state, _) in zip(found.missed, people.states(self._parts), strict=True):
            track = before.tracks[t]
            watched = track.id not in unwatched
            if track.last_seen == track.time:
                state = hypotheses.as_one_body(state, self.motion, self._parts)
            unseen.append(
                replace(
                    track,
                    status=TENTATIVE if track.status is TENTATIVE else LOST,
                    state=state,
                    time=before.time,
                    visible=track.visible * (0.5 ** (watched * dt / life.unseen_half_life)),
                    box=before.box[t],
                    existence=life.missed(track, dt) if watched else track.existence,
                    errors=None,
                    contested=False,
                    innovation=None,
                )
            )
        self._link([track.id for track in unseen], people)
        return unseen

    def _link(self, numbers: Sequence[int], people: People) -> None:
        """Remember how the tracks of these numbers lead back to the frame before."""
        # Those who have just begun lead nowhere.
        for number, both in zip(numbers, people.with_last(self._parts), strict=False):
            self._links[number] = Link.of(number, both)

    def _start(self, seen: Sightings | None, found: Association, time: float) -> list[Track]:
        """New people, where a good detection is not explained by anybody.

        Poses that were looked for where a track expected its person start no other.
        """
        if seen is None:
            return []
        life, detections = self.config.life, seen.detections
        new = [n for n in found.new if detections[n].track_id is None]
        new = [n for n in new if not life.is_weak(detections[n])]
        if not new:
            return []
        z = seen.measurements.select(np.array(new))
        people = hypotheses.start(z, self.motion, self._parts)
        lasting = self._lasting(z, np.arange(len(z)))
        return [
            Track(
                id=self._numbers.tentative(),
                status=TENTATIVE,
                state=state,
                time=time,
                visible=seen.visible[n],
                box=(seen.box[n] + detections[n].box) / 2,
                existence=life.born(detections[n]),
                hits=1,
                last_seen=time,
                errors=errors,
                lasting=lasting[i],
            )
            for i, (n, (state, errors)) in enumerate(
                zip(new, people.states(self._parts), strict=True)
            )
        ]

    def _lasting(
        self, z: Measurements, n: Int[np.ndarray, " n"]
    ) -> Sequence[Float[np.ndarray, "D D"] | None]:
        """What comes again in every pose of some people."""
        if z.lasting is None:
            return [None] * len(n)
        return list(self._parts.whole_matrix(z.lasting[n]))
