"""From what a network says of a pose to what a filter may believe of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atanh, inf, log1p, tanh
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from tracker import mixture
from tracker.motion import SAMPLE_PERIOD, body_height
from tracker.parts import Parts, planar
from tracker.types import Mixture, PoseMixture


@dataclass(frozen=True, slots=True)
class NoiseConfig:
    """How far the error bars of a network hold."""

    model: Literal["ar1", "inflate"] = "ar1"
    """Errors of successive frames are alike: either that is modelled, or covariances are inflated.

    In "ar1" the error of a keypoint, in units of its error bar, is rho times the last one and the
    rest new; in "inflate" errors are taken as independent, and covariances × `inflation`."""
    rho: float = 0.5
    """Correlation of errors 1/30 s apart; where it is learnt, what is assumed at first."""
    learn_rho: bool = True
    """Follow the correlation that makes the measurements most likely (ADR 0012)."""
    inflation: float = 2.0
    """Of the cheap model. 2 suits rho ≈ 0.7."""
    scale: float = 1.0
    """Covariances are multiplied by this in either model, where a network is overconfident."""
    lasting: float = 0.0
    """Beside it, errors that last: a network that is wrong about somebody goes on being so, and no
    filter averages it out. As a share of the network's covariance it is added to what is reported;
    0.2 suits the shipped networks (ADR 0072)."""
    floor: float = 0.5
    """Least standard deviation of a coordinate, px."""
    prior_std: float = 0.3
    """Spread of a keypoint about the body that is known before any picture, heights.

    In photographs of sport, 0.16 (hips, shoulders) to 0.3 (wrists, ankles). Too narrow a prior
    takes every wide error bar for the prior's, and the keypoint for one not measured (ADR 0036)."""
    prior_relief: float = 10.0
    """Taking the prior out of a pose multiplies no variance by more."""
    prior_silence: float = 9.0
    """A keypoint whose variance is this many times the prior's is not measured at all."""
    outlier_weight: float = 0.01
    """Probability that a pose has nothing to do with the person."""
    outlier_std: float = 0.5
    """Spread of the keypoints of such a pose, heights."""
    joint_gate: float = 0.999
    """A keypoint outside this region of its prediction is believed less, the further the less."""


@dataclass(frozen=True, slots=True, eq=False)
class Measurements:
    """The poses of N people as a filter sees them, all their K hypotheses one after another.

    Of one pose the likelihood is Σₖ wₖ N(zₖ; p, Rₖ) and a wide, weak Gaussian: it may be wrong as a
    whole.
    """

    owner: Int[np.ndarray, " K"]
    """The pose that a hypothesis belongs to."""
    log_weight: Float[np.ndarray, " K"]
    mean: Float[np.ndarray, "K B d"]
    """zₖ, px."""
    R: Float[np.ndarray, "K B d d"]
    size: Float[np.ndarray, "K B d"]
    """Error bar of each keypoint, |R_jj|^¼: what correlated errors are measured in, px."""
    measured: Bool[np.ndarray, "N B d"]
    """False where the network says nothing."""
    centre: Float[np.ndarray, "N B d"]
    """Mean of the hypotheses, px."""
    height: Float[np.ndarray, " N"]
    """Of the people, px."""
    lasting: Float[np.ndarray, "N B d d"] | None = None
    """Covariance of the errors that no filter averages out, px²; None where there are none."""

    def __len__(self) -> int:
        return len(self.height)

    def select(self, index: Int[np.ndarray, " n"]) -> "Measurements":
        """Some of the poses, in a new order."""
        rows = np.concatenate([np.flatnonzero(self.owner == n) for n in index] or [index])
        place = np.full(len(self), -1)
        place[index] = np.arange(len(index))
        return Measurements(
            place[self.owner[rows]],
            self.log_weight[rows],
            self.mean[rows],
            self.R[rows],
            self.size[rows],
            self.measured[index],
            self.centre[index],
            self.height[index],
            None if self.lasting is None else self.lasting[index],
        )


