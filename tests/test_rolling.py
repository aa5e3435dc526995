from pathlib import Path

import av
import fakes
import pytest

from tracker.errors import SinkError
from tracker.sinks.records import RecordWriter, read_records
from tracker.sinks.rolling import Roll, Rolling
from tracker.sinks.video import VideoWriter


@pytest.mark.parametrize(
    ("text", "roll"),
    [
        ("90s", Roll(seconds=90.0)),
        ("1.5h", Roll(seconds=5400.0)),
        ("1d", Roll(seconds=86_400.0)),
        ("500MB", Roll(size=5e8)),
        ("2 GB", Roll(size=2e9)),
    ],
)
def test_times_and_sizes_are_understood(text: str, roll: Roll):
    assert Roll.parse(text) == roll


@pytest.mark.parametrize("text", ["", "h", "0h", "1 week", "1.2.3h", "MB"])
def test_others_are_refused(text: str):
    with pytest.raises(SinkError, match="--roll takes a time or a size"):
        Roll.parse(text)


def write(rolling: Rolling, frames: range) -> None:
    for index in frames:
        rolling.write(fakes.tracked(fakes.make_track(fakes.person(150)), index=index))


def test_a_table_is_rolled_by_size_and_no_row_is_lost_or_doubled(tmp_path: Path):
    path = tmp_path / "people.csv"
    with Rolling(path, RecordWriter, Roll(size=5000.0)) as rolling:
        write(rolling, range(20))
    files = sorted(tmp_path.iterdir())
    assert len(files) > 3
    assert not path.exists()
    rows = sorted((row for file in files for row in read_records(file)), key=lambda r: r.frame)
    assert [row.frame for row in rows] == [k for k in range(20) for _ in range(17)]


def test_a_restart_replaces_nothing(tmp_path: Path):
    for _ in range(3):
        with Rolling(tmp_path / "people.csv", RecordWriter, Roll(seconds=1e9)) as rolling:
            write(rolling, range(2))
    assert [len(read_records(file)) for file in tmp_path.iterdir()] == [34] * 3


def test_videos_are_rolled_by_time_and_each_can_be_played(tmp_path: Path, monkeypatch):
    now = iter([0.0, 0.0, 5.0, 20.0, 20.0, 21.0, 22.0])
    monkeypatch.setattr("tracker.sinks.rolling.monotonic", lambda: next(now))
    with Rolling(tmp_path / "people.mp4", VideoWriter, Roll(seconds=10.0)) as rolling:
        write(rolling, range(4))
    counts = []
    for file in tmp_path.iterdir():
        with av.open(str(file)) as container:
            counts.append(sum(1 for _ in container.decode(video=0)))
    assert sorted(counts) == [2, 2]


def test_a_file_that_was_moved_away_is_not_missed(tmp_path: Path):
    with Rolling(tmp_path / "people.csv", RecordWriter, Roll(size=1e9)) as rolling:
        write(rolling, range(1))
        (first,) = tmp_path.iterdir()
        first.rename(tmp_path / "taken.txt")
        write(rolling, range(1, 2))
    assert len(list(tmp_path.iterdir())) == 2
