"""`surepose serve`."""

import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Annotated

from tracker.commands.common import (
    AMOUNT,
    FlaggedSources,
    NetworkFlags,
    Networks,
    OptionalInt,
    OptionalPath,
    Sources,
    check,
    check_outputs,
    tell_engines,
)
from tracker.errors import SourceError, TrackerError

logger = logging.getLogger(__name__)


def serve(
    sources: Sources = (),
    *,
    source: FlaggedSources = (),
    host: str = "127.0.0.1",
    port: int = 8080,
    token_file: OptionalPath = None,
    csv: OptionalPath = None,
    save: OptionalPath = None,
    networks: NetworkFlags = Networks(),  # noqa: B008 - frozen
    seed: int = 0,
    max_latency: float = 0.5,
    reconnect: OptionalInt = None,
    roll: Annotated[str, AMOUNT] = "1d",
    log: OptionalPath = None,
    quiet: bool = False,
) -> int:
    """Follow the people in one or more streams and show them on a web page, until stopped.

    Streams that cannot be reached are shown as such and tried again; files are played at their own
    pace. Ctrl-C or SIGTERM ends the run and closes its outputs properly. For programs there are
    /api/streams, a WebSocket /api/tracks, /metrics (Prometheus) and /healthz: docs/live.md.

    Args:
        sources: A camera's index, a video, a folder of pictures, an rtsp:// or http:// address, or
            "demo", a rendered scene. Several are followed together, also from a text file (.txt)
            with one on each line; NAME=ADDRESS gives a name. By default demo.
        source: The same as an option, once for each.
        host: Address to serve on. All but this machine's own need a token.
        port: TCP port; 0 takes a free one.
        token_file: File that holds a token, which whoever looks must know; or put it into the
            environment variable SUREPOSE_TOKEN.
        csv: Write a table for each stream, one row per frame, person and keypoint.
        save: Write a video of each stream with the tracks drawn on it (.mp4, .mov, .mkv).
        networks: Which networks look at the pictures, and how.
        seed: Of the demo's scene.
        max_latency: Frames that would come out older are passed over, s.
        reconnect: Give a stream up after so many failures in a row; by default never.
        roll: Begin new output files after a time or size (1h, 1d, 500MB); the time of beginning
            stands in their names, and none is replaced.
        log: Write what happens to the streams; rotated at 10 MB.
        quiet: Tell errors only.
    """
    try:
        from tracker.live.app import application
        from tracker.live.server import Server
    except ImportError as error:
        raise TrackerError(
            f"the page needs more libraries ({error}): pip install 'surepose[web]'"
        ) from error
    from tracker.commands.outputs import Outputs, write_log
    from tracker.live.board import Board
    from tracker.live.run import run
    from tracker.live.streams import StreamsTracker, open_streams, read_specs
    from tracker.live.tally import Tally
    from tracker.sinks.rolling import Roll
    from tracker.sources.base import LiveConfig

    check("--port", port, at_least=0, at_most=65535)
    check("--max-latency", max_latency, at_least=0)
    check("--reconnect", reconnect, at_least=0)
    token = _token(token_file, host)
    specs = read_specs((*sources, *source) or ("demo",))
    outputs = Outputs(csv, save, roll=Roll.parse(roll))
    check_outputs([spec.address for spec in specs], list(outputs.paths().values()))
    write_log(log, quiet=quiet)
    if not quiet:
        tell_engines()
    config = LiveConfig("latest", max_latency, reconnect, wait=False)
    with ExitStack() as opened:
        streams = opened.enter_context(open_streams(specs, config, seed=seed, named=True))
        sinks = outputs.open(opened, streams.feeds)
        first = networks.load()
        tallies = {feed.stream: Tally(feed.health, max_latency) for feed in streams.feeds}
        board = Board(streams.feeds, tallies)
        server = opened.enter_context(Server(application(board, token), host, port))
        if not quiet:
            sys.stderr.write(f"the page is at {server.url}\n")
        try:
            for tracked in run(streams, StreamsTracker(first), sinks, tallies):
                board.show(tracked)
        except SourceError as error:
            logger.error("%s", error)
        while True:  # what there was can still be looked at
            board.show(None)
            sleep(1.0)


def _token(path: Path | None, host: str) -> str | None:
    """What whoever looks must know."""
    from tracker.live.guard import THIS_MACHINE

    if path is not None:
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise TrackerError(f"cannot read --token-file {path}: {error}") from error
    else:
        token = os.environ.get("SUREPOSE_TOKEN", "")
    if not token and (host not in THIS_MACHINE or path is not None):
        raise TrackerError(
            f"serving on {host} needs a token, for the pictures would be open to all: "
            "write one into a file (openssl rand -hex 16 > token) and give --token-file token"
        )
    return token or None
