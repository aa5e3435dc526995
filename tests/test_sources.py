import logging
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.demo import Scene
from tracker.errors import SourceError
from tracker.sources import Source, open_source
from tracker.sources.base import DEFAULT, LiveConfig
from tracker.sources.camera import open_camera
from tracker.sources.decode import timed
from tracker.sources.feed import Feed, Gathering, feed
from tracker.sources.file import Recording
from tracker.sources.folder import Folder, natural
from tracker.sources.health import Health, StreamState
from tracker.sources.live import Capture
from tracker.sources.secrets import without_secrets
from tracker.sources.stream import open_stream
from tracker.sources.synthetic import SceneSource
from tracker.types import Frame


def picture(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    image = np.full((height, width, 3), value, dtype=np.uint8)
    image[: height // 2, :, 0] = 255  # red above
    return image


def write_video(path: Path, ticks: list[int], base: int = 1000) -> None:
    """One picture at each tick of 1/base s; picture i is grey, red above."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, base)
        for i, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(picture(10 * i % 250), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def capture(index: int, age: float = 0.0) -> Capture:
    return Capture(partial(picture, index), index, 0.04 * index, time.monotonic() - age)


def ticker(n: int, pause: float) -> Generator[Capture]:
    for index in range(n):
        yield capture(index)
        time.sleep(pause)


def feed_of(
    captures: Generator[Capture], config: LiveConfig = DEFAULT, name: str = "camera"
) -> Feed:
    return Feed(name, lambda: captures, lambda: None, health=Health(), config=config)


def test_a_file_keeps_its_own_uneven_times(tmp_path: Path) -> None:
    ticks = [500, 540, 610, 611, 900, 1400, 1433]
    write_video(tmp_path / "uneven.mp4", ticks)
    with open_source(str(tmp_path / "uneven.mp4")) as source:
        got = list(source)
    assert isinstance(source, Source)
    assert not source.live
    assert source.frame_count == len(ticks)
    assert [f.index for f in got] == list(range(len(ticks)))
    np.testing.assert_allclose(
        [f.time for f in got], (np.array(ticks) - ticks[0]) / 1000, atol=1e-4
    )


def test_slow_motion_has_the_times_of_the_world(tmp_path: Path) -> None:
    write_video(tmp_path / "slow.mp4", [0, 40, 80, 120])
    with open_source(str(tmp_path / "slow.mp4"), fps=240.0) as source:
        got = [frame.time for frame in source]
    np.testing.assert_allclose(got, np.arange(4) / 240)
    assert source.fps == 25  # so it is played


def test_a_folder_is_spaced_by_the_rate_that_is_told(tmp_path: Path) -> None:
    for n, kind in enumerate(("png", "tif", "tiff")):
        cv2.imwrite(str(tmp_path / f"{n}.{kind}"), picture(n))
    with open_source(str(tmp_path), fps=10.0) as source:
        np.testing.assert_allclose([frame.time for frame in source], [0, 0.1, 0.2])
    assert source.fps == 10


@pytest.mark.parametrize("spec", ["0", "demo", "rtsp://me:hunter2@127.0.0.1:9/x"])
def test_what_tells_its_own_times_takes_no_rate(spec: str) -> None:
    with pytest.raises(SourceError, match=r"has times of its own: fps is for") as told:
        open_source(spec, fps=30.0)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("fps", [0.0, -25.0, float("nan")])
def test_a_rate_that_is_none_is_the_callers_mistake(tmp_path: Path, fps: float) -> None:
    with pytest.raises(ValueError, match="fps must be more than 0"):
        open_source(str(tmp_path), fps=fps)


def test_a_file_comes_out_as_rgb(tmp_path: Path) -> None:
    write_video(tmp_path / "red.mp4", [0, 40])
    with open_source(str(tmp_path / "red.mp4")) as source:
        first = next(iter(source)).image
    assert first.shape == (48, 64, 3)
    assert first[5, 32, 0] > 200 > 60 > first[5, 32, 2]
    assert first[40].max() < 40


def test_a_file_filmed_upright_comes_out_upright(tmp_path: Path) -> None:
    """A phone held upright notes in the track's matrix: turn me clockwise by 90 degrees."""
    path = tmp_path / "phone.mp4"
    write_video(path, [0, 40])
    one, minus, last = b"\0\1\0\0", b"\xff\xff\0\0", b"\x40\0\0\0"
    still = one + bytes(12) + one + bytes(12) + last
    clockwise = bytes(4) + one + bytes(4) + minus + bytes(16) + last
    data = path.read_bytes()
    at = data.index(still, data.index(b"tkhd"))
    path.write_bytes(data[:at] + clockwise + data[at + len(still) :])
    with open_source(str(path)) as source:
        image = next(iter(source)).image
    assert image.shape == (64, 48, 3)
    assert image[32, 40, 0] > 200 > 60 > image[32, 8, 0]


def test_a_text_file_named_mp4_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("dear diary\n" * 40)
    with pytest.raises(SourceError, match=r"notes\.mp4 is not a video that can be decoded"):
        open_source(str(path))


def test_a_file_of_sound_only_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(SourceError, match="no pictures"):
        open_source(str(path))


def test_a_truncated_file_gives_what_it_has_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, path = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    write_video(whole, list(range(0, 4000, 40)))
    data = whole.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with caplog.at_level(logging.WARNING), open_source(str(path)) as source:
        count = sum(1 for _ in source)
    assert 10 < count < 100


def test_fewer_frames_than_announced_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_video(tmp_path / "clip.mp4", [0, 40, 80])
    with open_source(str(tmp_path / "clip.mp4")) as source:
        assert isinstance(source, Recording)
        source.frame_count = 7
        with caplog.at_level(logging.WARNING):
            assert len(list(source)) == 3
    assert "clip.mp4 breaks off after 3 of 7 frames" in caplog.text


def test_a_missing_path_says_what_a_source_can_be(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such file or folder: .*gone\.mp4.*camera index"):
        open_source(str(tmp_path / "gone.mp4"))


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(SourceError, match="gopher://"):
        open_source("gopher://example")


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_is_the_order_of_the_numbers(numbers: list[int]) -> None:
    names = sorted((f"img_{n}.png" for n in numbers), key=natural)
    assert names == [f"img_{n}.png" for n in sorted(numbers)]


@given(st.lists(st.text(max_size=6), max_size=8), st.randoms(use_true_random=False))
def test_natural_order_of_any_names_does_not_depend_on_where_they_began(
    names: list[str], random: random.Random
) -> None:
    shuffled = random.sample(names, len(names))
    assert [natural(n) for n in sorted(shuffled, key=natural)] == [
        natural(n) for n in sorted(names, key=natural)
    ]


def test_a_folder_gives_its_images_in_natural_order(tmp_path: Path) -> None:
    for n in (10, 9, 1):
        cv2.imwrite(str(tmp_path / f"{n}.png"), picture(n)[..., ::-1])
    (tmp_path / "notes.txt").write_text("no image")
    with open_source(str(tmp_path)) as source:
        got = list(source)
    assert source.frame_count == 3
    assert [int(f.image[-1, 0, 2]) for f in got] == [1, 9, 10]
    assert got[0].image[0, 0, 0] == 255
    np.testing.assert_allclose([f.time for f in got], [0, 0.04, 0.08])


def test_a_folder_without_images_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no images in .*\.jpg"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.jpg").write_bytes(content)
    with pytest.raises(SourceError, match=r"broken\.jpg"):
        list(Folder(tmp_path))


class FakeCapture:
    """A camera that gives pictures of growing brightness, then nothing more."""

    def __init__(self, n: int, *, opened: bool = True) -> None:
        self.n, self.opened, self.count, self.released = n, opened, -1, False

    def isOpened(self) -> bool:  # noqa: N802
        return self.opened

    def grab(self) -> bool:
        time.sleep(0.002)
        self.count += 1
        return self.count < self.n

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, picture(self.count)[..., ::-1].copy()

    def get(self, prop: int) -> float:
        del prop
        return 30.0

    def release(self) -> None:
        self.released = True


def test_a_camera_gives_rgb_at_increasing_times_until_it_dies() -> None:
    device = FakeCapture(20)
    got: list[Frame] = []
    with open_camera(3, lambda _: device, config=LiveConfig(reconnect=0)) as source:
        with pytest.raises(SourceError, match="camera 3 stopped after 20"):
            got.extend(source)
        assert source.live
        assert source.fps == 30.0
    assert device.released
    assert got
    assert all(a.time < b.time for a, b in pairwise(got))
    assert all(f.image[0, 0, 0] == 255 and f.image[-1, 0, 2] == f.index for f in got)


def test_a_camera_whose_cable_was_out_comes_back_with_its_numbers_and_times_going_on() -> None:
    devices = [FakeCapture(5), FakeCapture(0, opened=False), FakeCapture(5)]
    opened = iter(devices)
    with open_camera(0, lambda _: next(opened), config=LiveConfig("all", reconnect=2)) as source:
        stream = iter(source)
        got = [next(stream) for _ in range(9)]
        source.stop()
    assert [f.index for f in got] == list(range(9))
    assert got[5].time - got[4].time > 0.2
    assert source.health.reconnects == 1
    assert all(d.released for d in devices)


def test_a_picture_that_shows_the_one_before_again_is_no_new_one() -> None:
    device, shown = FakeCapture(12), list[int]()
    device.retrieve = lambda: (True, picture(device.count // 3)[..., ::-1].copy())  # type: ignore[method-assign]
    with (
        open_camera(0, lambda _: device, config=LiveConfig("all", reconnect=0)) as source,
        pytest.raises(SourceError),
    ):
        shown.extend(int(frame.image[-1, 0, 0]) for frame in source)
    assert shown == [0, 1, 2, 3]
    assert (source.health.received, source.health.duplicates) == (4, 8)


def test_a_missing_camera_is_one_clear_message(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match=r"no camera at index 97.*try another index or a file"):
        open_source("97")
    assert capfd.readouterr().err == ""


def burst(n: int, go: threading.Event) -> Generator[Capture]:
    yield capture(0)
    go.wait(5)
    yield from map(capture, range(1, n))


def test_a_slow_reader_gets_the_newest_frame_and_the_gaps_are_counted() -> None:
    go = threading.Event()
    with feed_of(burst(6, go)) as source:
        stream = iter(source)
        assert next(stream).index == 0
        go.set()
        wait_until(lambda: source.health.state is StreamState.ENDED)
        assert next(stream).index == 5
        assert source.dropped == 4
        assert list(stream) == []


def test_where_all_frames_are_wanted_the_source_waits() -> None:
    go = threading.Event()
    go.set()
    with feed_of(burst(30, go), LiveConfig("all")) as source:
        time.sleep(0.1)
        assert [f.index for f in source] == list(range(30))
    assert source.dropped == 0


def test_a_fast_reader_gets_every_frame() -> None:
    with feed_of(ticker(4, pause=0.05)) as source:
        assert [f.index for f in source] == [0, 1, 2, 3]
    assert source.dropped == 0


def test_frames_beyond_the_latency_budget_are_passed_over() -> None:
    def ageing() -> Generator[Capture]:
        for index, age in enumerate([0.0, 5.0, 0.0, 5.0, 0.0]):
            yield capture(index, age)
            time.sleep(0.05)

    with feed_of(ageing(), LiveConfig(max_latency=1.0)) as source:
        assert [f.index for f in source] == [0, 2, 4]
    assert source.dropped == 2


def test_an_error_of_the_reader_reaches_whoever_reads() -> None:
    def dying() -> Generator[Capture]:
        yield capture(0)
        raise SourceError("the cable is out")

    with feed_of(dying()) as source, pytest.raises(SourceError, match="cable"):
        list(source)
    assert source.health.state is StreamState.FAILED


def test_closing_ends_the_thread_and_the_iteration() -> None:
    closed = threading.Event()

    def endless() -> Generator[Capture]:
        try:
            yield from ticker(10**6, 0.002)
        finally:
            closed.set()

    source = feed_of(endless(), name="endless")
    for _ in source:
        source.close()
    assert closed.is_set()
    assert not any(t.name == "source endless" for t in threading.enumerate())


def test_feeds_together_give_what_is_there_and_a_dead_or_silent_one_stops_nobody() -> None:
    def dying() -> Generator[Capture]:
        yield capture(0)
        raise SourceError("gone")

    def silent() -> Generator[Capture]:
        yield capture(0)
        time.sleep(0.3)

    feeds = [
        feed_of(captures, LiveConfig("all"), name)
        for name, captures in [("a", ticker(40, 0.002)), ("b", dying()), ("c", silent())]
    ]
    for each in feeds:
        each.stream = each.name
    with Gathering(feeds) as together:
        got = [frame for round_ in together for frame in round_]
    assert [f.index for f in got if f.stream == "a"] == list(range(40))
    assert [f.stream for f in got].count("b") == 1
    assert {name: str(error) for name, error in together.failed.items()} == {"b": "gone"}


def test_a_round_holds_what_can_be_done_in_time_and_nobody_is_left_out() -> None:
    work, latency = 0.02, 0.2
    feeds = [feed_of(ticker(250, 0.015), LiveConfig(max_latency=latency)) for _ in range(8)]
    for k, each in enumerate(feeds):
        each.stream = str(k)
    taken, sizes = Counter[str](), list[int]()
    with Gathering(feeds) as together:
        for frames in islice(together, 20):
            time.sleep(work * len(frames))
            sizes.append(len(frames))
            taken.update(frame.stream for frame in frames)
    assert sizes[0] == 1  # nobody knows yet how long it takes
    assert max(sizes) <= latency / 2 / work
    assert set(taken) == {each.stream for each in feeds}
    assert min(taken.values()) > max(taken.values()) / 2
    assert all(each.dropped > 0 for each in feeds)


def test_a_recording_that_is_played_keeps_its_pace_and_drops_for_a_slow_reader(
    tmp_path: Path,
) -> None:
    write_video(tmp_path / "clip.mp4", list(range(0, 800, 40)))
    began = time.monotonic()
    with feed(open_source(str(tmp_path / "clip.mp4")), LiveConfig("latest")) as source:
        got = []
        for frame in source:
            got.append(frame)
            time.sleep(0.1)
    assert time.monotonic() - began > 0.7
    assert source.dropped + len(got) == 20
    assert source.dropped > 5
    assert got[0].captured == pytest.approx(time.time(), abs=5)


def wait_until(condition: Callable[[], bool], patience: float = 5.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.005)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""


def test_a_recording_on_a_web_server_is_read_to_its_end(tmp_path: Path) -> None:
    ticks = [0, 40, 100, 140]
    write_video(tmp_path / "clip.mp4", ticks)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with open_source(f"http://127.0.0.1:{server.server_port}/clip.mp4") as source:
            times = [f.time for f in source]
        with pytest.raises(SourceError, match="404"):
            open_source(f"http://127.0.0.1:{server.server_port}/gone.mp4")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    np.testing.assert_allclose(times, np.array(ticks) / 1000, atol=1e-4)


def test_an_unreachable_stream_is_told_soon_and_keeps_the_password() -> None:
    start = time.monotonic()
    with pytest.raises(SourceError, match=r"cannot open rtsp://127\.0\.0\.1:9/cam: ") as caught:
        open_source("rtsp://admin:hunter2@127.0.0.1:9/cam")
    assert time.monotonic() - start < 10
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_server_that_never_answers_is_told_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        start = time.monotonic()
        with pytest.raises(SourceError, match=r"cannot open rtsp://.*: no answer in time"):
            open_stream(f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/cam", timeout=(0.5, 0.5))
        assert time.monotonic() - start < 5


@given(
    st.text("abcdefgh:", max_size=8),
    st.sampled_from(["", "?token=SECRET", "/user=admin&password=SECRET&channel=1"]),
)
def test_names_of_streams_hold_no_secret(user: str, end: str) -> None:
    name = without_secrets(f"rtsp://{user}:SECRET@host:554/live{end}")
    assert "SECRET" not in name
    assert name.startswith("rtsp://host:554/live")


def test_a_mistyped_address_is_told_without_its_password() -> None:
    with pytest.raises(SourceError, match="no such file") as caught:
        open_source("rtsp:/admin:hunter2@10.0.0.7/cam")
    assert "hunter2" not in str(caught.value)


def test_a_recording_whose_pictures_have_no_times_is_spaced_by_its_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", [0, 40, 80, 120, 160])

    def forgetful(pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for i, picture in enumerate(pictures):
            if i in (0, 3):
                picture.pts = None
            yield picture

    with av.open(str(tmp_path / "clip.mp4")) as container:
        times = [f.time for f in timed(forgetful(container.decode(video=0)), 0.04)]
    np.testing.assert_allclose(times, [0.0, 0.04, 0.08, 0.12, 0.16], atol=1e-4)


def test_a_demo_that_is_played_never_ends_and_nobody_jumps() -> None:
    scene = Scene(seed=3, n_people=1, n_frames=4, height=60, width=80)
    source = SceneSource(scene, endless=True)
    frames = list(islice(source, 9))
    shown = [next(k for k in range(4) if (f.image == scene.render(k)).all()) for f in frames]
    assert shown == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert [f.index for f in frames] == list(range(9))


def test_the_demo_is_a_source() -> None:
    with open_source("demo", seed=3) as source:
        frame = next(iter(source))
    assert frame.image.shape == (480, 640, 3)
    assert (source.name, source.live, source.fps, source.frame_count) == ("demo", False, 30.0, 240)


def test_importing_the_sources_loads_no_video_library() -> None:
    code = "import sys, tracker.sources; print({'cv2', 'av', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_what_is_no_picture_is_refused_at_once() -> None:
    """In a process of its own, without the checks of types and shapes that tests run under."""
    cases = [("uint8", (48, 64)), ("uint8", (48, 64, 4)), ("uint16", (48, 64, 3))]
    cases += [("float64", (48, 64, 3)), ("uint8", (0, 64, 3))]
    script = f"""
import numpy as np
from tracker import Frame, SourceError
for dtype, shape in {cases}:
    try:
        Frame(np.zeros(shape, dtype), 7, 0.0)
    except SourceError as error:
        print(error)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    for (dtype, shape), line in zip(cases, told.stdout.splitlines(), strict=True):
        assert f"frame 7 is an array of {dtype}, shape {shape}; due is" in line
