"""The four stages' losses against closed forms."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from tracker.nets.backbone import cell_centres
from tracker.nets.sampler import Hypotheses
from tracker.pose import factors_to_cov
from tracker.training.calibrate import calibrate, rescale
from tracker.training.losses import (
    covariance,
    heatmap_loss,
    imle_loss,
    log_density,
    mixture_loss,
    soft_argmax_loss,
    taught_loss,
    visible_loss,
    winner_likelihood_loss,
)

J, K, R = 5, 4, 3


def random_hypotheses(n_people: int, seed: int = 0, spread: float = 0.1) -> Hypotheses:
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    chol = normal(n_people, K, J, 3) * 0.02
    chol[..., ::2] = chol[..., ::2].abs() + 0.02
    return Hypotheses(
        0.5 + spread * normal(n_people, K, J, 2),
        chol,
        0.03 * normal(n_people, K, 2 * J, R),
        normal(n_people, K),
    )


def test_covariance_is_the_one_that_the_runtime_forms() -> None:
    hypotheses = random_hypotheses(3)
    due = factors_to_cov(hypotheses.chol.numpy(), hypotheses.lowrank.numpy())
    np.testing.assert_allclose(covariance(hypotheses).numpy(), due, atol=1e-12)


@pytest.mark.parametrize("labelled", [[1, 1, 1, 1, 1], [1, 0, 0, 1, 0], [0, 0, 1, 0, 0]])
def test_log_density_is_the_marginal_of_the_labelled_keypoints(labelled: list[int]) -> None:
    hypotheses = random_hypotheses(1)
    target = torch.full((1, J, 2), 0.5, dtype=torch.float64)
    mask = torch.tensor([labelled], dtype=torch.float64)
    log_p, _ = log_density(hypotheses, target, mask)
    kept = np.repeat(np.array(labelled, bool), 2)
    cov = covariance(hypotheses).numpy()[0]
    mean = hypotheses.mean.numpy()[0].reshape(K, -1)
    due = [
        multivariate_normal(mean[k][kept], cov[k][np.ix_(kept, kept)]).logpdf(
            np.full(sum(kept), 0.5)
        )
        for k in range(K)
    ]
    np.testing.assert_allclose(log_p.numpy()[0], due, rtol=1e-9)


def test_mixture_loss_ends_at_the_exact_likelihood_and_starts_at_the_best_hypothesis() -> None:
    hypotheses = random_hypotheses(6)._replace(logit=torch.zeros(6, K, dtype=torch.float64))
    target = torch.full((6, J, 2), 0.5, dtype=torch.float64)
    labelled = torch.ones(6, J, dtype=torch.float64)
    log_p, _ = log_density(hypotheses, target, labelled)
    exact = -(torch.logsumexp(log_p, dim=1) - np.log(K)).sum() / (6 * J)
    best = -log_p.amax(dim=1).sum() / (6 * J)
    assert mixture_loss(hypotheses, target, labelled).item() == pytest.approx(exact.item())
    cold = mixture_loss(hypotheses, target, labelled, temperature=1e-4).item()
    assert cold == pytest.approx(best.item(), abs=1e-3)


def test_a_wide_mode_and_a_narrow_one_keep_their_masses_under_beta() -> None:
    """One label on each of two modes: equal weights are right, whatever the modes' sizes."""
    mean = torch.tensor([0.2, 0.8], dtype=torch.float64)[None, :, None, None].expand(2, 2, J, 2)
    spread = torch.tensor([0.01, 0.1], dtype=torch.float64)[None, :, None].expand(2, 2, J)
    chol = torch.stack([spread, torch.zeros_like(spread), spread], dim=-1)
    lowrank = torch.zeros(2, 2, 2 * J, 1, dtype=torch.float64)
    logit = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    hypotheses = Hypotheses(mean, chol, lowrank, logit.expand(2, 2))
    labels = torch.stack([mean[0, 0], mean[0, 1]])
    mixture_loss(hypotheses, labels, torch.ones(2, J).double(), beta=0.5).backward()
    assert logit.grad is not None
    np.testing.assert_allclose(logit.grad, 0, atol=1e-12)


