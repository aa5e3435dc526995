"""One person: a Gaussian sum over the state, fed with Gaussian sums over the pose.

Every hypothesis of the state meets every hypothesis of the pose; the pairs are scored first and
only the few that matter are updated.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from tracker import kalman
from tracker.mixture import cap, merge, normalise, reduce_hypotheses
from tracker.motion import BodyMotion, Step, body_height
from tracker.types import Mixture, PoseMixture


@dataclass(frozen=True, slots=True)
class NoiseConfig:
    """From what a network says of a pose to what a filter may believe of it."""

    inflation: float = 2.0
    """Covariances are multiplied by this, since errors of successive frames are alike.

    2 with the shipped network: NEES of visible keypoints on three drawn scenes 1.7, 2.1 and 3.5,
    due 2 (`python -m benchmarks.demo`); 1.5 gave 2.1, 2.6 and 3.9."""
    floor: float = 0.5
    """Least standard deviation of a coordinate, px."""
    prior_std: float = 0.15
    """Spread of a keypoint about the body that is known before any picture, heights."""
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


@dataclass(frozen=True, slots=True)
class ReductionConfig:
    """How many hypotheses survive an update."""

    within: float = 9.2
    """A pair is updated only within this of the best, nats: a ratio of ten thousand."""
    most: int = 4
    """Pairs updated, and hypotheses kept."""
    merge_below: float = 0.25
    """Hypotheses nearer than this are one (`mixture.distances`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """A pose as a filter sees it: the likelihood Σₖ wₖ N(zₖ; Hx, Rₖ)."""

    pose: Mixture
    """Positions zₖ with noise Rₖ."""
    likelihood: Mixture
    """The same, and a last, wide component for a pose that is wrong as a whole."""
    measured: Bool[np.ndarray, " D"]
    """False where the network says nothing."""
    height: float
    """Of the person, px."""
    gate: float
    """Squared distance in the plane beyond which a keypoint is believed less."""


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """M hypotheses of a state against K of a pose."""

    innovation: kalman.Innovation
    """Batch (M, K)."""
    log_joint: Float[np.ndarray, "M K"]
    """Log of prior weights times likelihood, nats."""

    @property
    def log_likelihood(self) -> float:
        """Log of p(pose | person), nats."""
        return float(np.logaddexp.reduce(self.log_joint, axis=None))


def measure(pose: PoseMixture, noise: NoiseConfig) -> Measurement:
    """Reduce, temper and mask a network's pose.

    Both covariances and weights are tempered, p(z)^(1/inflation) component by component, so that
    an ambiguity that lasts does not harden by being repeated. The network predicts pose given
    picture: the more its variance v of a keypoint nears that of the prior σ², the more of its
    answer is the prior, which must not be counted again in every frame. Taking the prior out
    again leaves a variance of v / (1 - v/σ²), here at most `prior_relief` times v: a keypoint out
    of sight stays loosely tied to its body. One of which the network says nothing is left out.
    """
    few = reduce_hypotheses(pose.mixture)
    height, D = body_height(pose.detection.box), few.mean.shape[1]
    variance = np.exp(few.log_weight) @ np.diagonal(few.cov, axis1=1, axis2=2)  # (D,)
    share = variance.reshape(-1, 2).mean(axis=1).repeat(2) / (noise.prior_std * height) ** 2
    relief = np.sqrt(1 / np.maximum(1 - share, 1 / noise.prior_relief))
    R = noise.inflation * few.cov * np.outer(relief, relief) + noise.floor**2 * np.eye(D)
    tempered = normalise(Mixture(few.mean, R, few.log_weight / noise.inflation))
    return Measurement(
        tempered,
        _with_outlier(tempered, noise.outlier_weight, noise.outlier_std * height),
        share < noise.prior_silence,
        height,
        planar_gate(noise.joint_gate),
    )


def start(measurement: Measurement, motion: BodyMotion) -> Mixture:
    """The state of a person seen for the first time: the pose, and a velocity still to learn."""
    pose = measurement.pose
    K, D = pose.mean.shape
    cov = np.zeros((K, 2 * D, 2 * D))
    cov[:, :D, :D] = pose.cov
    cov[:, D:, D:] = measurement.height**2 * motion.start_cov
    return Mixture(np.hstack([pose.mean, np.zeros((K, D))]), cov, pose.log_weight)


def predict(state: Mixture, step: Step, height: float) -> Mixture:
    """Move a person of some height, px, by a step of a body of height 1."""
    mean, cov = kalman.predict(state.mean, state.cov, step.F, height**2 * step.Q)
    return Mixture(mean, cov, state.log_weight)


def match(state: Mixture, measurement: Measurement) -> Match:
    """Score every pair of hypotheses."""
    z, D = measurement.likelihood, len(measurement.measured)
    mean, cov = state.mean[:, None], state.cov[:, None]
    extra = disbelief(z.mean - mean[..., :D], cov[..., :D, :D] + z.cov, measurement.gate)
    R = z.cov + extra[..., None] * np.eye(D)
    innovation = kalman.innovate(mean, cov, z.mean[None], R, measurement.measured)
    prior = state.log_weight[:, None] + z.log_weight
    return Match(innovation, prior + innovation.log_likelihood)


def update(state: Mixture, matched: Match, reduction: ReductionConfig) -> Mixture:
    """The state given the pose it was matched with: update the surviving pairs, then merge."""
    log_joint = matched.log_joint.ravel()
    best = np.argsort(-log_joint, kind="stable")[: reduction.most]
    best = best[log_joint[best] >= log_joint[best[0]] - reduction.within]
    m, k = np.unravel_index(best, matched.log_joint.shape)
    innovation = kalman.Innovation(
        matched.innovation.factor[m, k],
        matched.innovation.whitened[m, k],
        matched.innovation.measured,
    )
    mean, cov = kalman.update(state.mean[m], state.cov[m], innovation)
    posterior = normalise(Mixture(mean, cov, log_joint[best]))
    return cap(merge(posterior, reduction.merge_below), reduction.most)


def planar_gate(probability: float) -> float:
    """Squared distance within which a point of the plane lies with this probability, χ²₂."""
    return float(-2 * np.log1p(-probability))


def disbelief(
    difference: Float[np.ndarray, "*#batch D"], S: Float[np.ndarray, "*#batch D D"], gate: float
) -> Float[np.ndarray, "*batch D"]:
    """Extra variance, alone on each keypoint, that brings its squared distance down to a gate.

    For a keypoint off by d with NIS = dᵀ S_jj⁻¹ d > gate it is |d|² (1/gate - 1/NIS), else zero. As
    with a Student-t the influence of a keypoint falls again once it is absurdly far, and its cost
    grows with the log of the distance only; the others are left as they are, since the extra
    error is independent of theirs.
    """
    d = difference.reshape(*difference.shape[:-1], -1, 2)
    J = d.shape[-2]
    blocks = np.einsum("...jajb->...jab", S.reshape(*S.shape[:-2], J, 2, J, 2))
    (xx, xy), (_, yy) = np.moveaxis(blocks, (-2, -1), (0, 1))
    x, y = d[..., 0], d[..., 1]
    nis = (yy * x**2 - 2 * xy * x * y + xx * y**2) / (xx * yy - xy**2)
    far = np.maximum(nis, gate)
    return (np.square(d).sum(axis=-1) * (1 / gate - 1 / far)).repeat(2, axis=-1)


def _with_outlier(pose: Mixture, weight: float, std: float) -> Mixture:
    centre = np.exp(pose.log_weight) @ pose.mean
    return Mixture(
        np.vstack([pose.mean, centre]),
        np.concatenate([pose.cov, std**2 * np.eye(len(centre))[None]]),
        np.append(pose.log_weight + np.log1p(-weight), np.log(weight)),
    )
