"""What each kind of sick server leads to."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.live.stage import Json
from benchmarks.rtsp_server import RtspServer
from tracker.errors import SourceError
from tracker.sources import open_source
from tracker.sources.feed import Feed
from tracker.sources.health import StreamState
from tracker.sources.stream import open_stream


def faults() -> Json:
    """What each sick server leads to."""
    parts = {
        "accepts and says nothing": _mute,
        "asks for a password": _password,
        "stalls within a frame for a while": partial(_interlude, "stalls"),
        "sends garbage for a while": partial(_interlude, "garbles"),
        "changes its size": _resized,
        "is slow": _dribble,
    }
    with ThreadPoolExecutor(len(parts)) as pool:
        return dict(zip(parts, pool.map(lambda part: part(), parts.values()), strict=True))


def _mute() -> Json:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        try:
            open_stream(f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/c", timeout=(1.0, 1.0))
        except SourceError as error:
            return {
                "told after s (connecting may take 1)": time.monotonic() - began,
                "text": str(error),
            }
    return {"text": "opened"}


def _password() -> Json:
    with RtspServer(password="admin:right") as server:
        try:
            open_source(server.url.replace("//", "//admin:hunter2@"))
        except SourceError as error:
            told = str(error)
        with open_source(server.url.replace("//", "//admin:right@")) as source:
            next(iter(source))
            return {"wrong": told, "told the password": "hunter2" in told, "right": "opened"}


def _interlude(fault: str) -> Json:
    with RtspServer(fps=25) as server:
        source = open_stream(server.url, timeout=(2.0, 1.0))
        assert isinstance(source, Feed)
        with source:
            frames = iter(source)
            next(frames)
            setattr(server, fault, True)
            began = time.monotonic()
            while source.health.state is not StreamState.RECONNECTING:
                time.sleep(0.01)
            noticed, trouble = time.monotonic() - began, source.health.trouble
            setattr(server, fault, False)
            began = time.monotonic()
            while source.health.reconnects == 0:
                next(frames)
            return {
                "left after s (reading may take 1)": noticed,
                "why": trouble,
                "new frames after s": time.monotonic() - began,
                "damaged": source.health.damaged,
            }


def _resized() -> Json:
    with RtspServer(fps=25) as server, open_source(server.url) as source:
        assert isinstance(source, Feed)
        frames, told = iter(source), {}
        for size in ((320, 240), (640, 480), (320, 180)):
            server.size = size
            frame = next(frames)
            while source.health.size != size:
                frame = next(frames)
            told[f"{size[0]} x {size[1]}"] = list(frame.image.shape[1::-1])
        return {"taken as": told, "reconnections": source.health.reconnects}


def _dribble() -> Json:
    with RtspServer(fps=25, size=(160, 120)) as server:
        server.rate = 3000.0
        with open_source(server.url) as source:
            assert isinstance(source, Feed)
            frames = iter(source)
            next(frames)
            began = time.monotonic()
            got = [next(frames) for _ in range(10)]
            return {
                "s a frame": (time.monotonic() - began) / len(got),
                "s a frame as told by it": (got[-1].time - got[0].time) / (len(got) - 1),
                "input_fps": source.health.fps,
                "state": source.health.now,
            }
