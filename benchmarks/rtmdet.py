"""RTMDet-nano for people, as rtmlib runs it."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from jaxtyping import Float, Float32, UInt8
from scipy.special import expit

from tracker.crops import OUTSIDE
from tracker.detector import suppress

Boxes = Float[np.ndarray, "N 4"]


class RtmDet:
    """Pictures letterboxed to 320 px in, boxes of people out (image px), scores above 0.3."""

    SIDE = 320
    MEAN, SPREAD = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
    """Of B, G and R."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session = session(path, threads)

    def __call__(self, picture: UInt8[np.ndarray, "H W 3"]) -> Boxes:
        """Find people in an RGB picture."""
        height, width = picture.shape[:2]
        scale = self.SIDE / max(height, width)
        size = round(width * scale), round(height * scale)
        view = np.full((self.SIDE, self.SIDE, 3), OUTSIDE, np.uint8)
        view[: size[1], : size[0]] = cv2.resize(picture, size)
        bgr = ((view[..., ::-1] - self.MEAN) / self.SPREAD).astype(np.float32)
        planes = np.ascontiguousarray(bgr.transpose(2, 0, 1))[None]
        outputs = self._session.run(None, {self._session.get_inputs()[0].name: planes})
        cells = (_cells(out[0], self.SIDE / out.shape[1]) for out in outputs)
        box, score = map(np.concatenate, zip(*cells, strict=True))
        good = score > 0.3
        return box[good][suppress(box[good], score[good], 0.45)] / scale


def session(path: Path, threads: int) -> Any:
    """ONNX Runtime as ours is set up."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _cells(
    out: Float32[np.ndarray, "n m 5"], stride: float
) -> tuple[Float[np.ndarray, "cells 4"], Float[np.ndarray, " cells"]]:
    """RTMDet's cells (logit, then left, top, right, bottom from the cell) as boxes and scores."""
    y, x = (i * stride for i in np.indices(out.shape[:2], np.float64))
    left, top, right, bottom = np.moveaxis(out[..., 1:].astype(np.float64), -1, 0)
    box = np.stack([x - left, y - top, x + right, y + bottom], axis=-1)
    return box.reshape(-1, 4), expit(out[..., 0].astype(np.float64)).ravel()
