import runpy
from pathlib import Path

import fakes
import numpy as np
import pytest

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


def test_every_example_is_run_here():
    assert {path.name[:2] for path in EXAMPLES.glob("*.py")} == {"01", "02", "03"}
