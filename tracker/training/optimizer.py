"""Muon for the convolutions between the layers, AdamW for everything else (docs/adr/0065)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST_SIDE = 24
"""A kernel with fewer inputs or outputs, as of the last layers, has no directions to even out."""


QUINTIC = (3.4445, -4.7750, 2.0315)
"""Newton-Schulz coefficients of Jordan et al. 2024: quick, and singular values end near one."""
STEPS = 5


class Muon(torch.optim.Optimizer):
    """Moves all directions of a matrix equally fast (Jordan et al. 2024).

    The steps are `torch.optim.Muon`'s, scaled to match AdamW's (arXiv 2502.16982). torch's takes
    them in bfloat16, which costs a CPU without units for it fifteen seconds a step of ours.
    """

    def __init__(self, matrices: list[nn.Parameter], weight_decay: float) -> None:
        super().__init__(matrices, {"lr": 1e-3, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
                ahead = orthogonalised(matrix.grad.lerp(mean, momentum))
                matrix.mul_(1 - lr * group["weight_decay"])
                matrix.add_(ahead, alpha=-0.2 * lr * max(matrix.shape) ** 0.5)


def orthogonalised(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The same singular vectors, all singular values near one (Newton-Schulz).

    Each step multiplies by a polynomial of the Gram matrix from the left. These are gathered on the
    short side and meet the long one at the end: two products with it instead of ten.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.T).T
    matrix = matrix / matrix.norm().clamp(min=1e-7)
    a, b, c = QUINTIC
    gram, whole = matrix @ matrix.T, torch.eye(len(matrix)).to(matrix)
    for _ in range(STEPS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        whole = factor @ whole
        gram = factor @ gram @ factor
    return whole @ matrix


class MuonAdamW:
    """One optimiser over all of a network's parameters; a step moves both kinds alike.

    Muon takes a kernel for the matrix from its inputs to its outputs.
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
            self._parts.append(Muon(self._matrices, weight_decay))

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
