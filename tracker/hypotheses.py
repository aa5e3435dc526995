"""People as Gaussian sums over their states, fed with Gaussian sums over their poses.

Every hypothesis of a person meets every hypothesis of a pose; the pairs are scored first and only
the few that matter are updated. All people of a frame are one batch, hypothesis after hypothesis.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import log, log1p, pi, sqrt

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import block_diag

from tracker import kalman, mixture, triangular
from tracker.kalman import Echo
from tracker.motion import BodyMotion
from tracker.noise import (
    Measurements,
    NoiseConfig,
    disbelief,
    error_bar,
    planar_gate,
    planar_nis,
)
from tracker.parts import Parts
from tracker.types import LastErrors, Mixture


@dataclass(frozen=True, slots=True)
class ReductionConfig:
    """How many hypotheses survive an update."""

    within: float = 9.2
    """A pair is updated only within this of the best, nats: a ratio of ten thousand."""
    most: int = 4
    """Pairs updated, and hypotheses kept."""
    merge_below: float = 0.25
    """Hypotheses nearer than this are one (`mixture.distances`)."""
    per_keypoint: bool = False
    """One Gaussian for each keypoint alone instead: several times as fast, no rivals, and
    covariances of different keypoints are zero."""


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """The hypotheses of T people, one person after another."""

    owner: Int[np.ndarray, " M"]
    """The person that a hypothesis belongs to, in growing order."""
    log_weight: Float[np.ndarray, " M"]
    """Normalised for each person."""
    mean: Float[np.ndarray, "M B x"]
    """Positions and velocities; then those of the frame before, where a smoother wants them."""
    cov: Float[np.ndarray, "M B x x"]
    error: Float[np.ndarray, "M B d"]
    """What the last measurement was off by, px."""
    trust: Float[np.ndarray, "M B d"]
    """One over the error bar that it had, 1/px; zero where nothing is remembered."""
    count: int
    """T."""
    echo: Echo | None = None
    """The same errors seen from the present, where they may tell of the next."""
    whole_cov: Float[np.ndarray, "M X X"] | None = None
    """Of the present states, with what parts have in common; None where they have nothing."""

    def __len__(self) -> int:
        return self.count

    def select(self, keep: Bool[np.ndarray, " T"]) -> "People":
        """Some of the people, as if there were no others."""
        rows, place = keep[self.owner], np.cumsum(keep) - 1
        return People(
            place[self.owner[rows]],
            self.log_weight[rows],
            self.mean[rows],
            self.cov[rows],
            self.error[rows],
            self.trust[rows],
            int(keep.sum()),
            whole_cov=None if self.whole_cov is None else self.whole_cov[rows],
        )

    def keypoints(self, parts: Parts) -> Float[np.ndarray, "T J 2"]:
        """The heaviest hypothesis of each person, px."""
        position = self.mean[..., : self.error.shape[-1]]
        if len(self.owner) > self.count:
            order = np.lexsort((-self.log_weight, self.owner))
            position = position[order[np.searchsorted(self.owner, np.arange(self.count))]]
        return parts.whole_vector(position).reshape(self.count, -1, 2)

    def states(self, parts: Parts) -> list[tuple[Mixture, LastErrors]]:
        """What a track keeps of each person."""
        mean = parts.whole_vector(self.mean[..., : 2 * self.error.shape[-1]], 2)
        cov = self.whole(parts)
        error, trust = parts.whole_vector(self.error), parts.whole_vector(self.trust)
        return [
            (Mixture(mean[r], cov[r], self.log_weight[r]), LastErrors(error[r], trust[r]))
            for r in self._rows()
        ]

    def whole(self, parts: Parts) -> Float[np.ndarray, "M X X"]:
        """Covariances of the present states."""
        x = 2 * self.error.shape[-1]
        known = self.whole_cov
        return parts.whole_matrix(self.cov[..., :x, :x], 2) if known is None else known

    def as_wholes(self, parts: Parts) -> "People":
        """The same people, each as one part; of their last errors nothing is known."""
        mean = parts.whole_vector(self.mean[..., : 2 * self.error.shape[-1]], 2)
        nothing = np.zeros((len(mean), 1, mean.shape[-1] // 2))
        cov = self.whole(parts)[:, None]
        return People(self.owner, self.log_weight, mean[:, None], cov, nothing, nothing, self.count)

    def with_last(self, parts: Parts) -> list[Mixture]:
        """The present state of each person and, after it, that of the frame before."""
        if self.mean.shape[-1] == 2 * self.error.shape[-1]:
            return []
        mean, cov = parts.whole_vector(self.mean, 4), parts.whole_matrix(self.cov, 4)
        return [Mixture(mean[r], cov[r], self.log_weight[r]) for r in self._rows()]

    def _rows(self) -> list[slice]:
        ends = np.searchsorted(self.owner, np.arange(self.count + 1))
        return [slice(a, b) for a, b in pairwise(ends)]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Hypotheses of people against hypotheses of poses, for P pairs of a person and a pose.

    S rows of hypotheses that meet, then one for each hypothesis of a person and a pose that is
    wrong as a whole.
    """

    pairs: Int[np.ndarray, "P 2"]
    """Person and pose."""
    pair: Int[np.ndarray, " rows"]
    """Which of them a row belongs to."""
    person: Int[np.ndarray, " rows"]
    """Hypothesis of the person."""
    log_joint: Float[np.ndarray, " rows"]
    """Log of prior weights times likelihood, nats."""
    log_likelihood: Float[np.ndarray, " P"]
    """Log of p(pose | person), nats."""
    pose: Int[np.ndarray, " S"]
    """Hypothesis of the pose."""
    innovation: kalman.Innovation
    """Batch (S, B)."""
    doubt: Float[np.ndarray, "S B d"]
    """Variance added to keypoints that are not believed, px²."""
    nis: Float[np.ndarray, "S J"]
    """Of each keypoint alone, before anything is added."""
    gain: Float[np.ndarray, "S B d"]
    """Of the last error, what is left in this one."""


