"""Where in a picture the people are."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

import engines
from engines.backends import Shapes
from tracker import weights
from tracker.crops import STRIDE, letterbox
from tracker.geometry import box_iou
from tracker.stages import stage
from tracker.types import Detection, Frame

# More people than a detector finds in a picture, and few enough to compare each with each.
_MOST_CANDIDATES = 300


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """A detection network as a callable: Frame → boxes in image px, highest score first."""

    engine: engines.Engine
    long_side: int
    """The picture's longer side as the network sees it, px."""
    threshold: float
    """Boxes of lower score are not people."""
    max_iou: float = 0.5
    """Of two boxes that overlap more, only the better is a person."""

    def __post_init__(self) -> None:
        weights.check_graph(self.engine, inputs=("image",), outputs=("box", "score"))

    @classmethod
    def load(
        cls,
        name: str | Path = "nano",
        device: str = "auto",
        threads: int | None = None,
        *,
        long_side: int | None = None,
        backend: str | None = None,
        precision: str | None = None,
    ) -> "Detector":
        """The detector of this name, or of this .onnx file; the rest as in `engines.load`.

        With a longer `long_side` than its card's it finds smaller people and takes longer.
        """
        found = weights.find("detector", name)
        side = int(found.entry("input", "long_side")) if long_side is None else long_side
        engine = engines.load(
            found.path,
            device,
            threads,
            backend=backend,
            precision=precision,
            shapes=plan_shapes(found, side),
            ranges=found.card.get("ranges"),
        )
        return cls(engine, side, float(found.entry("threshold")))

    def __call__(self, frame: Frame) -> list[Detection]:
        with stage("detect"):
            return self._find(frame)

    def _find(self, frame: Frame) -> list[Detection]:
        view, image_from_input = letterbox(
            frame.image, self.long_side, getattr(self.engine, "views", None)
        )
        out = self.engine({"image": view})
        score = out["score"][0].astype(np.float64)
        best = np.argsort(-score, kind="stable")[:_MOST_CANDIDATES]
        best = best[score[best] >= self.threshold]
        corners = out["box"][0, best].astype(np.float64).reshape(-1, 2)
        box = _clip(image_from_input.points(corners).reshape(-1, 4), frame.image.shape[:2])
        seen = _has_area(box)
        box, score = box[seen], score[best[seen]]
        return [Detection(box[i], float(score[i])) for i in suppress(box, score, self.max_iou)]


def plan_shapes(found: weights.Weights, long_side: int | None = None) -> Shapes:
    """What will come to a compiled plan of this network: any picture, usually of 4:3."""
    side = int(found.entry("input", "long_side")) if long_side is None else long_side
    side = -(-side // STRIDE) * STRIDE
    usual = -(-side * 3 // (4 * STRIDE)) * STRIDE
    return {"image": ((1, 3, STRIDE, STRIDE), (1, 3, usual, side), (1, 3, side, side))}


def suppress(
    box: Float[np.ndarray, "N 4"], score: Float[np.ndarray, " N"], max_iou: float
) -> Int[np.ndarray, " kept"]:
    """Indices of the boxes that no better kept box overlaps by more than `max_iou`, best first."""
    order = np.argsort(-score, kind="stable")
    overlaps = box_iou(box[order], box[order]) > max_iou
    kept = np.ones(len(order), bool)
    for i in range(len(order)):
        if kept[i]:
            kept[i + 1 :] &= ~overlaps[i, i + 1 :]
    return order[kept]


def _clip(box: Float[np.ndarray, "N 4"], size: tuple[int, int]) -> Float[np.ndarray, "N 4"]:
    height, width = size
    return np.clip(box, 0, np.array([width, height, width, height], float))


def _has_area(box: Float[np.ndarray, "N 4"]) -> Bool[np.ndarray, " N"]:
    return (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
