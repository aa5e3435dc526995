"""Begin a training with weights that were trained before."""

import logging
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import torch

from engines.export import load_state
from tracker.errors import WeightsError

log = logging.getLogger("surepose.train")


def restore_mean(net: torch.nn.Module, onnx_paths: Sequence[Path]) -> None:
    """Start from the mean of some networks that came of one and the same (ADR 0073).

    Blocks that some of them lack are the identity there, and count as that: their last norm, which
    is zero then, is averaged, and what lies before it is taken from those that have it.
    """
    own = net.state_dict()
    known: dict[str, list[torch.Tensor]] = {name: [] for name in own}
    for path in onnx_paths:
        one = deepcopy(net)
        fresh = restore(one, path)
        for name, value in one.state_dict().items():
            if name not in fresh or re.search(r"\.second\.1\.(weight|bias)$", name):
                known[name].append(value)
    net.load_state_dict(own | {name: _mean(values) for name, values in known.items() if values})


def _mean(values: Sequence[torch.Tensor]) -> torch.Tensor:
    whole = torch.stack(list(values))
    return whole.mean(0) if whole.dtype.is_floating_point else whole[0]


def restore(net: torch.nn.Module, onnx_path: Path, part: str = "") -> set[str]:
    """Start from shipped weights: the graph keeps every parameter under its name.

    `net` may be a part of the network, whose parameters are named `part`… in the whole. The sampler
    may have changed since: it takes what fits and starts afresh with the rest. The backbone may
    have grown deeper: what follows in a stage starts as the identity. Returns what starts afresh.
    """
    prefix = "net." + part
    state = {name.removeprefix(prefix): value for name, value in load_state(onnx_path).items()}
    own = net.state_dict()
    fits = {n: v for n, v in state.items() if n in own and v.shape == own[n].shape}
    fresh = [n for n in own if n not in fits and not n.endswith("num_batches_tracked")]
    missing = [n for n in fresh if not (n.startswith("sampler.") or _is_new_block(n, state))]
    if missing:
        raise WeightsError(
            f"{onnx_path} is of another network: it lacks {len(missing)} parameters of this one, "
            f"first {missing[0]}"
        )
    if fresh:
        log.warning(
            "%d parameters are not in %s and start afresh: %s …",
            len(fresh),
            onnx_path,
            ", ".join(fresh[:3]),
        )
    net.load_state_dict(own | {n: torch.from_numpy(v) for n, v in fits.items()})
    return set(fresh)


def _is_new_block(name: str, state: Mapping[str, object]) -> bool:
    """Whether the parameter is of a block behind the first of its stage that `state` has not."""
    found = re.match(r"(?:backbone\.)?stages\.\d+\.[1-9]\d*\.", name)
    return found is not None and not any(other.startswith(found[0]) for other in state)
