import logging
import os
import re
import signal
import subprocess
import sys
from logging.handlers import RotatingFileHandler
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


@pytest.fixture(autouse=True)
def fresh_log():
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()
    logging.getLogger("tracker").setLevel(logging.NOTSET)


@pytest.fixture
def sources(monkeypatch):
    """What the command line opens, by name."""
    known: dict[str, fakes.FakeSource] = {}
    monkeypatch.setattr("tracker.live.streams.open_source", lambda spec, **_: known[spec])
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


def test_slow_motion_gives_the_speeds_of_the_world_and_a_slow_video(film, tmp_path):
    table, video = tmp_path / "people.csv", tmp_path / "people.mp4"
    arguments = ["--source", str(film), "--csv", str(table), "--save", str(video), "--fps", "240"]
    assert main(["track", *arguments]) == 0
    assert read_records(table)[-1].time_s == pytest.approx(5 / 240, abs=1e-6)
    with av.open(str(video)) as played, av.open(str(film)) as filmed:
        came, due = ([float(f.time) for f in c.decode(video=0)] for c in (played, filmed))
    assert came == pytest.approx(due, rel=0.05)


def test_without_arguments_the_demo_runs(capsys):
    assert main(["track", "--max-frames", "2"]) == 0
    assert capsys.readouterr().err.startswith("2 frames, ")


