"""Are the people of the demo scene followed, and are their error bars honest?

    python -m benchmarks.demo [--seed 0] [--frames 240] [--json benchmarks/results/demo.json]
        [--most-poses 2]

Runs the whole pipeline on the drawn scene and compares it with the exact truth. The scene is drawn
by this project, with pictures that its networks may have learnt from: the numbers show that the
parts work together, not how well they do on photographs.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Bool, Float

from benchmarks.environment import environment, store
from tracker.demo import Scene, TruePerson
from tracker.geometry import box_around, person_area
from tracker.metrics import IdentityScore, coverage, squared_mahalanobis
from tracker.mixture import moments
from tracker.pipeline import PoseTracker
from tracker.skeleton import COCO17
from tracker.types import Frame, Track, TrackedFrame, TrackStatus

J = len(COCO17)
LONG_PRESENCE = 2.0
"""Whoever is there for longer must be followed, s."""


@dataclass(frozen=True, slots=True)
class ErrorBars:
    """Errors of reported keypoints, and whether their ellipses told them."""

    keypoints: int
    median_error_px: float
    coverage_50: float
    coverage_95: float
    mean_nees: float
    """2 where the error bars are honest, more where they are too small."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    frames: int
    frames_per_second: float
    """Of the pipeline alone, without drawing the scene."""
    people: int
    """Persons present for longer than 2 s."""
    people_followed: int
    """Those of them who were followed for more than half of that time."""
    least_followed: float
    """The smallest part of their time for which one of them was followed."""
    recall: float
    """Part of all person-frames that were followed, hidden persons too."""
    id_switches: int
    false_tracks_per_frame: float
    """Confirmed tracks seen in the frame that follow nobody."""
    whole_poses_95: float
    """Part of the whole poses, 34 numbers each, in their 95 % regions."""
    visible: ErrorBars
    occluded: ErrorBars


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Keypoints of a person and of the track that follows them."""

    error: Float[np.ndarray, "J 2"]
    cov: Float[np.ndarray, "J 2 2"]
    visible: Bool[np.ndarray, " J"]
    whole_nees: float
    """Squared error of the whole pose in units of its error bars; 2J where they are honest."""


def main(
    seed: int = 0, frames: int = 240, json: Path | None = None, most_poses: int | None = None
) -> None:
    """Run the pipeline on the demo scene and compare it with the truth.

    Args:
        seed: Of the scene.
        frames: Length of the scene.
        json: Store the result here, with the command, the machine and the versions.
        most_poses: Look closely at no more people in a frame, the least certain first.
    """
    scene = Scene(seed=seed, n_frames=frames)
    follow, looks = PoseTracker.load(), 0
    follow.most_poses = most_poses

    def counted(frame: Frame) -> TrackedFrame:
        nonlocal looks
        tracked = follow(frame)
        looks += len(tracked.poses)
        return tracked

    result = evaluate(scene, counted)
    looks_per_frame = looks / frames
    print(f"close looks            {looks_per_frame:.2f} a frame")
    _print(result)
    if json is not None:
        looked = {"most_poses": most_poses, "looks_per_frame": looks_per_frame}
        store(json, {"scene": asdict(scene), "result": asdict(result), **looked, **environment()})


def evaluate(scene: Scene, follow: Callable[[Frame], TrackedFrame]) -> DemoResult:
    """Follow the people of a scene and compare every frame with its truth."""
    identities = IdentityScore()
    compared: list[Comparison] = []
    seconds = 0.0
    for index in range(scene.n_frames):
        frame = Frame(scene.render(index), index, index / scene.fps)
        start = time.perf_counter()
        tracks = follow(frame).tracks
        seconds += time.perf_counter() - start
        compared += compare(scene.truth(index), tracks, identities)
    long = [p for p, n in identities.present.items() if n > LONG_PRESENCE * scene.fps]
    shares = [identities.followed.get(p, 0) / identities.present[p] for p in long]
    return DemoResult(
        frames=scene.n_frames,
        frames_per_second=scene.n_frames / seconds,
        people=len(long),
        people_followed=sum(share > 0.5 for share in shares),
        least_followed=min(shares, default=1.0),
        recall=identities.recall,
        id_switches=identities.switches,
        false_tracks_per_frame=identities.false / scene.n_frames,
        whole_poses_95=coverage(np.array([c.whole_nees for c in compared]), 0.95, dof=2 * J),
        visible=error_bars(compared, visible=True),
        occluded=error_bars(compared, visible=False),
    )


def compare(
    people: Sequence[TruePerson], tracks: Sequence[Track], identities: IdentityScore
) -> list[Comparison]:
    """Match one frame's people with its tracks, and set them side by side."""
    similarity = np.zeros((len(people), len(tracks)))
    if people and tracks:
        area = np.array([_area(p) for p in people])
        poses = np.stack([p.keypoints for p in people]), np.stack([t.keypoints for t in tracks])
        similarity = COCO17.oks(poses[0][:, None], poses[1], area[:, None]).mean(axis=-1)
    lost = np.array([t.status is TrackStatus.LOST for t in tracks], bool)
    ids = [p.id for p in people], [t.id for t in tracks]
    return [
        _beside(people[n], tracks[t]) for n, t in identities.add(*ids, similarity, optional=lost)
    ]


