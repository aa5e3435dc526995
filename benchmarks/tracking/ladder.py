"""The ladder: what each part of the filter is worth, for one person alone, with error bars.

Every rung sees the same frames of the simulated network. Each is tuned by as many random draws of
its own knobs, on motions and seeds that the test does not use: by the likelihood of the truth where
it tells error bars, by its error where it does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from filterpy.kalman import KalmanFilter
from jaxtyping import Float
from scipy.linalg import block_diag

from benchmarks.tracking import ours
from benchmarks.tracking.motion import Draw
from benchmarks.tracking.ours import Options
from benchmarks.tracking.simulator import NetworkConfig, Person, person
from tracker.evaluation.motion import MotionScores, Trace, motion_scores
from tracker.metrics import squared_mahalanobis
from tracker.mixture import moments
from tracker.motion import BodyMotion, MotionConfig
from tracker.skeleton import COCO17
from tracker.tracks import MultiTracker, TrackerConfig
from tracker.types import Mixture, Track

HEIGHT = 200.0
"""Of the simulated person, px."""
WARM_UP = 15
"""Frames at the start that are not scored."""
J, D = 17, 34
_BY_ITSELF = np.kron(np.eye(J), np.ones((2, 2)))
"""Keeps the covariances within keypoints and drops those between two."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """NaN where a method tells nothing."""

    xy: Float[np.ndarray, "n J 2"]
    cov: Float[np.ndarray, "n J 2 2"]


Follow = Callable[[Person, Options], Estimate]


@dataclass(frozen=True, slots=True)
class Rung:
    """A method and what may be tuned about it."""

    follow: Follow
    knobs: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Least and most, drawn evenly on a log scale."""

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        return {
            name: float(np.exp(rng.uniform(np.log(low), np.log(high))))
            for name, (low, high) in self.knobs.items()
        }


def raw(someone: Person, options: Options) -> Estimate:
    """The heaviest hypothesis of every frame by itself."""
    poses = someone.poses
    return Estimate(
        np.stack([p.keypoints for p in poses]), np.stack([p.keypoint_cov for p in poses])
    )


def one_euro(someone: Person, options: Options) -> Estimate:
    """The 1€ filter (Casiez 2012) on every coordinate; speeds in heights/s."""
    x = raw(someone, options).xy / someone.height
    speed, at = np.zeros_like(x[0]), x[0]
    out = [at]
    for now in x[1:]:
        speed = speed + _share(1.0, someone.fps) * ((now - at) * someone.fps - speed)
        cutoff = options.get("cutoff", 1.0) + options.get("beta", 1.0) * np.abs(speed)
        share = _share(cutoff, someone.fps)
        at = at + share * (now - at)
        out.append(at)
    return Estimate(someone.height * np.stack(out), np.full((len(x), J, 2, 2), np.nan))


def _share(cutoff: Float[np.ndarray, "J 2"] | float, fps: float) -> Float[np.ndarray, "*shape"]:
    """Of the newest value in a low pass of some frequency, Hz."""
    return np.asarray(1 / (1 + fps / (2 * np.pi * np.asarray(cutoff))))


def constant_noise(someone: Person, options: Options) -> Estimate:
    """One noise for all keypoints and frames, every keypoint by itself."""
    std = options.get("std", 0.02) * someone.height
    z = raw(someone, options).xy.reshape(-1, D)
    return _filtered(someone, options, _BY_ITSELF, z, [std**2 * np.eye(D)] * len(z))


def own_noise(someone: Person, options: Options) -> Estimate:
    """Every keypoint by itself, with the variances that the network tells of the mixture's mean."""
    return _linear(someone, options, _BY_ITSELF)


def full_noise(someone: Person, options: Options) -> Estimate:
    """All keypoints together: the mixture as one Gaussian with its full covariance."""
    return _linear(someone, options, np.ones((D, D)))


def _linear(someone: Person, options: Options, kept: Float[np.ndarray, "D D"]) -> Estimate:
    """On the moments of the mixtures; of covariances only some entries are kept."""
    seen = [moments(pose.mixture) for pose in someone.poses]
    R = [options.get("inflation", 1.0) * m.cov * kept + 0.25 * np.eye(D) for m in seen]
    return _filtered(someone, options, kept, np.stack([m.mean for m in seen]), R)


