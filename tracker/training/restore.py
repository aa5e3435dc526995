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
    """Start from the mean of some networks that came of one and the same (ADR 0073)."""
    states = []
    for path in onnx_paths:
        one = deepcopy(net)
        restore(one, path)
        states.append(one.state_dict())
    net.load_state_dict(
        {
            name: torch.stack([state[name] for state in states]).mean(0)
            if value.dtype.is_floating_point
            else value
            for name, value in states[0].items()
        }
    )


def restore(net: torch.nn.Module, onnx_path: Path, part: str = "") -> None:
    """Start from shipped weights: the graph keeps every parameter under its name.

    `net` may be a part of the network, whose parameters are named `part`… in the whole. The sampler
    may have changed since: it takes what fits and starts afresh with the rest. The backbone may
    have grown deeper: what follows in a stage starts as the identity.
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


def _is_new_block(name: str, state: Mapping[str, object]) -> bool:
    """Whether the parameter is of a block behind the first of its stage that `state` has not."""
    found = re.match(r"(?:backbone\.)?stages\.\d+\.[1-9]\d*\.", name)
    return found is not None and not any(other.startswith(found[0]) for other in state)
