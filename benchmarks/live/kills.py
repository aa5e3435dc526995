"""A camera is killed and started again: how soon are there new frames, and the old numbers?"""

import socket
import subprocess
import threading
import time
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from benchmarks.live.cameras import moment_in
from benchmarks.live.stage import Json, Stage, free_ports, resources
from tracker.pipeline import PoseTracker
from tracker.sinks.records import RecordWriter, read_records
from tracker.skeleton import COCO17
from tracker.sources import open_source
from tracker.sources.feed import Feed
from tracker.types import TrackedFrame, TrackStatus


def kills(stage: Stage) -> Json:
    """Kill and start again: recovery, numbers, the table."""
    table, (port,) = stage.folder / "kills.csv", free_ports(1)
    net = stage.truth()
    cameras = stage.cameras(10, [port]).listen()
    process = psutil.Process()
    gaps: list[Json] = []
    with closing(
        _Following(cameras.urls[0], stage.start, PoseTracker(net.detect, net.look), table)
    ) as run:
        before = resources(process)
        for k in range(stage.scale.kills):
            time.sleep(stage.scale.kill_seconds + stage.rng.random())
            following = stage.cameras(10, [port])
            known = run.confirmed()
            cameras.kill()
            time.sleep(0.0 if k % 2 == 0 else 2.0 * stage.rng.random())
            cameras = following.listen()
            up = time.monotonic()
            recovery = run.first_drawn_after(up).arrived - up
            time.sleep(0.8)
            before_gap, after_gap = run.around(up)
            gaps.append(
                {
                    "recovery_s": recovery,
                    "gap_s": after_gap[0].time - before_gap[-1].time,
                    "people": len(known),
                    "kept": len(known & set().union(*(out.people for out in after_gap))),
                }
            )
        after = resources(process)
    cameras.kill()
    rows = read_records(table)
    short = [g for g in gaps if g["gap_s"] < 1.0]
    return {
        "server": "own",
        "kills": gaps,
        "recovery_s_median": float(np.median([g["recovery_s"] for g in gaps])),
        "recovery_s_most": max(g["recovery_s"] for g in gaps),
        "frames": len(run.outputs),
        "frames_not_newer_than_the_last": sum(b.drawn <= a.drawn for a, b in pairwise(run.outputs)),
        "short_gaps": len(short),
        "people_before_short_gaps": sum(g["people"] for g in short),
        "kept_over_short_gaps": sum(g["kept"] for g in short),
        "rows": len(rows),
        "frames_in_table": len({r.frame for r in rows}),
        "rows_due": len(COCO17) * run.rows,
        "before": before,
        "after": after,
    }


class _Output(NamedTuple):
    """What came out of a followed stream."""

    drawn: float
    """Monotonic clock, s."""
    time: float
    """As the stream told it, s."""
    arrived: float
    """Monotonic clock, s."""
    people: set[int]


class _Following:
    """A stream followed on a thread, and what comes out of it."""

    def __init__(self, url: str, start: float, follow: PoseTracker, table: Path) -> None:
        self._condition = threading.Condition()
        self._start, self._follow, self._table = start, follow, table
        self.outputs: list[_Output] = []
        self.rows = 0
        self.source = open_source(url)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def confirmed(self) -> set[int]:
        """Who is seen now."""
        with self._condition:
            return self.outputs[-1].people

    def first_drawn_after(self, moment: float) -> _Output:
        """Wait for a frame that was drawn after a moment."""
        with self._condition:
            self._condition.wait_for(lambda: self.outputs[-1].drawn > moment, 30)
        return self.around(moment)[1][0]

    def around(self, moment: float) -> tuple[list[_Output], list[_Output]]:
        """What was drawn before a moment, and after."""
        with self._condition:
            outputs = list(self.outputs)
        return [o for o in outputs if o.drawn <= moment], [o for o in outputs if o.drawn > moment]

    def close(self) -> None:
        assert isinstance(self.source, Feed)
        self.source.close()
        self._thread.join(5)

    def _run(self) -> None:
        with RecordWriter(self._table, live=True) as writer:
            for frame in self.source:
                tracked = self._follow(frame)
                writer.write(tracked)
                self.rows += len(tracked.tracks)
                drawn = self._start + moment_in(frame.image)
                with self._condition:
                    self.outputs.append(
                        _Output(drawn, frame.time, time.monotonic(), _seen(tracked))
                    )
                    self._condition.notify_all()


def _seen(tracked: TrackedFrame) -> set[int]:
    return {track.id for track in tracked.tracks if track.status is TrackStatus.CONFIRMED}


def foreign_kills(stage: Stage, python: Path | None) -> Json | None:
    """The same with GStreamer's server, which also changes its codec and its size."""
    if python is None:
        return None
    (port,) = free_ports(1)
    script = Path(__file__).with_name("gst_server.py")
    kinds = [("h264", "320", "240"), ("jpeg", "640", "480")]

    def serve(k: int) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen([str(python), str(script), str(port), *kinds[k % 2], "25"])
        while process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return process
            time.sleep(0.02)
        raise SystemExit(f"{python} cannot run {script}")

    process, results, last = serve(0), [], -1.0
    source = open_source(f"rtsp://127.0.0.1:{port}/camera")
    assert isinstance(source, Feed)
    with source:
        frames = iter(source)
        for k in range(1, stage.scale.foreign_kills + 1):
            last = [next(frames) for _ in range(25)][-1].time
            process.kill()
            process.wait()
            process, up = serve(k), time.monotonic()
            while source.health.reconnects < k:
                frame = next(frames)
            results.append(
                {
                    "recovery_s": time.monotonic() - up,
                    "codec": source.health.codec,
                    "picture": source.health.size,
                    "frame": list(frame.image.shape),
                    "gap_s": frame.time - last,
                }
            )
        process.kill()
        process.wait()
    return {"server": "GStreamer", "kills": results}
