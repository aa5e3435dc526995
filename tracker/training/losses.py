"""The losses of the four stages, each testable alone. Unit: crop heights.

Stage 0 shapes the heatmaps, stage 1 spreads the hypotheses (implicit maximum likelihood), stage 2
turns them into a density (annealed to the exact mixture likelihood), stage 3 is calibration.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracker.nets.backbone import cell_centres
from tracker.nets.sampler import Hypotheses

LOG_2PI = math.log(2 * math.pi)


def heatmap_loss(
    logits: Float[Tensor, "B J h w"],
    target: Float[Tensor, "B J 2"],
    weight: Float[Tensor, "B J"],
    sigma: float = 1.0,
) -> Float[Tensor, ""]:
    """Cross-entropy of each map against a Gaussian of `sigma` cells around its keypoint.

    Keypoints outside the map are left out: most of their Gaussian has no cells.
    """
    b, j, h, w = logits.shape
    place = cell_centres(logits) / h
    squared = ((place[None, None] - target[:, :, None]) ** 2).sum(dim=-1) * h**2
    unnormalised = torch.exp(-0.5 * squared / sigma**2)
    mass = unnormalised.sum(dim=-1, keepdim=True)
    inside = mass[..., 0] > 0.25 * 2 * math.pi * sigma**2
    p = unnormalised / mass.clamp(min=1e-6)
    log_q = torch.log_softmax(logits.reshape(b, j, h * w), dim=-1)
    # Minus the target's entropy, so that a perfect map costs nothing.
    entropy = torch.special.entr(p).sum(dim=-1)
    divergence = -(p * log_q).sum(dim=-1) - entropy
    return _mean(divergence, weight * inside)


def taught_loss(
    logits: Float[Tensor, "B J h w"],
    taught: Float[Tensor, "B J h w"],
    target: Float[Tensor, "B J 2"],
    weight: Float[Tensor, "B J"],
    floor: float = 0.03,
) -> Float[Tensor, ""]:
    """Cross-entropy of each map against a teacher's (heights 0..1), less the teacher's entropy.

    A network trained by squared error on Gaussian bumps answers with their expectation: where it
    wavers between left and right, so may we. Its peak says how far it is believed, and where there
    is a label, so does the part of its mass that lies around it.
    """
    bump = (taught - floor).clamp(min=0).flatten(2)
    mass = bump.sum(dim=-1, keepdim=True)
    p = bump / mass.clamp(min=1e-6)
    place = cell_centres(logits) / logits.shape[-2]
    squared = ((place - target[:, :, None]) ** 2).sum(dim=-1) * logits.shape[-2] ** 2
    # A bump of one cell's deviation has 0.8 of its mass within this window.
    near = ((p * torch.exp(-squared / 8)).sum(dim=-1) / 0.8).clamp(max=1)
    trust = taught.flatten(2).amax(dim=-1).clamp(max=1) * torch.where(weight > 0, near, 1)
    trust = trust * (mass[..., 0] > 1)
    log_q = torch.log_softmax(logits.flatten(2), dim=-1)
    return _mean(-(p * log_q).sum(dim=-1) - torch.special.entr(p).sum(dim=-1), trust)


def soft_argmax_loss(
    logits: Float[Tensor, "B J h w"],
    target: Float[Tensor, "B J 2"],
    weight: Float[Tensor, "B J"],
    scale: Float[Tensor, "B J"],
    sharpness: float = 2.5,
    reach: float = 3.0,
) -> Float[Tensor, ""]:
    """L1 of the mean of the sharpened map near the keypoint, in units of the OKS fall-off.

    It teaches a peak its place within the cell. Cells more than `reach` cells from the keypoint are
    left out: over the whole map the median would win, a bet on the likelier of two peaks, and the
    map's masses, which `heatmap_loss` teaches, would become a step of 0.2 or 0.8.
    """
    b, j, h, w = logits.shape
    place = cell_centres(logits) / h
    squared = ((place - target[:, :, None]) ** 2).sum(dim=-1) * h**2
    # Not infinity: where nothing is in reach the mean of the whole map is as good.
    near = sharpness * logits.reshape(b, j, h * w) - 1e4 * (squared > reach**2)
    error = (torch.softmax(near, dim=-1) @ place - target).abs().sum(dim=-1) / scale
    return _mean(error.clamp(max=4.0), weight)


def imle_loss(
    hypotheses: Hypotheses,
    target: Float[Tensor, "B J 2"],
    weight: Float[Tensor, "B J"],
    scale: Float[Tensor, "B J"],
    epsilon: float = 0.05,
) -> tuple[Float[Tensor, ""], Int[Tensor, " B"]]:
    """Pull the nearest hypothesis onto the truth (rejection-sampling IMLE, arXiv 2409.17439).

    The distance is the mean over keypoints of |error| in OKS fall-offs. Hypotheses nearer than
    `epsilon` are not selected: they need no pull, and selecting them would starve the others.
    Give the mean distance of the selected, and their index k.
    """
    squared = ((hypotheses.mean - target[:, None]) ** 2).sum(dim=-1) / scale[:, None] ** 2
    # Charbonnier: mislabelled keypoints pull with bounded force.
    distance = torch.sqrt(squared + 0.01) - 0.1
    total = (distance * weight[:, None]).sum(dim=-1) / weight.sum(dim=-1).clamp(min=1e-6)[:, None]
    barred = total.detach() < epsilon
    barred &= ~barred.all(dim=1, keepdim=True)
    chosen = total.detach().masked_fill(barred, math.inf).argmin(dim=1)
    best = total.gather(1, chosen[:, None])[:, 0]
    return _mean(best, weight.amax(dim=-1)), chosen


def covariance(hypotheses: Hypotheses) -> Float[Tensor, "B K D D"]:
    """Form Σ = blkdiag(C Cᵀ) + U Uᵀ."""
    s1, c, s2 = hypotheses.chol.unbind(dim=-1)
    b, k, j = s1.shape
    first = torch.stack([s1**2, s1 * c], dim=-1)
    second = torch.stack([s1 * c, c**2 + s2**2], dim=-1)
    blocks = torch.stack([first, second], dim=-2)  # (B, K, J, 2, 2)
    eye = torch.eye(j, device=s1.device, dtype=s1.dtype)
    block_diagonal = torch.einsum("bkjxy,ji->bkjxiy", blocks, eye).reshape(b, k, 2 * j, 2 * j)
    return block_diagonal + hypotheses.lowrank @ hypotheses.lowrank.transpose(-1, -2)


def log_density(
    hypotheses: Hypotheses, target: Float[Tensor, "B J 2"], labelled: Float[Tensor, "B J"]
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"]]:
    """Log density of the labelled keypoints under each hypothesis: the exact marginal.

    Unlabelled rows become (M Σ M + I - M, residual 0), which adds nothing. Also gives
    log|Σ_oo| / n_o, the mean log variance.
    """
    mask = labelled.repeat_interleave(2, dim=-1)[:, None]  # (B, 1, D)
    residual = (target[:, None] - hypotheses.mean).flatten(2) * mask
    sigma = covariance(hypotheses) * mask[..., None] * mask[..., None, :]
    sigma = sigma + torch.diag_embed((1 - mask).expand(-1, sigma.shape[1], -1))
    # Where rounding spoils one matrix the loss is NaN, and the step is left out.
    factor = torch.linalg.cholesky_ex(sigma).L
    white = torch.linalg.solve_triangular(factor, residual[..., None], upper=False)[..., 0]
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    n = mask.sum(dim=-1)
    log_p = -0.5 * ((white**2).sum(dim=-1) + log_det + n * LOG_2PI)
    return log_p, log_det / n.clamp(min=1)


def mixture_loss(
    hypotheses: Hypotheses,
    target: Float[Tensor, "B J 2"],
    labelled: Float[Tensor, "B J"],
    temperature: float = 1.0,
    beta: float = 0.0,
) -> Float[Tensor, ""]:
    """Annealed mixture likelihood, nats per labelled keypoint.

    L_T = -T log Σₖ πₖ exp(log pₖ / T): T → 0 is IMLE's minimum, T = 1 the exact likelihood.
    `beta` weights each person with a detached |Σ|^(β/n) (β-NLL, Seitzer 2022), so that the hard
    ones are not given up for a wide covariance. The mean over hypotheses is taken by their weights,
    not by their shares in this label: a factor that depends on the label would tilt the masses of
    modes of different sizes.
    """
    log_p, log_variance = log_density(hypotheses, target, labelled)
    log_pi = torch.log_softmax(hypotheses.logit, dim=-1)
    score = log_pi + log_p / temperature
    loss = -temperature * torch.logsumexp(score, dim=-1)
    person = torch.exp(beta * (log_pi.exp() * log_variance).detach().sum(dim=-1))
    count = labelled.sum(dim=-1)
    # Normalised so that beta changes the balance between people, not the step size.
    person = torch.where(count > 0, person, torch.zeros_like(person))
    person = person * (count > 0).sum() / person.sum().clamp(min=1e-12)
    return (person * loss).sum() / count.sum().clamp(min=1)


def winner_likelihood_loss(
    hypotheses: Hypotheses,
    chosen: Int[Tensor, " B"],
    target: Float[Tensor, "B J 2"],
    labelled: Float[Tensor, "B J"],
) -> Float[Tensor, ""]:
    """Teach the selected hypothesis' covariance its residual, without moving its mean.

    Detaching the mean keeps the two gradients apart (faithful heteroscedastic regression, Stirn
    2023): otherwise hard people are given up for a wide covariance before they are learnt.
    """
    row = torch.arange(len(chosen), device=chosen.device)
    winner = Hypotheses(*(part[row, chosen][:, None] for part in hypotheses))
    return mixture_loss(winner._replace(mean=winner.mean.detach()), target, labelled)


def visible_loss(logit: Float[Tensor, "B J"], visible: Float[Tensor, "B J"]) -> Float[Tensor, ""]:
    """Binary cross-entropy where the answer is known (not NaN)."""
    known = ~torch.isnan(visible)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        logit, torch.nan_to_num(visible), reduction="none"
    )
    return _mean(loss, known.to(loss))


def _mean(value: Tensor, weight: Tensor) -> Float[Tensor, ""]:
    return (value * weight).sum() / weight.sum().clamp(min=1)
