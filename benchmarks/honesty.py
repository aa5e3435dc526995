"""Does a mixture over poses hold the truth as often as it says, and is it narrow?

All lengths are in OKS fall-offs (2 σⱼ sqrt(area), the distance at which a keypoint's OKS is
exp(-½)), so that people of all sizes and keypoints of all kinds count alike. Only keypoints that
humans labelled count, by the exact marginal of the mixture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tracker.metrics import (
    ause,
    conditioned_errors,
    coverage_curve,
    energy_score,
    expected_oks,
    hpd_level,
    reliability,
    sparsification,
)
from tracker.mixture import log_density, marginal, merge, moments, reduce_hypotheses, sample
from tracker.skeleton import COCO17
from tracker.types import Mixture

LEVELS = (0.5, 0.9, 0.95, 0.99)
GRID = np.array([*np.linspace(0.05, 0.95, 19), 0.99])
BEST_OF = (1, 2, 4, 8)
DRAWS = 200
RESAMPLES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Where humans put the keypoints of one person, px."""

    keypoints: Float[np.ndarray, "J 2"]
    labelled: Bool[np.ndarray, " J"]
    area: float


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What one person says of a method; n labelled keypoints."""

    nll: float
    """Nats of all n together."""
    level: float
    """`hpd_level` of the whole pose."""
    keypoint_level: Float[np.ndarray, " n"]
    promised: Float[np.ndarray, " n"]
    """Expected OKS of the reported keypoints."""
    kept: Float[np.ndarray, " n"]
    """Their OKS."""
    spread: Float[np.ndarray, " n"]
    """Standard deviation as reported, fall-offs."""
    distance: Float[np.ndarray, " n"]
    """Error, fall-offs."""
    energy: float
    """Energy score over sqrt(n), fall-offs."""
    best: Float[np.ndarray, " k"]
    """OKS of the best of the heaviest 1, 2, 4, 8 hypotheses."""
    told: Float[np.ndarray, "m 3"]
    """Errors of half of the keypoints before the others are told, after, and in the control."""


def judge_all(
    people: Sequence[Truth], mixtures: Sequence[Mixture], rng: np.random.Generator
) -> list[Judged]:
    """All people; the control of TAC takes its residuals from the next in a random circle."""
    residual = [
        (p.keypoints - moments(m).mean.reshape(-1, 2)) * p.labelled[:, None] / _unit(p)
        for p, m in zip(people, mixtures, strict=True)
    ]
    circle = rng.permutation(len(people))
    stranger = dict(zip(circle.tolist(), np.roll(circle, 1).tolist(), strict=True))
    return [
        judge(person, mixture, residual[stranger[i]], rng)
        for i, (person, mixture) in enumerate(zip(people, mixtures, strict=True))
    ]


def judge(
    person: Truth,
    mixture: Mixture,
    stranger: Float[np.ndarray, "J 2"],
    rng: np.random.Generator,
) -> Judged:
    """One person; `stranger` is somebody else's residual, fall-offs, 0 where not labelled."""
    seen, unit = person.labelled, _unit(person)
    pose = in_falloffs(mixture, person)
    truth = (person.keypoints / unit)[seen]
    density = float(log_density(pose, truth.ravel()))
    draws = sample(pose, DRAWS, rng)
    cloud = draws.reshape(DRAWS, -1, 2)
    few = reduce_hypotheses(mixture)
    point = few.points(len(seen))[few.heaviest]
    offset = ((point - person.keypoints) / unit)[seen]
    variance = np.trace(few.reported_cov(len(seen)), axis1=1, axis2=2) / unit[:, 0] ** 2
    return Judged(
        nll=-density,
        level=float(hpd_level(log_density(pose, draws), np.asarray(density))),
        keypoint_level=hpd_level(
            keypoint_log_density(pose, cloud).T, keypoint_log_density(pose, truth[None])[0]
        ),
        promised=expected_oks(mixture, person.area, point)[seen],
        kept=np.exp(-0.5 * np.square(offset).sum(axis=1)),
        spread=np.sqrt(variance[seen]),
        distance=np.linalg.norm(offset, axis=1),
        energy=energy_score(draws, truth.ravel()) / float(np.sqrt(len(truth))),
        best=best_of(mixture, person),
        told=tell_half(pose, truth, stranger[seen], rng),
    )


def in_falloffs(mixture: Mixture, person: Truth) -> Mixture:
    """The mixture over the labelled keypoints, in units of their fall-offs."""
    index = np.repeat(person.labelled, 2).nonzero()[0]
    part = marginal(mixture, index)
    unit = np.repeat(_unit(person)[person.labelled, 0], 2)
    return Mixture(part.mean / unit, part.cov / (unit[:, None] * unit), part.log_weight)


