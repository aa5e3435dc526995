"""What several commands share: argument types, checks of numbers and of output paths, the log."""

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Annotated

import tyro

from tracker.errors import SinkError, TrackerError

OutputPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="N")]
OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="P")]
Number = int | float


def check(flag: str, value: Number | None, *, at_least: Number, at_most: Number = inf) -> None:
    if value is not None and not at_least <= value <= at_most:
        bounds = f"at least {at_least}" if at_most == inf else f"{at_least} to {at_most}"
        raise TrackerError(f"{flag} must be {bounds}, got {value}")


def check_outputs(source: str, outputs: Sequence[Path]) -> None:
    """Outputs replace what is there: neither the source nor one another, though."""
    real = [path.resolve() for path in (Path(source), *outputs)]
    for i, path in enumerate(outputs, start=1):
        if real[i] in real[:i]:
            raise SinkError(f"{path} is also the source or another output; give it its own path")


def start_log() -> None:
    """Tell how a training goes, but not what the exporter thinks of every node."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for name in ("onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.WARNING)
