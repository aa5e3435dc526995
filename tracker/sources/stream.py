"""A video stream from a network: live, unless it is a recording behind a web address."""

import time
import zlib
from collections.abc import Iterator
from functools import partial
from math import inf
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from jaxtyping import UInt8

from tracker.errors import SourceError, SourceRefused
from tracker.sources.base import DEFAULT, LiveConfig
from tracker.sources.clock import CaptureClock
from tracker.sources.decode import log, reason, upright
from tracker.sources.feed import Feed, live_feed
from tracker.sources.file import Recording
from tracker.sources.health import Health
from tracker.sources.live import Shot
from tracker.sources.secrets import without_secrets

_TIMEOUT = (5.0, 3.0)
"""To connect, and for each read, s."""
_BEHIND = 1.0
"""Pictures that have been too late for so long (s) will not catch up by being decoded faster."""
_TIMELESS = {"mpjpeg", "mjpeg", "h264", "hevc", "m4v"}
"""Formats without times of their own: FFmpeg would make some up from a nominal rate."""
_SAME_SHAPE = 0.02
"""Two sizes whose ratios of width to height differ by less show the same view."""

# FFmpeg's look at rate and content would hold back the first second, and neither is needed. Over
# UDP a lost packet smears the picture; cameras all speak TCP too.
_RTSP = {"rtsp_transport": "tcp", "fpsprobesize": "0", "probesize": "32"}

Size = tuple[int, int]
"""Width and height, px."""


def open_stream(
    url: str,
    timeout: tuple[float, float] = _TIMEOUT,
    *,
    config: LiveConfig = DEFAULT,
) -> Feed | Recording:
    """Connect to a stream.

    Args:
        url: its address.
        timeout: to connect, and for each read, s.
        config: how to read it.

    Raises:
        SourceError: nobody answers in time, or what comes is no video.
    """
    name, health = without_secrets(url), Health()
    connect = partial(_Connected, url, timeout, config, health, _View(name))
    first, web = None, url.lower().startswith("http")
    if config.wait or web:
        try:
            first = connect()
        except SourceError:
            if config.wait:
                raise
    if web and first is not None and first.container.duration:
        return Recording(name, first.container)
    return live_feed(name, connect, health, config, first)


class _View:
    """The size of a stream's first picture: later ones of the same shape are scaled to it.

    So coordinates in a table keep their meaning, and people their numbers, when a camera changes
    its resolution.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._came: Size | None = None
        self._shown: Size = 1, 1

    def size(self, came: Size) -> Size:
        """What to scale a picture of that size to."""
        if came != self._came:
            if self._came is None or not _same_shape(came, self._shown):
                self._shown = came
            if self._came is not None:
                sizes = *came, *self._shown
                log.warning("%s now sends %d × %d pixels, taken as %d × %d", self._name, *sizes)
            self._came = came
        return self._shown


class _Connected:
    """An open connection to a stream."""

    def __init__(
        self,
        url: str,
        timeout: tuple[float, float],
        config: LiveConfig,
        health: Health,
        view: _View,
    ) -> None:
        self.name = without_secrets(url)
        self._patience = 2 * timeout[1]
        self._max_latency = config.max_latency
        self._health = health
        self._view = view
        self.container = _open(url, self.name, timeout)
        if not self.container.streams.video:
            self.close()
            raise SourceError(f"{self.name} sends no pictures; check the address")
        stream = self.container.streams.video[0]
        stream.thread_type = "SLICE"  # threads by frame are faster, but each holds back a frame
        health.codec = stream.codec_context.name
        self.fps = float(stream.average_rate) if stream.average_rate else None

    def __iter__(self) -> Iterator[Shot]:
        count = 0
        try:
            for shot in self._shots():
                count += 1
                yield shot
        except (av.error.FFmpegError, OSError) as error:
            # Without its cause, which would show the address and the password in it.
            raise SourceError(f"{self.name} died after {count} pictures: {reason(error)}") from None
        # A killed server looks like an end of the stream: a live one has none of its own.
        raise SourceError(f"{self.name} ended after {count} pictures")

    def close(self) -> None:
        self.container.close()

    def _shots(self) -> Iterator[Shot]:
        clock, timeless = CaptureClock(), self.container.format.name in _TIMELESS
        video = self.container.streams.video[0]
        skipping = _Skipping(self._max_latency)
        last = time.monotonic()
        for packet in self.container.demux():  # of all streams: silence among pictures must show
            now = time.monotonic()
            if now - last > self._patience:
                raise SourceError(f"{self.name} sends data, but no picture that can be decoded")
            if packet.stream is not video or packet.size == 0:
                continue
            shown = None if timeless or packet.pts is None else float(packet.pts * packet.time_base)
            captured = clock.see(shown, now)
            if skipping.skip(now, now - captured, key_frame=packet.is_keyframe):
                self._pass_over()
                continue
            for picture in self._decode(packet):
                last = now
                shown = None if timeless else picture.time
                if shown is None and not timeless:  # the first of an RTSP stream
                    self._pass_over()
                    continue
                at = captured if shown is None else clock.at(shown)
                yield Shot(self._picture(picture), shown, at, _fingerprint(picture))

    def _pass_over(self) -> None:
        self._health.received += 1
        self._health.dropped += 1

    def _decode(self, packet: "av.Packet[Any]") -> list[av.VideoFrame]:
        try:
            pictures = packet.decode()
        except av.error.InvalidDataError:
            self._health.damaged += 1
            return []
        whole = [picture for picture in pictures if not picture.is_corrupt]
        self._health.damaged += len(pictures) - len(whole)
        return whole

    def _picture(self, picture: av.VideoFrame) -> "partial[UInt8[np.ndarray, 'height width 3']]":
        self._health.size = picture.width, picture.height
        return partial(upright, picture, self._view.size(self._health.size))


class _Skipping:
    """Whether to leave packets out, undecoded, to the next key frame in time.

    So a machine that cannot even decode a stream still sees some of it, in time.
    """

    def __init__(self, max_latency: float) -> None:
        self._max_latency = max_latency
        self._in_time = -inf
        self._skips = False

    def skip(self, now: float, age: float, *, key_frame: bool) -> bool:
        """Whether to leave out a packet of that age, s."""
        if age <= self._max_latency:
            self._in_time = now
            self._skips = self._skips and not key_frame
        elif self._in_time == -inf:
            self._in_time = now
        elif now - self._in_time > _BEHIND:
            self._skips = True
        return self._skips


def _open(url: str, name: str, timeout: tuple[float, float]) -> InputContainer:
    options = _RTSP if url.lower().startswith("rtsp") else {}
    asked = time.monotonic()
    try:
        return av.open(url, timeout=timeout, options=options)
    except (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError):
        raise SourceRefused(
            f"cannot open {name}: it refuses this user name and password; "
            "not asked again, for many cameras lock an account after some failures"
        ) from None
    except (av.error.FFmpegError, OSError) as error:
        # FFmpeg calls what a silent server sent invalid data.
        silent = time.monotonic() - asked >= timeout[0]
        # Without its cause, which would show the address and the password in it.
        raise SourceError(
            f"cannot open {name}: {'no answer in time' if silent else reason(error)}; "
            "check the address, the user name and password, and that the camera is on"
        ) from None


def _fingerprint(picture: av.VideoFrame) -> int:
    """Of its brightness; the colours of another picture differ there too."""
    return zlib.crc32(picture.planes[0])


def _same_shape(a: Size, b: Size) -> bool:
    return abs(a[0] * b[1] / (a[1] * b[0]) - 1) < _SAME_SHAPE
