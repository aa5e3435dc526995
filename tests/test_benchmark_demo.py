import json
from dataclasses import asdict

import fakes
import numpy as np
import pytest

from benchmarks import demo
from benchmarks.environment import environment, store
from tracker.demo import Scene
from tracker.metrics import IdentityScore
from tracker.types import Frame, TrackedFrame

SCENE = Scene(seed=3, n_people=2, n_frames=75, height=120, width=160)
STD = 1.0  # px, of people about 90 px tall


class Oracle:
    """Tracks that are the truth and an honest error."""

    def __init__(self, *, boldness: float = 1.0, change_ids_at: int = 10**9) -> None:
        self.rng = np.random.default_rng(0)
        self.boldness = boldness
        self.change_ids_at = change_ids_at

    def __call__(self, frame: Frame) -> TrackedFrame:
        tracks = []
        for person in SCENE.truth(frame.index):
            number = person.id + 100 * (frame.index >= self.change_ids_at)
            xy = person.keypoints + self.rng.normal(0, STD, person.keypoints.shape)
            track = fakes.make_track(xy, track_id=number, std=0.0)
            track.state.cov[:] = np.eye(68) * (STD / self.boldness) ** 2
            tracks.append(track)
        return TrackedFrame(frame, tuple(tracks))


@pytest.fixture(scope="module")
def truth():
    return [SCENE.truth(index) for index in range(SCENE.n_frames)]


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch, truth):
    monkeypatch.setattr(Scene, "render", lambda *_: np.zeros((120, 160, 3), np.uint8))
    monkeypatch.setattr(Scene, "truth", lambda _, index: truth[index])


def test_an_oracle_is_found_to_be_one():
    result = demo.evaluate(SCENE, Oracle())
    assert (result.people_followed, result.id_switches) == (result.people, 0)
    assert result.recall > 0.95
    assert result.false_tracks_per_frame < 0.1
    for bars in result.visible, result.occluded:
        assert bars.keypoints > 200
        assert abs(bars.mean_nees - 2) < 6 * 2 / np.sqrt(bars.keypoints)
        assert bars.median_error_px == pytest.approx(STD * np.sqrt(2 * np.log(2)), rel=0.15)
        assert abs(bars.coverage_50 - 0.5) < 6 * 0.5 / np.sqrt(bars.keypoints)
        assert abs(bars.coverage_95 - 0.95) < 6 * 0.22 / np.sqrt(bars.keypoints)


def test_bold_error_bars_and_changing_ids_are_found_out():
    result = demo.evaluate(SCENE, Oracle(boldness=2.0, change_ids_at=40))
    assert result.visible.mean_nees > 6
    assert result.visible.coverage_95 < 0.9
    assert result.id_switches == len(SCENE.truth(40))


def test_nobody_followed_is_no_division_by_zero():
    result = demo.evaluate(SCENE, lambda frame: TrackedFrame(frame, ()))
    assert (result.recall, result.people_followed, result.visible.keypoints) == (0.0, 0, 0)


def test_a_track_without_a_person_is_false_and_a_lost_one_is_not():
    stray = fakes.make_track(fakes.person(100), track_id=9)
    identities = IdentityScore()
    demo.compare((), (stray,), identities)
    assert identities.false == 1


def test_a_result_carries_where_it_was_measured(tmp_path):
    result = demo.evaluate(SCENE, Oracle())
    store(tmp_path / "new" / "demo.json", {"result": asdict(result), **environment()})
    record = json.loads((tmp_path / "new" / "demo.json").read_text())
    assert record["versions"]["numpy"] == np.__version__
    assert record["machine"]["cores"] >= 1
    assert record["result"]["people"] == result.people
