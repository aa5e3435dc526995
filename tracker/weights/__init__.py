"""The networks that ship with the package: an ONNX graph and a JSON card each.

A card says what the code needs (kind, input, calibration, sha256) and what people should know
(data, licence, metrics).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engines import Engine
from tracker.errors import WeightsError

Kind = Literal["pose", "detector", "sampler"]
_SHIPPED = Path(__file__).parent


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A graph that is what its card says it is."""

    path: Path
    """The .onnx file."""
    card: dict[str, Any]

    def entry(self, *keys: str) -> Any:
        """What the card says under these nested keys."""
        value: Any = self.card
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                where = self.path.with_suffix(".json")
                raise WeightsError(f"the card {where} has no entry {'.'.join(keys)!r}")
            value = value[key]
        return value


def find(kind: Kind, name: str | Path = "nano") -> Weights:
    """A shipped network by name, or one of your own by the path of its .onnx, card beside it."""
    own = Path(name).suffix == ".onnx"
    path = Path(name) if own else _SHIPPED / f"{kind}-{name}.onnx"
    if own and not path.is_file():
        raise WeightsError(f"there are no {kind} weights at {path}")
    if not path.is_file():
        raise WeightsError(
            f"there are no {kind} weights called {name}: the package has "
            f"{', '.join(shipped(kind)) or 'none'}, your own are the path of an .onnx beside its "
            "card (for networks of others see docs/fit-sampler.md and tracker.yolo)"
        )
    weights = Weights(path, _read_card(path.with_suffix(".json")))
    if weights.entry("kind") != kind:
        raise WeightsError(f"{path} is a {weights.entry('kind')} network, not a {kind} network")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != weights.entry("sha256"):
        raise WeightsError(
            f"{path} is not the file of its card (sha256 {digest[:12]}…, the card says "
            f"{str(weights.entry('sha256'))[:12]}…): install the package again, or give it its card"
        )
    return weights


def shipped(kind: Kind) -> tuple[str, ...]:
    """Names of the networks of one kind that came with the package."""
    files = sorted(_SHIPPED.glob(f"{kind}-*.onnx"))
    return tuple(file.stem.removeprefix(f"{kind}-") for file in files)


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"the weights have no card: {path} is missing") from None
    except ValueError as error:
        raise WeightsError(f"the card {path} is not JSON: {error}") from error
    if not isinstance(card, dict):
        raise WeightsError(f"the card {path} must hold an object, got {type(card).__name__}")
    return card


def check_graph(engine: Engine, *, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Raise WeightsError unless the graph takes and gives what its caller will ask for."""
    for what, due, specs in (
        ("takes", inputs, engine.inputs),
        ("gives", outputs, engine.outputs),
    ):
        came = sorted(spec.name for spec in specs)
        if not set(due) <= set(came):
            raise WeightsError(f"the graph {what} {came}, due were {sorted(due)}: export it anew")