def measure(
    poses: Sequence[PoseMixture], noise: NoiseConfig, rho: float, parts: Parts
) -> Measurements:
    """Reduce, temper and mask a network's poses.

    An ambiguity that lasts must not harden by being repeated, so that weights are tempered by the
    share of a frame that is news: (1 - ρ)/(1 + ρ) with correlated errors, else 1/inflation.
    The network predicts pose given picture: the more its variance v of a keypoint nears that of the
    prior σ², the more of its answer is the prior, which must not be counted again in every frame.
    Taking the prior out again leaves a variance of v / (1 - v/σ²), here at most `prior_relief`
    times v: a keypoint out of sight stays loosely tied to its body. One of which the network says
    nothing is left out.
    """
    ar1 = noise.model == "ar1"
    inflation, news = (
        (1.0, (1 - rho) / (1 + rho)) if ar1 else (noise.inflation, 1 / noise.inflation)
    )
    told = [pose.mixture for pose in poses]
    few = _few(told, parts)
    if parts.count > 1:
        few = _moments(few)
    height = body_height(np.array([pose.detection.box for pose in poses]))
    variance = _average(few.cov.diagonal(0, -2, -1), few.log_weight)  # (N, B, d)
    prior = np.square(noise.prior_std * height)[:, None, None]
    share = (0.5 * (variance[..., ::2] + variance[..., 1::2]) / prior).repeat(2, axis=-1)
    R = noise.scale * inflation * few.cov
    if (share > 0.01).any():  # else there is nothing to take out
        relief = np.sqrt(1 / np.maximum(1 - share, 1 / noise.prior_relief))
        R *= (relief[..., :, None] * relief[..., None, :])[:, None]
    diagonal = np.arange(R.shape[-1])
    R[..., diagonal, diagonal] += noise.floor**2
    log_weight = news * few.log_weight
    log_weight -= np.logaddexp.reduce(log_weight, axis=1, keepdims=True)
    owner, k = np.nonzero(np.isfinite(log_weight))
    R = R[owner, k]
    return Measurements(
        owner,
        log_weight[owner, k],
        few.mean[owner, k],
        R,
        error_bar(R),
        share < noise.prior_silence,
        _average(few.mean, log_weight),
        height,
        noise.lasting * _moments(few).cov[:, 0] if noise.lasting > 0 else None,
    )


def error_bar(R: Float[np.ndarray, "*batch d d"]) -> Float[np.ndarray, "*batch d"]:
    """One length for each keypoint, |R_jj|^¼, given to both of its coordinates.

    It grows with any affine map as areas do.
    """
    xx, xy, yy = planar(R)
    return np.sqrt(np.sqrt(xx * yy - xy**2)).repeat(2, axis=-1)


def planar_gate(probability: float) -> float:
    """Squared distance within which a point of the plane lies with this probability, χ²₂."""
    return -2 * log1p(-probability) if probability < 1 else inf


def planar_nis(
    difference: Float[np.ndarray, "*#batch d"], S: Float[np.ndarray, "*#batch d d"]
) -> Float[np.ndarray, "*batch j"]:
    """Squared distance of each keypoint alone, dᵀ S_jj⁻¹ d."""
    x, y = difference[..., ::2], difference[..., 1::2]
    xx, xy, yy = planar(S)
    return np.asarray((yy * x**2 - 2 * xy * x * y + xx * y**2) / (xx * yy - xy**2))


def disbelief(
    difference: Float[np.ndarray, "*batch d"], nis: Float[np.ndarray, "*batch j"], gate: float
) -> Float[np.ndarray, "*batch d"]:
    """Extra variance, alone on each keypoint, that brings its squared distance down to a gate.

    For a keypoint off by d with NIS = dᵀ S_jj⁻¹ d > gate it is |d|² (1/gate - 1/NIS), else zero. As
    with a Student-t the influence of a keypoint falls again once it is absurdly far, and its cost
    grows with the log of the distance only; the others are left as they are, since the extra
    error is independent of theirs.
    """
    squared = difference[..., ::2] ** 2 + difference[..., 1::2] ** 2
    return (squared * (1 / gate - 1 / np.maximum(nis, gate))).repeat(2, axis=-1)


