"""What poses the people in given boxes may have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from scipy.special import expit, log_softmax, logit

import engines
from engines.backends import Shapes
from tracker import weights
from tracker.crops import crop_box, cut_each, image_from_net, mirrored
from tracker.errors import WeightsError
from tracker.latents import sobol_latents
from tracker.mixture import average, marginal
from tracker.skeleton import COCO17, Skeleton
from tracker.stages import stage
from tracker.types import Detection, Frame, Mixture, PoseMixture

OUTPUTS = ("mean", "chol", "lowrank", "logit", "visible")
"""What the graph of a pose network or a sampler gives, in order."""
# Per crop, larger batches are no faster, and the engine keeps the memory of the largest for good.
_MOST_CROPS = 16
_NO_OPINION = (0.0, 1.0, 0.0)
BEST_SEEN = 5
"""A person is there if so many keypoints are seen: of half a body no more need be in view."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How far a network's own spread is to be trusted, fitted on people it was not trained on."""

    scale: Float[np.ndarray, " J"]
    """Factor on the standard deviations of each keypoint."""
    temperature: float
    """Divides the logits of the hypotheses."""
    presence: tuple[float, float, float] = _NO_OPINION
    """Logistic weights of `presence_features`; these leave a detector's score as it is."""

    @classmethod
    def none(cls, n_keypoints: int) -> "Calibration":
        """The calibration that changes nothing."""
        return cls(np.ones(n_keypoints), 1.0)

    @classmethod
    def of(cls, found: weights.Weights) -> "Calibration":
        """The calibration on a card."""
        return cls(
            np.array(found.entry("calibration", "scale"), float),
            float(found.entry("calibration", "temperature")),
            # Networks fitted by users, and those before version 6, only look where they are told.
            _weights(found.card.get("presence")),
        )

    def cov(self, cov: Float[np.ndarray, "*batch D D"]) -> Float[np.ndarray, "*batch D D"]:
        """GΣG with G = diag(g₁, g₁, g₂, g₂, …)."""
        g = np.repeat(self.scale, 2)
        return cov * g[:, None] * g

    def log_weight(self, logit: Float[np.ndarray, "*batch K"]) -> Float[np.ndarray, "*batch K"]:
        """Return log softmax(logit / temperature)."""
        return log_softmax(logit / self.temperature, axis=-1)

    def second_look(self, found: Detection, visible: Float[np.ndarray, " J"]) -> Detection:
        """The same box; its score is now that of both networks.

        Where a track looks for its own person there is no detector's word, and nothing to weigh.
        """
        if found.track_id is not None or self.presence == _NO_OPINION:
            return found
        odds = presence_features(np.array([found.score]), visible[None]) @ self.presence
        return replace(found, score=float(expit(odds[0])))


