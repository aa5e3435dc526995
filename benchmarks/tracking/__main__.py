"""Is this the best way to turn uncertain poses into tracks?

    python -m benchmarks.tracking --quick
    python -m benchmarks.tracking --json OUT --peers-python PYTHON PYTHON
    python -m benchmarks.tracking.plots OUT DIR

Six questions: what does each part of the filter gain (ladder.py), who is who in a crowd and on
TUD-Campus (identities.py), who is known again after seconds out of sight (returns.py), how well is
one real player followed (clips.py), what does a step cost (speed.py), and does memory stay flat.
Peers are run by interpreters that have them (`pip install trackers ultralytics stonesoup`, and
`norfair "numpy<2"` in one of its own); those that are not there are named and left out. Times
are processor times of one core.
"""

import json as json_format
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.environment import environment
from benchmarks.tracking import clips, identities, ladder, motion, returns, speed
from benchmarks.tracking.crowd import CrowdConfig
from benchmarks.tracking.frozen import Detections
from benchmarks.tracking.identities import Contestant, Standing
from benchmarks.tracking.ladder import Rise
from benchmarks.tracking.peers import Peers

Part = Literal["ladder", "crowds", "returns", "clips", "players", "speed", "memory"]
SLOW: tuple[Part, ...] = ("returns", "clips", "players")
# Tables want room where nobody's window sets a width.
_CONSOLE = Console() if sys.stdout.isatty() else Console(width=160)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long everything takes."""

    rhos: tuple[float, ...] = (0.0, 0.5, 0.8)
    persons: int = 5
    """On each rung of the ladder."""
    frames: int = 200
    trials: int = 6
    """Set-ups that are tried for each method."""
    crowd: CrowdConfig = field(default_factory=CrowdConfig)
    crowds: int = 5
    motions: int = 2
    """How many sources of motion the ladder uses, at most."""
    crowd_sizes: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    hypotheses: tuple[int, ...] = (1, 2, 3)
    steps: int = 60


QUICK = Effort(
    persons=2, frames=120, trials=1, motions=1, crowd=CrowdConfig(people=8, frames=120), crowds=2,
    crowd_sizes=(1, 10, 50), hypotheses=(1, 3), steps=30,
)  # fmt: skip


def main(
    *,
    quick: bool = False,
    parts: tuple[Part, ...] = ("ladder", "crowds", "returns", "clips", "players", "speed"),
    json: Path | None = None,
    peers_python: tuple[Path, ...] = (),
    frozen: Path = Path("runs/tracking"),
    memory_frames: int = 100_000,
) -> None:
    """Run it all, and print it.

    Args:
        quick: Under a minute: no tuning, no peers, no clips, few people.
        parts: Only these: ladder, crowds, returns, clips, players, speed, memory.
        json: Store each part here as soon as it is done, with the command, the machine and the
            versions; parts that are not run stay as they were.
        peers_python: Interpreters that have other trackers installed.
        frozen: Where what the networks said of the clips is kept.
        memory_frames: Watch the memory for so many frames.
    """
    effort, peers = (QUICK, Peers(())) if quick else (Effort(), Peers(peers_python))
    if quick:
        parts = tuple(part for part in parts if part not in SLOW)
    elif peers.absent:
        _CONSOLE.print(f"not installed in any --peers-python, left out: {', '.join(peers.absent)}")
    entered = identities.contestants(peers)
    runs: dict[Part, Callable[[], object]] = {
        "ladder": lambda: _ladders(effort),
        "crowds": lambda: _crowds(effort, entered),
        "returns": lambda: _returns(effort, entered),
        "clips": lambda: _clips(effort, entered, frozen),
        "players": lambda: _players(effort, frozen),
        "speed": lambda: _speed(effort, entered),
        "memory": lambda: _memory(memory_frames),
    }
    where = environment()
    for part in parts:
        result = runs[part]()
        if json is not None:
            _store(json, part, {"result": result, "effort": asdict(effort), **where})


def _ladders(effort: Effort) -> dict[str, object]:
    told: dict[str, object] = {}
    for source, draw in list(motion.sources().items())[: effort.motions]:
        rises = [
            rise
            for rho in effort.rhos
            for rise in ladder.climb(draw, rho, effort.persons, effort.frames, effort.trials)
        ]
        _print_rises(f"One person, motion from {source}", rises)
        told[source] = [asdict(rise) for rise in rises]
    return told


def _crowds(effort: Effort, entered: dict[str, Contestant]) -> dict[str, object]:
    """With ghosts, and with the same set-ups without."""
    told: dict[str, object] = {}
    tuned: dict[str, identities.Options] = {}
    for name, clutter in ("with ghosts", True), ("without ghosts", False):
        config = replace(effort.crowd, clutter=clutter)
        tuned, found = identities.crowds(
            _first_source(), entered, config, effort.crowds, effort.trials, tuned
        )
        _print_standings(f"{config.people} people in a crowd, {name}", found)
        told[name] = [asdict(standing) for standing in found]
    return told


def _returns(effort: Effort, entered: dict[str, Contestant]) -> list[object]:
    found = returns.compare(_first_source()(False), entered, 6, 360, effort.crowds)
    heads = ("kept", "renamed", "somebody else's", "not followed")
    table = _table("Numbers after 1 to 5 s out of sight", "", "", *heads)
    for r in found:
        way = "patient" if r.options else "as it comes"
        counts = (r.kept, r.renamed, r.confused, r.unseen)
        table.add_row(r.tracker, way, *map(str, counts))
    _CONSOLE.print(table)
    return [asdict(one) for one in found]


def _clips(effort: Effort, entered: dict[str, Contestant], store: Path) -> dict[str, object]:
    """Real ones; those that are not at hand are left out."""
    campus = clips.campus(store)
    if campus is None:
        return {}
    found = _on_campus(campus, entered, effort.trials)
    _print_standings("TUD-Campus; tuned: on the clip itself", found)
    return {"campus": [asdict(standing) for standing in found]}


def _players(effort: Effort, store: Path) -> list[object]:
    """The ladder on real people, where they are at hand."""
    ways = [clips.players(store, flip_test=both) for both in (False, True)]
    rises = [rise for people in ways for rise in clips.climb(people, effort.trials)]
    _print_rises("A player, labelled by humans; each clip tuned on the other", rises)
    return [asdict(rise) for rise in rises]


def _on_campus(campus: Detections, entered: dict[str, Contestant], trials: int) -> list[Standing]:
    """As they come, and the best that as many draws find on the clip itself: an upper bound."""
    found = []
    for name, one in entered.items():
        best = identities.tune(one, [campus], trials)
        setups = [{}, best] if best else [{}]
        for options, answers in zip(setups, one.follow([campus], setups), strict=True):
            found.append(identities.standing(name, options, [campus], answers))
    return found


def _speed(effort: Effort, entered: dict[str, Contestant]) -> list[object]:
    found = speed.costs(
        _first_source(), entered, effort.crowd_sizes, effort.hypotheses, effort.steps
    )
    title = "Median processor time of a step, ms: people × hypotheses"
    columns = sorted({(c.people, c.hypotheses) for c in found})
    table = _table(title, "", *(f"{n} × {k}" for n, k in columns))
    for name in entered:
        by = {(c.people, c.hypotheses): c for c in found if c.tracker == name}
        table.add_row(name, *(f"{by[c].median_ms:.2f}" for c in columns))
    _CONSOLE.print(table)
    return [asdict(cost) for cost in found]


def _memory(frames: int) -> dict[str, object]:
    told = speed.memory(_first_source(), frames)
    _CONSOLE.print(told)
    return told


def _store(path: Path, part: Part, result: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = json_format.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json_format.dumps(stored | {part: _plain(result)}, indent=1) + "\n")


def _first_source() -> motion.Source:
    return next(iter(motion.sources().values()))


def _print_rises(title: str, rises: list[Rise]) -> None:
    heads = ("RMSE px", "accel. error", "jitter", "lag", "NEES", "in 50 %", "in 95 %")
    table = _table(title, "", "", *heads)
    for rise in rises:
        cells = (_with_error(rise.mean[n], rise.standard_error[n]) for n in ladder.SCORES)
        table.add_row(rise.on, rise.rung, *cells)
    _CONSOLE.print(table)


def _print_standings(title: str, standings: list[Standing]) -> None:
    heads = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "switches", "step ms")
    table = _table(title, "", "", *heads)
    for s in standings:
        scores = s.keypoints or s.boxes
        shares = (scores.hota, scores.detection, scores.association, scores.mota, scores.idf1)
        switches = _with_error(s.switches_mean, s.switches_standard_error)
        way = "tuned" if s.options else "as it comes"
        cells = (f"{share:.3f}" for share in shares)
        table.add_row(s.tracker, way, *cells, switches, f"{s.step_ms:.2f}")
    _CONSOLE.print(table)


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, box=None)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _with_error(mean: float, error: float) -> str:
    if math.isnan(mean):
        return "-"
    return f"{mean:.2f}" if math.isnan(error) else f"{mean:.2f} ± {error:.2f}"


def _plain(value: object) -> object:
    """For JSON: numbers to five digits, and null where there is none."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.5g}")
    return value


if __name__ == "__main__":
    tyro.cli(main)
