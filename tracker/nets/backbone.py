"""A narrow ResNet of dense 3×3 convolutions: what CPUs and TensorRT both run best."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def conv_bn(n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm, no activation."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(n_out)
    )


class Residual(nn.Module):
    """The basic block of ResNet (He et al. 2016)."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_bn(n_in, n_out, stride=stride)
        self.second = conv_bn(n_out, n_out)
        same = stride == 1 and n_in == n_out
        self.skip = nn.Identity() if same else conv_bn(n_in, n_out, kernel=1, stride=stride)
        if same:
            # Starts as the identity (Goyal et al. 2017), so that a trained network can grow deeper.
            nn.init.zeros_(self.second.get_parameter("1.weight"))

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B C H W"]:
        y = self.second(torch.relu(self.first(x)))
        return torch.relu(y + self.skip(x))


class Backbone(nn.Module):
    """Features at strides 8, 16 and 32 from RGB in 0..255.

    The picture is normalised here, so that whoever feeds the graph cannot do it differently.
    """

    def __init__(self, stem: int, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, stem, stride=2), nn.ReLU())
        n_in, stages = stem, []
        for width, depth in zip(widths, blocks, strict=True):
            rest = [Residual(width, width) for _ in range(depth - 1)]
            stages.append(nn.Sequential(Residual(n_in, width, stride=2), *rest))
            n_in = width
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Float[Tensor, "B 3 h w"]) -> list[Tensor]:
        x = self.stem((image - 118.0) / 60.0)  # mean and spread of natural pictures, near enough
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[-3:]


class TopDown(nn.Module):
    """Carry coarse context down to stride 8 (a feature pyramid with one output)."""

    def __init__(self, widths: tuple[int, int, int], width: int) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.from_coarse = conv_bn(coarse, middle, kernel=1)
        self.from_middle = conv_bn(middle, middle, kernel=1)
        self.merge = nn.Sequential(conv_bn(middle, width), nn.ReLU())
        self.from_fine = conv_bn(fine, width, kernel=1)
        self.refine = Residual(width, width)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Float[Tensor, "B C h w"]:
        x = torch.relu(self.from_middle(middle) + upsample(self.from_coarse(coarse)))
        return self.refine(torch.relu(self.from_fine(fine) + upsample(self.merge(x))))


def upsample(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
    """Twice the size, bilinear."""
    return nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def cell_centres(cells: Float[Tensor, "*batch h w"]) -> Float[Tensor, "hw 2"]:
    """Centres of the cells of a map, x and y in cells."""
    h, w = cells.shape[-2:]
    # Not repeat_interleave: with free sizes it exports to a graph that does not run.
    y = torch.arange(h, device=cells.device, dtype=cells.dtype) + 0.5
    x = torch.arange(w, device=cells.device, dtype=cells.dtype) + 0.5
    return torch.stack([x[None].expand(h, w), y[:, None].expand(h, w)], dim=-1).reshape(-1, 2)