def _beside(person: TruePerson, track: Track) -> Comparison:
    error, pose = track.keypoints - person.keypoints, track.pose
    whole = moments(pose)
    # About the reported pose, as the error bars of keypoints are.
    aside = pose.mean[pose.heaviest] - whole.mean
    cov = whole.cov + np.outer(aside, aside)
    (nees,) = squared_mahalanobis(error.reshape(1, -1), cov[None]).tolist()
    return Comparison(error, track.keypoint_cov, person.visible, nees)


def _area(person: TruePerson) -> float:
    # The true box ends at the edge of the picture, the keypoints do not.
    around = box_around(person.keypoints, margin=0.0)
    low, high = np.minimum(person.box, around)[:2], np.maximum(person.box, around)[2:]
    return float(person_area(np.concatenate([low, high])))


def error_bars(compared: Sequence[Comparison], *, visible: bool) -> ErrorBars:
    """Sum up the keypoints that could, or could not, be seen."""
    chosen = [(c.error[m], c.cov[m]) for c in compared for m in [c.visible == visible]]
    error = np.concatenate([e for e, _ in chosen]) if chosen else np.zeros((0, 2))
    cov = np.concatenate([c for _, c in chosen]) if chosen else np.zeros((0, 2, 2))
    if len(error) == 0:
        nothing = float("nan")
        return ErrorBars(0, nothing, nothing, nothing, nothing)
    nees = squared_mahalanobis(error, cov)
    return ErrorBars(
        keypoints=len(error),
        median_error_px=float(np.median(np.linalg.norm(error, axis=1))),
        coverage_50=coverage(nees, 0.5),
        coverage_95=coverage(nees, 0.95),
        mean_nees=float(nees.mean()),
    )


def _print(result: DemoResult) -> None:
    print(f"people present > {LONG_PRESENCE:.0f} s   {result.people_followed} of {result.people}")
    print(f"least followed         {result.least_followed:.1%} of their time")
    print(f"recall                 {result.recall:.1%} of person-frames")
    print(f"id switches            {result.id_switches}")
    print(f"false tracks           {result.false_tracks_per_frame:.3f} a frame")
    print(f"speed                  {result.frames_per_second:.1f} frames/s")
    print(f"whole poses in 95 %    {result.whole_poses_95:.1%}")
    print("keypoints              number   median error   in 50 %   in 95 %   NEES (due 2)")
    for name, bars in ("visible", result.visible), ("occluded", result.occluded):
        print(
            f"  {name:<20} {bars.keypoints:>6} {bars.median_error_px:>11.2f} px"
            f" {bars.coverage_50:>9.1%} {bars.coverage_95:>9.1%} {bars.mean_nees:>12.2f}"
        )


if __name__ == "__main__":
    tyro.cli(main)
