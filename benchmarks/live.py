"""Do live streams stay live: when cameras die, when there are many, when the machine is slow?

    python -m benchmarks.live --json OUT [--quick] [--ultralytics PYTHON] [--gstreamer PYTHON]

Cameras are RTSP servers on loopback in processes of their own, killed by SIGKILL. Their pictures
carry the moment at which they were drawn, so ages are true ones: from drawing to the result,
encoding and network included. Parts:

- kills: a camera is killed and started again; how soon are there new frames, do people keep their
  numbers? Poses come from the truth of the drawn scene, with noise, so that a lost number is a
  fault of capture or tracker, not of a network. With --gstreamer the same with GStreamer's server
  (an interpreter that has its bindings, /usr/bin/python3 on Debian), without people.
- faults: what each kind of sick server leads to.
- streams: several cameras, one stalls; what rate do the others keep, and how old are the results?
  With the real networks, and with poses of the truth at a higher rate. True ages hold the frame
  that FFmpeg's parser waits for, half a second at 2 frames a second; told ones do not.
- ages: when the reader keeps up and when it cannot, beside a plain OpenCV loop and Ultralytics'
  LoadStreams (--ultralytics, an interpreter that has it). The reader's work is a sleep, the same
  for all: it stands for a network on a device of its own.
- crashes: a writer of tables is killed by SIGKILL at random moments.
- soak: memory, handles and threads over many frames, with synthetic pictures, poses of the truth
  and a connection that breaks off now and then: it covers capture, tracker, tables and counters,
  not the networks, FFmpeg or the web.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import psutil
import tyro

from benchmarks.cameras import Cameras, film, moment_in
from benchmarks.environment import environment
from benchmarks.rtsp_server import RtspServer
from tracker.demo import Scene
from tracker.errors import SourceError
from tracker.live.streams import StreamsTracker
from tracker.live.tally import Tally
from tracker.pipeline import PoseTracker
from tracker.sinks.records import RecordWriter, read_records
from tracker.sinks.rolling import Roll, Rolling
from tracker.skeleton import COCO17
from tracker.sources import open_source
from tracker.sources.base import LiveConfig
from tracker.sources.feed import Feed, Gathering, feed
from tracker.sources.health import Health, StreamState
from tracker.sources.live import Captures, Retry, Shot
from tracker.sources.stream import open_stream
from tracker.tracks import MultiTracker
from tracker.types import Detection, Frame, Mixture, PoseMixture, TrackedFrame, TrackStatus

Json = dict[str, Any]

_MAX_LATENCY = 0.5
"""s: the default of `surepose track` and `serve`."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    film: int = 120
    kills: int = 20
    kill_seconds: float = 3.0
    """Between two kills, at least."""
    foreign_kills: int = 5
    streams: int = 8
    stream_fps: float = 2.0
    stream_seconds: float = 20.0
    age_seconds: float = 20.0
    crashes: int = 50
    soak: int = 200_000


QUICK = Scale(
    film=30,
    kills=3,
    kill_seconds=1.5,
    foreign_kills=0,
    streams=3,
    stream_fps=4.0,
    stream_seconds=3.0,
    age_seconds=2.0,
    crashes=2,
    soak=0,
)


def main(
    json: Path | None = None,
    quick: bool = False,
    ultralytics: Path | None = None,
    gstreamer: Path | None = None,
    only: tuple[str, ...] = (),
    seed: int = 0,
) -> None:
    """Run all parts, print and store what they gave.

    Args:
        json: Store the result here; parts that are not run are kept.
        quick: Less of everything, under a minute.
        ultralytics: An interpreter that has ultralytics.
        gstreamer: An interpreter that has GStreamer's RTSP server.
        only: These parts only.
        seed: Of pauses and moments of killing.
    """
    scale, rng = QUICK if quick else Scale(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), scale, rng)
        parts: dict[str, Callable[[], object]] = {
            "kills": partial(kills, stage),
            "foreign_kills": partial(foreign_kills, stage, gstreamer),
            "faults": faults,
            "streams": partial(streams, stage),
            "ages": partial(ages, stage, ultralytics),
            "crashes": partial(crashes, stage),
            "soak": partial(soak, stage),
        }
        for name in only or parts:
            started, load = time.monotonic(), os.getloadavg()[0]
            result = parts[name]()
            record = {"result": result, "load": load, "seconds": time.monotonic() - started}
            print(name, _pretty(record))
            if json is not None:
                _store(json, name, record, seed, quick)


