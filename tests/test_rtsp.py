"""A live stream as a camera sends it, through `open_source`, from a server of our own."""

import re
import statistics
import threading
import time
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.rtsp_server import Encoder, RtspServer, number_in, picture, rtp_payloads
from tracker.errors import SourceError, SourceRefused
from tracker.sources import open_source
from tracker.sources.base import LiveConfig
from tracker.sources.feed import Feed
from tracker.sources.health import StreamState
from tracker.sources.stream import open_stream
from tracker.types import Frame

SIZE = (320, 240)
ONCE = LiveConfig(reconnect=0)
"""A stream that breaks off is an error."""


def connect(server: RtspServer, config: LiveConfig = ONCE) -> Feed:
    source = open_source(server.url, config=config)
    assert isinstance(source, Feed)
    return source


def wait_for_frame(server: RtspServer, number: int) -> bool:
    return server.wait_until(lambda: server.sent >= number)


@given(st.integers(0, 2**16 - 1))
def test_a_picture_shows_its_number(number: int) -> None:
    assert number_in(picture(number, SIZE)) == number


@given(st.binary(min_size=1, max_size=5000))
def test_the_fragments_of_a_unit_make_it_up(nal: bytes) -> None:
    first, *rest = rtp_payloads(nal)
    if not rest:
        assert first == nal
        return
    parts = [first, *rest]
    header = bytes([first[0] & 0xE0 | first[1] & 0x1F])
    assert header + b"".join(part[2:] for part in parts) == nal
    assert [part[1] >> 6 for part in parts] == [2, *[0] * (len(parts) - 2), 1]
    assert max(map(len, parts)) <= 1402


def test_the_camera_sends_whole_units_and_fragments() -> None:
    lengths = [len(nal) for nal in Encoder(Fraction(25), SIZE)(0)]
    assert min(lengths) < 100 < 1400 < max(lengths)


@pytest.mark.parametrize("fps", [25, 30000 / 1001])
def test_frames_come_in_order_at_the_times_at_which_they_were_taken(fps: float) -> None:
    n, frames = 40, list[Frame]()
    with (
        RtspServer(n, fps, SIZE) as server,
        connect(server) as source,
        pytest.raises(SourceError, match=r"camera ended after \d+ pictures"),
    ):
        frames.extend(source)
    assert source.fps == pytest.approx(fps, rel=1e-3)
    numbers = [number_in(f.image) for f in frames]
    assert numbers == [f.index for f in frames]
    assert all(a < b for a, b in pairwise(numbers))
    assert numbers[-1] == n - 1
    assert len(frames) + source.dropped == n
    since_first = np.array(numbers) - numbers[0]
    np.testing.assert_allclose(
        [f.time - frames[0].time for f in frames], since_first / fps, atol=2e-3
    )
    for frame, number in zip(frames, numbers, strict=True):
        error = frame.image.astype(float) - picture(number, SIZE)
        assert np.abs(error).mean() < 4


def test_a_slow_reader_gets_the_newest_frames_and_the_others_are_counted() -> None:
    frames, behind = list[Frame](), list[int]()
    with RtspServer(size=SIZE) as server, connect(server) as source:
        stream = iter(source)
        frames.append(next(stream))
        for _ in range(7):
            assert wait_for_frame(server, server.sent + 5)
            sent = server.sent
            frames.append(next(stream))
            behind.append(sent - number_in(frames[-1].image))
        server.kill()
        with pytest.raises(SourceError) as caught:
            frames.extend(stream)
    indices = [f.index for f in frames]
    assert [number_in(f.image) for f in frames] == indices
    assert all(a < b for a, b in pairwise(indices))
    since_first = np.array(indices) - indices[0]
    np.testing.assert_allclose(
        [f.time - frames[0].time for f in frames], since_first / 25, atol=2e-3
    )
    # A queue would be behind by four frames more at each step, and by what came while connecting.
    assert statistics.median(behind) <= 2
    assert max(behind) <= 10
    assert source.dropped >= 7
    assert re.search(r"after \d+ pictures", str(caught.value))


def test_a_killed_server_is_one_clear_message_soon() -> None:
    with RtspServer(fps=50, size=SIZE) as server:
        with open_source(server.url.replace("//", "//admin:hunter2@"), config=ONCE) as source:
            stream = iter(source)
            next(stream)
            server.kill()
            start = time.monotonic()
            with pytest.raises(SourceError) as caught:
                list(stream)
            assert time.monotonic() - start < 6
        message = rf"{re.escape(server.url)} (ended|died) after \d+ pictures.*"
        assert re.fullmatch(message, str(caught.value))
        with pytest.raises(SourceError, match="connection refused"):
            open_source(server.url)


