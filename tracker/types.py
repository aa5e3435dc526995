"""The values that travel along the way of a frame.

Every position is in image pixels unless a name says otherwise: x to the right, y down, (0, 0) the
top-left corner of the top-left pixel, so that pixel centres lie at half-integers. Poses interleave:
(x0, y0, x1, y1, …), D = 2J numbers. Track states put 2J velocities (px/s) behind 2J positions
(px), X = 4J. Times are capture times in seconds.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np
from jaxtyping import Float, UInt8

from tracker.consistency import NOTHING_SEEN, Consistency
from tracker.errors import SourceError


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a stream."""

    image: UInt8[np.ndarray, "height width 3"]
    """RGB."""
    index: int
    """Position in the stream, from 0; dropped frames leave gaps."""
    time: float
    """Capture time, s, from the first frame of the stream."""
    stream: str = ""
    """Name of the stream; empty when there is only one."""
    captured: float | None = None
    """When it was captured, s since 1970 by this machine's clock; None in a recording."""

    def __post_init__(self) -> None:
        image = self.image
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise SourceError(
                f"frame {self.index} is an array of {image.dtype}, shape {image.shape}; due is a "
                "picture of uint8, shape (height, width, 3), RGB (for grey ones, "
                "cv2.cvtColor(image, cv2.COLOR_GRAY2RGB); deeper ones must be scaled to 0..255)"
            )

    @property
    def utc(self) -> str | None:
        """The same as ISO 8601: 2026-11-24T18:45:00.123Z."""
        if self.captured is None:
            return None
        moment = datetime.fromtimestamp(self.captured, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """A box that holds a person."""

    box: Float[np.ndarray, "4"]
    """x0, y0, x1, y1."""
    score: float
    """In [0, 1]."""
    track_id: int | None = None
    """The track whose prediction this box is; None when a detector found it."""


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Gaussians over one vector, p(x) = Σₖ exp(log_weightₖ) N(x; meanₖ, covₖ).

    A batch of mixtures is one with leading axes; only some functions of `mixture` take it.
    """

    mean: Float[np.ndarray, "*batch K D"]
    cov: Float[np.ndarray, "*batch K D D"]
    log_weight: Float[np.ndarray, "*batch K"]
    """Normalised: logsumexp = 0."""

    def __len__(self) -> int:
        return len(self.log_weight)

    @property
    def heaviest(self) -> int:
        """Index of the component of largest weight."""
        return int(self.log_weight.argmax())

    def points(self, n: int) -> Float[np.ndarray, "K n 2"]:
        """The first 2n coordinates of the means as points."""
        return self.mean[:, : 2 * n].reshape(len(self), n, 2)

    def point_cov(self, n: int) -> Float[np.ndarray, "K n 2 2"]:
        """The covariance of each of these points alone."""
        return np.einsum("kjajb->kjab", self.cov[:, : 2 * n, : 2 * n].reshape(-1, n, 2, n, 2))

    def reported_cov(self, n: int) -> Float[np.ndarray, "n 2 2"]:
        """Expected squared error of the heaviest component's points.

        Taken over all components *about the heaviest*, so that a rival widens the error bars of
        the one that is reported: Σₖ wₖ (Pₖ + (mₖ - m)(mₖ - m)ᵀ).
        """
        points = self.points(n)
        offset = points - points[self.heaviest]
        between = offset[..., :, None] * offset[..., None, :]
        return np.einsum("k,kjab->jab", np.exp(self.log_weight), self.point_cov(n) + between)


@dataclass(frozen=True, slots=True, eq=False)
class LastErrors:
    """What each hypothesis of a track holds to be the error of the last pose, z - p.

    Errors of successive frames are alike, so that it tells of the next.
    """

    mean: Float[np.ndarray, "M D"]
    """px."""
    trust: Float[np.ndarray, "M D"]
    """One over the error bar of the keypoint then, 1/px; zero where nothing is remembered."""

    @classmethod
    def none(cls, state: Mixture) -> "LastErrors":
        """Nothing is remembered."""
        nothing = np.zeros((len(state), state.mean.shape[1] // 2))
        return cls(nothing, nothing)


@dataclass(frozen=True, slots=True, eq=False)
class PoseMixture:
    """What a network says of one person in one frame: the only contract of nets and tracker."""

    detection: Detection
    mixture: Mixture
    """Over the D = 2J interleaved keypoint coordinates, image px."""
    visible: Float[np.ndarray, " J"]
    """Probability that each keypoint can be seen."""

    @property
    def keypoints(self) -> Float[np.ndarray, "J 2"]:
        """The heaviest hypothesis, px."""
        return self.mixture.points(len(self.visible))[self.mixture.heaviest]

    @property
    def keypoint_cov(self) -> Float[np.ndarray, "J 2 2"]:
        """Expected squared error of each of its keypoints, px² (`Mixture.reported_cov`)."""
        return self.mixture.reported_cov(len(self.visible))

    @property
    def score(self) -> float:
        """How much of a person the network sees here, in [0, 1]."""
        return float(self.visible.mean())


class TrackStatus(StrEnum):
    """The life of a track; a dropped track is simply gone."""

    TENTATIVE = "tentative"
    """Born, not yet believed; not reported."""
    CONFIRMED = "confirmed"
    """Believed, and seen in the newest frame."""
    LOST = "lost"
    """Believed, not seen in the newest frame: its state is a prediction."""


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One person over time."""

    id: int
    """From 1, given at confirmation, never reused; tentative tracks have negative ones."""
    status: TrackStatus
    state: Mixture
    """Hypotheses of positions (px) and velocities (px/s), X = 4J."""
    time: float
    """The capture time that the state speaks of, s."""
    visible: Float[np.ndarray, " J"]
    """Probability that each keypoint can be seen; decays while unseen."""
    box: Float[np.ndarray, "4"]
    """x0, y0, x1, y1 around the person, px."""
    existence: float
    """Probability that there is such a person."""
    hits: int
    """Number of frames in which the person was seen."""
    last_seen: float
    """Capture time of the last of them, s."""
    errors: LastErrors | None = None
    """Of the last pose; None where nothing is known of them."""
    contested: bool = False
    """Another way to give poses to tracks was nearly as likely in this frame."""
    consistency: Consistency = NOTHING_SEEN
    """How well the poses have agreed with what was expected, over the last seconds."""
    liveliness: float = 1.0
    """Accelerations of this person, as a multiple of those assumed (`motion.livelier`)."""
    innovation: Float[np.ndarray, " D"] | None = None
    """What the newest pose brought beyond the expectation, whitened; None while unseen."""
    lasting: Float[np.ndarray, "D D"] | None = None
    """Covariance of errors that come again in every pose, px²; they are not in the state."""

    @property
    def keypoints(self) -> Float[np.ndarray, "J 2"]:
        """Positions of the heaviest hypothesis, px: the reported pose."""
        return self.state.points(len(self.visible))[self.state.heaviest]

    @property
    def velocity(self) -> Float[np.ndarray, "J 2"]:
        """Velocities of the heaviest hypothesis, px/s."""
        n = len(self.visible)
        return self.state.points(2 * n)[self.state.heaviest, n:]

    @property
    def pose(self) -> Mixture:
        """Hypotheses of the whole pose, D = 2J, px: the state's positions with all their errors."""
        D = 2 * len(self.visible)
        cov = self.state.cov[:, :D, :D]
        if self.lasting is not None:
            cov = cov + self.lasting
        return Mixture(self.state.mean[:, :D], cov, self.state.log_weight)

    @property
    def keypoint_cov(self) -> Float[np.ndarray, "J 2 2"]:
        """Expected squared error of each reported keypoint, px² (`Mixture.reported_cov`)."""
        return self.pose.reported_cov(len(self.visible))

    @property
    def weight(self) -> float:
        """Probability of the heaviest hypothesis."""
        return float(np.exp(self.state.log_weight[self.state.heaviest]))


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """A frame and the people in it, as the pipeline gives them."""

    frame: Frame
    tracks: tuple[Track, ...]
    """Confirmed and lost tracks, by id."""
    poses: tuple[PoseMixture, ...] = ()
    """What the network said in this frame, before the tracker."""
