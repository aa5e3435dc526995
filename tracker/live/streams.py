"""Several streams: their names, opened together, followed together."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from tracker.errors import SourceError
from tracker.pipeline import Delay, PoseTracker
from tracker.sources import is_live, open_source
from tracker.sources.base import LiveConfig
from tracker.sources.feed import Feed, Gathering, feed
from tracker.sources.secrets import without_secrets
from tracker.types import Detection, Frame, PoseMixture, TrackedFrame

_LISTS = (".txt", ".streams")
_NAMED = re.compile(r"([\w.-]+)\s*=\s*(\S.*)")


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream that a user names."""

    name: str
    """Unique among the streams of a run, fit for a file's name, without secrets."""
    address: str
    """May hold a password: never to be shown."""

    def __repr__(self) -> str:
        return f"StreamSpec({self.name!r}, {without_secrets(self.address)!r})"


def read_specs(sources: Sequence[str]) -> tuple[StreamSpec, ...]:
    """What `--source` says: ADDRESS or NAME=ADDRESS, or a text file with one of these per line.

    Raises:
        SourceError: such a file cannot be read or is empty, or a name is given twice.
    """
    specs: list[StreamSpec] = []
    for text in (line for source in sources for line in _lines(source)):
        named = _NAMED.fullmatch(text)
        known = {spec.name for spec in specs}
        name, address = named.groups() if named else (_unused(_name(text), known), text)
        if name in known:
            raise SourceError(f"two streams are called {name}; give each its own name")
        specs.append(StreamSpec(name, address))
    return tuple(specs)


def open_streams(
    specs: Sequence[StreamSpec],
    config: LiveConfig,
    *,
    seed: int = 0,
    fps: float | None = None,
    named: bool = False,
) -> Gathering:
    """Open all of them; frames carry their stream's name if there are several or it is wished.

    One alone that cannot be opened is an error; among several a live one may come later.
    """
    feeds: list[Feed] = []
    config = replace(config, wait=config.wait and len(specs) == 1)
    try:
        for i, spec in enumerate(specs):
            source = open_source(spec.address, seed=seed + i, fps=fps, config=config)
            feeds.append(feed(source, config))
            feeds[-1].stream = spec.name if named or len(specs) > 1 else ""
    except BaseException:
        Gathering(feeds).__exit__()
        raise
    return Gathering(feeds)


@runtime_checkable
class Batching(Protocol):
    """A pose network that takes the people of several frames at once."""

    def many(
        self, views: Sequence[tuple[Frame, Sequence[Detection]]]
    ) -> Sequence[Sequence[PoseMixture]]: ...


class StreamsTracker:
    """One tracker for each stream; the networks are shared, and the batches of crops too."""

    def __init__(self, first: PoseTracker, *, predict_ahead: float = 0.0) -> None:
        self._first = first
        self._predict_ahead = predict_ahead
        self._each: dict[str, tuple[PoseTracker, Delay]] = {}

    def __call__(self, frames: Sequence[Frame]) -> list[TrackedFrame]:
        """Follow the people in frames of different streams; what comes out now (`Delay`)."""
        followers = [self._follower(frame.stream) for frame in frames]
        looks = [
            (frame, follow.where_to_look(frame))
            for (follow, _), frame in zip(followers, frames, strict=True)
        ]
        poses = self._poses(looks)
        return [
            out
            for (follow, delay), frame, found in zip(followers, frames, poses, strict=True)
            for out in delay(follow.take_in(frame, found))
        ]

    def rest(self) -> Iterator[TrackedFrame]:
        """What still waits when no more frames come."""
        for _, delay in self._each.values():
            yield from delay.rest()

    def complaint(self, stream: str) -> str | None:
        """What is wrong with the error bars of a stream, if anything."""
        return self._follower(stream)[0].people.consistency.complaint

    def _poses(
        self, looks: Sequence[tuple[Frame, Sequence[Detection]]]
    ) -> Sequence[Sequence[PoseMixture]]:
        net = self._first.pose_net
        if len(looks) > 1 and isinstance(net, Batching):
            return net.many(looks)
        return [net(frame, boxes) for frame, boxes in looks]

    def _follower(self, stream: str) -> tuple[PoseTracker, Delay]:
        if stream not in self._each:
            tracker = self._first.sibling() if self._each else self._first
            self._each[stream] = tracker, Delay(tracker.people, self._predict_ahead)
        return self._each[stream]


def _lines(source: str) -> Iterable[str]:
    if is_live(source) or not source.endswith(_LISTS):
        return [source]
    try:
        lines = Path(source).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read the list of streams {source}: {error}") from error
    named = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not named:
        raise SourceError(f"{source} names no streams; write one address on each line")
    return named


def _name(address: str) -> str:
    if address.isdigit():
        return f"camera-{address}"
    shown = without_secrets(address)
    shown = shown.partition("://")[2] if "://" in shown else Path(shown).stem
    return re.sub(r"[^\w.-]+", "-", shown).strip("-.") or "stream"


def _unused(name: str, known: set[str]) -> str:
    number = 2
    while name in known:
        name, number = f"{name.removesuffix(f'-{number - 1}')}-{number}", number + 1
    return name
