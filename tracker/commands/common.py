"""What several commands share: argument types, checks of numbers and of output paths, the log."""

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import tyro

from engines.backends import BACKENDS, Backend, Precision
from tracker.errors import SinkError, TrackerError

OutputPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="N")]
OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="P")]
Amount = Annotated[str, tyro.conf.arg(metavar="AMOUNT")]
Sources = tyro.conf.UseAppendAction[Annotated[tuple[str, ...], tyro.conf.arg(metavar="SOURCE")]]
Number = int | float
DeviceFlag = Literal["auto", "cpu", "cuda"]
BackendFlag = Annotated[Backend | None, tyro.conf.arg(metavar="|".join(BACKENDS))]
PrecisionFlag = Annotated[Precision | None, tyro.conf.arg(metavar="fp32|fp16|bf16|int8")]


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
