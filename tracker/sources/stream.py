"""A video stream from a network: live, unless it is a recording behind a web address."""

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import av
from av.container import InputContainer

from tracker.errors import SourceError
from tracker.sources.decode import frames, reason
from tracker.sources.file import Recording
from tracker.sources.newest import Newest
from tracker.types import Frame

_TIMEOUT = (5.0, 3.0)
"""To connect, and for each read, s."""


def open_stream(url: str, timeout: tuple[float, float] = _TIMEOUT) -> Newest | Recording:
    """Connect to a stream.

    Raises:
        SourceError: nobody answers in time, or what comes is no video.
    """
    name = without_secrets(url)
    # Over UDP a lost packet smears the picture; cameras all speak TCP too.
    options = {"rtsp_transport": "tcp"} if url.lower().startswith("rtsp") else {}
    try:
        container = av.open(url, timeout=timeout, options=options)
    except (av.error.FFmpegError, OSError) as error:
        # Without its cause, which would show the address and the password in it.
        raise SourceError(
            f"cannot open {name}: {reason(error)}; "
            "check the address, the user name and password, and that the camera is on"
        ) from None
    if not container.streams.video:
        container.close()
        raise SourceError(f"{name} sends no pictures; check the address")
    if url.lower().startswith("http") and container.duration:
        return Recording(name, container)
    rate = container.streams.video[0].average_rate
    return Newest(name, _live(name, container), container.close, float(rate) if rate else None)


def without_secrets(url: str) -> str:
    """The address without user, password and query: `rtsp://host:554/path`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("://")[0] + "://…"
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def _live(name: str, container: InputContainer) -> Iterator[Frame]:
    count = 0
    try:
        for frame in frames(container, clock=time.monotonic):
            yield frame
            count += 1
    except av.error.FFmpegError as error:
        raise SourceError(
            f"{name} died after {count} frames: {reason(error)}; check the camera and start again"
        ) from None
    # A killed server looks like an end of the stream: a live one has none of its own.
    raise SourceError(f"{name} ended after {count} frames; check the camera and start again")
