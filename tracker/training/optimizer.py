"""Muon for the convolutions between the layers, AdamW for everything else (docs/adr/0065)."""

from typing import Any

import torch
from torch import nn

LEAST_SIDE = 24
"""A kernel with fewer inputs or outputs, as of the last layers, has no directions to even out."""


class MuonAdamW:
    """One optimiser over all of a network's parameters; a step moves both kinds alike.

    Muon (Jordan et al. 2024; scaled as in arXiv 2502.16982) takes a kernel for the matrix from its
    inputs to its outputs and moves all directions of it equally fast.
    """

    def __init__(self, net: nn.Module, weight_decay: float) -> None:
        parameters = list(net.parameters())
        self._kernels = [p for p in parameters if _is_inner_kernel(p)]
        self._matrices = [as_matrix(kernel) for kernel in self._kernels]
        inner = set(map(id, self._kernels))
        others = [p for p in parameters if id(p) not in inner]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups)]
        if self._matrices:
            self._parts.append(
                torch.optim.Muon(
                    self._matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
                )
            )

    def step(self, learning_rate: float) -> None:
        """Move against the gradients that lie in the parameters."""
        for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
            matrix.grad = None if kernel.grad is None else _rows(kernel.grad)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        for part, own in zip(self._parts, state, strict=True):
            part.load_state_dict(own)


def as_matrix(kernel: nn.Parameter) -> nn.Parameter:
    """The same numbers in the same memory, a row for each output; the kernel is channels-last."""
    rows = _rows(kernel.data)
    if rows.data_ptr() != kernel.data_ptr():
        raise ValueError("the kernel must lie channels-last in memory, or its matrix is a copy")
    return nn.Parameter(rows)


def _rows(kernel: torch.Tensor) -> torch.Tensor:
    return kernel.permute(0, 2, 3, 1).reshape(len(kernel), -1)


def _is_inner_kernel(parameter: nn.Parameter) -> bool:
    if parameter.ndim != 4:
        return False
    return min(len(parameter), parameter[0].numel()) >= LEAST_SIDE
