"""The pose network: backbone → heatmaps → sampler → K full-pose Gaussians."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tracker.nets.backbone import Backbone, TopDown
from tracker.nets.sampler import Hypotheses, Sampler

SAMPLER_PULL = 0.1
"""Share of the sampler's gradient that reaches the features; the heatmaps get none.

IMLE and the cold mixture want a bet on one side: undamped they turn the heatmaps' masses into steps
(docs/adr/0030).
"""


@dataclass(frozen=True)
class PoseConfig:
    """Sizes of a pose network."""

    n_keypoints: int = 17
    stem: int = 32
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    blocks: tuple[int, int, int, int] = (1, 2, 2, 2)
    features: int = 64


class PoseOutput(NamedTuple):
    """What training looks at; the exported graph leaves out the heatmaps."""

    heatmap: Float[Tensor, "B J h w"]
    """Logits at stride 8."""
    hypotheses: Hypotheses
    visible: Float[Tensor, "B J"]
    """Logits."""


class PoseModule(nn.Module):
    """RGB crops in 0..255, 4:3 high, sides multiples of 32 → pose hypotheses."""

    def __init__(self, config: PoseConfig = PoseConfig()) -> None:
        super().__init__()
        self.backbone = Backbone(config.stem, config.widths, config.blocks)
        self.neck = TopDown(config.widths[1:], config.features)
        self.heatmap = nn.Conv2d(config.features, config.n_keypoints, 1)
        self.sampler = Sampler(config.n_keypoints, config.features, config.widths[-1])

    def forward(self, image: Float[Tensor, "B 3 h w"], latent: Float[Tensor, "K z"]) -> PoseOutput:
        seen = self.look(image)
        heatmap = seen[0]
        if self.training:
            seen = heatmap.detach(), _damped(seen[1]), _damped(seen[2])
        # Moments, likelihoods and covariances want more digits than the convolutions do.
        with torch.autocast(image.device.type, enabled=False):
            hypotheses, visible = self.sampler(*seen, latent)
        return PoseOutput(heatmap, hypotheses, visible)

    def look(
        self, image: Float[Tensor, "B 3 h w"]
    ) -> tuple[Float[Tensor, "B J H W"], Float[Tensor, "B C H W"], Float[Tensor, "B c"]]:
        """All that the sampler sees, in float32: heatmaps, features under them, context."""
        fine, middle, coarse = self.backbone(image)
        features = self.neck(fine, middle, coarse)
        heatmap = self.heatmap(features)
        return heatmap.float(), features.float(), coarse.float().mean(dim=(2, 3))


class ExportedPose(nn.Module):
    """The pose network with the inputs and outputs of the shipped graph."""

    def __init__(self, net: PoseModule) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, image: Float[Tensor, "B 3 h w"], latent: Float[Tensor, "K z"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        output = self.net(image, latent)
        mean, chol, lowrank, logit = output.hypotheses
        return mean, chol, lowrank, logit, torch.sigmoid(output.visible)


def _damped(x: Tensor) -> Tensor:
    """The same values, with a share of the gradient."""
    return x.detach() + SAMPLER_PULL * (x - x.detach())
