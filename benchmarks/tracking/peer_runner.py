"""Other people's trackers on frozen detections: run by an interpreter that has them installed.

    PYTHON benchmarks/tracking/peer_runner.py SCENES.npz JOBS.json ANSWERS.npz

It imports nothing of this project. A job is {"tracker", "options", "scene"}; its answer says which
detection (row) was given to which track (id) in which frame, and how long every step took.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_VERBOSE", "false")

Options = dict[str, Any]
Scene = dict[str, np.ndarray]
Given = tuple[list[int], list[int]]
"""Ids, and the rows of the detections that they were given in this frame."""


class Norfair:
    """Keypoints with their scores; distances of mean keypoints in heights of the scene's people."""

    def __init__(self, options: Options, scene: Scene) -> None:
        import norfair

        self.norfair, self.options = norfair, dict(options)
        self.size = _height(scene)
        kind = self.options.get("kind", 0)
        distance, threshold = _mean_distance, self.options.get("threshold", 0.15) * self.size
        if kind:
            distance = norfair.distances.create_keypoints_voting_distance(threshold, 0.5)
            threshold = 1 / (1 + self.options.get("votes", 5))
        self.tracker = norfair.Tracker(
            distance_function=distance,
            distance_threshold=threshold,
            hit_counter_max=int(self.options.get("hit_counter_max", 15)),
            initialization_delay=int(self.options.get("initialization_delay", 7)),
            detection_threshold=0.0,
            filter_factory=norfair.OptimizedKalmanFilterFactory(R=self.options.get("R", 4.0)),
            past_detections_length=0,
        )

    def update(
        self,
        rows: np.ndarray,
        box: np.ndarray,
        score: np.ndarray,
        keypoints: np.ndarray,
        visible: np.ndarray,
    ) -> Given:
        kept = score >= self.options.get("least_score", 0.0)
        given = [
            self.norfair.Detection(points=k, scores=v, data=int(r))
            for r, k, v in zip(rows[kept], keypoints[kept], visible[kept], strict=True)
        ]
        objects = self.tracker.update(given)
        fresh = {id(d) for d in given}
        seen = [o for o in objects if id(o.last_detection) in fresh]
        return [o.id for o in seen], [o.last_detection.data for o in seen]


def _height(scene: Scene) -> float:
    """Of the scene's people, px."""
    return float(np.median(scene["box"][:, 3] - scene["box"][:, 1]))


def _mean_distance(detection: Any, tracked: Any) -> float:
    return np.linalg.norm(detection.points - tracked.estimate, axis=1).mean()


class Roboflow:
    """`trackers`: boxes and scores."""

    def __init__(self, options: Options, scene: Scene, kind: str) -> None:
        import supervision
        import trackers

        self.sv = supervision
        extra = {"enable_cmc": False} if kind == "BoTSORTTracker" else {}
        whole = {"lost_track_buffer", "minimum_consecutive_frames", "delta_t"}
        options = {k: int(v) if k in whole else v for k, v in options.items()}
        self.tracker = getattr(trackers, kind)(frame_rate=float(scene["fps"]), **extra, **options)

    def update(
        self,
        rows: np.ndarray,
        box: np.ndarray,
        score: np.ndarray,
        keypoints: np.ndarray,
        visible: np.ndarray,
    ) -> Given:
        given = self.sv.Detections(
            xyxy=box.copy(), confidence=score.copy(), class_id=np.zeros(len(rows), int),
            data={"row": rows},
        )  # fmt: skip
        if not len(rows):
            given = self.sv.Detections.empty()
        out = self.tracker.update(given)
        if not len(out) or out.tracker_id is None:
            return [], []
        seen = out.tracker_id >= 0
        return out.tracker_id[seen].tolist(), np.asarray(out.data["row"])[seen].tolist()


class Ultralytics:
    """The trackers of `model.track`: boxes and scores; no pictures, so no camera motion."""

    DEFAULT: ClassVar[Options] = {
        "track_high_thresh": 0.25, "track_low_thresh": 0.1, "new_track_thresh": 0.25,
        "track_buffer": 30, "match_thresh": 0.8, "fuse_score": True, "gmc_method": "none",
        "proximity_thresh": 0.5, "appearance_thresh": 0.8, "with_reid": False, "model": "auto",
    }  # fmt: skip

    def __init__(self, options: Options, scene: Scene, kind: str) -> None:
        from ultralytics.trackers.bot_sort import BOTSORT
        from ultralytics.trackers.byte_tracker import BYTETracker

        options = {**self.DEFAULT, **options}
        options["track_buffer"] = int(options["track_buffer"])
        tracker = {"bytetrack": BYTETracker, "botsort": BOTSORT}[kind]
        self.tracker = tracker(SimpleNamespace(**options))
        self.tracker.reset_id()

    def update(
        self,
        rows: np.ndarray,
        box: np.ndarray,
        score: np.ndarray,
        keypoints: np.ndarray,
        visible: np.ndarray,
    ) -> Given:
        out = self.tracker.update(_Boxes(box, score), None)
        return [int(o[4]) for o in out], [int(rows[int(o[7])]) for o in out]


class _Boxes:
    """What Ultralytics' trackers read of its results."""

    def __init__(self, xyxy: np.ndarray, conf: np.ndarray) -> None:
        self.xyxy, self.conf, self.cls = xyxy, conf, np.zeros(len(conf))

    def __len__(self) -> int:
        return len(self.conf)

    def __getitem__(self, index: Any) -> "_Boxes":
        return _Boxes(self.xyxy[index], self.conf[index])

    @property
    def xywh(self) -> np.ndarray:
        centre, size = (
            (self.xyxy[:, :2] + self.xyxy[:, 2:]) / 2,
            self.xyxy[:, 2:] - self.xyxy[:, :2],
        )
        return np.hstack([centre, size])


