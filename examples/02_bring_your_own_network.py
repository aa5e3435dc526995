"""The tracker alone, for poses from a network of your own.

    python examples/02_bring_your_own_network.py

Here the "network" is a made-up one: it sees a person walk to the right, now and then confuses left
with right, and loses them behind a pillar for half a second. All it has to give is a box, means
and covariances of one or more poses, and how visible each keypoint is.
"""

from collections.abc import Iterator

import numpy as np

from tracker import COCO17, Detection, Mixture, MultiTracker, PoseMixture

FPS = 30
STD = 3.0  # px, and the covariance below says so: the tracker takes error bars at their word
# x, y of the keypoints of a person 100 px tall who faces the camera.
FRONT = np.array(
    [
        [0, 8], [2, 6], [-2, 6], [4, 7], [-4, 7],
        [11, 19], [-11, 19], [15, 34], [-15, 34], [17, 48], [-17, 48],
        [8, 52], [-8, 52], [9, 73], [-9, 73], [9, 94], [-9, 94],
    ]
)  # fmt: skip


def main(n_frames: int = 90) -> list[float]:
    """Follow the walker; the distance of the reported pose from the truth, px, frame by frame."""
    people = MultiTracker()
    errors = []
    for index, (truth, poses) in enumerate(walk(n_frames)):
        for person in people.update(poses, time=index / FPS):
            error = np.linalg.norm(person.keypoints - truth, axis=1).mean()
            bars = np.sqrt(np.trace(person.keypoint_cov, axis1=1, axis2=2).mean())
            errors.append(float(error))
            print(
                f"frame {index:3}  person {person.id} {person.status:<9}"
                f"  off by {error:5.1f} px, error bar {bars:5.1f} px"
                f"  {len(person.state)} hypotheses, the reported one {person.weight:.0%}"
            )
    return errors


def walk(n_frames: int) -> Iterator[tuple[np.ndarray, list[PoseMixture]]]:
    """The true keypoints of each frame, and what the network says of it."""
    rng = np.random.default_rng(0)
    for index in range(n_frames):
        truth = 2.5 * FRONT + [80 + 4.0 * index, 60.0]
        hidden = 45 <= index < 60
        poses = [] if hidden else [look(truth, confused=index % 10 == 0, rng=rng)]
        yield truth, poses


def look(truth: np.ndarray, *, confused: bool, rng: np.random.Generator) -> PoseMixture:
    """Two poses: as it is, and with left and right swapped; the second sometimes looks better."""
    seen = truth + rng.normal(0, STD, truth.shape)
    mean = np.stack([seen.ravel(), seen[COCO17.mirror].ravel()])
    cov = np.broadcast_to(STD**2 * np.eye(mean.shape[1]), (2, *np.eye(mean.shape[1]).shape))
    weight = np.array([0.4, 0.6] if confused else [0.8, 0.2])
    box = np.concatenate([truth.min(axis=0) - 20, truth.max(axis=0) + 20])
    visible = np.full(len(truth), 0.9)
    return PoseMixture(Detection(box, 0.9), Mixture(mean, cov.copy(), np.log(weight)), visible)


if __name__ == "__main__":
    main()