def gather(
    states: Sequence[tuple[Mixture, LastErrors | None]],
    parts: Parts,
) -> People:
    """All people as one batch."""
    counts = [len(state) for state, _ in states]
    errors = [LastErrors.none(state) if error is None else error for state, error in states]
    cov = np.concatenate([state.cov for state, _ in states])
    return People(
        np.repeat(np.arange(len(states)), counts),
        np.concatenate([state.log_weight for state, _ in states]),
        parts.vector(np.concatenate([state.mean for state, _ in states]), 2),
        parts.matrix(cov, 2),
        parts.vector(np.concatenate([error.mean for error in errors])),
        parts.vector(np.concatenate([error.trust for error in errors])),
        len(states),
        whole_cov=cov,
    )


def start(z: Measurements, motion: BodyMotion, parts: Parts) -> People:
    """People seen for the first time: their pose, and a velocity still to learn."""
    K, B, d = z.mean.shape
    cov = np.zeros((K, B, 2 * d, 2 * d))
    cov[..., :d, :d] = z.R
    height = z.height[z.owner, None, None, None]
    cov[..., d:, d:] = height**2 * parts.matrix(motion.start_cov)
    mean = np.concatenate([z.mean, np.zeros((K, B, d))], axis=-1)
    trust = z.measured[z.owner] / z.size
    return People(z.owner, z.log_weight, mean, cov, np.zeros((K, B, d)), trust, len(z))


def predict(
    people: People,
    seen: Bool[np.ndarray, " T"],
    dt: float,
    height: Float[np.ndarray, " T"],
    liveliness: Float[np.ndarray, " T"],
    motion: BodyMotion,
    parts: Parts,
    keep_last: bool = False,
) -> People:
    """Move everybody ahead; those who were not seen in the last frame drift, and forget its errors.

    What a measurement was off by, e = z - p, has the covariance of p and goes against it. For a
    smoother the state before is kept beside the new one.
    """
    d = people.error.shape[-1]
    lively = np.square(height * liveliness)[people.owner, None, None, None]
    was = people.cov if keep_last else people.cov[..., :d]
    moved = was.copy()
    moved[..., :d, :] += dt * was[..., d:, :]
    mean, cov = kalman.glide(people.mean, people.cov, dt, lively * parts.matrix(motion.density))
    lost = ~seen[people.owner]
    trust, whole_cov = people.trust, None
    if lost.any():
        step, whole = motion.unseen(dt), people.whole(parts)[lost]
        mean_lost, cov_lost = kalman.predict(
            parts.whole_vector(people.mean[lost], 2),
            whole,
            step.F,
            np.square(height)[people.owner[lost], None, None] * step.Q,
        )
        mean[lost], cov[lost] = parts.vector(mean_lost, 2), parts.matrix(cov_lost, 2)
        moved[lost] = parts.matrix(step.F @ whole, 2)[..., : was.shape[-1]]
        trust = np.where(lost[:, None, None], 0.0, people.trust)
        whole_cov = parts.whole_matrix(cov, 2)
        whole_cov[lost] = cov_lost
    back = moved[..., :d]
    if keep_last:
        mean = np.concatenate([mean, people.mean], axis=-1)
        cov = np.block([[cov, moved], [moved.mT, people.cov]])
        back = np.concatenate([back, people.cov[..., :d]], axis=-2)
    echo = Echo(people.error, people.cov[..., :d, :d], -back)
    return replace(people, mean=mean, cov=cov, trust=trust, echo=echo, whole_cov=whole_cov)