def test_a_source_needs_no_flag(sources, tmp_path):
    sources |= {name: fakes.FakeSource(*frames(6)) for name in ("a.mp4", "b.mp4", "c.mp4")}
    table = tmp_path / "people.csv"
    assert main(["track", "a.mp4", "b.mp4", "--source", "c.mp4", "--csv", str(table)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {f"people-{n}.csv" for n in "abc"}


def test_quiet_is_quiet(sources, capsys):
    sources["clip"] = fakes.FakeSource(*frames(2))
    assert main(["track", "--source", "clip", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("live", "shown"), [(False, ["my [film]", "3/3", "1 people"]), (True, ["frames", "ms old"])]
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
    main(["track", "--source", "0", "--buffer", "all"])
    assert "4 frames" in (told := capsys.readouterr().err)
    assert "6 dropped" in told


def test_several_sources_are_followed_together_each_with_its_own_outputs(sources, tmp_path, capsys):
    sources |= {name: fakes.FakeSource(*frames(n)) for name, n in (("a", 6), ("b", 9))}
    table = tmp_path / "people.csv"
    listed = tmp_path / "streams.txt"
    listed.write_text("yard = b\n")
    assert main(["track", "--source", "a", "--source", str(listed), "--csv", str(table)]) == 0
    assert not table.exists()
    for name, n in (("a", 6), ("yard", 9)):
        assert read_records(tmp_path / f"people-{name}.csv")[-1].frame == n - 1
    told = capsys.readouterr().err
    assert "a: 6 frames, 1 person" in told
    assert "yard: 9 frames, 1 person" in told


def test_on_the_standard_output_several_sources_share_one_table(sources, capsys):
    sources |= {name: fakes.FakeSource(*frames(6)) for name in "ab"}
    assert main(["track", "--source", "a", "--source", "b", "--csv", "-", "--quiet"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("stream,frame,time_s")
    assert {row.split(",")[0] for row in rows} == {"a", "b"}


def test_a_stream_that_dies_does_not_stop_the_other_and_is_told(sources, tmp_path, capsys):
    sources["a"] = fakes.FakeSource(*frames(3), SourceError("the camera is gone"))
    sources["b"] = fakes.FakeSource(*frames(30))
    table = tmp_path / "people.csv"
    assert main(["track", "--source", "a", "--source", "b", "--csv", str(table)]) == 1
    assert read_records(tmp_path / "people-b.csv")[-1].frame == 29
    assert "surepose: error: the camera is gone" in capsys.readouterr().err


def test_tables_of_live_sources_tell_when_and_are_rolled(sources, tmp_path, capsys):
    sources["0"] = fakes.FakeSource(*frames(60))
    sources["0"].live = True
    table = tmp_path / "people.csv"
    code = main(
        ["track", "--source", "0", "--buffer", "all", "--csv", str(table), "--roll", "20KB"]
    )
    assert code == 0
    files = sorted(tmp_path.iterdir())
    assert len(files) > 1
    rows = [row for file in files for row in read_records(file)]
    assert {row.frame for row in rows} == set(range(2, 60))
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:]{8}\.\d{3}Z", row.utc) for row in rows)
    assert "ms (p50/p95/p99)" in capsys.readouterr().err


def test_a_log_is_written_and_rotated(sources, tmp_path, capsys):
    sources["0"] = fakes.FakeSource(*frames(2))
    log = tmp_path / "run.log"
    assert main(["track", "--source", "0", "--log", str(log), "--quiet"]) == 0
    logging.getLogger("tracker").warning("a camera went away")
    (handler,) = (h for h in logging.getLogger().handlers if isinstance(h, RotatingFileHandler))
    assert (handler.maxBytes, handler.backupCount) == (10_000_000, 5)
    assert "WARNING a camera went away" in log.read_text()
    assert "went away" not in capsys.readouterr().err


def test_networks_of_ones_own_are_loaded_from_their_paths(sources, monkeypatch):
    asked = {}

    def load(cls: type[PoseTracker], **given: object) -> PoseTracker:
        asked.update(given)
        return cls(fakes.FakeDetector(fakes.person(150)), fakes.FakePoseNet(fakes.person(150)))

    monkeypatch.setattr(PoseTracker, "load", classmethod(load))
    sources["0"] = fakes.FakeSource(*frames(2))
    flags = [
        "--pose",
        "own/pose.onnx",
        "--detector",
        "own/d.onnx",
        "--detect-side",
        "640",
        "--threads",
        "1",
    ]
    assert main(["track", "--source", "0", "--precision", "int8", "--lag", "2", *flags]) == 0
    assert asked == {
        "pose": "own/pose.onnx",
        "detector": "own/d.onnx",
        "device": "auto",
        "backend": None,
        "precision": "int8",
        "threads": 1,
        "detect_every": 5,
        "detect_side": 640,
        "conf": None,
        "flip_test": False,
        "lag": 2,
        "camera_motion": False,
    }


@pytest.mark.parametrize(
    ("count", "people", "told"),
    [(2, 1, "from the third frame on"), (6, 0, "nobody was seen"), (6, 1, "6 frames, 1 person")],
)
def test_a_run_that_sees_nobody_says_what_to_try(sources, monkeypatch, capsys, count, people, told):
    standing = [fakes.person(150)] * people
    networks = fakes.FakeDetector(*standing), fakes.FakePoseNet(*standing)
    monkeypatch.setattr(PoseTracker, "load", lambda **_: PoseTracker(*networks))
    sources["0"] = fakes.FakeSource(*frames(count))
    assert main(["track", "--source", "0"]) == 0
    said = capsys.readouterr().err
    assert told in said
    assert ("nobody" in said) == (people == 0)


def test_a_run_that_keeps_nothing_says_so(sources, tmp_path, capsys):
    sources["0"] = fakes.FakeSource(*frames(6))
    assert main(["track", "--source", "0"]) == 0
    assert "nothing was kept" in capsys.readouterr().err
    sources["0"] = fakes.FakeSource(*frames(6))
    assert main(["track", "--source", "0", "--csv", "-"]) == 0
    assert "nothing was kept" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "missing.mp4"], "missing.mp4"),
        (["--source", "text.mp4"], "text.mp4"),
        (["--source", "empty"], "empty"),
        (["--csv", "missing/people.csv"], "cannot write missing/people.csv"),
        (["--save", "missing/people.mp4"], "cannot write missing/people.mp4"),
        (["--save", "people.gif"], "must end in .mp4"),
        (["--mot", "-"], "only --csv can go to the standard output"),
        (["--csv", "a.csv", "--save", "./a.csv"], "is also the source or another output"),
        (["--source", "text.mp4", "--save", "text.mp4"], "is also the source or another output"),
        (["--device", "cuda"], "no GPU here; use --device cpu"),
        (["--detect-every", "0"], "--detect-every must be at least 1, got 0"),
        (["--fps", "0"], "--fps must be 0.01 to 100000, got 0"),
        (["--source", "demo", "--fps", "60"], "demo has times of its own"),
        (["--conf", "1.5"], "--conf must be 0 to 1, got 1.5"),
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--reconnect", "-1"], "--reconnect must be at least 0, got -1"),
        (["--max-latency", "-1"], "--max-latency must be at least 0, got -1"),
        (["--roll", "1 week"], "--roll takes a time or a size"),
        (["--source", "rtsp://me:hunter2@127.0.0.1:9/x"], "cannot open rtsp://127.0.0.1:9/x:"),
        (["--source", "a=demo", "--source", "a=demo"], "two streams are called a"),
        (["--log", "missing/run.log"], "cannot write missing/run.log"),
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
    assert "hunter2" not in told
    assert Path("text.mp4").read_text() == "This is no video.\n"


@pytest.mark.parametrize("arguments", [[], ["--nonsense"], ["track", "--max-frames", "x"]])
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    capsys.readouterr()


def test_a_closed_standard_output_is_not_written_to():
    program = f"{sys.executable} -c 'from tracker.cli import main; exit(main())' --version >&-"
    run = subprocess.run(["sh", "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"surepose {tracker.__version__}\n"


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit):
        main(["track", "--help"])
    told = capsys.readouterr().out
    for flag in (
        "source",
        "csv",
        "save",
        "show",
        "device",
        "detect-every",
        "conf",
        "seed",
        "buffer",
        "max-latency",
        "reconnect",
        "roll",
        "log",
    ):
        assert f"--{flag}" in told


@pytest.mark.parametrize("command", ["track", "serve", "build", "bench", "train", "fit-sampler"])
def test_nobody_is_told_to_type_none(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "None" not in capsys.readouterr().out


def test_a_choice_that_is_none_lists_those_that_are(capsys):
    with pytest.raises(SystemExit) as end:
        main(["track", "--precision", "None"])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert "'int8'" in told
    assert "'None')" not in told


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
import tracker.live.streams as streams
networks = [make(fakes.person(150)) for make in (fakes.FakeDetector, fakes.FakePoseNet)]
PoseTracker.load = classmethod(lambda cls, **_: cls(*networks))
endless = fakes.FakeSource()
endless.items = (fakes.frame(i) for i in range(10**6))
streams.open_source = lambda *_, **__: endless
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


def test_a_lag_loses_no_frame_and_not_even_the_first(sources, tmp_path, monkeypatch, capsys):
    person = fakes.person(150)

    def load(cls: type[PoseTracker], *, lag: int, **_: object) -> PoseTracker:
        networks = fakes.FakeDetector(person), fakes.FakePoseNet(person)
        return cls(*networks, tracker.MultiTracker(tracker.TrackerConfig(lag=lag)))

    monkeypatch.setattr(PoseTracker, "load", classmethod(load))
    sources["clip"] = fakes.FakeSource(*frames(8))
    table = tmp_path / "people.csv"
    assert main(["track", "--source", "clip", "--csv", str(table), "--lag", "3"]) == 0
    rows = read_records(table)
    # Confirmed with the third frame, known three frames later: shown from the first.
    assert sorted({row.frame for row in rows}) == list(range(8))
    assert {row.track_id for row in rows} == {1}
    assert "8 frames" in capsys.readouterr().err


def test_a_lag_keeps_what_was_seen_before_a_source_died(sources, tmp_path, monkeypatch, capsys):
    person = fakes.person(150)
    networks = fakes.FakeDetector(person), fakes.FakePoseNet(person)
    people = tracker.MultiTracker(tracker.TrackerConfig(lag=3))
    monkeypatch.setattr(PoseTracker, "load", lambda **_: PoseTracker(*networks, people))
    sources["0"] = fakes.FakeSource(*frames(10), SourceError("the camera is gone"))
    table = tmp_path / "people.csv"
    assert main(["track", "--source", "0", "--csv", str(table), "--lag", "3"]) == 1
    assert read_records(table)[-1].frame == 9
    assert "the camera is gone" in capsys.readouterr().err


def test_tracks_of_the_near_future_are_told_of_the_frame_at_hand(sources, tmp_path, capsys):
    sources["clip"] = fakes.FakeSource(*frames(6))
    table = tmp_path / "people.csv"
    arguments = ["--source", "clip", "--csv", str(table), "--predict-ahead", "0.1"]
    assert main(["track", *arguments]) == 0
    rows = read_records(table)
    assert rows[-1].frame == 5
    assert rows[-1].time_s == pytest.approx(5 / 30, abs=1e-6)
    capsys.readouterr()
    assert main(["track", *arguments, "--lag", "2"]) == 1
    assert (
        "--lag waits for later frames, --predict-ahead guesses them: give one"
        in capsys.readouterr().err
    )
