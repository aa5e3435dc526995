"""Rendered people with exact labels, in the same packed format as the photographs."""

import os
from pathlib import Path

import cv2
import numpy as np

from tracker.demo import TruePerson, random_scene

SEEN, HIDDEN = 0.9, 0.0
"""What the teacher column says of a keypoint: here it knows."""

LEAST_SEEN = 0.2
"""Share of a person's silhouette that must be seen."""

DOUBTFUL = 0.4
"""Score of a box that the detector is neither taught nor forbidden to find."""


def write_split(
    folder: Path,
    name: str = "synthetic",
    *,
    scenes: int = 160,
    pictures_per_scene: int = 6,
    seed: int = 1000,
    height: int = 320,
    width: int = 416,
) -> None:
    """Render NAME.npz and NAME-00.bin; the seeds of the demo (small ones) are left out."""
    encoded: list[np.ndarray] = []
    truth: list[tuple[TruePerson, ...]] = []
    for number in range(scenes):
        scene = random_scene(seed + number, height=height, width=width)
        for index in np.linspace(0, scene.n_frames - 1, pictures_per_scene).astype(int).tolist():
            picture = cv2.cvtColor(scene.render(index), cv2.COLOR_RGB2BGR)
            encoded.append(cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 90])[1])
            truth.append(scene.truth(index))
    folder.mkdir(parents=True, exist_ok=True)
    np.concatenate([data.ravel() for data in encoded]).tofile(folder / f"{name}-00.bin")
    index = _index(encoded, truth, (width, height))
    part = folder / f"{name}.{os.getpid()}.part.npz"
    np.savez(part, allow_pickle=False, **index)
    part.rename(folder / f"{name}.npz")


def _index(
    encoded: list[np.ndarray], truth: list[tuple[TruePerson, ...]], size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Who is hardly seen at all is no person to learn, and no background: a doubtful box."""
    everyone = [(i, person) for i, picture in enumerate(truth) for person in picture]
    owner, people = zip(*((i, p) for i, p in everyone if p.seen >= LEAST_SEEN), strict=True)
    n_bytes = np.array([data.size for data in encoded])
    keypoints = np.stack([person.keypoints for person in people])
    visible = np.stack([person.visible for person in people])[..., None]
    return {
        "sources": np.array(["synthetic"]),
        "img_file": np.zeros(len(truth), np.uint8),
        "img_offset": np.cumsum(n_bytes) - n_bytes,
        "img_bytes": n_bytes,
        "img_wh": np.tile(size, (len(truth), 1)),
        "img_source": np.zeros(len(truth), np.uint8),
        "img_name": np.array([str(i) for i in range(len(truth))]),
        "person_img": np.array(owner, np.int32),
        "person_box": np.stack([person.box for person in people]).astype(np.float32),
        "person_keypoints": np.concatenate([keypoints, 1.0 + visible], axis=-1),
        "person_keypoint_source": np.ones(len(people), np.uint8),
        "person_teacher": np.concatenate([keypoints, np.where(visible, SEEN, HIDDEN)], axis=-1),
        "person_area": np.zeros(len(people), np.float32),
        "person_crowd": np.zeros(len(people), np.uint8),
        "det_img": np.array([i for i, _ in everyone], np.int32),
        "det_box": np.stack([person.box for _, person in everyone]).astype(np.float32),
        "det_score": np.array([DOUBTFUL if p.seen < LEAST_SEEN else 1.0 for _, p in everyone]),
    }