def _filtered(
    someone: Person,
    options: Options,
    kept: Float[np.ndarray, "D D"],
    z: Float[np.ndarray, "n D"],
    R: Sequence[Float[np.ndarray, "D D"]],
) -> Estimate:
    """A constant-velocity Kalman filter (filterpy's) in which only some covariances are kept."""
    motion = BodyMotion.of(COCO17, MotionConfig(kappa=options.get("kappa", MotionConfig().kappa)))
    F, Q = motion.seen(1 / someone.fps)
    kf = KalmanFilter(dim_x=2 * D, dim_z=D)
    kf.F, kf.Q = F, someone.height**2 * Q * np.kron(np.ones((2, 2)), kept)
    kf.H = np.eye(D, 2 * D)
    kf.x = np.concatenate([z[0], np.zeros(D)])
    kf.P = block_diag(R[0], someone.height**2 * motion.start_cov * kept)
    mean, cov = [kf.x[:D]], [kf.P[:D, :D]]
    for now, noise in zip(z[1:], R[1:], strict=True):
        kf.predict()
        kf.update(now, R=noise)
        mean.append(kf.x[:D])
        cov.append(kf.P[:D, :D])
    whole = Mixture(np.stack(mean), np.stack(cov), np.zeros(len(z)))
    return Estimate(whole.points(J), whole.point_cov(J))


def our_tracker(config: TrackerConfig) -> Follow:
    """The product itself, with a configuration on which knobs are turned."""

    def follow(someone: Person, options: Options) -> Estimate:
        people = MultiTracker(ours.configured(options, config))
        frames, n = list[tuple[Track, ...]](), len(someone.poses)
        for i, pose in enumerate(someone.poses):
            people.update([pose], i / someone.fps)
            if i >= config.lag:
                frames.append(people.smoothed(config.lag))
        if config.lag:
            frames += people.smoothed_since(min(config.lag, n) - 1)
        xy, cov = np.full((n, J, 2), np.nan), np.full((n, J, 2, 2), np.nan)
        for i, tracks in enumerate(frames):
            if tracks:
                track = max(tracks, key=lambda t: t.hits)
                xy[i], cov[i] = track.keypoints, track.keypoint_cov
        return Estimate(xy, cov)

    return follow


_KAPPA = {"kappa": (0.2, 2.5)}
_ALL_ALIKE = replace(ours.DEFAULT, motion=replace(ours.DEFAULT.motion, adaptation=0.0))
_INFLATED = replace(_ALL_ALIKE, noise=replace(_ALL_ALIKE.noise, model="inflate"))
_TRUSTED = ours.configured({"inflation": 1.0}, _INFLATED)
_LAGS = {"lag 2": 2, "lag 5": 5, "whole life": 10_000}
RUNGS = {
    "raw": Rung(raw),
    "one_euro": Rung(one_euro, {"cutoff": (0.3, 6.0), "beta": (0.1, 20.0)}),
    "constant R": Rung(constant_noise, {**_KAPPA, "std": (0.01, 0.06)}),
    "diagonal R": Rung(own_noise, {**_KAPPA, "inflation": (0.5, 4.0)}),
    "full R": Rung(full_noise, {**_KAPPA, "inflation": (0.5, 4.0)}),
    "Gaussian sum": Rung(our_tracker(_TRUSTED), _KAPPA),
    "Gaussian sum, inflated": Rung(our_tracker(_INFLATED), {**_KAPPA, "inflation": (0.8, 4.0)}),
    "Gaussian sum, AR(1)": Rung(our_tracker(_ALL_ALIKE), _KAPPA),
    "ours": Rung(our_tracker(ours.DEFAULT)),
    **{
        f"ours, {name}": Rung(our_tracker(replace(ours.DEFAULT, lag=lag)))
        for name, lag in _LAGS.items()
    },
    "ours, per keypoint": Rung(our_tracker(ours.WAYS["ours, per keypoint"])),
}
"""From the least to the most. "ours" adds to AR(1) errors that the liveliness of each person is
learnt, and comes untuned. A new way of the tracker is one more line."""