class ErrorCorrelation:
    """The correlation ρ of errors 1/30 s apart, followed where it makes the data most likely."""

    def __init__(self, config: NoiseConfig) -> None:
        self.rho = config.rho if config.model == "ar1" else 0.0
        self._learns = config.model == "ar1" and config.learn_rho
        self._known = FIRST_GUESS_WORTH

    def over(self, dt: float) -> float:
        """Correlation of errors some time apart: it dies out exponentially."""
        return float(self.rho ** (dt / SAMPLE_PERIOD)) if self.rho > 0 and dt > 0 else 0.0

    def learn(self, slope: float, information: float, dt: float) -> None:
        """Climb the log likelihood, given its slope in ρ(dt) and how much that tells.

        A step of Fisher scoring in θ = artanh ρ(dt); what is long past is forgotten slowly.
        """
        if not self._learns or information <= 0:
            return
        rho = self.over(dt)
        bend = 1 - rho**2
        self._known = min(self._known + bend**2 * information, MOST_KNOWN)
        step = min(max(bend * slope / self._known, -0.5), 0.5)
        moved = max(tanh(atanh(rho) + step), 0.0)
        self.rho = min(moved ** (SAMPLE_PERIOD / dt), MOST_CORRELATION)


FIRST_GUESS_WORTH = 100.0
"""Information in the first guess of artanh ρ: a standard deviation of 0.1."""
MOST_KNOWN = 20_000.0
"""Information that is kept at most: some twenty seconds of one person."""
MOST_CORRELATION = 0.7
"""A learnt ρ goes no higher. Error bars that are too wide leave innovations as calm as errors that
are alike: the likelihood then asks for 0.9 and more, and the filter takes every jump of a network
for motion (ADR 0061)."""


class _Hypotheses(NamedTuple):
    """Of N poses, K each, part by part."""

    mean: Float[np.ndarray, "N K B d"]
    cov: Float[np.ndarray, "N K B d d"]
    log_weight: Float[np.ndarray, "N K"]


def _few(poses: Sequence[Mixture], parts: Parts) -> _Hypotheses:
    """Those that matter; parts that know nothing of each other are no rivals, and keep all."""
    told = mixture.stack(poses)
    few = mixture.reduce_hypotheses(told) if parts.count == 1 else told
    return _Hypotheses(parts.vector(few.mean), parts.matrix(few.cov), few.log_weight)


def _moments(told: _Hypotheses) -> _Hypotheses:
    """One hypothesis with the moments of all."""
    if told.log_weight.shape[1] == 1:
        return told
    weight = np.exp(told.log_weight)
    mean = _sum(weight, told.mean)
    offset = told.mean - mean
    cov = told.cov + offset[..., :, None] * offset[..., None, :]
    return _Hypotheses(mean, _sum(weight, cov), np.zeros((len(mean), 1)))


def _sum(
    weight: Float[np.ndarray, "N K"], values: Float[np.ndarray, "N K *rest"]
) -> Float[np.ndarray, "N 1 *rest"]:
    """Over the hypotheses of each pose, as a product of matrices."""
    N, K, *rest = values.shape
    return (weight[:, None] @ values.reshape(N, K, -1)).reshape(N, 1, *rest)


def _average(
    values: Float[np.ndarray, "N K *rest"], log_weight: Float[np.ndarray, "N K"]
) -> Float[np.ndarray, " N *rest"]:
    """Over the hypotheses of each pose."""
    if log_weight.shape[1] == 1:
        return values[:, 0]
    weight = np.exp(log_weight).reshape(*log_weight.shape, *[1] * (values.ndim - 2))
    return (weight * values).sum(axis=1)
