"""Which keypoints a person has, how they are joined, and how well people can place them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, slots=True, eq=False)
class Skeleton:
    """An ordered set of keypoints with its edges, its mirror and its OKS fall-offs."""

    keypoint_names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    mirror: Int[np.ndarray, " J"]
    """Index of the left/right partner of each keypoint (itself on the midline)."""
    oks_sigma: Float[np.ndarray, " J"]
    """Standard deviation of human annotators over sqrt(person area); OKS uses twice this value."""

    def __len__(self) -> int:
        return len(self.keypoint_names)

    def falloff(self, area: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch J"]:
        """Distance at which each keypoint's OKS is exp(-½), px: 2σⱼ·sqrt(person area)."""
        return 2 * self.oks_sigma * np.sqrt(area)[..., None]

    def oks(
        self,
        a: Float[np.ndarray, "*#batch J 2"],
        b: Float[np.ndarray, "*#batch J 2"],
        area: Float[np.ndarray, "*#batch"],
    ) -> Float[np.ndarray, "*batch J"]:
        """Object keypoint similarity of each keypoint, exp(-½ (|a - b| / falloff)²) (COCO)."""
        return np.exp(-0.5 * np.square(a - b).sum(axis=-1) / np.square(self.falloff(area)))


COCO17 = Skeleton(
    keypoint_names=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    edges=(
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 4),
        (5, 6),
        (5, 7),
        (7, 9),
        (6, 8),
        (8, 10),
        (5, 11),
        (6, 12),
        (11, 12),
        (11, 13),
        (13, 15),
        (12, 14),
        (14, 16),
    ),
    mirror=np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]),
    # COCO keypoint evaluation (pycocotools.cocoeval.Params.kpt_oks_sigmas).
    oks_sigma=np.array(
        [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89], dtype=np.float64
    )
    / 1000,
)
"""The 17 keypoints of COCO, in COCO's order."""
