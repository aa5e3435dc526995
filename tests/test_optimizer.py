"""The optimiser of the trainings against torch's own parts."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from tracker.training.loop import channels_last
from tracker.training.optimizer import QUINTIC, MuonAdamW, as_matrix, orthogonalised


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return channels_last(
        nn.Sequential(
            nn.Conv2d(3, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 40, 1),
            nn.Conv2d(40, 5, 1), nn.Flatten(), nn.LazyLinear(30),
        )
    )  # fmt: skip


def backward(net: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    net.zero_grad()
    net(torch.randn(2, 3, 6, 6)).square().mean().backward()


def test_inner_kernels_move_by_muon_and_the_rest_by_adamw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # torch's Muon orthogonalises in bfloat16, whose noise it enlarges.
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    net = small_net()
    backward(net, 1)  # makes the lazy layer
    twin = deepcopy(net)
    ours = MuonAdamW(net, weight_decay=0.1)

    inner = [twin[0].weight, twin[3].weight]
    # Muon does not care about the order of a matrix' columns: any way of flattening is an oracle.
    flat = [nn.Parameter(kernel.detach().contiguous().flatten(1)) for kernel in inner]
    muon = torch.optim.Muon(flat, lr=3e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(
        [
            {"params": [twin[4].weight, twin[6].weight], "weight_decay": 0.1},
            {"params": [p for p in twin.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=3e-3,
    )
    for seed in range(3):
        backward(net, seed)
        backward(twin, seed)
        ours.step(3e-3)
        for matrix, kernel in zip(flat, inner, strict=True):
            assert kernel.grad is not None
            matrix.grad = kernel.grad.contiguous().flatten(1)
        muon.step()
        adamw.step()
        for matrix, kernel in zip(flat, inner, strict=True):
            kernel.data.copy_(matrix.data.reshape(kernel.shape))
        for mine, due in zip(net.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine, due, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(32, 32), (40, 360), (128, 48)])
def test_orthogonalised_is_newton_schulz(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    strength = torch.logspace(0, -4, min(shape))
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = left @ torch.diag(strength) @ right
    a, b, c = QUINTIC
    due = matrix.double() / matrix.norm()
    for _ in range(5):
        due = a * due + (b * due @ due.T + c * due @ due.T @ due @ due.T) @ due
    torch.testing.assert_close(orthogonalised(matrix).double(), due, atol=2e-4, rtol=0)


def test_every_direction_of_a_kernel_moves_about_as_far() -> None:
    """With Adam the first step of a kernel with one strong gradient has rank one."""
    net = channels_last(nn.Sequential(nn.Conv2d(32, 32, 1, bias=False)))
    before = net[0].weight.detach().clone().flatten(1)
    strength = torch.logspace(0, -1, 32)
    left, right = (torch.linalg.qr(torch.randn(32, 32))[0] for _ in range(2))
    net[0].weight.grad = (left @ torch.diag(strength) @ right)[:, :, None, None]
    MuonAdamW(net, weight_decay=0.0).step(1.0)
    moved = torch.linalg.svdvals(net[0].weight.detach().flatten(1) - before)
    assert moved.max() / moved.min() < 2.5


def test_a_kernel_that_does_not_lie_channels_last_is_refused() -> None:
    with pytest.raises(ValueError, match="channels-last"):
        as_matrix(nn.Parameter(torch.zeros(32, 32, 3, 3)))


def test_goes_on_from_its_state_as_if_never_stopped() -> None:
    net = small_net()
    backward(net, 1)
    ours = MuonAdamW(net, weight_decay=0.1)
    ours.step(1e-3)
    twin = channels_last(deepcopy(net))
    again = MuonAdamW(twin, weight_decay=0.1)
    again.load_state_dict(deepcopy(ours.state_dict()))
    for one, optimizer in ((net, ours), (twin, again)):
        backward(one, 2)
        optimizer.step(1e-3)
    for mine, due in zip(twin.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mine, due, atol=0, rtol=0)
