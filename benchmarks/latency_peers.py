"""Who is timed beside us: each follows people in known boxes, on its own networks, as it would.

Every contestant runs its own detector at the same interval and then gets the scene's true boxes, so
that all look at the same number of people; between, each takes its boxes from its own last poses.
One-stage networks have no boxes: they see the whole picture every time.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Float

from benchmarks.rtmdet import Boxes, RtmDet, session
from benchmarks.samplers import decode
from tracker.crops import crop_box, image_from_net, warp
from tracker.detector import Detector
from tracker.geometry import Affine, box_around, box_to_aspect
from tracker.heatmaps import IMAGENET, NcnnHeatmaps
from tracker.pipeline import PoseTracker
from tracker.pose import PoseNet
from tracker.stages import stage
from tracker.types import Detection, Frame


class Contestant(Protocol):
    """One whole way from a picture to poses."""

    name: str

    def __call__(self, frame: Frame, boxes: Boxes | None) -> int:
        """Follow the people; `boxes` are the true ones where the detector is due. Give how many."""


class Ours:
    """The whole way: mixtures, covariances, association and filter."""

    def __init__(self, name: str, detector: Detector, net: PoseNet, detect_every: int) -> None:
        self.name = name
        self._detector, self._boxes = detector, np.zeros((0, 4))
        # Detectors of all contestants run in the same frames.
        self._follow = PoseTracker(self._find, net, detect_every=detect_every, on_demand=False)

    def __call__(self, frame: Frame, boxes: Boxes | None) -> int:
        if boxes is not None:
            self._boxes = boxes
        return len(self._follow(frame).poses)

    def _find(self, frame: Frame) -> list[Detection]:
        self._detector(frame)
        return [Detection(box, 0.9) for box in self._boxes]


class TopDown:
    """RTMDet-nano 320 and PP-TinyPose 256×192, crop by crop as rtmlib does it; no filter.

    ncnn's threads wait busily for one another: where a core is not free they are slower than one
    thread alone. So it takes part with one thread, too.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.name = f"RTMDet-nano + PP-TinyPose, {threads} thread{'s' * (threads > 1)}"
        self._detect = RtmDet(folder / "rtmdet_nano_person_320.onnx", threads)
        self._net = NcnnHeatmaps(folder / "tinypose_256x192.param", IMAGENET, threads=threads)
        self._boxes: Boxes = np.zeros((0, 4))

    def __call__(self, frame: Frame, boxes: Boxes | None) -> int:
        if boxes is not None:
            with stage("detect"):
                self._detect(frame.image)
            self._boxes = boxes
        poses = [self._look(frame, box) for box in self._boxes]
        self._boxes = np.stack([box_around(xy, 0.1) for xy in poses]) if poses else self._boxes
        return len(poses)

    def _look(self, frame: Frame, box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "J 2"]:
        crop = crop_box(_sound(box, frame))
        target = np.array([0.0, 0.0, 192.0, 256.0])
        view = warp(frame.image, Affine.between_boxes(crop, target), 256, 192)
        with stage("pose net"):
            (maps,) = self._net(view[None])
        return image_from_net(crop).points(decode(maps)[0])


class BlazePose:
    """MediaPipe's networks (pose detection, landmarks "full") on OpenVINO in fp32, one by one."""

    name = "BlazePose full"

    def __init__(self, folder: Path, threads: int) -> None:
        import openvino

        core = openvino.Core()
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        with tempfile.TemporaryDirectory() as place:
            detector = Path(place) / "detection.tflite"  # the npm package calls it otherwise
            shutil.copy(folder / "pose_solution_packed_assets.data", detector)
            self._detector = core.compile_model(core.read_model(detector), "CPU", options)
            landmarks = core.read_model(folder / "pose_landmark_full.tflite")
            self._landmarks = core.compile_model(landmarks, "CPU", options)
        self._boxes: Boxes = np.zeros((0, 4))

    def __call__(self, frame: Frame, boxes: Boxes | None) -> int:
        if boxes is not None:
            with stage("detect"):
                self._detector(_unit(cv2.resize(frame.image, (224, 224)), 127.5, 1.0))
            self._boxes = boxes
        poses = [self._look(frame, box) for box in self._boxes]
        self._boxes = np.stack([box_around(xy, 0.1) for xy in poses]) if poses else self._boxes
        return len(poses)

    def _look(self, frame: Frame, box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "J 2"]:
        crop = box_to_aspect(_sound(box, frame), 1.0, 1.25)
        target = np.array([0.0, 0.0, 256.0, 256.0])
        view = warp(frame.image, Affine.between_boxes(crop, target), 256, 256)
        with stage("pose net"):
            found = self._landmarks(_unit(view, 255.0, 0.0))[0]
        xy = found[0, :165].reshape(33, 5)[:, :2].astype(np.float64)
        return Affine.between_boxes(target, crop).points(xy)


class OneStage:
    """An Ultralytics pose network, exported without NMS: the whole picture, every frame."""

    name = "yolo26n-pose 640"

    def __init__(self, path: Path, threads: int) -> None:
        self._session = session(path, threads)

    def __call__(self, frame: Frame, boxes: Boxes | None) -> int:
        spec = self._session.get_inputs()[0]
        height, width = spec.shape[2:]
        view = cv2.resize(frame.image, (width, height))
        planes = np.ascontiguousarray(view.transpose(2, 0, 1))[None].astype(np.float32) / 255
        with stage("pose net"):
            (rows,) = self._session.run(None, {spec.name: planes})
        return int((rows[0, :, 4] > 0.25).sum())


@dataclass(frozen=True)
class Places:
    """Where the peers' networks lie; who is not given does not take part."""

    teachers: Path | None = None
    """RTMDet-nano (.onnx) and PP-TinyPose (ncnn)."""
    blazepose: Path | None = None
    """The npm package @mediapipe/pose, unpacked."""
    yolo: Path | None = None
    """yolo26n-pose.onnx."""

    def open(self, threads: int) -> list[Contestant]:
        found: list[Contestant] = []
        if self.teachers:
            found += [TopDown(self.teachers, n) for n in sorted({1, threads})]
        if self.blazepose:
            found.append(BlazePose(self.blazepose, threads))
        if self.yolo:
            found.append(OneStage(self.yolo, threads))
        return found


def _unit(view: np.ndarray, scale: float, shift: float) -> np.ndarray:
    return (view.astype(np.float32) / scale - shift)[None]


def _sound(box: Float[np.ndarray, "4"], frame: Frame) -> Float[np.ndarray, "4"]:
    """A box that a crop can be cut from: networks of random or lost people may say anything."""
    size = np.array(frame.image.shape[1::-1], float)
    low = np.clip(box[:2], 0, size - 16)
    return np.concatenate([low, np.clip(box[2:], low + 16, size)])
