import sys
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.errors import SinkError
from tracker.sinks.base import Sink
from tracker.sinks.records import RecordWriter, read_records, records
from tracker.skeleton import COCO17
from tracker.types import TrackedFrame, TrackStatus

HEADER = (
    "frame,time_s,track_id,state,keypoint,x,y,vx,vy,var_x,cov_xy,var_y,visible,hypotheses,weight"
)


def some_frame(seed: int) -> TrackedFrame:
    rng = np.random.default_rng(seed)
    tracks = [
        fakes.make_track(
            fakes.person(rng.uniform(-1e4, 1e4)),
            track_id=i,
            std=float(np.exp(rng.uniform(-4, 7))),
            status=(TrackStatus.CONFIRMED, TrackStatus.LOST)[rng.integers(2)],
            rivals=[(0.3, fakes.person(rng.uniform(0, 640)))] * rng.integers(3),
            visible=rng.uniform(0, 1, 17),
            rng=rng,
        )
        for i in range(1, rng.integers(1, 5))
    ]
    stream = ("", "door", 'a "b", c')[rng.integers(3)]
    time = float(np.exp(rng.uniform(-9, 13)))
    return TrackedFrame(
        replace(fakes.frame(int(rng.integers(10**7))), time=time, stream=stream), tuple(tracks)
    )


@given(seeds=st.lists(st.integers(0, 2**32 - 1), max_size=3))
def test_what_is_written_is_read_back_to_its_digits(tmp_path_factory, seeds):
    frames = [some_frame(seed) for seed in seeds]
    path = tmp_path_factory.mktemp("table") / "people.csv"
    with RecordWriter(path, several_streams=True) as writer:
        for frame in frames:
            writer.write(frame)
    due = [record for frame in frames for record in records(frame)]
    got = read_records(path)
    assert len(got) == len(due)
    for a, b in zip(got, due, strict=True):
        assert (a.stream, a.frame, a.track_id, a.state, a.keypoint, a.hypotheses) == (
            b.stream, b.frame, b.track_id, b.state, b.keypoint, b.hypotheses,
        )  # fmt: skip
        assert abs(a.time_s - b.time_s) <= 0.5e-6 + 1e-12 * b.time_s
        for name in ("x", "y", "vx", "vy"):
            assert abs(getattr(a, name) - getattr(b, name)) <= 0.5001e-3
        for name in ("var_x", "cov_xy", "var_y"):
            assert abs(getattr(a, name) - getattr(b, name)) <= 5.001e-6 * abs(getattr(b, name))
        assert max(abs(a.visible - b.visible), abs(a.weight - b.weight)) <= 0.5001e-4
        assert a.var_x * a.var_y > a.cov_xy**2


def test_the_header_is_the_agreed_one_even_without_people(tmp_path):
    RecordWriter(tmp_path / "one.csv").close()
    RecordWriter(tmp_path / "many.csv", several_streams=True).close()
    assert (tmp_path / "one.csv").read_text() == HEADER + "\n"
    assert (tmp_path / "many.csv").read_text() == f"stream,{HEADER}\n"
    assert read_records(tmp_path / "one.csv") == []


def test_a_frame_has_one_row_per_track_and_keypoint_and_lost_tracks_are_told(tmp_path):
    confirmed = fakes.make_track(fakes.person(100), track_id=3)
    lost = fakes.make_track(fakes.person(300), track_id=7, status=TrackStatus.LOST)
    with RecordWriter(tmp_path / "people.csv") as writer:
        writer.write(fakes.tracked(confirmed, lost, index=12))
    rows = read_records(tmp_path / "people.csv")
    assert [r.keypoint for r in rows] == list(COCO17.keypoint_names) * 2
    assert {(r.track_id, r.state.value) for r in rows} == {(3, "confirmed"), (7, "lost")}
    assert {(r.frame, r.time_s) for r in rows} == {(12, 0.4)}


def test_a_rival_pose_widens_the_written_covariance():
    xy, rival = fakes.person(100), fakes.person(160)
    (alone, *_), (doubtful, *_) = (
        list(records(fakes.tracked(fakes.make_track(xy, std=1.0, rivals=rivals))))
        for rivals in ([], [(0.25, rival)])
    )
    assert (alone.hypotheses, doubtful.hypotheses) == (1, 2)
    # A quarter of the probability stands 60 px to the right.
    assert doubtful.var_x == pytest.approx(0.25 * 60**2, rel=0.05)
    assert doubtful.var_y == pytest.approx(alone.var_y, rel=1)
    assert doubtful.weight == pytest.approx(0.75)


def test_rows_are_on_disk_before_the_writer_is_closed(tmp_path):
    writer = RecordWriter(tmp_path / "people.csv")
    writer.write(fakes.tracked(fakes.make_track(fakes.person(100))))
    assert len(read_records(tmp_path / "people.csv")) == 17
    writer.close()


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "people.csv"
    with RecordWriter(path) as writer:
        writer.write(fakes.tracked(fakes.make_track(fakes.person(100))))
    text = path.read_text()
    path.write_text(text[:-9])
    assert len(read_records(path)) == 16


@pytest.mark.parametrize("name", ["missing/people.csv", "."])
def test_an_unwritable_table_is_told_before_the_first_frame(tmp_path, name):
    with pytest.raises(SinkError, match=r"cannot write .*: .*give another path"):
        RecordWriter(tmp_path / name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "people.csv"
    path.symlink_to("/dev/full")
    with pytest.raises(SinkError, match=r"people\.csv: No space left on device"):
        RecordWriter(path)


def test_a_disk_that_fills_up_keeps_the_rows_that_are_written(tmp_path, monkeypatch):
    path = tmp_path / "people.csv"
    writer = RecordWriter(path)
    tracked = fakes.tracked(fakes.make_track(fakes.person(100)))
    writer.write(tracked)

    def full(_: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_file", _Filling(writer._file, full))
    with pytest.raises(SinkError, match="No space left"):
        writer.write(tracked)
    writer.close()
    assert len(read_records(path)) == 17


class _Filling:
    def __init__(self, file, write):
        self.file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_the_standard_output_is_written_and_left_open(capsys):
    with RecordWriter("-") as writer:
        writer.write(fakes.tracked(fakes.make_track(fakes.person(100))))
    assert not sys.stdout.closed
    out = capsys.readouterr().out.splitlines()
    assert out[0] == HEADER
    assert len(out) == 18


def test_another_table_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SinkError, match="is no table of tracks"):
        read_records(tmp_path / "other.csv")
    with pytest.raises(SinkError, match="cannot read"):
        read_records(tmp_path / "none.csv")


@pytest.mark.parametrize("cells", ["0,x,1", "0,0.0", ",".join(["0"] * 20)])
def test_a_damaged_row_is_told_by_its_line(tmp_path, cells):
    path = tmp_path / "edited.csv"
    path.write_text(f"{HEADER}\n{cells}\n")
    with pytest.raises(SinkError, match=r"edited\.csv is damaged: line 2"):
        read_records(path)


def test_a_table_that_a_spreadsheet_has_saved_is_read(tmp_path):
    path = tmp_path / "people.csv"
    with RecordWriter(path) as writer:
        writer.write(fakes.tracked(fakes.make_track(fakes.person(100))))
    rows = read_records(path)
    path.write_text(path.read_text(), encoding="utf-8-sig", newline="\r\n")
    assert read_records(path) == rows
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SinkError, match="it is no text"):
        read_records(path)


def test_the_writer_is_a_sink(tmp_path):
    with RecordWriter(tmp_path / "people.csv") as writer:
        assert isinstance(writer, Sink)
