"""Stage 3: fit a network's error bars on people that it was not trained on.

Seventeen factors on the standard deviations and one temperature on the weights, by maximum
likelihood of what is labelled; nothing that moves a keypoint.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tracker.nets.pose import PoseModule
from tracker.nets.sampler import Hypotheses
from tracker.training.losses import mixture_loss
from tracker.training.pose import PoseBatch


@dataclass(frozen=True, slots=True)
class Fit:
    """What the card stores, and what it was worth."""

    scale: tuple[float, ...]
    temperature: float
    n_views: int
    nll_before: float
    """Nats per keypoint, crop heights."""
    nll_after: float


@torch.no_grad()
def predict(
    net: PoseModule, batches: list[PoseBatch], latent: Float[Tensor, "K z"]
) -> tuple[Hypotheses, Float[Tensor, "B J 2"], Float[Tensor, "B J"]]:
    """Run the averaged network over labelled crops: hypotheses, targets, who is labelled."""
    net.eval()
    found = [net(batch.image, latent).hypotheses for batch in batches]
    whole = Hypotheses(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    target = torch.cat([batch.keypoints for batch in batches])
    labelled = torch.cat([(batch.weight > 0).float() for batch in batches])
    return whole, target, labelled


def calibrate(
    hypotheses: Hypotheses,
    target: Float[Tensor, "B J 2"],
    labelled: Float[Tensor, "B J"],
    pull: float = 0.05,
) -> Fit:
    """Fit scales and temperature by L-BFGS.

    Keypoints with few labels lean on the common scale: deviations of log scales from their mean
    cost `pull` nats each, squared. Logits that tell nothing would send the temperature to zero or
    to infinity; a faint pull holds it.
    """
    parts = Hypotheses(*(part.double() for part in hypotheses))
    target, labelled = target.double(), labelled.double()
    n_keypoints = target.shape[1]
    common = torch.zeros((), dtype=torch.float64, requires_grad=True)
    own = torch.zeros(n_keypoints, dtype=torch.float64, requires_grad=True)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def nll() -> Tensor:
        scaled = rescale(parts, torch.exp(common + own), torch.exp(log_temperature))
        return mixture_loss(scaled, target, labelled)

    before = float(nll().detach())
    optimizer = torch.optim.LBFGS(
        [common, own, log_temperature], max_iter=60, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nll() + pull * own.square().mean() + 1e-3 * log_temperature.square()
        loss.backward()
        return loss

    optimizer.step(closure)
    return Fit(
        tuple(round(float(v), 4) for v in torch.exp(common + own).detach()),
        round(float(torch.exp(log_temperature.detach())), 4),
        int((labelled.sum(dim=1) > 0).sum()),
        round(before, 4),
        round(float(nll().detach()), 4),
    )


def rescale(hypotheses: Hypotheses, scale: Float[Tensor, " J"], temperature: Tensor) -> Hypotheses:
    """Multiply standard deviations keypoint by keypoint (GΣG), divide logits."""
    return hypotheses._replace(
        chol=hypotheses.chol * scale[:, None],
        lowrank=hypotheses.lowrank * scale.repeat_interleave(2)[:, None],
        logit=hypotheses.logit / temperature,
    )
