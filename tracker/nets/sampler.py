"""From heatmaps and a latent point to one full-pose Gaussian: the heart of the project.

Every keypoint becomes a token that describes its heatmap; the tokens talk to each other once per
crop, then twice per latent z. First they propose: the mean of a hypothesis is a soft-argmax whose
attention z may move to another peak, so it can tell the story of a rival pose and stays
differentiable; mean-shift steps then take it from between the peaks onto one. Then they judge:
knowing where each keypoint came to lie, and what lies there, they say how sure that is and how
likely the whole pose. Unit: crop heights, origin at the crop's top-left corner. No argmax, scatter
or Cholesky: the graph exports.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tracker.latents import LATENT_DIM
from tracker.nets.backbone import cell_centres

FLOOR = 0.002
"""Least standard deviation, crop heights: half a pixel of 256."""
LOWRANK_BOUND = 0.25
POOL = (8, 6)
KEYS = 16
WINDOWS = (0.15, 0.08, 0.033)
"""Standard deviations of the mean-shift windows, crop heights: 38, 20 and 8.5 px of 256.

They are not learned: the likelihood wants a place between the peaks (ADR 0080)."""


class Hypotheses(NamedTuple):
    """K Gaussians a person, as factors: Σ = blkdiag(C Cᵀ) + U Uᵀ with C = [[s1, 0], [c, s2]]."""

    mean: Float[Tensor, "B K J 2"]
    chol: Float[Tensor, "B K J 3"]
    lowrank: Float[Tensor, "B K D r"]
    logit: Float[Tensor, "B K"]


class Attention(nn.Module):
    """Multi-head self-attention over the few tokens of a person."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "N T d"]) -> Float[Tensor, "N T d"]:
        n, t, d = x.shape
        q, k, v = self.to_qkv(x).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        weight = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(d / self.heads), dim=-1)
        return self.out((weight @ v).transpose(1, 2).reshape(n, t, d))


class Mixer(nn.Module):
    """A pre-norm transformer layer whose norms a latent may scale and shift (FiLM)."""

    def __init__(self, dim: int, heads: int, latent: int = 0) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.film = nn.Linear(latent, 4 * dim) if latent else None

    def forward(
        self, x: Float[Tensor, "N T d"], z: Float[Tensor, "N z"] | None = None
    ) -> Float[Tensor, "N T d"]:
        scale_shift = self.film(z)[:, None].chunk(4, dim=-1) if self.film is not None else None
        for i, layer in enumerate((self.attention, self.mlp)):
            y = self.norms[i](x)
            if scale_shift is not None:
                y = y * (1 + scale_shift[2 * i]) + scale_shift[2 * i + 1]
            x = x + layer(y)
        return x