def test_imle_pulls_the_nearest_hypothesis_that_is_not_there_yet() -> None:
    hypotheses = random_hypotheses(1)
    target = torch.full((1, J, 2), 0.5, dtype=torch.float64)
    mean = torch.stack([target[0] + d for d in (0.3, 0.0, 0.1, 0.2)])[None].requires_grad_()
    ones = torch.ones(1, J, dtype=torch.float64)
    loss, chosen = imle_loss(hypotheses._replace(mean=mean), target, ones, 0.1 * ones)
    assert chosen.tolist() == [2]  # hypothesis 1 sits on the truth and is left alone
    (gradient,) = torch.autograd.grad(loss, mean)
    assert gradient[0, 2].abs().sum() > 0
    assert gradient[0, [0, 1, 3]].abs().sum() == 0


def test_the_winner_learns_its_spread_without_moving() -> None:
    leaves = Hypotheses(*(p.requires_grad_() for p in random_hypotheses(2)))
    target, ones = torch.full((2, J, 2), 0.5).double(), torch.ones(2, J).double()
    winner_likelihood_loss(leaves, torch.tensor([1, 3]), target, ones).backward()
    assert leaves.mean.grad is None
    assert leaves.chol.grad is not None
    assert leaves.chol.grad[0, 1].abs().sum() > 0
    assert leaves.chol.grad[0, 0].abs().sum() == 0


def test_a_perfect_heatmap_costs_nothing_and_a_shifted_one_does() -> None:
    target = torch.tensor([[[0.4, 0.5]]])
    weight = torch.ones(1, 1)
    logits = torch.zeros(1, 1, 32, 24)
    squared = ((cell_centres(logits) / 32 - target[0]) ** 2).sum(dim=-1) * 32**2
    perfect = (-0.5 * squared).reshape(1, 1, 32, 24)
    assert heatmap_loss(perfect, target, weight).item() == pytest.approx(0, abs=1e-5)
    # Two Gaussians of one cell, two cells apart: KL = 2² / 2.
    shifted = heatmap_loss(perfect.roll(2, dims=3), target, weight).item()
    assert shifted == pytest.approx(2.0, rel=0.02)
    assert heatmap_loss(perfect, target - 5, weight).item() == 0


def test_a_map_of_two_peaks_is_taught_places_not_to_bet_on_the_likelier() -> None:
    """Seven of ten say left: the losses together are least where seven tenths of the map lie."""
    place = cell_centres(torch.zeros(1, 1, 16, 12)) / 16
    ends = torch.tensor([[0.2, 0.5], [0.55, 0.5]])
    bump = torch.exp(-0.5 * (place - ends[:, None]).square().sum(dim=-1) * 16**2)  # (2, hw)
    bump = bump / bump.sum(dim=1, keepdim=True)
    target = ends[[0] * 7 + [1] * 3][:, None]
    one = torch.ones(10, 1)

    def loss(mass: float) -> tuple[float, float]:
        p = mass * bump[0] + (1 - mass) * bump[1] + 1e-7
        maps = p.log().reshape(1, 1, 16, 12).expand(10, -1, -1, -1)
        return (
            heatmap_loss(maps, target, one).item(),
            soft_argmax_loss(maps, target, one, 0.05 * one).item(),
        )

    masses = np.linspace(0.5, 0.9, 9)
    both = np.array([loss(mass) for mass in masses])
    assert masses[both.sum(axis=1).argmin()] == pytest.approx(0.7)
    assert np.ptp(both[:, 1]) < 0.01
    near = torch.zeros(1, 1, 16, 12)
    near[0, 0, 8, 3], near[0, 0, 8, 9] = 4.0, 9.0
    near.requires_grad_()
    soft_argmax_loss(near, target[:1] + 0.03, one[:1], 0.05 * one[:1]).backward()
    assert near.grad is not None
    assert near.grad[0, 0, 8, 3].abs() > 1e-3
    assert near.grad[0, 0, 8, 9] == 0