def as_one_body(state: Mixture, motion: BodyMotion, parts: Parts) -> Mixture:
    """The state of somebody who has just got lost, with velocities that err alike.

    Parts know nothing of each other: errors of where a body goes would cancel between them, and it
    could not get far. Velocities are taken to be as alike as motions are (ADR 0069).
    """
    if parts.count == 1:
        return state
    D = len(motion.correlation)
    L = parts.whole_matrix(triangular.cholesky(parts.matrix(state.cov, 2)), 2)
    return replace(state, cov=L @ block_diag(np.eye(D), motion.correlation) @ L.mT)


def score(
    people: People,
    z: Measurements,
    pairs: Int[np.ndarray, "P 2"],
    rho: float,
    noise: NoiseConfig,
) -> Scores:
    """Compare people with poses; ρ is the correlation of this frame's errors with the last."""
    of_person, of_pose = _slots(people.owner)[pairs[:, 0]], _slots(z.owner)[pairs[:, 1]]
    pair, m, k = _combinations(of_person, of_pose)
    d = z.mean.shape[-1]
    measured = z.measured[z.owner[k]]
    gain = rho * z.size[k] * people.trust[m]
    position_cov = people.cov[..., :d, :d]
    difference = z.mean[k] - people.mean[m, :, :d]
    if rho > 0 and people.echo is not None:
        echo = Echo(people.error[m], people.echo.cov[m], people.echo.cross[m, :, :d])
        fresh = np.where(gain > 0, sqrt(1 - rho**2), 1.0)
        S = kalman.with_echo(position_cov[m], z.R[k], echo, gain, fresh)
        difference = difference - gain * echo.mean
    else:
        S = position_cov[m] + z.R[k]
    nis, gate = planar_nis(difference, S), planar_gate(noise.joint_gate)
    doubt = np.zeros(difference.shape)
    if (nis > gate).any():
        doubt = disbelief(difference, nis, gate)
        diagonal = np.arange(d)
        S[..., diagonal, diagonal] += doubt
    innovation = kalman.innovate(difference, S, measured)
    prior = people.log_weight[m] + z.log_weight[k] + log1p(-noise.outlier_weight)
    inside = prior + innovation.log_likelihood.sum(axis=-1)
    wrong_pair, i = np.nonzero(of_person >= 0)
    wrong_m = of_person[wrong_pair, i]
    wrong = _wrong_as_a_whole(people, z, wrong_m, pairs[wrong_pair, 1], noise)
    log_joint, all_pairs = np.concatenate([inside, wrong]), np.concatenate([pair, wrong_pair])
    log_likelihood = np.full(len(pairs), -np.inf)
    np.logaddexp.at(log_likelihood, all_pairs, log_joint)
    return Scores(
        pairs,
        all_pairs,
        np.concatenate([m, wrong_m]),
        log_joint,
        log_likelihood,
        k,
        innovation,
        doubt,
        nis.reshape(len(m), nis.shape[1] * nis.shape[2]),
        gain,
    )