class Stage:
    """The film, its truth, and when the world began."""

    def __init__(self, folder: Path, scale: Scale, rng: random.Random) -> None:
        self.folder, self.scale, self.rng = folder, scale, rng
        self.film = folder / "film.npy"
        self.scene = film(self.film, scale.film)
        self.start = time.monotonic()

    def cameras(self, fps: float, ports: Sequence[int]) -> Cameras:
        """Cameras that stand by."""
        return Cameras(self.film, self.start, fps, ports)

    def age(self, frame: Frame) -> float:
        """True age of a picture, s."""
        return time.monotonic() - self.start - moment_in(frame.image)

    def truth(self) -> "TrueNet":
        from benchmarks.cameras import World

        world = World(np.load(self.film, mmap_mode="r"), self.start)
        return TrueNet(self.scene, lambda image: world.index(moment_in(image)))


class TrueNet:
    """Detector and pose network that know the truth of a scene, but for some noise."""

    def __init__(self, scene: Scene, index: Callable[[np.ndarray], int], std: float = 2.0) -> None:
        self._scene, self._index, self._std = scene, index, std
        self._rng = np.random.default_rng(0)

    def detect(self, frame: Frame) -> list[Detection]:
        people = self._scene.truth(self._index(frame.image))
        return [Detection(p.box, 0.9) for p in people if p.seen > 0.3 and _area(p.box) > 100]

    def look(self, frame: Frame, detections: Sequence[Detection]) -> list[PoseMixture]:
        people = [p for p in self._scene.truth(self._index(frame.image)) if p.seen > 0.3]
        found = []
        for detection in detections:
            centre = detection.box.reshape(2, 2).mean(0)
            near = [p for p in people if np.abs(p.box.reshape(2, 2).mean(0) - centre).max() < 30]
            if near:
                xy = near[0].keypoints + self._rng.normal(0, self._std, (17, 2))
                mixture = Mixture(xy.reshape(1, 34), self._std**2 * np.eye(34)[None], np.zeros(1))
                found.append(PoseMixture(detection, mixture, np.full(17, 0.9)))
        return found


# ---- kills ---------------------------------------------------------------------------------


def kills(stage: Stage) -> Json:
    """Kill and start again: recovery, numbers, the table."""
    table, (port,) = stage.folder / "kills.csv", _free_ports(1)
    net = stage.truth()
    cameras = stage.cameras(10, [port]).listen()
    process = psutil.Process()
    gaps: list[Json] = []
    with closing(
        _Following(cameras.urls[0], stage.start, PoseTracker(net.detect, net.look), table)
    ) as run:
        before = _resources(process)
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
        after = _resources(process)
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
    (port,) = _free_ports(1)
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


# ---- faults --------------------------------------------------------------------------------


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


# ---- streams -------------------------------------------------------------------------------


def streams(stage: Stage) -> Json:
    """Several cameras, one stalls: with the real networks, and with poses of the truth."""
    net, fps = stage.truth(), stage.scale.stream_fps
    return {
        "real networks": _streams(stage, PoseTracker.load(detect_every=5), fps),
        "poses of the truth": _streams(stage, PoseTracker(net.detect, net.look), 2.5 * fps),
    }


