"""Where bfloat16 is quicker than float32, and where it is a trap."""

import time
from functools import cache

import torch

BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16", "bf16")
"""Names in `torch.cpu.get_capabilities()`; the last is Arm's."""


def mixed_precision(device: str) -> torch.autocast:
    """bfloat16 for the convolutions, where the device is quicker in it.

    A CPU without units for it takes thirteen times as long in bfloat16 as in float32, and some with
    units take longer, too: an Intel Xeon with AVX-512 and without AMX 1.6 times.
    """
    enabled = device != "cpu" or (_has_units() and bfloat16_is_quicker())
    return torch.autocast(device, dtype=torch.bfloat16, enabled=enabled)


@cache
def bfloat16_is_quicker() -> bool:
    """Whether a convolution and its gradients are, measured once on this CPU."""
    return seconds(torch.bfloat16) < seconds(torch.float32)


def seconds(dtype: torch.dtype) -> float:
    """The shortest of three tries at a convolution in the middle of our networks."""
    # Of ones: random numbers would be missing in the training that asks.
    image, kernel = (
        torch.ones(shape, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
        for shape in ((8, 64, 64, 48), (64, 64, 3, 3))
    )
    tries = []
    for _ in range(4):  # the first compiles
        begun = time.perf_counter()
        torch.nn.functional.conv2d(image, kernel, padding=1).sum().backward()
        tries.append(time.perf_counter() - begun)
    return min(tries[1:])


def _has_units() -> bool:
    has = torch.cpu.get_capabilities()
    return any(has.get(name) for name in BFLOAT16_UNITS)
