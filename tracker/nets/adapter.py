"""The sampler behind frozen heatmaps: of another network, or of our own.

Another network shows its heatmaps and nothing else, so what our sampler reads beside them is made
of the maps themselves: they become logits on the sampler's grid, a small convolution sees which
peaks lie together (features), its mean over the crop is the context.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tracker.nets.backbone import Residual, conv_bn
from tracker.nets.pose import PoseOutput
from tracker.nets.sampler import Sampler

GRID = (32, 24)
"""Cells, high and wide, on which the sampler works: stride 8 of a crop of 256 × 192 px."""
FLOOR = 0.01
"""First guess of the background of a map, parts of a usual peak."""


def on_grid(maps: Float[Tensor, "B J h w"]) -> Float[Tensor, "B J 32 24"]:
    """Bring maps of any size to the grid: means of cells where that fits, else interpolation.

    A peak that was two cells wide at stride 4 is one cell wide at stride 8, and still tells its
    place to a small part of a cell. Doing it twice changes nothing.
    """
    h, w = maps.shape[-2:]
    if h % GRID[0] == 0 and w % GRID[1] == 0:
        return nn.functional.avg_pool2d(maps, (h // GRID[0], w // GRID[1]))
    return nn.functional.interpolate(maps, GRID, mode="bilinear", align_corners=False)


class MapLogits(nn.Module):
    """Maps as logits, of which the sampler takes softmaxes.

    A network that was taught Gaussian bumps gives p = c·exp(-d²/2σ²), so log(p/unit + floor) is
    what we want; one that was taught by cross-entropy gives logits already. Gain and floor are
    learnt per keypoint.
    """

    def __init__(self, unit: Float[Tensor, " J"], bumps: bool) -> None:
        """
        Args:
            unit: A usual peak of each keypoint's map (of bumps alone).
            bumps: Whether the maps are bumps on a background near 0, else logits.
        """
        super().__init__()
        self.bumps = bumps
        self.unit = nn.Buffer(unit[:, None, None])
        # Softmax of a bump's log gives the bump; a little narrower, its background weighs less.
        gain = math.log(1.5) if bumps else 0.0
        self.gain = nn.Parameter(torch.full((len(unit), 1, 1), gain))
        floor = torch.full((len(unit), 1, 1), math.log(FLOOR))
        self.floor = nn.Parameter(floor) if bumps else nn.Buffer(floor)

    def forward(self, maps: Float[Tensor, "B J h w"]) -> Float[Tensor, "B J H W"]:
        maps = on_grid(maps)
        if self.bumps:
            maps = torch.log(torch.relu(maps) / self.unit + torch.exp(self.floor))
        return torch.exp(self.gain) * maps


class HeatmapSampler(nn.Module):
    """Frozen heatmaps (B, J, h, w), origin and extent those of the crop → pose hypotheses."""

    def __init__(self, unit: Float[Tensor, " J"], bumps: bool, width: int = 32) -> None:
        super().__init__()
        self.logits = MapLogits(unit, bumps)
        self.features = nn.Sequential(
            nn.BatchNorm2d(len(unit)), conv_bn(len(unit), width), nn.ReLU(), Residual(width, width)
        )
        self.sampler = Sampler(len(unit), width, width)

    def forward(
        self, heatmap: Float[Tensor, "B J h w"], latent: Float[Tensor, "K z"]
    ) -> PoseOutput:
        logits = self.logits(heatmap)
        features = self.features(logits)
        context = features.mean(dim=(2, 3))
        return PoseOutput(logits, *self.sampler(logits, features, context, latent))


class FrozenSampler(nn.Module):
    """A new sampler for what our own pose network sees (`PoseModule.look`)."""

    def __init__(self, n_keypoints: int, n_features: int, n_context: int) -> None:
        super().__init__()
        self.sampler = Sampler(n_keypoints, n_features, n_context)

    def forward(
        self,
        heatmap: Float[Tensor, "B J h w"],
        features: Float[Tensor, "B C h w"],
        context: Float[Tensor, "B c"],
        latent: Float[Tensor, "K z"],
    ) -> PoseOutput:
        return PoseOutput(heatmap, *self.sampler(heatmap, features, context, latent))


class ExportedSampler(nn.Module):
    """A sampler with the inputs and outputs of its graph: those of a pose network, but for one."""

    def __init__(self, net: HeatmapSampler) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, heatmap: Float[Tensor, "B J h w"], latent: Float[Tensor, "K z"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        output = self.net(heatmap, latent)
        mean, chol, lowrank, logit = output.hypotheses
        return mean, chol, lowrank, logit, torch.sigmoid(output.visible)
