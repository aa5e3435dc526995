"""`surepose track`."""

import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from tracker.commands.common import (
    AMOUNT,
    FlaggedSources,
    NetworkFlags,
    Networks,
    OptionalFloat,
    OptionalInt,
    OptionalPath,
    OptionalStr,
    Sources,
    check,
    check_outputs,
    tell_engines,
)
from tracker.errors import TrackerError
from tracker.life import LifeConfig
from tracker.sinks.base import SinkClosed

if TYPE_CHECKING:
    from tracker.live.tally import Tally

_NOBODY = (
    "nobody was seen in three frames or more: --detect-side 640 finds people who are far away, "
    "--conf 0.3 less sure ones\n"
)
_TOO_SHORT = (
    "a person is followed from the third frame on: for single pictures use tracker.Detector and "
    "tracker.PoseNet in Python\n"
)
_NOTHING_KEPT = "nothing was kept: give --csv people.csv, --save people.mp4 or --show\n"


def track(
    sources: Sources = (),
    *,
    source: FlaggedSources = (),
    csv: OptionalPath = None,
    mot: OptionalPath = None,
    save: OptionalPath = None,
    show: bool = False,
    fps: OptionalFloat = None,
    networks: NetworkFlags = Networks(),  # noqa: B008 - frozen
    lag: Annotated[int | Literal["all"], tyro.conf.arg(metavar="N|all")] = 0,
    predict_ahead: float = 0.0,
    camera_motion: bool = False,
    max_frames: OptionalInt = None,
    seed: int = 0,
    buffer: Literal["auto", "latest", "all"] = "auto",
    max_latency: float = 0.5,
    reconnect: OptionalInt = None,
    roll: Annotated[OptionalStr, AMOUNT] = None,
    log: OptionalPath = None,
    quiet: bool = False,
) -> int:
    """Follow the people in a video, or in many at once.

    Outputs that exist are replaced. Ctrl-C ends the run and closes them properly.

    Args:
        sources: A camera's index, a video, a folder of pictures, an rtsp:// or http:// address, or
            "demo", a rendered scene. Several are followed together, also from a text file (.txt)
            with one on each line; NAME=ADDRESS gives a name, which then stands in the outputs'.
            By default demo.
        source: The same as an option, once for each.
        csv: Write a table, one row per frame, person and keypoint; - is the standard output.
        mot: Write the boxes as MOTChallenge text: frame (from 1), id, left, top, width, height, ….
        save: Write a video with the tracks drawn on it (.mp4, .mov, .mkv).
        show: Show the tracks in a window; q or Esc ends the run.
        fps: Frames a second at which files and folders were filmed, for slow motion and folders of
            pictures; by default the times that a file tells, 25 for a folder.
        networks: Which networks look at the pictures, and how.
        lag: Wait so many frames and smooth each by what came later; 2 bring most of the gain. For
            files "all": over the whole life of each track; 120 frames are kept in memory.
        predict_ahead: Give the tracks as expected so many seconds later, against latency.
        camera_motion: Take out the motion of a camera that pans or shakes; not with --lag.
        max_frames: Stop after so many frames, of all sources together.
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

    check("--fps", fps, at_least=0.01, at_most=100_000)
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
    specs = read_specs((*sources, *source) or ("demo",))
    outputs = Outputs(csv, save, mot, show, None if roll is None else Roll.parse(roll), fps)
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
            streams = opened.enter_context(open_streams(specs, config, seed=seed, fps=fps))
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
            if tallies and not (outputs.paths() or csv or show):
                sys.stderr.write(_NOTHING_KEPT)
    return 0


def _summary(tallies: "dict[str, Tally]") -> list[str]:
    used = {stream: tally for stream, tally in tallies.items() if tally.frames}
    lines = [f"{stream}{': ' if stream else ''}{tally}\n" for stream, tally in used.items()]
    if used and not any(tally.track_ids for tally in used.values()):
        longest = max(tally.frames for tally in used.values())
        lines.append(_NOBODY if longest >= LifeConfig().confirm_hits else _TOO_SHORT)
    return lines