class Sampler(nn.Module):
    """Draws pose Gaussians from heatmaps (and, where there are any, the features under them)."""

    def __init__(
        self, n_keypoints: int, n_features: int, n_context: int, dim: int = 128, rank: int = 8
    ) -> None:
        super().__init__()
        self.rank = rank
        self.attend = nn.Conv2d(n_features, KEYS, 1)
        self.describe = nn.Linear(7 + POOL[0] * POOL[1] + n_features, dim)
        self.context = nn.Linear(n_context, dim)
        self.embedding = nn.Parameter(0.02 * torch.randn(n_keypoints + 1, dim))
        self.shared = nn.ModuleList(Mixer(dim, 4) for _ in range(2))
        self.conditioned = nn.ModuleList(Mixer(dim, 4, LATENT_DIM) for _ in range(2))
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, KEYS)
        # Twice the logits: heatmaps taught a wide target have tails that pull at a mean.
        self.sharpness = nn.Parameter(torch.full((n_keypoints,), math.log(2)))
        self.inspect = nn.Linear(3 + n_features, dim)
        self.shift = nn.Linear(dim, 2)
        self.chol = nn.Linear(dim, 3)
        self.lowrank = nn.Linear(dim, 2 * rank)
        self.logit = nn.Linear(dim, 1)
        # A pose weighs what its peaks weigh, in the mean, until more is learned.
        self.evidence = nn.Parameter(torch.full((n_keypoints,), 1 / n_keypoints))
        self.visible = nn.Linear(dim, 1)
        self._start_small()

    def _start_small(self) -> None:
        for layer, std in ((self.shift, 1e-3), (self.logit, 1e-3), (self.lowrank, 3e-3)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.chol.weight, std=1e-3)
        # softplus(-3.5) = 0.03: a first guess of 3 % of the crop's height.
        self.chol.bias.data.copy_(torch.tensor([-3.5, 0.0, -3.5]))

    def forward(
        self,
        heatmap: Float[Tensor, "B J h w"],
        features: Float[Tensor, "B C h w"],
        context: Float[Tensor, "B c"],
        latent: Float[Tensor, "K z"],
    ) -> tuple[Hypotheses, Float[Tensor, "B J"]]:
        """Give the hypotheses and the visibility logits."""
        b, j, h = heatmap.shape[:3]
        k = latent.shape[0]
        place = cell_centres(heatmap) / h  # (hw, 2)
        tokens = self._tokens(heatmap, features, context, place)
        visible = self.visible(self.norm(tokens[:, :j]))[..., 0]

        x = tokens[:, None].expand(b, k, j + 1, -1).reshape(b * k, j + 1, -1)
        z = latent[None].expand(b, k, -1).reshape(b * k, -1)
        propose, judge = self.conditioned
        x = propose(x, z)
        joint = self.norm(x[:, :j]).reshape(b, k, j, -1)
        peak, height, found = self._settle(joint, heatmap, features, place)
        joint = x[:, :j] + self.inspect(found).reshape(b * k, j, -1)
        x = self.norm(judge(torch.cat([joint, x[:, j:]], dim=1), z))
        joint = x[:, :j].reshape(b, k, j, -1)

        # At most 0.125 crop heights: enough for a keypoint just outside the crop.
        mean = peak + 0.125 * torch.tanh(self.shift(joint))
        raw = self.chol(joint)
        spread = nn.functional.softplus(raw[..., ::2]) + FLOOR
        chol = torch.stack([spread[..., 0], raw[..., 1], spread[..., 1]], dim=-1)
        lowrank = LOWRANK_BOUND * torch.tanh(self.lowrank(joint)).reshape(b, k, 2 * j, self.rank)
        logit = self.logit(x[:, j]).reshape(b, k) + height @ self.evidence
        return Hypotheses(mean, chol, lowrank, logit), visible

    def _settle(
        self,
        joint: Float[Tensor, "B K J d"],
        heatmap: Float[Tensor, "B J h w"],
        features: Float[Tensor, "B C h w"],
        place: Float[Tensor, "hw 2"],
    ) -> tuple[Float[Tensor, "B K J 2"], Float[Tensor, "B K J"], Float[Tensor, "B K J s"]]:
        """Put every keypoint on a peak of its map; tell where, how high it is, and all found there.

        Soft-argmax, then mean shift: look again around the last answer, through smaller windows.
        """
        heat = heatmap.flatten(2)
        # Each map leans towards what the hypothesis looks for.
        lean = self.query(joint).flatten(1, 2) @ self.attend(features).flatten(2)
        logits = (heat * torch.exp(self.sharpness)[:, None])[:, None] + lean.reshape(
            *joint.shape[:3], -1
        )
        attention = torch.softmax(logits, dim=-1)
        first = mean = attention @ place
        square = place.square().sum(dim=-1)
        for width in WINDOWS:
            # The window's -|x - mean|²/2σ² without its constant, which softmax ignores.
            window = (mean @ place.T - 0.5 * square) / width**2
            attention = torch.softmax(logits + window, dim=-1)
            mean = attention @ place
        # How much of the map lies here, as a log: what it is worth against other peaks.
        height = attention.transpose(1, 2) @ torch.log_softmax(heat, dim=-1)[..., None]
        height = height.transpose(1, 2)
        under = attention.flatten(1, 2) @ features.flatten(2).mT
        found = torch.cat([mean, 0.3 * height, under.reshape(*height.shape[:3], -1)], dim=-1)
        if self.training:
            # Within a window there is no slope towards another peak: let the loss see the first
            # answer's, too, or a hypothesis could never be pulled off the wrong limb.
            mean = mean + (first - first.detach())
        return mean, height[..., 0], found

    def _tokens(
        self, heatmap: Tensor, features: Tensor, context: Tensor, place: Float[Tensor, "hw 2"]
    ) -> Float[Tensor, "B T d"]:
        """Describe each heatmap: where, how wide, how sure, what shape, on what."""
        b, j, h, w = heatmap.shape
        flat = heatmap.reshape(b, j, h * w)
        p = torch.softmax(flat, dim=-1)
        mean = p @ place
        square = torch.stack([place[:, 0] ** 2, place[:, 0] * place[:, 1], place[:, 1] ** 2], dim=1)
        outer = torch.stack(
            [mean[..., 0] ** 2, mean[..., 0] * mean[..., 1], mean[..., 1] ** 2], dim=-1
        )
        moments = 10 * (p @ square - outer)
        log_p = torch.log_softmax(flat, dim=-1)
        entropy = -(p * log_p).sum(dim=-1, keepdim=True) / math.log(h * w)
        # A smooth maximum, and it tells an empty map (flat logits) from a sure one.
        peak = torch.logsumexp(flat, dim=-1, keepdim=True) / 10
        # The coarse map keeps second peaks that moments hide.
        pooled = p.reshape(b, j, POOL[0], h // POOL[0], POOL[1], w // POOL[1]).sum(dim=(3, 5))
        under = p @ features.reshape(b, -1, h * w).transpose(1, 2)
        described = self.describe(
            torch.cat([mean, moments, entropy, peak, pooled.flatten(2), under], dim=-1)
        )
        tokens = torch.cat([described, self.context(context)[:, None]], dim=1) + self.embedding
        for layer in self.shared:
            tokens = layer(tokens)
        return tokens
