"""How good tracks and their error bars are, against a truth."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment
from scipy.stats import chi2

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


# --- poses --------------------------------------------------------------------------------------


def expected_oks(pose: Mixture, area: float, k: int | None = None) -> Float[np.ndarray, " J"]:
    """Expectation of each keypoint's OKS of hypothesis k (the heaviest) when the mixture is true.

    Closed form for e ~ N(m, Σ) and fall-off f² = area·(2σⱼ)²:
    E exp(-|e|²/2f²) = |I + Σ/f²|^(-½) exp(-½ mᵀ(f²I + Σ)⁻¹m).
    """
    n = len(COCO17)
    falloff = np.square(COCO17.falloff(np.asarray(area)))  # (J,)
    offset = pose.points(n) - pose.points(n)[pose.heaviest if k is None else k]
    widened = pose.point_cov(n) + falloff[:, None, None] * np.eye(2)
    inside = np.einsum("kja,kja->kj", offset, np.linalg.solve(widened, offset[..., None])[..., 0])
    scale = falloff / np.sqrt(np.linalg.det(widened))
    return np.exp(pose.log_weight) @ (scale * np.exp(-0.5 * inside))


def best_answer(pose: Mixture, area: float) -> int:
    """Which hypothesis to name when only one pose may be named: that of the largest expected OKS.

    The heaviest may stand alone where several lighter ones agree about another pose.
    """
    return int(np.argmax([expected_oks(pose, area, k).mean() for k in range(len(pose))]))


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