def _streams(stage: Stage, first: PoseTracker, fps: float) -> Json:
    """Rates of all streams while all are well, and while the first stalls."""
    scale, follow = stage.scale, StreamsTracker(first)
    ports = _free_ports(scale.streams)
    rates: dict[str, list[float]] = {}
    with stage.cameras(fps, ports).listen() as cameras:
        config = LiveConfig(max_latency=_MAX_LATENCY, wait=False)
        feeds = [feed(open_source(url, config=config)) for url in cameras.urls]
        for k, each in enumerate(feeds):
            each.stream = f"camera {k}"
        counts = dict.fromkeys((each.stream for each in feeds), 0)
        true, told = list[float](), list[float]()
        with Gathering(feeds) as together:
            rounds = iter(together)
            for each in feeds:
                follow([next(iter(each))])  # all are there, and the networks are warm
            for phase in ("all well", "one stalled"):
                if phase == "one stalled":
                    cameras.tell(f"stall {ports[0]}")
                    time.sleep(0.5)
                counts = dict.fromkeys(counts, 0)
                began = time.monotonic()
                while time.monotonic() - began < scale.stream_seconds:
                    frames = next(rounds)
                    for tracked in follow(frames) if frames else ():
                        counts[tracked.frame.stream] += 1
                        true.append(stage.age(tracked.frame))
                        assert tracked.frame.captured is not None
                        told.append(time.time() - tracked.frame.captured)
                spent = time.monotonic() - began
                rates[phase] = [n / spent for n in counts.values()]
    others = [b / a for a, b in zip(*rates.values(), strict=True)][1:]
    return {
        "cameras": scale.streams,
        "fps": fps,
        "size": "320 x 240",
        "rates": rates,
        "kept_of_their_rate_least": min(others),
        "kept_of_their_rate_mean": float(np.mean(others)),
        "share_of_the_cameras_rate": float(np.mean(rates["one stalled"][1:]) / fps),
        "dropped": sum(each.health.dropped for each in feeds),
        "age_s": _percentiles(true),
        "age_s_as_told": _percentiles(told),
        "max_latency_s": _MAX_LATENCY,
        "late": sum(age > _MAX_LATENCY for age in told) / len(told),
    }


# ---- ages ----------------------------------------------------------------------------------


def ages(stage: Stage, python: Path | None) -> Json:
    """Ages at 25 frames/s, for a reader who keeps up (10 ms a frame) and one who cannot (120)."""
    readers: dict[str, Callable[[str, float], Json]] = {
        "ours": partial(_our_ages, stage, max_latency=_MAX_LATENCY),
        "ours, all frames": partial(_our_ages, stage, buffer="all"),
        "cv2.VideoCapture": partial(_cv2_ages, stage),
    }
    if python is not None:
        readers["ultralytics LoadStreams"] = partial(_ultralytics_ages, stage, python)
    results: Json = {"max_latency_s": _MAX_LATENCY}
    for work in (0.01, 0.12):
        results[f"{1000 * work:.0f} ms a frame"] = {}
        for name, read in readers.items():
            (port,) = _free_ports(1)
            with stage.cameras(25, [port]).listen() as cameras:
                results[f"{1000 * work:.0f} ms a frame"][name] = read(cameras.urls[0], work)
    return results


def _our_ages(
    stage: Stage, url: str, work: float, max_latency: float = 1e9, buffer: Any = None
) -> Json:
    tally = Tally(max_latency=max_latency)
    true, moments = list[float](), list[float]()
    with feed(open_source(url, config=LiveConfig(buffer, max_latency))) as source:
        end = None
        for frame in source:
            end = time.monotonic() + stage.scale.age_seconds if end is None else end
            time.sleep(work)
            true.append(stage.age(frame))
            moments.append(moment_in(frame.image))
            assert frame.captured is not None
            tally.ages.append(time.time() - frame.captured)
            if time.monotonic() > end:
                break
        health = source.health
    return {
        **_age_record(true, moments),
        "age_s_as_told": tally.age_percentiles(),
        "received": health.received,
        "dropped": health.dropped,
    }