def update(
    people: People,
    z: Measurements,
    scores: Scores,
    chosen: Int[np.ndarray, " P"],
    reduction: ReductionConfig,
) -> People:
    """The people given the poses they were matched with, in the order of the chosen pairs.

    The surviving hypotheses are updated, then merged. A pose that is wrong as a whole moves nobody.
    """
    rows, owner = survivors(scores, chosen, reduction)
    m, d = scores.person[rows], z.mean.shape[-1]
    mean, cov = people.mean[m], people.cov[m]
    error, trust = np.zeros((2, len(rows), *z.mean.shape[1:]))
    is_inside = rows < len(scores.pose)
    inside = slice(None) if is_inside.all() else is_inside  # a slice copies nothing
    good = rows[inside]
    k, gain = scores.pose[good], scores.gain[good]
    cross = people.cov[..., :d][m[inside]]
    if people.echo is not None and gain.any():
        back = people.echo.cross[m[inside]]
        back *= gain[..., None, :]
        cross += back
    innovation = scores.innovation.rows(good)
    pull = kalman.pull(cross, innovation)
    mean[inside] += (pull.mT @ innovation.whitened[..., None])[..., 0]
    cov[inside] -= triangular.gram(pull)
    error[inside] = z.mean[k] - mean[inside, :, :d]
    size, doubt = z.size[k], scores.doubt[good]
    doubted = doubt.any(axis=(1, 2))
    if doubted.any():
        size[doubted] = error_bar(z.R[k[doubted]] + doubt[doubted][..., None] * np.eye(d))
    trust[inside] = innovation.measured / size
    weight = scores.log_joint[rows]
    total = np.full(len(chosen), -np.inf)
    np.logaddexp.at(total, owner, weight)
    weight = weight - total[owner]
    posterior = People(owner, weight, mean, cov, error, trust, len(chosen))
    return _merged(posterior, reduction.merge_below)


def best_rows(scores: Scores, chosen: Int[np.ndarray, " P"]) -> Int[np.ndarray, " P"]:
    """Of each chosen pair, the two hypotheses that go best together."""
    inside = len(scores.pose)
    order = np.lexsort((-scores.log_joint[:inside], scores.pair[:inside]))
    return order[np.searchsorted(scores.pair[:inside][order], chosen)]


def learn_correlation(
    people: People,
    z: Measurements,
    scores: Scores,
    rows: Int[np.ndarray, " n"],
    rho: float,
) -> tuple[float, float]:
    """Slope of the log likelihood of some matched hypotheses in ρ, and its Fisher information.

    Given the last state. With the innovation d(ρ), its covariance S(ρ) = LLᵀ, w = L⁻¹d, u = -L⁻¹d'
    and M = L⁻¹S'L⁻ᵀ they are wᵀu + ½ (wᵀMw - tr M) and uᵀu + ½ tr M².
    """
    if people.echo is None or len(rows) == 0:
        return 0.0, 0.0
    m, k = scores.person[rows], scores.pose[rows]
    innovation = scores.innovation.rows(rows)
    L, w = innovation.factor, innovation.whitened
    unit = z.size[k] * people.trust[m] * innovation.measured
    known = unit > 0
    fresh = np.where(known, sqrt(1 - rho**2), 1.0)
    falls = np.where(known, -rho / fresh, 0.0)
    d = unit.shape[-1]
    half = people.echo.cross[m, :, :d] * unit[..., None, :]
    half += rho * unit[..., :, None] * unit[..., None, :] * people.echo.cov[m]
    half += falls[..., :, None] * fresh[..., None, :] * z.R[k]
    change = half + half.mT
    if not innovation.measured.all():
        change *= innovation.measured[..., :, None] & innovation.measured[..., None, :]
    M = triangular.solve(L, triangular.solve(L, change).mT)
    u = triangular.solve(L, (unit * people.error[m])[..., None])[..., 0]
    curved = np.vdot(w, (M @ w[..., None])[..., 0])
    slope = np.vdot(w, u) + 0.5 * (curved - M.diagonal(0, -2, -1).sum())
    return float(slope), float(np.vdot(u, u) + 0.5 * np.vdot(M, M))


