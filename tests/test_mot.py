import fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.cli import main
from tracker.errors import SinkError
from tracker.evaluation.files import read_mot
from tracker.sinks.mot import MotWriter
from tracker.types import TrackedFrame, TrackStatus


@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_written_is_read_back_to_its_digits(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    people = {
        i: fakes.make_track(fakes.person(rng.uniform(0, 2000)), track_id=i) for i in (1, 2, 9)
    }
    path = tmp_path_factory.mktemp("mot") / "tracks.txt"
    with MotWriter(path) as writer:
        for index in (0, 1, 4):
            writer.write(fakes.tracked(*people.values(), index=index))
    read = read_mot(path)
    assert sorted(read) == [0, 1, 2, 3, 4]
    assert len(read[2]) == len(read[3]) == 0
    for index in (0, 1, 4):
        assert read[index].ids.tolist() == [1, 2, 9]
        due = np.stack([t.box for t in people.values()])
        np.testing.assert_allclose(read[index].box, due, atol=0.0101)


def test_rows_are_as_the_challenge_wants_them_and_predictions_are_none(tmp_path):
    seen = fakes.make_track(fakes.person(100), track_id=3)
    lost = fakes.make_track(fakes.person(300), track_id=7, status=TrackStatus.LOST)
    with MotWriter(tmp_path / "tracks.txt") as writer:
        writer.write(fakes.tracked(seen, lost, index=11))
    (row,) = (tmp_path / "tracks.txt").read_text().splitlines()
    frame, number, left, top, width, height, confidence, *rest = row.split(",")
    assert (frame, number, rest) == ("12", "3", ["-1", "-1", "-1"])
    x0, y0, x1, y1 = seen.box
    due = [x0, y0, x1 - x0, y1 - y0]
    assert [float(v) for v in (left, top, width, height)] == pytest.approx(due, abs=0.006)
    assert float(confidence) == pytest.approx(seen.existence, abs=1e-4)


def test_rows_that_are_to_be_ignored_and_other_classes_are_no_people(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text(
        "1,1,10,20,30,40,1,1,0.9\n"
        "1,2,10,20,30,40,0,1,0.9\n"
        "1,3,10,20,30,40,1,8,0.9\n"
        "1,4,10,20,30,40,-1\n"
    )
    assert read_mot(path)[0].ids.tolist() == [1, 4]
    assert read_mot(path)[0].box[0].tolist() == [10, 20, 40, 60]


def test_a_path_that_cannot_be_written_is_told_before_the_first_frame(tmp_path):
    with pytest.raises(SinkError, match=r"cannot write .*missing"):
        MotWriter(tmp_path / "missing" / "tracks.txt")


def test_what_is_written_stays_written_when_the_disk_is_full(tmp_path, monkeypatch):
    writer = MotWriter(tmp_path / "tracks.txt")
    writer.write(fakes.tracked(fakes.make_track(fakes.person(100))))

    def full(text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_file", _Refusing(writer._file, full))
    with pytest.raises(SinkError, match="No space left"):
        writer.write(fakes.tracked(fakes.make_track(fakes.person(100)), index=1))
    assert len((tmp_path / "tracks.txt").read_text().splitlines()) == 1


class _Refusing:
    def __init__(self, file, write):
        self._file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_the_command_line_writes_boxes_beside_the_table(tmp_path, monkeypatch):
    from tracker.pipeline import PoseTracker

    person = fakes.person(150)

    def load(cls: type[PoseTracker], **_: object) -> PoseTracker:
        return cls(fakes.FakeDetector(person), fakes.FakePoseNet(person))

    monkeypatch.setattr(PoseTracker, "load", classmethod(load))
    source = fakes.FakeSource(*(fakes.frame(i) for i in range(6)))
    monkeypatch.setattr("tracker.live.streams.open_source", lambda spec, **_: source)
    table, boxes = tmp_path / "people.csv", tmp_path / "people.txt"
    assert (
        main(["track", "--source", "x", "--csv", str(table), "--mot", str(boxes), "--quiet"]) == 0
    )
    assert max(read_mot(boxes)) == 5
    same = ["track", "--source", "x", "--csv", str(boxes), "--mot", str(boxes), "--quiet"]
    assert main(same) == 1


def test_nobody_is_an_empty_file(tmp_path):
    with MotWriter(tmp_path / "tracks.txt") as writer:
        writer.write(TrackedFrame(fakes.frame(), ()))
    assert (tmp_path / "tracks.txt").read_text() == ""
    assert read_mot(tmp_path / "tracks.txt") == {}
