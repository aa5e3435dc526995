import time
from collections.abc import Sequence
from pathlib import Path

import fakes
import numpy as np
import pytest

from tracker.demo import Scene, TruePerson
from tracker.errors import SourceError
from tracker.geometry import box_iou
from tracker.live.run import run
from tracker.live.streams import StreamsTracker, open_streams, read_specs
from tracker.live.tally import Tally
from tracker.pipeline import PoseTracker
from tracker.sinks.base import Sink
from tracker.sources.base import LiveConfig
from tracker.types import Detection, Frame, PoseMixture, TrackedFrame, TrackStatus


def names(*sources: str) -> list[str]:
    return [spec.name for spec in read_specs(sources)]


def test_streams_get_names_without_secrets_that_are_fit_for_files():
    assert names("rtsp://me:pw@10.0.0.7:554/cam/1?token=x", "0", "a b.mp4", "demo") == [
        "10.0.0.7-554-cam-1",
        "camera-0",
        "a-b",
        "demo",
    ]


def test_names_are_unique_and_may_be_given():
    assert names("demo", "demo", "demo", "yard=demo") == ["demo", "demo-2", "demo-3", "yard"]
    with pytest.raises(SourceError, match="two streams are called yard"):
        read_specs(["yard=0", "yard=1"])


def test_a_list_names_streams_and_its_repr_keeps_the_password(tmp_path: Path):
    path = tmp_path / "cameras.txt"
    path.write_text("# ours\nfront = rtsp://a:hunter2@h/x?b=c\n\n  1\n")
    specs = read_specs([str(path)])
    assert [spec.name for spec in specs] == ["front", "camera-1"]
    assert specs[0].address == "rtsp://a:hunter2@h/x?b=c"
    assert "hunter2" not in repr(specs)
    path.write_text("# nothing\n")
    with pytest.raises(SourceError, match="names no streams"):
        read_specs([str(path)])
    with pytest.raises(SourceError, match="cannot read the list"):
        read_specs([str(tmp_path / "gone.txt")])


class CountingNet(fakes.FakePoseNet):
    """Remembers how many frames share a batch."""

    def __init__(self, *people: np.ndarray) -> None:
        super().__init__(*people)
        self.batches: list[int] = []

    def many(self, views):
        self.batches.append(len(views))
        return [self(frame, detections) for frame, detections in views]


def frame_of(stream: str, index: int) -> Frame:
    plain = fakes.frame(index)
    return Frame(plain.image, index, plain.time, stream)


def test_streams_share_batches_and_have_people_of_their_own():
    person = fakes.person(150)
    net = CountingNet(person)
    follow = StreamsTracker(PoseTracker(fakes.FakeDetector(person), net))
    for index in range(10):
        results = follow([frame_of(stream, index) for stream in "ab"])
    assert net.batches == [2] * 10
    assert [r.frame.stream for r in results] == ["a", "b"]
    assert [[t.id for t in r.tracks] for r in results] == [[1], [1]]
    (alone,) = follow([frame_of("b", 10)])
    assert [t.id for t in alone.tracks] == [1]
    assert net.batches == [2] * 10


def test_many_streams_give_what_each_alone_would():
    people = fakes.person(150), fakes.person(450)
    together = StreamsTracker(PoseTracker(fakes.FakeDetector(*people), CountingNet(*people)))
    alone = PoseTracker(fakes.FakeDetector(*people), fakes.FakePoseNet(*people))
    for index in range(12):
        both = together([frame_of(stream, index) for stream in "ab"])
        expected = alone(fakes.frame(index))
    for result in both:
        for mine, due in zip(result.tracks, expected.tracks, strict=True):
            np.testing.assert_array_equal(mine.state.mean, due.state.mean)


class ListSink(Sink):
    def __init__(self) -> None:
        self.got: list[TrackedFrame] = []

    def write(self, tracked: TrackedFrame) -> None:
        self.got.append(tracked)

    def close(self) -> None:
        """Nothing to close."""


def test_each_stream_has_its_outputs_and_a_dying_one_is_told_at_the_end(monkeypatch):
    sources = {
        "a": fakes.FakeSource(*(fakes.frame(i) for i in range(9))),
        "b": fakes.FakeSource(fakes.frame(0), SourceError("b is gone")),
    }
    monkeypatch.setattr("tracker.live.streams.open_source", lambda spec, **_: sources[spec])
    person = fakes.person(150)
    follow = StreamsTracker(PoseTracker(fakes.FakeDetector(person), CountingNet(person)))
    sinks = {"a": [ListSink()], "b": [ListSink()]}
    with open_streams(read_specs(["a=a", "b=b"]), LiveConfig()) as streams:
        tallies = {feed.stream: Tally(feed.health) for feed in streams.feeds}
        with pytest.raises(SourceError, match="b is gone"):
            list(run(streams, follow, sinks, tallies))
    assert [t.frame.index for t in sinks["a"][0].got] == list(range(9))
    assert [t.frame.stream for t in sinks["b"][0].got] == ["b"]
    assert all(source.closed for source in sources.values())


def test_people_who_walk_keep_their_numbers_through_a_gap():
    """Extrapolated limbs fly apart: said to be unseen, 40 of 42 kept them over 0.5 s, else 24."""
    scene = Scene(seed=0, n_people=3, n_frames=120, height=240, width=320)
    rng, now = np.random.default_rng(0), [0]

    def there() -> list[TruePerson]:
        return [p for p in scene.truth(now[0]) if p.seen > 0.3]

    def look(frame: Frame, boxes: Sequence[Detection]) -> list[PoseMixture]:
        overlap = box_iou(np.stack([b.box for b in boxes]), np.stack([p.box for p in there()]))
        nearest = [there()[n].keypoints for n in overlap.argmax(axis=1)]
        return [
            fakes.make_pose(box, xy + rng.normal(0, 2, xy.shape))
            for box, xy in zip(boxes, nearest, strict=True)
        ]

    known, kept = 0, 0
    for start in (15, 45):
        follow = PoseTracker(lambda _: [Detection(p.box, 0.9) for p in there()], look)
        seen = []
        for step in [*range(0, 30, 3), *range(45, 60, 3)]:
            now[0] = start + step
            tracked = follow(Frame(np.zeros((240, 320, 3), np.uint8), step, step / 30))
            seen.append({t.id for t in tracked.tracks if t.status is TrackStatus.CONFIRMED})
        known += len(seen[9])
        kept += len(seen[9] & set().union(*seen[10:]))
    assert kept >= 0.75 * known > 1


def test_after_a_long_gap_the_whole_picture_is_searched():
    person = fakes.person(150)
    detector = fakes.FakeDetector(person)
    follow = PoseTracker(detector, fakes.FakePoseNet(person), detect_every=100)
    for index in (0, 1, 2, 3, 30, 31):
        tracked = follow(fakes.frame(index))
    assert detector.calls == [0, 1, 2, 30]
    assert [t.id for t in tracked.tracks] == [1]


def test_a_tally_tells_ages_and_late_frames_of_live_streams():
    tally = Tally(max_latency=0.5)
    for index, age in enumerate([0.1, 0.2, 0.7]):
        frame = fakes.frame(index)
        live = Frame(frame.image, index, frame.time, captured=time.time() - age)
        tally.add(TrackedFrame(live, ()))
    assert tally.health.late == 1
    assert tally.age_percentiles()["p50"] == pytest.approx(0.2, abs=0.05)
    assert "1 late" in str(tally)
    assert "ms (p50/p95/p99)" in str(tally)
