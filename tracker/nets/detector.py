"""The person detector: one stage, no anchors, a box and a score for every cell at strides 8-32."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tracker.nets.backbone import Backbone, Residual, cell_centres, conv_bn, upsample

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class DetectorConfig:
    """Sizes of a detector."""

    stem: int = 16
    widths: tuple[int, int, int, int] = (24, 48, 96, 160)
    blocks: tuple[int, int, int, int] = (1, 2, 2, 2)
    features: int = 64


class DetectorModule(nn.Module):
    """RGB in 0..255, sides multiples of 32 → boxes (input px) and score logits of N cells."""

    def __init__(self, config: DetectorConfig = DetectorConfig()) -> None:
        super().__init__()
        width = config.features
        self.backbone = Backbone(config.stem, config.widths, config.blocks)
        self.lateral = nn.ModuleList(conv_bn(n, width, kernel=1) for n in config.widths[1:])
        self.refine = nn.ModuleList(Residual(width, width) for _ in STRIDES)
        self.head = nn.Sequential(conv_bn(width, width), nn.ReLU())
        self.out = nn.Conv2d(width, 5, 1)
        # A prior of 1 % people, so that the many empty cells do not drown the first steps.
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)
        nn.init.constant_(self.out.bias[:1], -4.6)

    def forward(
        self, image: Float[Tensor, "B 3 h w"]
    ) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"]]:
        boxes, logits = [], []
        for level, stride in zip(self._pyramid(image), STRIDES, strict=True):
            out = self.out(self.head(level)).float().flatten(2).transpose(1, 2)  # (B, hw, 5)
            centre = stride * cell_centres(level.float())
            # Distances to the four sides in units of four strides, kept positive and tame by exp.
            side = 4.0 * stride * torch.exp(out[..., 1:].clamp(-6, 4))
            boxes.append(torch.cat([centre - side[..., :2], centre + side[..., 2:]], dim=-1))
            logits.append(out[..., 0])
        return torch.cat(boxes, dim=1), torch.cat(logits, dim=1)

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        features = [f(x) for f, x in zip(self.lateral, self.backbone(image), strict=True)]
        for i in (1, 0):
            features[i] = features[i] + upsample(features[i + 1])
        return [f(torch.relu(x)) for f, x in zip(self.refine, features, strict=True)]


class ExportedDetector(nn.Module):
    """The detector with the outputs of the shipped graph."""

    def __init__(self, net: DetectorModule) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Float[Tensor, "B 3 h w"]) -> tuple[Tensor, Tensor]:
        box, logit = self.net(image)
        return box, torch.sigmoid(logit)