@dataclass(frozen=True, slots=True, eq=False)
class PoseNet:
    """A pose network as a callable: Frame, boxes → one mixture of K poses per box, image px."""

    engine: engines.Engine
    calibration: Calibration
    latents: Float32[np.ndarray, "K z"]
    """Where the sampler is read; each row gives one hypothesis."""
    skeleton: Skeleton = COCO17
    height: int = 256
    width: int = 192
    flip_test: bool = False
    """Look at everybody in a mirror too: twice the work and twice the hypotheses (ADR 0074)."""

    def __post_init__(self) -> None:
        weights.check_graph(self.engine, inputs=("image", "latent"), outputs=OUTPUTS)
        if len(self.calibration.scale) != len(self.skeleton):
            raise WeightsError(
                f"the calibration is of {len(self.calibration.scale)} keypoints, "
                f"the skeleton has {len(self.skeleton)}"
            )

    @classmethod
    def load(
        cls,
        name: str | Path = "nano",
        device: str = "auto",
        threads: int | None = None,
        *,
        backend: str | None = None,
        precision: str | None = None,
        flip_test: bool = False,
    ) -> "PoseNet":
        """The pose network of this name, or of this .onnx file; the rest as in `engines.load`."""
        found = weights.find("pose", name)
        return cls(
            engines.load(
                found.path,
                device,
                threads,
                backend=backend,
                precision=precision,
                shapes=plan_shapes(found),
                ranges=found.card.get("ranges"),
            ),
            Calibration.of(found),
            sobol_latents(int(found.entry("n_hypotheses"))),
            height=int(found.entry("input", "height")),
            width=int(found.entry("input", "width")),
            flip_test=flip_test,
        )

    def __call__(self, frame: Frame, detections: Sequence[Detection]) -> list[PoseMixture]:
        """Boxes may reach past the picture or miss it; they must be finite and have an area."""
        (poses,) = self.many([(frame, detections)])
        return poses

    def many(self, views: Sequence[tuple[Frame, Sequence[Detection]]]) -> list[list[PoseMixture]]:
        """The people of several frames, of one stream or many, in shared batches; frame by frame.

        Frames may differ in size.
        """
        for _, detections in views:
            for detection in detections:
                _check(detection.box)
        people = [(frame, detection) for frame, detections in views for detection in detections]
        most = _MOST_CROPS // 2 if self.flip_test else _MOST_CROPS
        batches = (people[i : i + most] for i in range(0, len(people), most))
        poses = chain.from_iterable(map(self._look, batches))
        return [list(islice(poses, len(detections))) for _, detections in views]

    def _look(self, people: Sequence[tuple[Frame, Detection]]) -> list[PoseMixture]:
        with stage("crop"):
            crops = [crop_box(found.box) for _, found in people]
            pictures = [frame.image for frame, _ in people]
            if self.flip_test:
                crops, pictures = [*crops, *map(mirrored, crops)], [*pictures, *pictures]
            views = getattr(self.engine, "views", None)
            places = list(zip(pictures, crops, strict=True))
            image = cut_each(places, self.height, self.width, views)
        with stage("pose net"):
            said = self.engine({"image": image, "latent": self.latents})
        with stage("mixture"):
            visible = said["visible"].astype(np.float64)
            mixtures = [
                image_from_net(crop).mixture(mixture)
                for crop, mixture in zip(crops, self._mixtures(said), strict=True)
            ]
            if self.flip_test:
                mixtures, visible = self._both_ways(mixtures, visible)
            return [
                PoseMixture(self.calibration.second_look(found, seen), mixture, seen)
                for (_, found), mixture, seen in zip(people, mixtures, visible, strict=True)
            ]

    def _both_ways(
        self, mixtures: Sequence[Mixture], visible: Float[np.ndarray, "n J"]
    ) -> tuple[list[Mixture], Float[np.ndarray, "half J"]]:
        """What was seen straight and then in the mirror, where left is right, as one."""
        n, mirror = len(mixtures) // 2, self.skeleton.mirror
        swapped = np.column_stack([2 * mirror, 2 * mirror + 1]).ravel()
        both = [
            average([straight, marginal(other, swapped)])
            for straight, other in zip(mixtures[:n], mixtures[n:], strict=True)
        ]
        return both, (visible[:n] + visible[n:, mirror]) / 2

    def _mixtures(self, seen: Mapping[str, np.ndarray]) -> list[Mixture]:
        """One calibrated mixture per crop, in crop heights."""
        mean = seen["mean"].astype(np.float64)
        mean = mean.reshape(*mean.shape[:2], -1)  # (B, K, D)
        cov = self.calibration.cov(factors_to_cov(seen["chol"], seen["lowrank"]))
        log_weight = self.calibration.log_weight(seen["logit"].astype(np.float64))
        return [Mixture(*parts) for parts in zip(mean, cov, log_weight, strict=True)]


def plan_shapes(found: weights.Weights) -> Shapes:
    """What will come to a compiled plan of this network: least, usual, largest."""
    view = 3, int(found.entry("input", "height")), int(found.entry("input", "width"))
    latent = sobol_latents(int(found.entry("n_hypotheses"))).shape
    return {
        "image": ((1, *view), (_MOST_CROPS // 2, *view), (_MOST_CROPS, *view)),
        "latent": (latent, latent, latent),
    }


def factors_to_cov(
    chol: Float[np.ndarray, "*batch J 3"], lowrank: Float[np.ndarray, "*batch D r"]
) -> Float[np.ndarray, "*batch D D"]:
    """Σ = blkdiagⱼ(CⱼCⱼᵀ) + UUᵀ in float64, C = [[s₁, 0], [c, s₂]] from chol = (s₁, c, s₂)."""
    s1, c, s2 = np.moveaxis(chol.astype(np.float64), -1, 0)
    blocks = np.stack([s1 * s1, s1 * c, s1 * c, c * c + s2 * s2], axis=-1)
    blocks = blocks.reshape(*s1.shape, 2, 2)
    u = lowrank.astype(np.float64)
    cov = u @ np.swapaxes(u, -1, -2)
    j = np.arange(s1.shape[-1])
    pairs = cov.reshape(*cov.shape[:-2], len(j), 2, len(j), 2)
    pairs[..., j, :, j, :] += np.moveaxis(blocks, -3, 0)  # (J, *batch, 2, 2)
    return cov


def presence_features(
    score: Float[np.ndarray, " n"], visible: Float[np.ndarray, "n J"]
) -> Float[np.ndarray, "n 3"]:
    """1, the log odds of a detector's scores, and those of the mean of the best seen keypoints."""
    best = np.sort(visible, axis=1)[:, -BEST_SEEN:].mean(axis=1)
    sure = 1e-3  # a certainty, as of boxes drawn by hand, is one in a thousand short of it
    odds = logit(np.clip([score, best], sure, 1 - sure))
    return np.column_stack([np.ones(len(score)), *odds])


def _weights(presence: Mapping[str, Any] | None) -> tuple[float, float, float]:
    if presence is None:
        return _NO_OPINION
    bias, found, seen = presence["weights"]
    return float(bias), float(found), float(seen)


def _check(box: Float[np.ndarray, "4"]) -> None:
    if not (np.isfinite(box).all() and (box[2:] > box[:2]).all()):
        raise ValueError(f"a box must be finite, x0 < x1 and y0 < y1, got {box.tolist()}")
