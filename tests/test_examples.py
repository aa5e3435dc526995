import runpy
from pathlib import Path

import fakes
import numpy as np
import pytest
from simulated_people import box_of

from tracker import Detection, MultiTracker, RecordWriter, TrackedFrame, pose_from_points
from tracker.pipeline import PoseTracker

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_tracking_a_video(monkeypatch, capsys):
    person = fakes.person(150)
    networks = fakes.FakeDetector(person), fakes.FakePoseNet(person)
    monkeypatch.setattr(PoseTracker, "load", lambda **_: PoseTracker(*networks))
    runpy.run_path(str(EXAMPLES / "01_track_a_video.py"))["main"](max_frames=6)
    told = capsys.readouterr().out.splitlines()
    assert told
    assert "person 1 (confirmed): left wrist at" in told[-1]


def test_a_network_of_ones_own_is_followed_through_confusion_and_occlusion(capsys):
    errors = runpy.run_path(str(EXAMPLES / "02_bring_your_own_network.py"))["main"]()
    told = capsys.readouterr().out.splitlines()
    assert all("person 1" in line for line in told)
    assert any("lost" in line for line in told)
    assert len(errors) > 80
    assert np.median(errors) < 3
    assert errors[-1] < 4


def test_error_bars_for_ones_own_network(capsys):
    pytest.importorskip("torch")
    fit = runpy.run_path(str(EXAMPLES / "03_error_bars_for_your_network.py"))["main"]
    assert 1 < fit(n_scenes=2, n_views=32, n_crops=64, n_frames=8) < 500
    assert "error bar" in capsys.readouterr().out


def test_a_table_becomes_angles_with_error_bars_and_the_tables_of_other_tools(tmp_path, capsys):
    pandas = pytest.importorskip("pandas")
    example = runpy.run_path(str(EXAMPLES / "04_joint_angles.py"))
    people = MultiTracker()
    with RecordWriter(tmp_path / "walk.csv") as writer:
        for index in range(8):
            xy = fakes.person(150 + 3 * index)
            points = pose_from_points(xy, np.full(17, 0.9), Detection(box_of(xy), 0.9))
            frame = fakes.frame(index)
            writer.write(TrackedFrame(frame, people.update([points], frame.time)))
    example["main"](str(tmp_path / "walk.csv"))
    assert "person 1: right knee at" in capsys.readouterr().out

    rows = pandas.read_csv(tmp_path / "walk.csv")
    person = example["wide"](rows)
    degrees, error = example["angle"](person, *example["KNEE"])
    rng, small = np.random.default_rng(0), 0.02  # so that the first order is all there is
    hip, knee, ankle = (
        rng.multivariate_normal(
            example["_points"](person, k)[-1], small**2 * example["_cov"](person, k)[-1], 100_000
        )
        for k in example["KNEE"]
    )
    cosine = np.sum((hip - knee) * (ankle - knee), axis=1)
    cosine /= np.linalg.norm(hip - knee, axis=1) * np.linalg.norm(ankle - knee, axis=1)
    drawn = np.degrees(np.arccos(cosine))
    assert degrees[-1] == pytest.approx(drawn.mean(), rel=1e-3)
    assert small * error[-1] == pytest.approx(drawn.std(), rel=0.02)

    trc = (tmp_path / "walk-1.trc").read_text().splitlines()
    assert len(trc) == 5 + len(person)
    first, column = trc[5].split("\t"), 3 * list(person["x"].columns).index("nose") + 2
    assert float(first[column]) == pytest.approx(person["x"]["nose"].iloc[0], abs=1e-3)
    assert float(first[column + 1]) == pytest.approx(-person["y"]["nose"].iloc[0], abs=1e-3)
    told = pandas.read_csv(tmp_path / "walk-deeplabcut.csv", header=[0, 1, 2, 3], index_col=0)
    nose = told["surepose"]["person1"]["nose"]
    assert list(nose.columns) == ["x", "y", "likelihood"]
    assert nose["x"].iloc[-1] == person["x"]["nose"].iloc[-1]
    assert list(told.index) == list(range(8))


def test_every_example_is_run_here():
    assert {path.name[:2] for path in EXAMPLES.glob("*.py")} == {"01", "02", "03", "04"}
