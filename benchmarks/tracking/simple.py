"""In-house baselines for identities: the detection nearest to the last one, no filter."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import numpy as np
from jaxtyping import Bool
from scipy.optimize import linear_sum_assignment

from benchmarks.tracking.frozen import Detections
from benchmarks.tracking.ours import Answer, Knob, Options
from tracker.evaluation.identity import Similarity
from tracker.evaluation.people import People, by_boxes, by_keypoints
from tracker.types import PoseMixture

MEMORY = 30
"""Frames for which somebody unseen is waited for."""


def nearest(similarity: Similarity) -> Callable[[Detections, Options], Answer]:
    """Join detections that are alike enough; what is joined to nobody is somebody new."""

    def follow(scene: Detections, options: Options) -> Answer:
        least, sure = options.get("least", 0.3), options.get("least_score", 0.4)
        numbers, known, since = count(1), People.nobody(), np.zeros(0, int)
        answer, seconds = {}, []
        for frame, poses in enumerate(scene.poses):
            now = _people([p for p in poses if p.detection.score >= sure])
            start = time.process_time()
            alike = similarity(known, now)
            rows, columns = linear_sum_assignment(alike, maximize=True)
            made = alike[rows, columns] >= least
            ids = np.zeros(len(now), int)
            ids[columns[made]] = known.ids[rows[made]]
            ids[ids == 0] = [next(numbers) for _ in range(int((ids == 0).sum()))]
            answer[frame] = replace(now, ids=ids)
            waited = np.isin(known.ids, ids, invert=True) & (frame - since < MEMORY)
            known = _joined(answer[frame], known, waited)
            since = np.concatenate([np.full(len(now), frame), since[waited]])
            seconds.append(time.process_time() - start)
        return Answer(answer, np.array(seconds))

    return follow


def _people(poses: Sequence[PoseMixture]) -> People:
    if not poses:
        return People.nobody()
    box, keypoints = (
        np.stack(v) for v in zip(*((p.detection.box, p.keypoints) for p in poses), strict=True)
    )
    return People(np.zeros(len(poses), int), box, keypoints)


def _joined(now: People, before: People, kept: Bool[np.ndarray, " N"]) -> People:
    """Those of now, and some of those before."""
    assert now.keypoints is not None
    assert before.keypoints is not None
    return People(
        np.concatenate([now.ids, before.ids[kept]]),
        np.concatenate([now.box, before.box[kept]]),
        np.concatenate([now.keypoints, before.keypoints[kept]]),
    )


BASELINES = {"nearest box (IoU)": nearest(by_boxes), "nearest pose (OKS)": nearest(by_keypoints)}
KNOBS = {"least": Knob(0.05, 0.7), "least_score": Knob(0.1, 0.7)}
