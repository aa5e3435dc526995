"""`surepose track`."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Literal

from tracker.commands.common import (
    OptionalFloat,
    OptionalInt,
    OutputPath,
    check,
    check_outputs,
)
from tracker.sinks.base import Sink, SinkClosed


def track(
    source: str = "demo",
    *,
    csv: OutputPath = None,
    save: OutputPath = None,
    show: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    detect_every: int = 5,
    conf: OptionalFloat = None,
    max_frames: OptionalInt = None,
    seed: int = 0,
    quiet: bool = False,
) -> int:
    """Follow the people in a video.

    Outputs that exist are replaced. Ctrl-C ends the run and closes them properly.

    Args:
        source: A camera's index, a video, a folder of pictures, an rtsp:// or http:// address, or
            "demo", a rendered scene.
        csv: Write a table, one row per frame, person and keypoint; - is the standard output.
        save: Write a video with the tracks drawn on it (.mp4, .mov, .mkv).
        show: Show the tracks in a window; q or Esc ends the run.
        device: Where the networks run.
        detect_every: Search the whole picture for people every so many frames; between, look only
            where the tracks say.
        conf: Least score of a detection, 0 to 1; by default what the detector was tuned to.
        max_frames: Stop after so many frames.
        seed: Of the demo's scene.
        quiet: Tell errors only.
    """
    from tracker.pipeline import PoseTracker
    from tracker.progress import RunDisplay, Tally
    from tracker.sources import open_source

    check("--detect-every", detect_every, at_least=1)
    check("--max-frames", max_frames, at_least=1)
    check("--conf", conf, at_least=0, at_most=1)
    check_outputs(source, [path for path in (csv, save) if path is not None])
    tally = Tally()
    try:
        with ExitStack() as opened:
            frames = opened.enter_context(open_source(source, seed=seed))
            sinks = [
                opened.enter_context(sink) for sink in _open_sinks(csv, save, show, frames.fps)
            ]
            follow = PoseTracker.load(device=device, detect_every=detect_every, conf=conf)
            total = min((n for n in (frames.frame_count, max_frames) if n), default=None)
            display = opened.enter_context(
                RunDisplay(frames.name, live=frames.live, total=total, quiet=quiet)
            )
            tally = Tally()
            for frame in islice(frames, max_frames):
                tracked = follow(frame)
                for sink in sinks:
                    sink.write(tracked)
                tally.add(tracked)
                display.show(tracked)
    except SinkClosed:
        pass
    finally:
        if tally.frames and not quiet:
            sys.stderr.write(f"{tally}\n")
    return 0


def _open_sinks(
    csv: Path | None, save: Path | None, show: bool, fps: float | None
) -> Iterator[Sink]:
    """The outputs, one at a time, so that the caller can close the first if the second fails."""
    if csv is not None:
        from tracker.sinks.records import RecordWriter

        yield RecordWriter(csv)
    if save is not None:
        from tracker.sinks.video import VideoWriter

        yield VideoWriter(save, fps=fps)
    if show:
        from tracker.sinks.window import Window

        yield Window()
