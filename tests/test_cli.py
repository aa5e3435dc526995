import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import fakes
import numpy as np
import pytest

import tracker
from engines.errors import DeviceError
from tracker.cli import main
from tracker.errors import SourceError
from tracker.pipeline import PoseTracker
from tracker.sinks.records import read_records
from tracker.sinks.video import VideoWriter


@pytest.fixture(autouse=True)
def fake_networks(monkeypatch):
    person = fakes.person(150)

    def load(cls: type[PoseTracker], *, device: str, **_: object) -> PoseTracker:
        if device == "cuda":
            raise DeviceError("no GPU here; use --device cpu")
        return cls(fakes.FakeDetector(person), fakes.FakePoseNet(person))

    monkeypatch.setattr(PoseTracker, "load", classmethod(load))


@pytest.fixture
def sources(monkeypatch):
    """What the command line opens, by name."""
    known: dict[str, fakes.FakeSource] = {}
    monkeypatch.setattr("tracker.sources.open_source", lambda spec, **_: known[spec])
    return known


def frames(n: int) -> list[tracker.Frame]:
    return [fakes.frame(i) for i in range(n)]


@pytest.fixture
def film(tmp_path) -> Path:
    path = tmp_path / "walk.mp4"
    with VideoWriter(path) as writer:
        for frame in frames(6):
            writer.write(tracker.TrackedFrame(frame, ()))
    return path


def test_a_film_becomes_a_table_and_a_video(film, tmp_path, capsys):
    table, video = tmp_path / "people.csv", tmp_path / "people.mp4"
    code = main(["track", "--source", str(film), "--csv", str(table), "--save", str(video)])
    assert code == 0
    rows = read_records(table)
    assert {row.frame for row in rows} <= set(range(6))
    assert {row.track_id for row in rows} == {1}
    nose = [row for row in rows if row.keypoint == "nose"][-1]
    assert (nose.x, nose.y) == pytest.approx(tuple(fakes.person(150)[0]), abs=2)
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6
    summary = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"6 frames, 1 person, \d+\.\d FPS, 0 dropped", summary)


def test_without_arguments_the_demo_runs(capsys):
    assert main(["track", "--max-frames", "2"]) == 0
    assert capsys.readouterr().err.startswith("2 frames, ")


def test_quiet_is_quiet(sources, capsys):
    sources["clip"] = fakes.FakeSource(*frames(2))
    assert main(["track", "--source", "clip", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("live", "shown"), [(False, ["my [film]", "3/3", "1 people"]), (True, ["3 frames", "ms"])]
)
def test_a_terminal_shows_how_the_run_goes(sources, monkeypatch, capsys, live, shown):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    sources["0"] = fakes.FakeSource(*frames(3), frame_count=None if live else 3)
    sources["0"].live, sources["0"].name = live, "my [film]"
    assert main(["track", "--source", "0"]) == 0
    told = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    for text in shown:
        assert text in told


def test_dropped_frames_are_counted(sources, capsys):
    sources["0"] = fakes.FakeSource(*(fakes.frame(i) for i in (3, 4, 7, 12)))
    sources["0"].live = True
    main(["track", "--source", "0"])
    assert "4 frames" in (told := capsys.readouterr().err)
    assert "6 dropped" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "missing.mp4"], "missing.mp4"),
        (["--source", "text.mp4"], "text.mp4"),
        (["--source", "empty"], "empty"),
        (["--csv", "missing/people.csv"], "cannot write missing/people.csv"),
        (["--save", "missing/people.mp4"], "cannot write missing/people.mp4"),
        (["--save", "people.gif"], "must end in .mp4"),
        (["--csv", "a.csv", "--save", "./a.csv"], "is also the source or another output"),
        (["--source", "text.mp4", "--save", "text.mp4"], "is also the source or another output"),
        (["--device", "cuda"], "no GPU here; use --device cpu"),
        (["--detect-every", "0"], "--detect-every must be at least 1, got 0"),
        (["--conf", "1.5"], "--conf must be 0 to 1, got 1.5"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("text.mp4").write_text("This is no video.\n")
    Path("empty").mkdir()
    assert main(["track", *arguments]) == 1
    told = capsys.readouterr().err
    assert told.startswith("surepose: error: ")
    assert told.count("\n") == 1
    assert message in told
    assert Path("text.mp4").read_text() == "This is no video.\n"


@pytest.mark.parametrize("arguments", [[], ["--nonsense"], ["track", "--max-frames", "x"]])
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    capsys.readouterr()


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"surepose {tracker.__version__}\n"


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit):
        main(["track", "--help"])
    told = capsys.readouterr().out
    for flag in ("source", "csv", "save", "show", "device", "detect-every", "conf", "seed"):
        assert f"--{flag}" in told