def _cv2_ages(stage: Stage, url: str, work: float) -> Json:
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;tcp"
    capture = cv2.VideoCapture(url)
    true, moments = list[float](), list[float]()
    end = time.monotonic() + stage.scale.age_seconds
    while time.monotonic() < end:
        ok, image = capture.read()
        if not ok:
            break
        moment = moment_in(image[..., ::-1])
        time.sleep(work)
        true.append(time.monotonic() - stage.start - moment)
        moments.append(moment)
    capture.release()
    return {"version": cv2.__version__, **_age_record(true, moments)}


def _ultralytics_ages(stage: Stage, python: Path, url: str, work: float) -> Json:
    script = str(Path(__file__).with_name("loadstreams.py"))
    root = str(Path(__file__).parents[1])
    arguments = [url, str(stage.start), str(stage.scale.age_seconds), str(work)]
    done = subprocess.run(
        [str(python), script, *arguments],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120 + stage.scale.age_seconds,
    )
    if done.returncode:
        return {"failed": done.stderr[-300:]}
    told = json.loads(done.stdout.splitlines()[-1])
    return {"version": told["version"], **_age_record(told["ages"], told["moments"])}


def _age_record(ages: Sequence[float], moments: Sequence[float]) -> Json:
    n = len(ages)
    return {
        "frames": n,
        "shown_again": sum(b == a for a, b in pairwise(moments)),
        "age_s": _percentiles(ages),
        "age_s_at_the_end": float(np.median(ages[-max(1, n // 10) :])) if n else None,
    }


# ---- crashes -------------------------------------------------------------------------------


def crashes(stage: Stage) -> Json:
    """Kill a writer at random moments; is everything there that it said it had written?"""
    folder = stage.folder / "tables"
    folder.mkdir()
    lost, told_rows, files = 0, 0, set[Path]()
    for _ in range(stage.scale.crashes):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(folder / "people.csv")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.3 * stage.rng.random())
        writer.send_signal(signal.SIGKILL)
        told = writer.stdout.read().split()
        writer.stdout.close()
        writer.wait()
        new = set(folder.iterdir()) - files
        files |= new
        there = [r for path in sorted(new) for r in read_records(path)]
        last = int(told[-1]) if told else 0
        told_rows += 17 * (last + 1)
        lost += sum(sum(r.frame == k for r in there) != 17 for k in {0, last // 2, last})
    readable = all(read_records(path) or True for path in files)
    return {
        "kills": stage.scale.crashes,
        "rows told": told_rows,
        "frames lost": lost,
        "files": len(files),
        "older files readable": readable,
    }


_WRITER = """
import sys
sys.path.insert(0, ".")
from pathlib import Path
from benchmarks.live import one_person
from tracker.sinks.records import RecordWriter
from tracker.sinks.rolling import Roll, Rolling
writer = Rolling(Path(sys.argv[1]), RecordWriter, Roll(size=100_000))
for frame in range(10**9):
    writer.write(one_person(frame))
    print(frame, flush=True)
"""


def one_person(index: int) -> TrackedFrame:
    """A result with one person in it."""
    global _PERSON
    if _PERSON is None:
        people, rng = MultiTracker(), np.random.default_rng(0)
        xy = rng.uniform(50, 200, (17, 2))
        box = np.array([40.0, 40, 210, 210])
        mixture = Mixture(xy.reshape(1, 34), 4.0 * np.eye(34)[None], np.zeros(1))
        for k in range(5):
            pose = PoseMixture(Detection(box, 0.9), mixture, np.full(17, 0.9))
            _PERSON = people.update([pose], k / 25)
    image = np.zeros((8, 8, 3), np.uint8)
    return TrackedFrame(Frame(image, index, index / 25), _PERSON)


_PERSON: Any = None


# ---- soak ----------------------------------------------------------------------------------


def soak(stage: Stage) -> Json | None:
    """Memory, handles and threads over many frames."""
    if not stage.scale.soak:
        return None
    folder = stage.folder / "soak"
    folder.mkdir()
    scene = Scene(seed=1, n_people=1, n_frames=50, width=160, height=120)
    truths = [scene.truth(k) for k in range(scene.n_frames)]
    net = _CheapNet(truths)
    health = Health()
    captures = Captures("soak", partial(_Breaking, scene), Retry(first=0.01, longest=0.01), health)
    source = Feed("soak", captures.read, captures.stop, health=health, config=LiveConfig("all"))
    follow, tally = PoseTracker(net.detect, net.look), Tally(health)
    process, samples = psutil.Process(), []
    with source, Rolling(folder / "people.csv", RecordWriter, Roll(size=5e6)) as table:
        for frame in source:
            tracked = follow(frame)
            table.write(tracked)
            tally.add(tracked)
            if tally.frames % (stage.scale.soak // 40) == 0:
                samples.append({"frame": tally.frames, **_resources(process)})
                for old in sorted(folder.iterdir())[:-1]:
                    read_records(old)
                    old.unlink()
            if tally.frames >= stage.scale.soak:
                break
    late = samples[len(samples) // 4 :]
    x = np.array([s["frame"] for s in late], float)
    slope = float(np.polyfit(x, [s["rss_mb"] for s in late], 1)[0])
    return {
        "frames": tally.frames,
        "reconnections": health.reconnects,
        "fps": tally.frames / (tally.ended - tally.started),
        "rss_mb_per_100k_frames": 1e5 * slope,
        "first": samples[0],
        "last": samples[-1],
        "samples": samples,
    }


class _CheapNet:
    """Poses of the truth, from the frame's number."""

    def __init__(self, truths: Sequence[Any]) -> None:
        self._truths, self._rng = truths, np.random.default_rng(0)

    def detect(self, frame: Frame) -> list[Detection]:
        people = self._truths[int(frame.image[0, 0, 0])]
        return [Detection(p.box, 0.9) for p in people if _area(p.box) > 100]

    def look(self, frame: Frame, detections: Sequence[Detection]) -> list[PoseMixture]:
        people = self._truths[int(frame.image[0, 0, 0])]
        return [
            PoseMixture(d, Mixture(xy.reshape(1, 34), 4 * np.eye(34)[None], np.zeros(1)), seen)
            for d in detections[: len(people)]
            for xy in [people[0].keypoints + self._rng.normal(0, 2, (17, 2))]
            for seen in [np.full(17, 0.9)]
        ]


class _Breaking:
    """A connection that gives so many pictures and breaks off."""

    fps = 25.0

    def __init__(self, scene: Scene, n: int = 2000) -> None:
        self._scene, self._n = scene, n

    def __iter__(self) -> Iterator[Shot]:
        return self._shots()

    def _shots(self) -> Generator[Shot]:
        n = self._scene.n_frames
        for k in range(self._n):
            turn = k % (2 * n - 2)
            shown = turn if turn < n else 2 * n - 2 - turn
            image = np.full((120, 160, 3), shown, np.uint8)
            yield Shot(partial(np.copy, image), None, time.monotonic(), k)
        raise SourceError("broken off")

    def close(self) -> None:
        """Nothing to free."""


# ---- what all parts use --------------------------------------------------------------------


def _free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _resources(process: psutil.Process) -> Json:
    with process.oneshot():
        return {
            "rss_mb": process.memory_info().rss / 1e6,
            "handles": process.num_fds(),
            "threads": process.num_threads(),
        }


def _area(box: np.ndarray) -> float:
    return float((box[2:] - box[:2]).prod())


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": float(np.percentile(values, p)) for p in (50, 95, 99)} if values else {}


def _pretty(record: Json) -> str:
    return json.dumps(record, indent=1, default=float)[:3000]


def _store(path: Path, name: str, record: Json, seed: int, quick: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    known[name] = {**record, "seed": seed, "quick": quick, **environment()}
    path.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