def keypoint_log_density(
    pose: Mixture, points: Float[np.ndarray, "n J 2"]
) -> Float[np.ndarray, "n J"]:
    """Log density of each keypoint alone."""
    j = points.shape[1]
    cov = pose.point_cov(j)  # (K, J, 2, 2)
    offset = points - pose.points(j)[:, None]  # (K, n, J, 2)
    inverse = np.linalg.inv(cov)
    squared = np.einsum("knja,kjab,knjb->knj", offset, inverse, offset, optimize=True)
    height = pose.log_weight[:, None] - 0.5 * np.log(np.linalg.det(cov)) - np.log(2 * np.pi)
    return np.asarray(np.logaddexp.reduce(height[:, None] - 0.5 * squared, axis=0))


def best_of(mixture: Mixture, person: Truth) -> Float[np.ndarray, " k"]:
    """OKS of the best of the heaviest 1, 2, 4, 8 different hypotheses."""
    different = merge(mixture, 1e-9)  # tails are no hypotheses of their own
    order = np.argsort(-different.log_weight, kind="stable")
    points = different.points(len(person.labelled))[order]
    oks = COCO17.oks(points, person.keypoints, np.asarray(person.area))
    best = np.maximum.accumulate(oks[:, person.labelled].mean(axis=1))
    return best[np.minimum(BEST_OF, len(best)) - 1]


def tell_half(
    pose: Mixture,
    truth: Float[np.ndarray, "n 2"],
    stranger: Float[np.ndarray, "n 2"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "m 3"]:
    """Tell where a random half of the keypoints is, truly and as if it were somebody else."""
    n = len(truth)
    if n < 2:
        return np.zeros((0, 3))
    given = np.isin(np.arange(n), rng.permutation(n)[: n // 2])
    before, after = conditioned_errors(pose, truth, given, truth)
    wrong = moments(pose).mean.reshape(-1, 2) + stranger
    return np.column_stack([before, after, conditioned_errors(pose, truth, given, wrong)[1]])


def summary(judged: Sequence[Judged]) -> dict[str, Any]:
    """The numbers of the record; its keys are told in `benchmarks.accuracy`."""
    promised, kept = _all(judged, "promised"), _all(judged, "kept")
    before, after, control = _all(judged, "told").mean(axis=0)
    best = np.mean([one.best for one in judged], axis=0)
    return {
        "nll": sum(one.nll for one in judged) / len(kept),
        "coverage_pose": _coverage(np.array([one.level for one in judged])),
        "coverage_keypoint": _coverage(_all(judged, "keypoint_level")),
        "expected_oks": float(promised.mean()),
        "oks": float(kept.mean()),
        "ece_oks": reliability(promised, kept).error,
        "energy_score": float(np.mean([one.energy for one in judged])),
        "best_of": {str(k): float(v) for k, v in zip(BEST_OF, best, strict=True)},
        "tac": {
            "before": float(before),
            "after": float(after),
            "gain": _gain(before, after),
            "control_gain": _gain(before, control),
        },
        "ause": ause(_all(judged, "spread"), _all(judged, "distance")),
    }


def _gain(before: float, after: float) -> float:
    """Part of an error that is gone; who errs nowhere has nothing to gain."""
    return float(1 - after / before) if before > 0 else 0.0


def curves(judged: Sequence[Judged]) -> dict[str, Any]:
    """What `summary` draws its numbers from, to look at."""
    spread, distance = _all(judged, "spread"), _all(judged, "distance")
    bins = reliability(_all(judged, "promised"), _all(judged, "kept"))
    level = np.array([one.level for one in judged])
    return {
        "coverage_pose": _listed(coverage_curve(level, GRID)),
        "coverage_keypoint": _listed(coverage_curve(_all(judged, "keypoint_level"), GRID)),
        "reliability": {name: _listed(values) for name, values in bins._asdict().items()},
        "sparsification": _listed(sparsification(spread, distance)),
        "sparsification_oracle": _listed(sparsification(distance, distance)),
    }


def _all(judged: Sequence[Judged], name: str) -> np.ndarray:
    return np.concatenate([getattr(one, name) for one in judged])


def _listed(values: Float[np.ndarray, " n"]) -> list[float]:
    return values.round(4).tolist()


def _coverage(level: Float[np.ndarray, " n"]) -> dict[str, float]:
    deviation = np.abs(coverage_curve(level, GRID) - GRID).max()
    shares = {f"{p:.0%}": float((level <= p).mean()) for p in LEVELS}
    return {**shares, "largest_deviation": float(deviation)}


def nll_difference(
    a: Sequence[Judged], b: Sequence[Judged], rng: np.random.Generator
) -> dict[str, float]:
    """Nats per keypoint that b is worse than a, and the standard error over people (bootstrap)."""
    count = np.array([len(one.kept) for one in a])
    gain = np.array([two.nll - one.nll for one, two in zip(a, b, strict=True)])
    rows = rng.integers(len(count), size=(RESAMPLES, len(count)))
    again = gain[rows].sum(axis=1) / count[rows].sum(axis=1)
    return {"mean": float(gain.sum() / count.sum()), "standard_error": float(again.std())}


def _unit(person: Truth) -> Float[np.ndarray, "J 1"]:
    return COCO17.falloff(np.asarray(person.area))[:, None]
