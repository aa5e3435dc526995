"""The shipped networks, the command and the drawn scene: what a newcomer runs first."""

from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.demo import DemoResult, evaluate
from tracker.cli import main
from tracker.demo import Scene
from tracker.pipeline import PoseTracker
from tracker.sinks.records import COLUMNS, read_records
from tracker.skeleton import COCO17

N_FRAMES = 45


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    paths = ["--csv", str(folder / "people.csv"), "--save", str(folder / "people.mp4")]
    assert main(["track", *paths, "--max-frames", str(N_FRAMES), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def result() -> DemoResult:
    return evaluate(Scene(), PoseTracker.load())


def test_the_table_has_a_row_for_every_frame_track_and_keypoint(outputs: Path) -> None:
    assert (outputs / "people.csv").read_text().partition("\n")[0] == ",".join(COLUMNS)
    records = read_records(outputs / "people.csv")
    names = [record.keypoint for record in records]
    assert len(names) > 17 * N_FRAMES
    assert names == list(COCO17.keypoint_names) * (len(names) // 17)
    people = {(record.frame, record.track_id) for record in records}
    assert len(people) * 17 == len(records)
    assert all(record.var_x * record.var_y > record.cov_xy**2 for record in records)


def test_the_overlay_video_has_every_frame_at_its_time(outputs: Path) -> None:
    with av.open(str(outputs / "people.mp4")) as video:
        times = [frame.time for frame in video.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(N_FRAMES) / 30, atol=1e-3)


def test_every_person_of_the_scene_is_followed_by_one_track(result: DemoResult) -> None:
    """Bounds of these weights, a little above what they reach; better ones tighten them."""
    assert result.people_followed == result.people == 4
    assert result.id_switches <= 10
    assert result.false_tracks_per_frame < 0.8


def test_the_error_bars_hold_the_truth(result: DemoResult) -> None:
    assert result.visible.keypoints > 2000
    assert 0.9 < result.visible.coverage_95 < 0.995
    assert 0.4 < result.visible.coverage_50 < 0.9
    assert result.visible.mean_nees < 2.5
    assert 0.85 < result.whole_poses_95 < 0.99
