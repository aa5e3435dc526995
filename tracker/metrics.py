"""How good poses, tracks and their error bars are, against a truth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment
from scipy.stats import chi2

from tracker.mixture import condition, moments
from tracker.skeleton import COCO17
from tracker.types import Mixture

# --- error bars ---------------------------------------------------------------------------------


def squared_mahalanobis(
    error: Float[np.ndarray, "*batch D"], cov: Float[np.ndarray, "*batch D D"]
) -> Float[np.ndarray, "*batch"]:
    """The squared error in units of its error bars, eᵀP⁻¹e; its mean is D where they are honest."""
    whitened = np.linalg.solve(np.linalg.cholesky(cov), error[..., None])[..., 0]
    return np.square(whitened).sum(axis=-1)


def coverage(nees: Float[np.ndarray, " n"], probability: float, dof: int = 2) -> float:
    """Share of truths inside the region that should hold this share of them."""
    return float((nees <= chi2.ppf(probability, dof)).mean()) if len(nees) else float("nan")


def hpd_level(
    drawn: Float[np.ndarray, "*batch n"], truth: Float[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*batch"]:
    """Mass of the smallest region that still holds the truth: P(p(X) > p(truth)) for X ~ p.

    From the log densities of draws and of the truth, all under p. Uniform on [0, 1] where p is
    honest, whatever its number of modes (highest-density regions, Hyndman 1996).
    """
    return np.asarray((drawn > truth[..., None]).mean(axis=-1))


def coverage_curve(
    level: Float[np.ndarray, " n"], grid: Float[np.ndarray, " g"]
) -> Float[np.ndarray, " g"]:
    """Share of truths inside the region of each probability of a grid; honest is the grid itself.

    Only levels measured at truths count; NaN where there are none.
    """
    if not len(level):
        return np.full(len(grid), np.nan)
    return (level[:, None] <= grid).mean(axis=0)


def energy_score(draws: Float[np.ndarray, "n D"], truth: Float[np.ndarray, " D"]) -> float:
    """E|X - y| - ½E|X - X'|: a proper score in the unit of x, 0 for a sure and right answer.

    Gneiting & Raftery 2007. X' is the neighbour of X among the draws, so that it costs n distances.
    """
    to_truth = np.linalg.norm(draws - truth, axis=1)
    apart = np.linalg.norm(draws - np.roll(draws, 1, axis=0), axis=1)
    return float(to_truth.mean() - 0.5 * apart.mean())


class Reliability(NamedTuple):
    """What was promised and what was kept, bin by bin, in order of the promise."""

    promised: Float[np.ndarray, " bins"]
    kept: Float[np.ndarray, " bins"]
    share: Float[np.ndarray, " bins"]
    """Part of all cases; the bins are of equal count."""

    @property
    def error(self) -> float:
        """Expected calibration error Σ share |promised - kept| (Naeini 2015)."""
        return float(self.share @ np.abs(self.promised - self.kept))


def reliability(
    promised: Float[np.ndarray, " n"], kept: Float[np.ndarray, " n"], bins: int = 15
) -> Reliability:
    """Compare a confidence with what came of it."""
    parts = [p for p in np.array_split(np.argsort(promised, kind="stable"), bins) if len(p)]
    return Reliability(
        np.array([promised[part].mean() for part in parts]),
        np.array([kept[part].mean() for part in parts]),
        np.array([len(part) / len(promised) for part in parts]),
    )


def sparsification(
    order_by: Float[np.ndarray, " n"], error: Float[np.ndarray, " n"], steps: int = 20
) -> Float[np.ndarray, " steps"]:
    """Mean error of what is left once the most uncertain 0, 1/steps, 2/steps, … are dropped.

    In units of the mean error of all; with the error itself as order, the best possible curve.
    """
    ranked = error[np.argsort(order_by, kind="stable")]
    running = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    left = np.ceil(len(ranked) * (1 - np.arange(steps) / steps)).astype(int)
    return running[left - 1] / running[-1]


def ause(uncertainty: Float[np.ndarray, " n"], error: Float[np.ndarray, " n"]) -> float:
    """Area between the sparsification curves of the uncertainty and of the error (Ilg 2018)."""
    return float((sparsification(uncertainty, error) - sparsification(error, error)).mean())


# --- poses --------------------------------------------------------------------------------------


def conditioned_errors(
    pose: Mixture,
    truth: Float[np.ndarray, "J 2"],
    given: Bool[np.ndarray, " J"],
    told: Float[np.ndarray, "J 2"],
) -> tuple[Float[np.ndarray, " j"], Float[np.ndarray, " j"]]:
    """Distances of the mixture's mean from the truth, before and after some keypoints are told.

    For the keypoints that are not given. With what is told = the truth this is TAC (Shukla 2024):
    the errors shrink where the correlations are right. With somebody else's, they must not.
    """
    index = np.repeat(given, 2).nonzero()[0]
    before = moments(pose).mean.reshape(-1, 2)[~given]
    after = moments(condition(pose, index, told.ravel()[index])).mean.reshape(-1, 2)
    return (
        np.linalg.norm(before - truth[~given], axis=1),
        np.linalg.norm(after - truth[~given], axis=1),
    )


def expected_oks(
    pose: Mixture, area: float, at: Float[np.ndarray, "J 2"] | None = None
) -> Float[np.ndarray, " J"]:
    """Expectation of each keypoint's OKS of an answer when the mixture is true.

    The answer is the heaviest hypothesis unless given.
    Closed form for e ~ N(m, Σ) and fall-off f² = area·(2σⱼ)²:
    E exp(-|e|²/2f²) = |I + Σ/f²|^(-½) exp(-½ mᵀ(f²I + Σ)⁻¹m).
    """
    bumps = _Bumps.of(pose, area)
    points = bumps.place[pose.heaviest] if at is None else at
    return bumps.heights(points).sum(axis=0)


def best_answer(pose: Mixture, area: float, steps: int = 8) -> Float[np.ndarray, "J 2"]:
    """The pose to name when only one may be named: each keypoint where its expected OKS is largest.

    Begun at the best of the hypotheses; then uphill by fixed-point steps, none of which goes down
    (a mean shift: the expectation is a sum of Gaussian bumps).
    """
    bumps = _Bumps.of(pose, area)
    promised = np.array([bumps.heights(place).sum(axis=0) for place in bumps.place])
    at = bumps.place[promised.argmax(axis=0), np.arange(len(COCO17))]
    pull = np.einsum("kjab,kjb->kja", bumps.precision, bumps.place)
    for _ in range(steps):
        share = bumps.heights(at)
        total = np.einsum("kj,kjab->jab", share, bumps.precision)
        at = np.linalg.solve(total, np.einsum("kj,kja->ja", share, pull)[..., None])[..., 0]
    return at


@dataclass(frozen=True, slots=True, eq=False)
class _Bumps:
    """What each hypothesis adds to the expected OKS of an answer: a bump around its own place."""

    place: Float[np.ndarray, "K J 2"]
    precision: Float[np.ndarray, "K J 2 2"]
    height: Float[np.ndarray, "K J"]

    @classmethod
    def of(cls, pose: Mixture, area: float) -> "_Bumps":
        n = len(COCO17)
        falloff = np.square(COCO17.falloff(np.asarray(area)))  # (J,)
        widened = pose.point_cov(n) + falloff[:, None, None] * np.eye(2)
        scale = falloff / np.sqrt(np.linalg.det(widened))
        weight = np.exp(pose.log_weight)[:, None]
        return cls(pose.points(n), np.linalg.inv(widened), weight * scale)

    def heights(self, at: Float[np.ndarray, "J 2"]) -> Float[np.ndarray, "K J"]:
        """What each adds at an answer."""
        offset = self.place - at
        inside = np.einsum("kja,kjab,kjb->kj", offset, self.precision, offset)
        return np.asarray(self.height * np.exp(-0.5 * inside))


# --- tracks -------------------------------------------------------------------------------------


def match_people(
    similarity: Float[np.ndarray, "N T"],
    held: Mapping[int, int] | None = None,
    *,
    least: float = 0.3,
) -> list[tuple[int, int]]:
    """Pairs (person, track) of largest total similarity, among those that reach `least`.

    A pair that held in the frame before goes first while it still reaches (Bernardin & Stiefelhagen
    2008): an identity is lost only when its own track has gone elsewhere.
    """
    kept = {n: t for n, t in (held or {}).items() if similarity[n, t] >= least}
    possible = similarity >= least
    possible[list(kept)] = False
    possible[:, list(kept.values())] = False
    rows, columns = linear_sum_assignment(np.where(possible, similarity, 0.0), maximize=True)
    fresh = [(int(n), int(t)) for n, t in zip(rows, columns, strict=True) if possible[n, t]]
    return sorted([*kept.items(), *fresh])


@dataclass(eq=False)
class IdentityScore:
    """Who was followed by whom, over a sequence."""

    least: float = 0.3
    """Least similarity of a track to the person whom it follows."""
    present: dict[int, int] = field(default_factory=dict)
    """Frames in which each person was there."""
    followed: dict[int, int] = field(default_factory=dict)
    """Frames in which each person was followed."""
    switches: int = 0
    """How often a person's track became another than the last that had followed them."""
    false: int = 0
    """Tracks that follow nobody, summed over frames."""
    _last: dict[int, int] = field(default_factory=dict)
    _held: dict[int, int] = field(default_factory=dict)

    def add(
        self,
        people: list[int],
        tracks: list[int],
        similarity: Float[np.ndarray, "N T"],
        *,
        optional: Bool[np.ndarray, " T"] | None = None,
    ) -> list[tuple[int, int]]:
        """Take in one frame: ids of both sides and how alike they are; the pairs, by position.

        An optional track may follow a person, but is not false when it does not.
        """
        held = {
            n: tracks.index(self._held[person])
            for n, person in enumerate(people)
            if self._held.get(person) in tracks
        }
        pairs = match_people(similarity, held, least=self.least)
        for person in people:
            self.present[person] = self.present.get(person, 0) + 1
        self._held = {people[n]: tracks[t] for n, t in pairs}
        for person, track in self._held.items():
            self.followed[person] = self.followed.get(person, 0) + 1
            self.switches += self._last.get(person, track) != track
        self._last |= self._held
        matched = {t for _, t in pairs}
        counted = np.ones(len(tracks), bool) if optional is None else ~optional
        self.false += sum(bool(counted[t]) for t in range(len(tracks)) if t not in matched)
        return pairs

    @property
    def recall(self) -> float:
        """Share of all person-frames in which the person was followed."""
        return sum(self.followed.values()) / max(sum(self.present.values()), 1)
