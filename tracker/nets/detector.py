"""The person detector: one stage, no anchors, a box and a score for every cell at strides 8-32."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tracker.nets.backbone import Backbone, Residual, cell_centres, conv_bn, upsample

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class DetectorConfig:
    """Sizes of a detector; the backbone is the pose network's, so that it can start from there."""

    stem: int = 32
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    blocks: tuple[int, int, int, int] = (1, 2, 2, 2)
    features: int = 64


class Pyramid(nn.Module):
    """Carry context down to the fine features and detail back up (PANet, arXiv 1803.01534)."""

    def __init__(self, widths: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_bn(n, width, kernel=1) for n in widths)
        self.context = conv_bn(4 * width, width, kernel=1)
        self.down = nn.ModuleList(Residual(width, width) for _ in range(2))
        self.shrink = nn.ModuleList(conv_bn(width, width, stride=2) for _ in range(2))
        self.up = nn.ModuleList(Residual(width, width) for _ in range(2))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        fine, middle, coarse = (
            torch.relu(f(x)) for f, x in zip(self.lateral, features, strict=True)
        )
        coarse = torch.relu(self.context(self._surroundings(coarse)))
        middle = self.down[0](middle + upsample(coarse))
        fine = self.down[1](fine + upsample(middle))
        middle = self.up[0](middle + self.shrink[0](fine))
        return [fine, middle, self.up[1](coarse + self.shrink[1](middle))]

    @staticmethod
    def _surroundings(x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B C h w"]:
        """The maxima of growing neighbourhoods, so that one cell sees a person as large as all."""
        pooled = [x]
        for _ in range(3):
            pooled.append(nn.functional.max_pool2d(pooled[-1], 5, stride=1, padding=2))
        return torch.cat(pooled, dim=1)


class DetectorModule(nn.Module):
    """RGB in 0..255, sides multiples of 32 → boxes (input px) and score logits of N cells."""

    def __init__(self, config: DetectorConfig = DetectorConfig()) -> None:
        super().__init__()
        width = config.features
        self.backbone = Backbone(config.stem, config.widths, config.blocks)
        self.pyramid = Pyramid(config.widths[1:], width)
        self.score = nn.Sequential(conv_bn(width, width), nn.ReLU(), nn.Conv2d(width, 1, 1))
        self.sides = nn.Sequential(conv_bn(width, width), nn.ReLU(), nn.Conv2d(width, 4, 1))
        # A prior of 1 % people, so that the many empty cells do not drown the first steps.
        for last, prior in ((self.score[-1], -4.6), (self.sides[-1], 0.0)):
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            nn.init.constant_(last.bias, prior)

    def forward(
        self, image: Float[Tensor, "B 3 h w"]
    ) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"]]:
        return self.read(self.levels(image))

    def levels(self, image: Float[Tensor, "B 3 h w"]) -> list[Tensor]:
        """Features at strides 8, 16 and 32, (B, c, h, w) each."""
        return self.pyramid(self.backbone(image))

    def read(self, levels: list[Tensor]) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"]]:
        """Boxes (input px) and score logits of all cells, fine to coarse."""
        boxes, logits = [], []
        for level, stride in zip(levels, STRIDES, strict=True):
            centre = stride * cell_centres(level.float())
            # Distances to the four sides in units of four strides, kept positive and tame by exp.
            raw = self.sides(level).float().flatten(2).transpose(1, 2)  # (B, hw, 4)
            side = 4.0 * stride * torch.exp(raw.clamp(-6, 4))
            boxes.append(torch.cat([centre - side[..., :2], centre + side[..., 2:]], dim=-1))
            logits.append(self.score(level).float().flatten(1))
        return torch.cat(boxes, dim=1), torch.cat(logits, dim=1)


class ExportedDetector(nn.Module):
    """The detector with the outputs of the shipped graph: boxes and the probability of each."""

    def __init__(
        self,
        net: DetectorModule,
        calibration: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0),
    ) -> None:
        super().__init__()
        self.net = net
        self.calibration = calibration

    def forward(self, image: Float[Tensor, "B 3 h w"]) -> tuple[Tensor, Tensor]:
        box, logit = self.net(image)
        slope, *of_size = self.calibration
        return box, torch.sigmoid(slope * logit + size_features(box) @ torch.tensor(of_size))


def size_features(box: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3"]:
    """What a score may depend on beside itself: 1, log height over 100 px, and its square."""
    height = torch.log((box[..., 3] - box[..., 1]).clamp(min=1) / 100)
    return torch.stack([torch.ones_like(height), height, height**2], dim=-1)