@dataclass(frozen=True, slots=True)
class Rise:
    """One rung at one correlation: means over people, and their standard errors."""

    rung: str
    on: str
    """Which correlation of the errors, or which clip."""
    options: dict[str, float]
    mean: dict[str, float]
    standard_error: dict[str, float]
    people: int


def tune(rung: Rung, people: Sequence[Person], trials: int) -> dict[str, float]:
    """The best of some draws, the first being no change at all."""
    rng = np.random.default_rng(17)
    tried: list[dict[str, float]] = [{}]
    if rung.knobs:
        tried += [rung.draw(rng) for _ in range(trials - 1)]
    costs = [np.mean([_cost(rung.follow(p, options), p) for p in people]) for options in tried]
    return tried[int(np.argmin(costs))]


def climb(
    draw: Callable[[bool], Draw], rho: float, people: int, frames: int, trials: int
) -> list[Rise]:
    """All rungs at one correlation of the errors."""
    config = NetworkConfig(rho=rho)
    held_out = [_person(draw(True), config, 1000 + seed, 150) for seed in range(4)]
    tests = [_person(draw(False), config, seed, frames) for seed in range(people)]
    rises = []
    for name, rung in RUNGS.items():
        options = tune(rung, held_out, trials) if trials > 1 else {}
        scores = [score(rung.follow(test, options), test) for test in tests]
        rises.append(sum_up(name, f"rho {rho}", options, scores))
    return rises


def _person(draw: Draw, config: NetworkConfig, seed: int, n: int) -> Person:
    rng = np.random.default_rng(seed)
    return person(draw(rng, n), HEIGHT, config, rng)


def _cost(estimate: Estimate, someone: Person) -> float:
    """Mean of -log N(truth; estimate, cov) per keypoint, or of the squared error, px²."""
    error = (estimate.xy - someone.truth)[WARM_UP:].reshape(-1, 2)
    cov = estimate.cov[WARM_UP:].reshape(-1, 2, 2)
    told = np.isfinite(error).all(axis=1)
    if not np.isfinite(cov[told]).all():
        return float(np.square(error[told]).sum(axis=1).mean())
    nees = squared_mahalanobis(error[told], cov[told])
    return float((0.5 * nees + 0.5 * np.log(np.linalg.det(cov[told]))).mean())


def score(estimate: Estimate, someone: Person) -> MotionScores:
    """At the frames in which the truth is known."""
    labelled = np.isfinite(someone.truth).any(axis=(1, 2))
    frame = np.nonzero(labelled & (np.arange(len(labelled)) >= WARM_UP))[0]
    told = np.isfinite(estimate.xy[frame]).all(axis=(1, 2))
    followed = np.where(told, 1.0, np.nan)
    trace = Trace(
        frame, someone.truth[frame], estimate.xy[frame], estimate.cov[frame], followed,
        someone.height,
    )  # fmt: skip
    return motion_scores([trace])


SCORES = ("rmse", "acceleration_error", "jitter_at_rest", "lag", "nees", "coverage_50",
          "coverage_95")  # fmt: skip


def sum_up(rung: str, on: str, options: dict[str, float], scores: Sequence[MotionScores]) -> Rise:
    table = np.array([[getattr(s, name) for name in SCORES] for s in scores])
    known = np.isfinite(table).sum(axis=0)
    # Of none there is no mean, of one no spread.
    mean = np.where(known > 0, np.nansum(table, axis=0) / np.maximum(known, 1), np.nan)
    variance = np.nansum(np.square(table - mean), axis=0) / np.maximum(known - 1, 1)
    error = np.where(known > 1, np.sqrt(variance / np.maximum(known, 1)), np.nan)
    return Rise(
        rung,
        on,
        options,
        dict(zip(SCORES, mean.tolist(), strict=True)),
        dict(zip(SCORES, error.tolist(), strict=True)),
        len(scores),
    )