def test_closing_early_ends_the_thread_and_the_connection() -> None:
    with RtspServer(fps=50, size=SIZE) as server:
        with connect(server) as source:
            last = number_in(next(iter(source)).image)
            assert any(source.name in t.name for t in threading.enumerate())
        assert not any(source.name in t.name for t in threading.enumerate())
        assert server.wait_until(lambda: not server.clients)
        with connect(server) as source:
            stream = iter(source)
            first, second = next(stream), next(stream)
        numbers = number_in(first.image), number_in(second.image)
    assert last < numbers[0]
    assert second.time - first.time == pytest.approx((numbers[1] - numbers[0]) / 50, abs=2e-3)


def test_a_server_that_comes_back_goes_on_in_number_and_time_and_the_gap_is_true() -> None:
    server, frames = RtspServer(fps=50, size=SIZE), list[Frame]()
    with server, connect(server, LiveConfig()) as source:
        stream = iter(source)
        frames += [next(stream) for _ in range(5)]
        server.kill()
        killed = time.time()
        time.sleep(0.4)
        with RtspServer(fps=50, size=SIZE, port=server.server_address[1]) as again:
            while source.health.reconnects == 0:
                frames.append(next(stream))
            frames += [next(stream) for _ in range(5)]
            assert number_in(frames[-1].image) <= again.sent
            assert source.health.state is StreamState.LIVE
    back = next(f for f in frames if (f.captured or 0) > killed + 0.2)
    assert back.captured is not None
    assert back.captured - killed < 3
    assert all(a.index < b.index and a.time < b.time for a, b in pairwise(frames))
    first = frames[0]
    assert first.captured is not None
    assert back.time - first.time == pytest.approx(back.captured - first.captured, abs=0.1)


def test_a_stream_is_given_up_after_so_many_failures() -> None:
    with RtspServer(fps=50, size=SIZE) as server:
        source = connect(server, LiveConfig(reconnect=2))
        with source:
            next(iter(source))
            server.kill()
            with pytest.raises(SourceError, match="connection refused"):
                list(source)


def test_a_wrong_password_is_told_at_once_and_not_tried_again() -> None:
    with RtspServer(size=SIZE, password="admin:right") as server:
        with pytest.raises(SourceRefused, match="refuses this user name and password") as caught:
            open_source(server.url.replace("//", "//admin:hunter2@"))
        assert "hunter2" not in str(caught.value)
        url = server.url.replace("//", "//admin:right@")
        with open_source(url) as source:
            assert next(iter(source)).image.shape == (240, 320, 3)
        assert "right" not in source.name
        later = LiveConfig(wait=False)
        with (
            open_source(server.url, config=later) as source,
            pytest.raises(SourceRefused, match="not asked again"),
        ):
            list(source)


def test_pictures_of_another_size_are_scaled_to_the_first() -> None:
    with RtspServer(fps=50, size=SIZE) as server, connect(server) as source:
        stream = iter(source)
        next(stream)
        server.size = (640, 480)
        while source.health.size != (640, 480):
            next(stream)
        frame = next(stream)
        assert frame.image.shape == (240, 320, 3)
        assert number_in(frame.image) == frame.index
        server.size = (320, 180)  # another shape: the view itself has changed
        end = time.monotonic() + 10
        while frame.image.shape != (180, 320, 3):
            assert time.monotonic() < end
            frame = next(stream)


@pytest.mark.parametrize("fault", ["stalls", "garbles"])
def test_a_server_that_stalls_within_a_frame_or_sends_noise_is_left_and_found_again(
    fault: str,
) -> None:
    with RtspServer(fps=50, size=SIZE) as server:
        source = open_stream(server.url, timeout=(2.0, 0.4))
        assert isinstance(source, Feed)
        with source:
            stream = iter(source)
            before = next(stream)
            setattr(server, fault, True)
            end = time.monotonic() + 10
            while source.health.state is not StreamState.RECONNECTING:
                assert time.monotonic() < end, source.health
                time.sleep(0.01)
            setattr(server, fault, False)
            while source.health.reconnects == 0:
                after = next(stream)
            assert after.index > before.index
            assert after.time - before.time > 0.4


def test_a_dribbling_server_gives_few_frames_with_true_times() -> None:
    with RtspServer(fps=25, size=(64, 48)) as server:
        server.rate = 1500.0
        with connect(server) as source:
            frames = [frame for frame, _ in zip(source, range(3), strict=False)]
    numbers = [number_in(frame.image) for frame in frames]
    np.testing.assert_allclose(
        np.diff([frame.time for frame in frames]), np.diff(numbers) / 25, atol=2e-3
    )
