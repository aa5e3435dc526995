"""Learning from what a teacher sees inside, beside what it answers (docs/adr/0066)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tracker.heatmaps import HeatmapError, NcnnHeatmaps

Net = TypeVar("Net", bound=nn.Module)

TINYPOSE_FEATURES = "tmp_77"
"""What PP-TinyPose's last steps start from: 80 channels at stride 8, context already added."""


class Pupil(nn.Module, Generic[Net]):
    """A network, and for each of its maps that learns from a teacher's what translates it."""

    def __init__(self, network: Net, n_features: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.translate = nn.ModuleList(nn.Conv2d(n_features, width, 1) for width in widths)


def hint_loss(said: Sequence[Tensor], due: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Mean squared error of a teacher's features, each channel in units of its spread in the batch.

    Every cell tells of as many numbers as the teacher has channels, where answers tell little of
    most cells.
    """
    errors = []
    for ours, theirs in zip(said, due, strict=True):
        spread, mean = torch.std_mean(theirs, dim=(0, 2, 3), keepdim=True)
        errors.append((ours.float() - (theirs - mean) / (spread + 1e-3)).square().mean())
    return torch.stack(errors).mean()


def tinypose_features(param_path: Path) -> NcnnHeatmaps | None:
    """The teacher's features, if it is a PP-TinyPose."""
    try:
        return NcnnHeatmaps(param_path, output=TINYPOSE_FEATURES)
    except HeatmapError:
        return None