def survivors(
    scores: Scores, chosen: Int[np.ndarray, " P"], reduction: ReductionConfig
) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
    """The rows worth an update, best first for each chosen pair, and the pair's place."""
    place = np.full(len(scores.log_likelihood), -1)
    place[chosen] = np.arange(len(chosen))
    rows = np.flatnonzero(place[scores.pair] >= 0)
    order = np.lexsort((-scores.log_joint[rows], place[scores.pair[rows]]))
    rows = rows[order]
    owner = place[scores.pair[rows]]
    first = np.searchsorted(owner, np.arange(len(chosen)))[owner]
    most = 1 if reduction.per_keypoint else reduction.most
    near = scores.log_joint[rows] >= scores.log_joint[rows[first]] - reduction.within
    kept = near & (np.arange(len(rows)) - first < most)
    return rows[kept], owner[kept]


def _combinations(
    of_person: Int[np.ndarray, "P i"], of_pose: Int[np.ndarray, "P j"]
) -> tuple[Int[np.ndarray, " S"], Int[np.ndarray, " S"], Int[np.ndarray, " S"]]:
    """Pair, person's hypothesis and pose's hypothesis of everything that is to be compared."""
    pair, i, j = np.nonzero((of_person >= 0)[:, :, None] & (of_pose >= 0)[:, None, :])
    return pair, of_person[pair, i], of_pose[pair, j]


def _slots(owner: Int[np.ndarray, " n"]) -> Int[np.ndarray, "T most"]:
    """The rows of each owner, filled up with -1."""
    counts = np.bincount(owner)
    if len(counts) == len(owner):
        return np.arange(len(owner))[:, None]
    place = np.arange(len(owner)) - np.searchsorted(owner, np.arange(len(counts)))[owner]
    slots = np.full((len(counts), counts.max(initial=0)), -1)
    slots[owner, place] = np.arange(len(owner))
    return slots


def _wrong_as_a_whole(
    people: People,
    z: Measurements,
    m: Int[np.ndarray, " rows"],
    pose: Int[np.ndarray, " rows"],
    noise: NoiseConfig,
) -> Float[np.ndarray, " rows"]:
    """Log of weight times density, for hypotheses of people: that the pose is something else.

    Its keypoints are then spread far and independently about the person.
    """
    d = z.mean.shape[-1]
    variance = people.cov[..., :d, :d].diagonal(0, -2, -1)[m]
    variance = variance + np.square(noise.outlier_std * z.height[pose])[:, None, None]
    squared = np.square(z.centre[pose] - people.mean[m, :, :d]) / variance
    logs = (squared + np.log(2 * pi * variance)) * z.measured[pose]
    prior = people.log_weight[m] + log(noise.outlier_weight)
    return prior - 0.5 * logs.sum(axis=(-2, -1))


def _merged(people: People, below: float) -> People:
    """Hypotheses of one person that have become alike are joined."""
    counts = np.bincount(people.owner, minlength=len(people))
    several = np.flatnonzero(counts > 1)
    if len(several) == 0:
        return people
    slots = _slots(people.owner)[several]  # (n, most)
    there = slots >= 0
    batch = Mixture(
        people.mean[slots, 0],
        people.cov[slots, 0],
        np.where(there, people.log_weight[slots], -np.inf),
    )
    # Where people are tells who is who as well as where and how fast, for half of the cost.
    groups = mixture.near_groups(mixture.first(batch, people.error.shape[-1]), below)
    if (groups.sum(axis=-1) <= 1).all():
        return people
    joined = mixture.merge_groups(batch, groups)
    share = np.exp(np.where(groups, batch.log_weight[:, None], -np.inf) - _safe(joined.log_weight))
    error, trust = (share @ v[slots, 0] for v in (people.error, people.trust))
    n, g = np.nonzero(np.isfinite(joined.log_weight))
    alone = counts[people.owner] == 1
    owner = np.append(people.owner[alone], several[n])
    order = np.argsort(owner, kind="stable")

    def both(
        single: Float[np.ndarray, " *rest"], new: Float[np.ndarray, " *other"]
    ) -> Float[np.ndarray, " *both"]:
        return np.concatenate([single[alone], new[n, g]])[order]

    return People(
        owner[order],
        both(people.log_weight, joined.log_weight),
        both(people.mean, joined.mean[:, :, None]),
        both(people.cov, joined.cov[:, :, None]),
        both(people.error, error[:, :, None]),
        both(people.trust, trust[:, :, None]),
        people.count,
    )


def _safe(log_weight: Float[np.ndarray, "n g"]) -> Float[np.ndarray, "n g 1"]:
    return np.where(np.isfinite(log_weight), log_weight, 0.0)[..., None]