@pytest.mark.parametrize(
    ("stop", "code", "told"),
    [
        (KeyboardInterrupt(), 130, ""),
        (SourceError("the camera is gone"), 1, "surepose: error: the camera is gone"),
    ],
    ids=["Ctrl-C", "a dying source"],
)
def test_however_the_run_ends_the_outputs_are_whole(sources, tmp_path, capsys, stop, code, told):
    sources["0"] = fakes.FakeSource(*frames(10), stop)
    table, video = tmp_path / "people.csv", tmp_path / "people.mp4"
    arguments = ["--source", "0", "--csv", str(table), "--save", str(video)]
    assert main(["track", *arguments]) == code
    assert sources["0"].closed
    assert read_records(table)[-1].frame == 9
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 10
    said = capsys.readouterr().err
    assert told in said
    assert "10 frames, 1 person" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_and_the_other_output_is_whole(sources, tmp_path, capsys):
    sources["0"] = fakes.FakeSource(*frames(200))
    (tmp_path / "full.mkv").symlink_to("/dev/full")
    table = tmp_path / "people.csv"
    arguments = ["--source", "0", "--csv", str(table), "--save", str(tmp_path / "full.mkv")]
    assert main(["track", *arguments]) == 1
    assert "full.mkv: No space left on device" in capsys.readouterr().err
    assert table.read_text().endswith("\n")


def run_in_shell(command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SUREPOSE": f"{sys.executable} -c '{_PROGRAM}'"}
    return subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=60
    )


# The real program with fake networks, in a process of its own.
_PROGRAM = f"""
import sys
sys.path.insert(0, "{Path(__file__).parent}")
import fakes, numpy as np
from tracker.cli import main
from tracker.pipeline import PoseTracker
import tracker.sources as sources
networks = [make(fakes.person(150)) for make in (fakes.FakeDetector, fakes.FakePoseNet)]
PoseTracker.load = classmethod(lambda cls, **_: cls(*networks))
endless = fakes.FakeSource()
endless.items = (fakes.frame(i) for i in range(10**6))
sources.open_source = lambda *_, **__: endless
sys.exit(main())
"""


def test_a_reader_of_the_pipe_may_leave_early():
    done = run_in_shell('eval "$SUREPOSE track --csv -" | head -3; exit ${PIPESTATUS[0]}')
    assert len(done.stdout.splitlines()) == 3
    assert "Traceback" not in done.stderr
    assert done.returncode == 141


def test_sigterm_closes_the_outputs(tmp_path):
    video, table = tmp_path / "people.mp4", tmp_path / "people.csv"
    done = run_in_shell(
        f'eval "exec $SUREPOSE track --csv {table} --save {video}" & run=$!; '
        f"until [ -s {table} ] && [ $(wc -l < {table}) -gt 100 ]; do sleep 0.05; done; "
        "kill -TERM $run; wait $run"
    )
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    with av.open(str(video)) as container:
        shown = sum(1 for _ in container.decode(video=0))
    assert shown >= len({row.frame for row in read_records(table)}) > 5
    assert np.diff([row.time_s for row in read_records(table)]).min() >= 0
