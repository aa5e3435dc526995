"""Does what is measured agree with what was expected? Watched while a stream runs, without truth.

The next pose is a test of the error bars before it: its squared distance from the prediction in
units of their common error bars (NIS) should be one a coordinate, successive innovations should
not be alike, and 95 keypoints of 100 should fall into their predicted 95 % ellipses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, slots=True)
class Consistency:
    """Averages over the newest views of a person, or of everybody."""

    nis: float = 1.0
    """Normalised innovation squared for each coordinate; due 1."""
    autocorrelation: float = 0.0
    """Of whitened innovations of successive frames; due 0."""
    coverage: float = 0.95
    """Share of measured keypoints in the ellipse that should hold 95 % of them."""
    views: int = 0
    """How many views the averages have seen."""

    def after(self, view: "Consistency", horizon: int | None = None) -> "Consistency":
        """Take in one more, or the mean of several; what lies back farther than the horizon fades.

        The horizon is in views.
        """
        seen = self.views + view.views
        share = view.views / (seen if horizon is None else min(seen, horizon))
        return Consistency(
            self.nis + share * (view.nis - self.nis),
            self.autocorrelation + share * (view.autocorrelation - self.autocorrelation),
            self.coverage + share * (view.coverage - self.coverage),
            seen,
        )

    @property
    def complaint(self) -> str | None:
        """One line, where the error bars are clearly not what they promise."""
        if self.views < ENOUGH_VIEWS:
            return None
        facts = (
            f"{self.coverage:.0%} of keypoints in their 95 % ellipses, NIS {self.nis:.2f}, due 1"
        )
        if self.nis > MOST_NIS or self.coverage < LEAST_COVERAGE:
            return f"the error bars look too small for this video: {facts}"
        return None


NOTHING_SEEN = Consistency()

ENOUGH_VIEWS = 100
MOST_NIS, LEAST_COVERAGE = 2.0, 0.85
"""Beyond these the error bars are too small, whatever else. A small NIS proves nothing: that is
also what errors that are alike from frame to frame look like."""


ELLIPSE = -2 * log(1 - 0.95)
"""Squared distance within which 95 of 100 keypoints should lie, χ²₂."""


def together(views: Sequence[Consistency]) -> Consistency:
    """The mean of single views."""
    told = [(view.nis, view.autocorrelation, view.coverage) for view in views]
    nis, autocorrelation, coverage = (sum(v) / len(views) for v in zip(*told, strict=True))
    return Consistency(nis, autocorrelation, coverage, len(views))


def look(
    innovation: Float[np.ndarray, "n D"],
    last: Sequence[Float[np.ndarray, " D"] | None],
    nis: Float[np.ndarray, "n J"],
    measured: Bool[np.ndarray, "n D"],
) -> list[Consistency]:
    """Single views: from whitened innovations, those of the frame before, and NIS of keypoints.

    What is not measured has an innovation of zero and is left out of the means.
    """
    nothing = np.zeros(innovation.shape[1])
    before = np.array([nothing if w is None else w for w in last])
    held = 2 * ((nis < ELLIPSE) & measured[:, ::2])
    sums = [v.sum(axis=1) for v in (innovation**2, innovation * before, held)]
    averages = np.array(sums) / np.maximum(measured.sum(axis=1), 1)
    return [Consistency(nis, alike, share, 1) for nis, alike, share in averages.T.tolist()]