class StoneSoup:
    """Centres of boxes at constant velocity, global nearest neighbours.

    Its JPDA enumerates all joint hypotheses: too many for a crowd.
    """

    START = datetime(2000, 1, 1)

    def __init__(self, options: Options, scene: Scene) -> None:
        from stonesoup.dataassociator.neighbour import GNNWith2DAssignment
        from stonesoup.deleter.time import UpdateTimeStepsDeleter
        from stonesoup.hypothesiser.distance import DistanceHypothesiser
        from stonesoup.initiator.simple import MultiMeasurementInitiator
        from stonesoup.measures import Mahalanobis
        from stonesoup.models.measurement.linear import LinearGaussian
        from stonesoup.models.transition import linear
        from stonesoup.predictor.kalman import KalmanPredictor
        from stonesoup.tracker.simple import MultiTargetTracker
        from stonesoup.types.detection import Detection
        from stonesoup.types.state import GaussianState
        from stonesoup.updater.kalman import KalmanUpdater

        self.Detection, self.options, self.fps = Detection, options, float(scene["fps"])
        size = _height(scene)
        axis = linear.ConstantVelocity(options.get("acceleration", 0.5) ** 2 * size**2)
        motion = linear.CombinedLinearGaussianTransitionModel([axis, axis])
        noise = np.diag(np.full(2, (options.get("place_std", 0.04) * size) ** 2))
        self.sees = LinearGaussian(ndim_state=4, mapping=(0, 2), noise_covar=noise)
        predictor, updater = KalmanPredictor(motion), KalmanUpdater(self.sees)
        gate = options.get("gate", 3.5)
        near = DistanceHypothesiser(predictor, updater, Mahalanobis(), missed_distance=gate)
        nearest = GNNWith2DAssignment(near)
        prior = GaussianState(np.zeros((4, 1)), np.diag([0.0, size**2, 0.0, size**2]), self.START)
        initiator = MultiMeasurementInitiator(
            prior,
            UpdateTimeStepsDeleter(2),
            nearest,
            updater,
            min_points=int(options.get("min_points", 3)),
        )
        deleter = UpdateTimeStepsDeleter(int(options.get("patience", 30)))
        self.steps = iter(MultiTargetTracker(initiator, deleter, self._feed(), nearest, updater))
        self.now: tuple[datetime, set[Any]] = (self.START, set())
        self.numbers: dict[str, int] = {}

    def _feed(self) -> Iterator[tuple[datetime, set[Any]]]:
        while True:
            yield self.now

    def update(
        self,
        rows: np.ndarray,
        box: np.ndarray,
        score: np.ndarray,
        keypoints: np.ndarray,
        visible: np.ndarray,
    ) -> Given:
        when = self.now[0] + timedelta(seconds=1 / self.fps)
        kept = score >= self.options.get("least_score", 0.3)
        centres = (box[kept, :2] + box[kept, 2:]) / 2
        found = {
            self.Detection(
                c[:, None], timestamp=when, measurement_model=self.sees, metadata={"row": int(r)}
            )
            for r, c in zip(rows[kept], centres, strict=True)
        }
        self.now = (when, found)
        _, tracks = next(self.steps)
        # A track that was not updated now is a prediction, or of an earlier time.
        seen = [t for t in tracks if t.timestamp == when and hasattr(t.state, "hypothesis")]
        ids = [self.numbers.setdefault(t.id, len(self.numbers) + 1) for t in seen]
        return ids, [t.state.hypothesis.measurement.metadata["row"] for t in seen]


TRACKERS: dict[str, Any] = {
    "norfair": Norfair,
    "sort": lambda o, s: Roboflow(o, s, "SORTTracker"),
    "bytetrack": lambda o, s: Roboflow(o, s, "ByteTrackTracker"),
    "ocsort": lambda o, s: Roboflow(o, s, "OCSORTTracker"),
    "botsort": lambda o, s: Roboflow(o, s, "BoTSORTTracker"),
    "stonesoup": StoneSoup,
    "ultralytics_bytetrack": lambda o, s: Ultralytics(o, s, "bytetrack"),
    "ultralytics_botsort": lambda o, s: Ultralytics(o, s, "botsort"),
}


def run(job: dict[str, Any], scene: Scene) -> dict[str, list[float]]:
    tracker = TRACKERS[job["tracker"]](job["options"], scene)
    frames: list[float] = []
    ids: list[float] = []
    rows: list[float] = []
    seconds: list[float] = []
    order = np.argsort(scene["frame"], kind="stable")
    bounds = np.searchsorted(scene["frame"][order], np.arange(int(scene["frames"]) + 1))
    for f in range(int(scene["frames"])):
        at = order[bounds[f] : bounds[f + 1]]
        start = time.process_time()
        i, r = tracker.update(
            at, scene["box"][at], scene["score"][at], scene["keypoints"][at], scene["visible"][at]
        )
        seconds.append(time.process_time() - start)
        frames += [f] * len(i)
        ids += i
        rows += r
    return {"frame": frames, "id": ids, "row": rows, "seconds": seconds}


def main(scenes_path: str, jobs_path: str, answers_path: str) -> None:
    with np.load(scenes_path) as stored:
        flat = {name: stored[name] for name in stored.files}
    with open(jobs_path) as file:
        jobs = json.load(file)
    scenes: dict[str, Scene] = {}
    for name, value in flat.items():
        scene, field = name.rsplit("/", 1)
        scenes.setdefault(scene, {})[field] = value
    answers: dict[str, Any] = {}
    for number, job in enumerate(jobs):
        for field, value in run(job, scenes[job["scene"]]).items():
            answers[f"{number}/{field}"] = np.array(value, float)
    np.savez(answers_path, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
