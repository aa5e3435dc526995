"""What several commands share: argument types, the networks, checks, the log."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from engines.backends import Backend, Precision
from tracker.errors import SinkError, TrackerError

if TYPE_CHECKING:
    from tracker.pipeline import PoseTracker

LEFT_OUT = tyro.conf.arg(help_behavior_hint="")
"""Of an option that is None when it is left out; its text says what is done then."""
OptionalPath = Annotated[Path | None, LEFT_OUT]
OptionalInt = Annotated[int | None, LEFT_OUT]
OptionalFloat = Annotated[float | None, LEFT_OUT]
OptionalStr = Annotated[str | None, LEFT_OUT]
AMOUNT = tyro.conf.arg(metavar="AMOUNT")
Sources = Annotated[
    tyro.conf.Positional[tuple[str, ...]],
    tyro.conf.arg(metavar="[SOURCE ...]", help_behavior_hint=""),
]
FlaggedSources = Annotated[
    tyro.conf.UseAppendAction[tuple[str, ...]],
    tyro.conf.arg(metavar="SOURCE", help_behavior_hint=""),
]
Number = int | float
NetworkName = Annotated[str, tyro.conf.arg(metavar="NAME|ONNX")]


@dataclass(frozen=True, slots=True)
class Networks:
    """Which networks look at the pictures, and how."""

    pose: NetworkName = "nano"
    """A pose network that ships, or your own .onnx with its card (surepose train)."""
    detector: NetworkName = "nano"
    """The same of a detector."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run; auto takes a GPU if a library for it is installed."""
    backend: Annotated[Backend | None, LEFT_OUT] = None
    """What runs them; by default the best for the device, which is told."""
    precision: Annotated[Precision | None, LEFT_OUT] = None
    """Of the convolutions; by default fp16 where a plan is built for a GPU, else fp32."""
    threads: OptionalInt = None
    """Of the networks on a CPU; by default one for each core that this process may use."""
    detect_every: int = 5
    """Search the whole picture at least every so many frames; between, where the tracks say."""
    detect_side: OptionalInt = None
    """Longer side of what the detector sees, px, by default 416; 640 also finds small people."""
    conf: OptionalFloat = None
    """Least score of a detection, 0 to 1; by default what the detector was tuned to."""
    flip_test: bool = False
    """Look at everybody in a mirror too: more accurate, twice the work of the pose network."""

    def __post_init__(self) -> None:
        check("--threads", self.threads, at_least=1)
        check("--detect-every", self.detect_every, at_least=1)
        check("--detect-side", self.detect_side, at_least=64, at_most=1920)
        check("--conf", self.conf, at_least=0, at_most=1)

    def load(self, *, lag: int | Literal["all"] = 0, camera_motion: bool = False) -> "PoseTracker":
        from tracker.pipeline import PoseTracker

        return PoseTracker.load(**asdict(self), lag=lag, camera_motion=camera_motion)


NetworkFlags = Annotated[Networks, tyro.conf.OmitArgPrefixes]
"""Flags without a prefix: --pose, not --networks.pose."""

REGISTRY = ConstructorRegistry()
"""How arguments are read, beyond what tyro knows."""


@REGISTRY.primitive_rule
def _none(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[None] | None:
    """None is what is left out: nobody can type it, and no list of choices names it."""
    if info.type is not type(None):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="",
        instance_from_str=lambda _: None,
        is_instance=lambda given: given is None,
        str_from_instance=lambda _: [""],
        choices=(),
    )


def check(flag: str, value: Number | None, *, at_least: Number, at_most: Number = inf) -> None:
    if value is not None and not at_least <= value <= at_most:
        bounds = f"at least {at_least}" if at_most == inf else f"{at_least} to {at_most}"
        raise TrackerError(f"{flag} must be {bounds}, got {value}")


def check_outputs(sources: Sequence[str], outputs: Sequence[Path]) -> None:
    """Outputs replace what is there: neither a source nor one another, though."""
    taken = {Path(source).resolve() for source in sources}
    for path in outputs:
        if path.resolve() in taken:
            raise SinkError(f"{path} is also the source or another output; give it its own path")
        taken.add(path.resolve())


def tell_engines() -> None:
    """Say on the standard error which engine runs, why, and what is built."""
    import logging

    told = logging.StreamHandler()
    told.setFormatter(logging.Formatter("%(message)s"))
    engines = logging.getLogger("engines")
    engines.handlers = [told]
    engines.setLevel(logging.INFO)


def start_log() -> None:
    """Tell how a training goes, but not what the exporter thinks of every node."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for name in ("onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.WARNING)


def write_text(path: Path, text: str) -> None:
    """Write a result; folders are made as needed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror or error}") from error
