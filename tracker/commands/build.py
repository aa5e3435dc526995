"""`surepose build`."""

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

from tracker.commands.common import LEFT_OUT, NetworkName, OptionalPath, OptionalStr
from tracker.errors import TrackerError

if TYPE_CHECKING:
    from rich.progress import Progress

    from engines.build import Built

Library = Literal["tensorrt", "rtx"]


def build(
    *,
    backend: Annotated[Library | None, LEFT_OUT] = None,
    precision: Literal["fp32", "fp16", "bf16"] = "fp16",
    target: OptionalStr = None,
    pose: NetworkName = "nano",
    detector: NetworkName = "nano",
    cache: OptionalPath = None,
    again: bool = False,
    verify: bool = False,
    source: str = "demo",
) -> int:
    """Compile the networks for a GPU ahead of their first use.

    Plans are kept in a folder of the user, each with a JSON that says what it was built from; runs
    find them there. `trtexec --loadEngine` reads them, too. TensorRT for RTX builds for a GPU that
    is not here.

    Args:
        backend: TensorRT, or TensorRT for RTX; by default the one that is installed.
        precision: Of the convolutions; what is behind them stays fp32.
        target: Architecture of a GPU that is not here, SM86 for instance (rtx only).
        pose: Name of a shipped pose network, or your own .onnx.
        detector: The same of a detector.
        cache: Folder of the plans; by default $SUREPOSE_CACHE or the system's place for caches.
        again: Build them even if they are there.
        verify: Compare with ONNX Runtime in fp32: keypoints in px, covariances in nats.
        source: Where the people to compare on come from.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from engines.backends import libraries_of
    from engines.plans import PlanCache
    from tracker import detector as detectors
    from tracker import pose as poses
    from tracker import weights

    library = backend or _installed()
    with libraries_of(library):
        from engines.build import plan
    folder = PlanCache(cache) if cache is not None else PlanCache.of_user()
    networks = (
        (found := weights.find("detector", detector), detectors.plan_shapes(found)),
        (found := weights.find("pose", pose), poses.plan_shapes(found)),
    )
    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    for network, shapes in networks:
        shown = console.is_terminal  # elsewhere its last line would stay, empty
        with Progress(*columns, console=console, transient=True, disable=not shown) as display:
            built = plan(
                library,
                network.path,
                precision,
                shapes,
                cache=folder,
                target=target,
                progress=_shown(display, network.path.stem),
                again=again,
                must_keep=True,
            )
        how = f"built in {built.seconds:.1f} s" if built.seconds else "was there"
        sys.stdout.write(f"{built.path}: {len(built.plan) / 2**20:.1f} MiB, {how}\n")
    if verify:
        _verify(built, pose, source, emulated=target is not None)
    return 0


def _shown(display: "Progress", name: str) -> Callable[[str, int, int], None]:
    task = display.add_task(name)
    return lambda phase, done, total: display.update(
        task, description=f"{name}: {phase}", completed=done, total=total
    )


def _installed() -> Library:
    modules: dict[Library, str] = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
    for library, module in modules.items():
        if find_spec(module):
            return library
    raise TrackerError(
        "neither TensorRT nor TensorRT for RTX is here: pip install 'surepose[tensorrt]' "
        "(data-centre and Jetson GPUs) or 'surepose[rtx]' (RTX GPUs)"
    )


def _verify(built: "Built", pose: str, source: str, *, emulated: bool) -> None:
    """Print how far the plan, or its rounding done on the CPU, is from ONNX Runtime in fp32."""
    import engines
    from engines.trt import TrtEngine
    from tracker import weights
    from tracker.detector import Detector
    from tracker.parity import parity
    from tracker.pose import PoseNet
    from tracker.sources import open_source

    reference = PoseNet.load(pose, "cpu")
    path, key = weights.find("pose", pose).path, built.key
    other: engines.Engine
    if emulated:
        backend = "torch-eager" if key.precision == "bf16" else "ort"
        other = engines.load(path, "cpu", backend=backend, precision=key.precision)
    else:
        other = TrtEngine(key.backend, built.plan, path.name)  # type: ignore[arg-type]
    detect = Detector.load(device="cpu")
    with open_source(source) as frames:
        seen = [(frame, detect(frame)) for frame in islice(frames, 0, 120, 6)]
    if not any(boxes for _, boxes in seen):
        raise TrackerError(f"nobody is in {source}: verify on another --source")
    found = parity(reference, replace(reference, engine=other), seen)
    sys.stdout.write(f"{other.describe()} against {reference.engine.describe()}:\n{found}\n")
