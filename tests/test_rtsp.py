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
from rtsp_server import Encoder, RtspServer, number_in, picture, rtp_payloads

from tracker.errors import SourceError
from tracker.sources import open_source
from tracker.sources.newest import Newest
from tracker.types import Frame

SIZE = (320, 240)


def connect(server: RtspServer) -> Newest:
    source = open_source(server.url)
    assert isinstance(source, Newest)
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
        pytest.raises(SourceError, match=f"camera ended after {n} frames"),
    ):
        frames.extend(source)
    assert source.fps == pytest.approx(fps, rel=1e-3)
    numbers = [number_in(f.image) for f in frames]
    assert numbers == [f.index for f in frames]
    assert all(a < b for a, b in pairwise(numbers))
    assert numbers[-1] == n - 1
    assert len(frames) + source.dropped == n
    np.testing.assert_allclose([f.time for f in frames], np.array(numbers) / fps, atol=2e-3)
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
    np.testing.assert_allclose([f.time for f in frames], np.array(indices) / 25, atol=2e-3)
    # A queue would be behind by four frames more at each step, and by what came while connecting.
    assert statistics.median(behind) <= 2
    assert max(behind) <= 10
    assert source.dropped >= 7
    assert f"after {len(frames) + source.dropped} frames" in str(caught.value)


def test_a_killed_server_is_one_clear_message_soon() -> None:
    with RtspServer(fps=50, size=SIZE) as server:
        with open_source(server.url.replace("//", "//admin:hunter2@")) as source:
            stream = iter(source)
            next(stream)
            server.kill()
            start = time.monotonic()
            with pytest.raises(SourceError) as caught:
                list(stream)
            assert time.monotonic() - start < 6
        message = rf"{re.escape(server.url)} (ended|died) after \d+ frames.*; check the camera.*"
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
