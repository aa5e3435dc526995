"""A network made of numbers: its mixtures are calibrated by construction, its errors correlated.

The truth p_t of every frame is reported as z_t = p_t + L_t u_t, Σ_t = L_t L_tᵀ, where the whitened
error u is a first-order autoregressive process of variance one, u_t = ρ u_{t-1} + √(1-ρ²) e_t.
Limbs get hidden for a while, and then are uncertain along the chain. Now and then the legs are
ambiguous: a second hypothesis has them swapped, with the probability that it is the right one.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from benchmarks.tracking.motion import FPS, Clip
from tracker.geometry import box_around
from tracker.skeleton import COCO17
from tracker.types import Detection, Mixture, PoseMixture

J, D = 17, 34
LEGS = np.array([11, 12, 13, 14, 15, 16])
_SWAPPED = np.arange(J)
_SWAPPED[LEGS] = COCO17.mirror[LEGS]
_SWAPPED_D = np.stack([2 * _SWAPPED, 2 * _SWAPPED + 1], axis=1).ravel()
LIMBS = ((5, 7, 9), (6, 8, 10), (11, 13, 15), (12, 14, 16))
"""Chains of joints that hide together, from the trunk outwards."""
SEEN_STD = np.array([2, 2, 2, 2.5, 2.5, 3, 3, 3, 3, 3, 3, 4, 4, 3, 3, 3, 3]) / 200
"""Of each keypoint in sight, in heights."""
HIDDEN_STD = np.array([8, 14, 22]) / 200
"""Of a hidden chain, from the trunk outwards, in heights; correlated by 0.7 along it."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """How the errors of the simulated network behave."""

    rho: float = 0.5
    """Correlation of the whitened errors of neighbouring frames."""
    common_std: float = 1.2 / 200
    """Error shared by all keypoints, heights."""
    scale_std: float = 0.008
    """Of the size of the pose."""
    hide: float = 0.012
    """Probability that a limb gets hidden in a frame, …"""
    hidden_for: float = 12.0
    """… and for how many frames, in the mean."""
    doubt: float = 0.02
    """The same for ambiguity of the legs."""
    doubt_for: float = 8.0
    whole_events: bool = True
    """The right hypothesis is the same for all of an ambiguity; else drawn anew every frame."""


class Network:
    """The network's state with one person: what is hidden, what is in doubt, how it errs."""

    def __init__(self, config: NetworkConfig, rng: np.random.Generator) -> None:
        self.config = config
        self.rng = rng
        self._error = rng.standard_normal(D)
        self._hidden = np.zeros(len(LIMBS), bool)
        self._doubt: float | None = None
        self._right = True

    def advance(self) -> None:
        """One frame on."""
        rng, config = self.rng, self.config
        e = rng.standard_normal(D)
        self._error = config.rho * self._error + np.sqrt(1 - config.rho**2) * e
        leave = rng.uniform(size=len(LIMBS)) < 1 / config.hidden_for
        enter = rng.uniform(size=len(LIMBS)) < config.hide
        self._hidden = np.where(self._hidden, ~leave, enter)
        if self._doubt is None and rng.uniform() < config.doubt:
            self._doubt = rng.uniform(0.2, 0.8)
            self._right = rng.uniform() < self._doubt
        elif self._doubt is not None and rng.uniform() < 1 / config.doubt_for:
            self._doubt = None
        if self._doubt is not None and not config.whole_events:
            self._right = rng.uniform() < self._doubt

    def look(
        self,
        truth: Float[np.ndarray, "J 2"],
        height: float,
        score: float = 0.9,
        covered: Bool[np.ndarray, " J"] | None = None,
    ) -> PoseMixture:
        """The network's answer for a person of some height, px; others may cover keypoints."""
        hidden = self._hidden_keypoints() | (np.zeros(J, bool) if covered is None else covered)
        cov = height**2 * self._cov(truth / height, hidden)
        z = truth.ravel() + np.linalg.cholesky(cov) @ self._error
        detection = Detection(_box(z.reshape(J, 2)), score)
        visible = np.where(hidden, 0.3, 0.95)
        return PoseMixture(detection, self._mixture(z, cov), visible)

    def _mixture(self, z: Float[np.ndarray, " D"], cov: Float[np.ndarray, "D D"]) -> Mixture:
        if self._doubt is None:
            return Mixture(z[None], cov[None], np.zeros(1))
        mean = np.stack([z, z[_SWAPPED_D]])
        both = np.stack([cov, cov[np.ix_(_SWAPPED_D, _SWAPPED_D)]])
        # The first is the right one as often as it claims.
        order = [0, 1] if self._right else [1, 0]
        return Mixture(mean[order], both[order], np.log([self._doubt, 1 - self._doubt]))

    def _hidden_keypoints(self) -> Bool[np.ndarray, " J"]:
        hidden = np.zeros(J, bool)
        for limb, is_hidden in zip(LIMBS, self._hidden, strict=True):
            hidden[list(limb)] = is_hidden
        return hidden

    def _cov(
        self, truth: Float[np.ndarray, "J 2"], hidden: Bool[np.ndarray, " J"]
    ) -> Float[np.ndarray, "D D"]:
        """For a body of height 1."""
        std = SEEN_STD.copy()
        for limb in LIMBS:
            std[list(limb)] = np.where(hidden[list(limb)], HIDDEN_STD, std[list(limb)])
        # Keypoints of the face hide with the whole head.
        std[:5] = np.where(hidden[:5], HIDDEN_STD[0], std[:5])
        correlation = np.eye(J)
        for limb in LIMBS:
            for a, b in pairwise(limb):
                correlation[a, b] = correlation[b, a] = 0.7 if hidden[a] and hidden[b] else 0.0
            a, c = limb[0], limb[2]
            correlation[a, c] = correlation[c, a] = 0.49 if hidden[list(limb)].all() else 0.0
        own = np.kron(correlation * np.outer(std, std), np.eye(2))
        place = self.config.common_std**2 * np.kron(np.ones((J, J)), np.eye(2))
        ray = (truth - truth.mean(axis=0)).ravel()
        return own + place + self.config.scale_std**2 * np.outer(ray, ray)


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person, seen in every frame, and the truth; NaN where nobody has labelled it."""

    poses: tuple[PoseMixture, ...]
    truth: Float[np.ndarray, "n J 2"]
    height: float
    """px."""
    fps: float


def person(clip: Clip, height: float, config: NetworkConfig, rng: np.random.Generator) -> Person:
    """One person alone."""
    network, truth = Network(config, rng), height * clip + [400.0, 300.0]
    poses = []
    for keypoints in truth:
        network.advance()
        poses.append(network.look(keypoints, height))
    return Person(tuple(poses), truth, height, FPS)


def _box(keypoints: Float[np.ndarray, "J 2"]) -> Float[np.ndarray, "4"]:
    return box_around(keypoints, margin=0.08)
