"""`surepose track`."""

import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from tracker.commands.common import (
    NetworkFlags,
    Networks,
    OptionalAmount,
    OptionalInt,
    OutputPath,
    Sources,
    check,
    check_outputs,
    tell_engines,
)
from tracker.errors import TrackerError
from tracker.sinks.base import SinkClosed

if TYPE_CHECKING:
    from tracker.live.tally import Tally

_NOBODY = (
    "nobody was seen in three frames or more: --detect-side 640 finds people who are far away, "
    "--conf 0.3 less sure ones\n"
)


def track(
    source: Sources = (),
    *,
    csv: OutputPath = None,
    mot: OutputPath = None,
    save: OutputPath = None,
    show: bool = False,
    networks: NetworkFlags = Networks(),  # noqa: B008 - frozen
    lag: Annotated[int | Literal["all"], tyro.conf.arg(metavar="N|all")] = 0,
    predict_ahead: float = 0.0,
    camera_motion: bool = False,
    max_frames: OptionalInt = None,
    seed: int = 0,
    buffer: Literal["auto", "latest", "all"] = "auto",
    max_latency: float = 0.5,
    reconnect: OptionalInt = None,
    roll: OptionalAmount = None,
    log: OutputPath = None,
    quiet: bool = False,
) -> int:
    """Follow the people in a video, or in many at once.

    Outputs that exist are replaced. Ctrl-C ends the run and closes them properly.

    Args:
        source: A camera's index, a video, a folder of pictures, an rtsp:// or http:// address, or
            "demo", a rendered scene. Several are followed together, also from a text file (.txt)
            with one on each line; NAME=ADDRESS gives a name, which then stands in the outputs'.
            By default demo.
        csv: Write a table, one row per frame, person and keypoint; - is the standard output.
        mot: Write the boxes as MOTChallenge text: frame (from 1), id, left, top, width, height, ….
        save: Write a video with the tracks drawn on it (.mp4, .mov, .mkv).
        show: Show the tracks in a window; q or Esc ends the run.
        networks: Which networks look at the pictures, and how.
        lag: Wait so many frames and smooth each by what came later; 2 bring most of the gain. For
            files "all": over the whole life of each track; 120 frames are kept in memory.
        predict_ahead: Give the tracks as expected so many seconds later, against latency.
        camera_motion: Take out the motion of a camera that pans or shakes; not with --lag.
        max_frames: Stop after so many frames.
        seed: Of the demo's scene.
        buffer: What waits while the networks are busy: the newest frame (auto for cameras and
            streams) or all frames (auto for files).
        max_latency: Frames of a camera or stream that would come out older are passed over, s.
        reconnect: Give a stream up after so many failures in a row; by default never.
        roll: Begin new output files after a time or size (1h, 1d, 500MB); the time of beginning
            stands in their names, and none is replaced.
        log: Write what happens to the streams; rotated at 10 MB.
        quiet: Tell errors only.
    """
    from tracker.commands.outputs import Outputs, write_log
    from tracker.live.run import run
    from tracker.live.streams import StreamsTracker, open_streams, read_specs
    from tracker.live.tally import Tally
    from tracker.progress import RunDisplay
    from tracker.sinks.rolling import Roll
    from tracker.sources.base import LiveConfig

    check("--max-frames", max_frames, at_least=1)
    if lag != "all":
        check("--lag", lag, at_least=0, at_most=300)
    check("--predict-ahead", predict_ahead, at_least=0, at_most=10)
    if lag and camera_motion:
        raise TrackerError("--lag cannot follow a moving camera yet: leave --camera-motion out")
    if lag and predict_ahead:
        raise TrackerError("--lag waits for later frames, --predict-ahead guesses them: give one")
    check("--max-latency", max_latency, at_least=0)
    check("--reconnect", reconnect, at_least=0)
    specs = read_specs(source or ("demo",))
    outputs = Outputs(csv, save, mot, show, None if roll is None else Roll.parse(roll))
    check_outputs([spec.address for spec in specs], list(outputs.paths().values()))
    write_log(log, quiet=quiet)
    if not quiet:
        tell_engines()
    config = LiveConfig(
        None if buffer == "auto" else buffer,
        max_latency,
        reconnect,
    )
    tallies: dict[str, Tally] = {}
    try:
        with ExitStack() as opened:
            streams = opened.enter_context(open_streams(specs, config, seed=seed))
            feeds = streams.feeds
            sinks = outputs.open(opened, feeds)
            first = networks.load(lag=lag, camera_motion=camera_motion)
            follow = StreamsTracker(first, predict_ahead=predict_ahead)
            tallies = {feed.stream: Tally(feed.health, max_latency) for feed in feeds}
            display = opened.enter_context(RunDisplay(feeds, max_frames, quiet=quiet))
            results = run(streams, follow, sinks, tallies, max_frames=max_frames)
            for tracked in opened.enter_context(closing(results)):
                if tracked is not None:
                    stream = tracked.frame.stream
                    tallies[stream].complaint = follow.complaint(stream)
                    display.show(tracked, tallies[stream])
    except SinkClosed:
        pass
    finally:
        if not quiet:
            sys.stderr.writelines(_summary(tallies))
    return 0


def _summary(tallies: "dict[str, Tally]") -> list[str]:
    used = {stream: tally for stream, tally in tallies.items() if tally.frames}
    lines = [f"{stream}{': ' if stream else ''}{tally}\n" for stream, tally in used.items()]
    if used and not any(tally.track_ids for tally in used.values()):
        lines.append(_NOBODY)
    return lines