def test_visibility_that_nobody_knows_is_not_asked_for() -> None:
    known = visible_loss(torch.tensor([[2.0]]), torch.tensor([[1.0]]))
    both = visible_loss(torch.tensor([[2.0, -9.0]]), torch.tensor([[1.0, float("nan")]]))
    assert known.item() == both.item() == pytest.approx(np.log1p(np.exp(-2)))


def test_calibration_finds_the_scale_and_the_temperature_that_made_the_data() -> None:
    hypotheses = random_hypotheses(800, spread=0.3)
    scale = torch.tensor([0.5, 0.8, 1.0, 1.5, 2.0], dtype=torch.float64)
    true = rescale(hypotheses, scale, torch.tensor(2.0))
    rng = torch.Generator().manual_seed(1)
    component = torch.multinomial(true.logit.softmax(dim=1), 1, generator=rng)[:, 0]
    row = torch.arange(800)
    factor = torch.linalg.cholesky(covariance(true)[row, component])
    noise = torch.randn(800, 2 * J, 1, generator=rng, dtype=torch.float64)
    target = true.mean[row, component] + (factor @ noise).reshape(800, J, 2)
    fit = calibrate(hypotheses, target, torch.ones(800, J, dtype=torch.float64), pull=0.0)
    np.testing.assert_allclose(fit.scale, scale, rtol=0.06)
    assert fit.temperature == pytest.approx(2.0, rel=0.15)
    assert fit.nll_after < fit.nll_before


def test_the_temperature_stays_a_number_where_sharper_is_always_better() -> None:
    """Faint logits that are always right would send it to zero, and 0/0 makes no weights."""
    hypotheses = random_hypotheses(50)
    target = torch.full((50, J, 2), 0.5, dtype=torch.float64)
    labelled = torch.ones(50, J, dtype=torch.float64)
    best = log_density(hypotheses, target, labelled)[0].argmax(dim=1)
    sure = hypotheses._replace(logit=1e-3 * torch.nn.functional.one_hot(best, K).double())
    assert calibrate(sure, target, labelled).temperature > 1e-3


def bump(x: float, y: float, height: float = 1.0, h: int = 16, w: int = 12) -> Tensor:
    """A keypoint's map as a teacher draws it: a Gaussian of one cell around (x, y) cells."""
    apart = (cell_centres(torch.zeros(h, w)) - torch.tensor([x, y])).square().sum(dim=-1)
    return height * torch.exp(-apart / 2).reshape(1, 1, h, w)


def test_a_teachers_doubt_is_learnt_as_doubt() -> None:
    """Of a map with two bumps the best answer has both, each with its share."""
    taught = bump(3.5, 4.5, 0.6) + bump(8.5, 4.5, 0.3)
    both = torch.log(taught.clamp(min=1e-9))
    nowhere, unlabelled = torch.zeros(1, 1, 2), torch.zeros(1, 1)
    costs = [
        float(taught_loss(logits, taught, nowhere, unlabelled))
        for logits in (both, torch.log(bump(3.5, 4.5) + 1e-9), torch.zeros(1, 1, 16, 12))
    ]
    assert costs[0] < 0.1 < costs[1]
    assert costs[0] < costs[2]


def test_a_teacher_is_believed_as_far_as_it_agrees_with_the_label() -> None:
    logits = torch.zeros(1, 2, 16, 12)
    taught = torch.cat([bump(3.5, 4.5), bump(8.5, 12.5)], dim=1)
    label = torch.tensor([[[3.5, 4.5], [3.5, 4.5]]]) / 16
    agrees, contradicts = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    only_first = taught * agrees[..., None, None]
    alone = taught_loss(logits, only_first, label, agrees)
    assert alone > 1
    second = taught_loss(logits, taught * contradicts[..., None, None], label, contradicts)
    assert second < 1e-3 * alone
    torch.testing.assert_close(taught_loss(logits, taught, label, torch.ones(1, 2)), alone)
    nothing = taught_loss(logits, torch.zeros_like(taught), label, torch.ones(1, 2))
    assert nothing == 0
