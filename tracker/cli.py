"""The command line.

Exit codes: 0 done, 1 an error that was told in one line, 2 a wrong argument, 130 stopped by Ctrl-C
and 143 by SIGTERM (every output is closed first), 141 the reader of a pipe went away.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from math import inf
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import tyro

import tracker
from engines.errors import EngineError
from tracker.errors import SinkError, TrackerError
from tracker.heatmaps import IMAGENET, View
from tracker.sinks.base import Sink, SinkClosed

OutputPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="N")]
OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="P")]
Number = int | float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--version"]:
        sys.stdout.write(f"surepose {tracker.__version__}\n")
        return 0
    commands = tyro.extras.SubcommandApp()
    commands.command(track)
    commands.command(train)
    commands.command(fit_sampler)
    try:
        with _sigterm_as_exit():
            return commands.cli(
                prog="surepose",
                description="People in video, as tracks with honest error bars.",
                args=list(arguments),
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except (TrackerError, EngineError) as error:
        sys.stderr.write(f"surepose: error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Python flushes the standard output once more at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


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

    _check("--detect-every", detect_every, at_least=1)
    _check("--max-frames", max_frames, at_least=1)
    _check("--conf", conf, at_least=0, at_most=1)
    _check_outputs(source, [path for path in (csv, save) if path is not None])
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


def train(
    what: Annotated[Literal["pose", "detector"], tyro.conf.Positional],
    *,
    data: Path,
    out: OutputPath = None,
    cache: OutputPath = None,
    recipe: Path | None = None,
    stages: tuple[str, ...] = (),
    teacher: Path | None = None,
    start_from: str | None = None,
    name: str = "nano",
    seed: int = 0,
    device: Literal["cpu", "cuda"] = "cpu",
    publish_only: bool = False,
) -> int:
    """Train a network on labelled pictures, calibrate it and export it with its card.

    Started again with the same --out it goes on from its last checkpoint (one every five minutes).

    Args:
        what: Which of the two networks.
        data: Folder with train.npz and its .bin files.
        out: Checkpoints, log.jsonl, and at the end the .onnx and its card; by default
            runs/pose-nano or the like.
        cache: Where pictures are kept decoded (some GB); by default within --out.
        recipe: The training in numbers: a .toml or the card (.json) of a trained network; by
            default the project's own.
        stages: Instead of the recipe's: heatmap:CROPS:HEIGHT imle:CROPS:HEIGHT mixture:CROPS:HEIGHT
            for the pose network, IMAGES:SIDE for the detector.
        teacher: A heatmap network (ncnn .param beside its .bin) that labels the people in the
            pictures whom nobody labelled.
        start_from: Begin with the weights of a shipped network (nano) or of an .onnx.
        name: The files will be pose-NAME.onnx or detector-NAME.onnx and .json.
        seed: Of the first weights, the order of the data and its augmentation.
        device: Of torch.
        publish_only: Do not train: calibrate and export the last checkpoint.
    """
    try:
        from tracker.training.run import Run, train_detector, train_pose
    except ImportError as error:
        raise TrackerError(
            f"training needs torch, which is not here ({error}): pip install 'surepose[train]'"
        ) from error
    _start_log()
    out = out or Path("runs") / f"{what}-{name}"
    run = Run(
        data=data,
        out=out,
        cache=cache or out / "cache",
        recipe=recipe,
        stages=stages,
        teacher=teacher,
        start_from=start_from,
        name=name,
        seed=seed,
        device=device,
        publish_only=publish_only,
    )
    path = train_pose(run) if what == "pose" else train_detector(run)
    sys.stdout.write(f"{path}\n")
    return 0


def fit_sampler(
    heatmaps: str,
    *,
    data: OutputPath = None,
    out: OutputPath = None,
    cache: OutputPath = None,
    view: View = IMAGENET,
    output: str | None = None,
    hypotheses: int = 8,
    views: int = 16_000,
    stages: tuple[str, ...] = (),
    name: str = "own",
    seed: int = 0,
) -> int:
    """Fit error bars and rival poses to a heatmap network of your own, which stays as it is.

    It looks at labelled people once; a sampler is trained on its heatmaps, calibrated on people
    held out, and exported with its card. Started again with the same --out it goes on. How to use
    the result: docs/fit-sampler.md.

    Args:
        heatmaps: Your network, an .onnx or an ncnn .param; or a folder with its views of labelled
            people (heatmap.npy, labels.npz); or the name of a shipped pose network (nano).
        data: Folder with train.npz and its .bin files.
        out: Views, checkpoints, log.jsonl, and at the end the .onnx and its card; by default
            runs/sampler-NAME.
        cache: Where pictures are kept decoded (some GB); by default within --out.
        view: How the network wants its crops.
        output: Name of the heatmaps among the network's outputs.
        hypotheses: How many poses a person; 1 fits a single Gaussian.
        views: How many random crops the network looks at.
        stages: Instead of the recipe's: imle:CROPS mixture:CROPS.
        name: The files will be sampler-NAME.onnx and .json.
        seed: Of the views, the first weights and the order.
    """
    try:
        from tracker.training.fit import FitRecipe, FitRun, load_frozen
        from tracker.training.fit import fit_sampler as fit
        from tracker.training.pose import Stage
    except ImportError as error:
        raise TrackerError(
            f"fitting needs torch, which is not here ({error}): pip install 'surepose[train]'"
        ) from error
    _check("--hypotheses", hypotheses, at_least=1)
    _check("--views", views, at_least=1)
    _start_log()
    out = out or Path("runs") / f"sampler-{name}"
    recipe = FitRecipe(views=views, hypotheses=hypotheses, seed=seed)
    if stages:
        recipe = replace(recipe, stages=tuple(map(Stage.parse, stages)))
    path = fit(
        FitRun(out, data, cache or out / "cache", name),
        recipe,
        load_frozen(heatmaps, view, output),
    )
    sys.stdout.write(f"{path}\n")
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


def _start_log() -> None:
    """Tell how a training goes, but not what the exporter thinks of every node."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for name in ("onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _check(flag: str, value: Number | None, *, at_least: Number, at_most: Number = inf) -> None:
    if value is not None and not at_least <= value <= at_most:
        bounds = f"at least {at_least}" if at_most == inf else f"{at_least} to {at_most}"
        raise TrackerError(f"{flag} must be {bounds}, got {value}")


def _check_outputs(source: str, outputs: Sequence[Path]) -> None:
    """Outputs replace what is there: neither the source nor one another, though."""
    real = [path.resolve() for path in (Path(source), *outputs)]
    for i, path in enumerate(outputs, start=1):
        if real[i] in real[:i]:
            raise SinkError(f"{path} is also the source or another output; give it its own path")


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """End on SIGTERM the way Ctrl-C does, through every open `with`."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
