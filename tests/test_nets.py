"""The networks: any size, any number of hypotheses, and what their parts promise."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tracker.latents import LATENT_DIM, sobol_latents
from tracker.nets.backbone import cell_centres
from tracker.nets.detector import STRIDES, DetectorConfig, DetectorModule
from tracker.nets.pose import SAMPLER_PULL, PoseConfig, PoseModule
from tracker.nets.sampler import FLOOR, Hypotheses, Sampler
from tracker.training.losses import imle_loss, mixture_loss

TINY = PoseConfig(stem=8, widths=(8, 8, 16, 16), blocks=(1, 1, 1, 1), features=16)


@pytest.fixture(scope="module")
def net() -> PoseModule:
    torch.manual_seed(0)
    return PoseModule(TINY).eval()


@pytest.mark.parametrize("n_hypotheses", [1, 8])
@pytest.mark.parametrize(("height", "width"), [(128, 96), (256, 192)])
def test_one_network_serves_every_crop_size_and_number_of_hypotheses(
    net: PoseModule, n_hypotheses: int, height: int, width: int
) -> None:
    latent = torch.from_numpy(sobol_latents(n_hypotheses))
    output = net(torch.rand(2, 3, height, width) * 255, latent)
    assert output.heatmap.shape == (2, 17, height // 8, width // 8)
    assert output.hypotheses.mean.shape == (2, n_hypotheses, 17, 2)
    assert output.hypotheses.lowrank.shape[:3] == (2, n_hypotheses, 34)
    assert (output.hypotheses.chol[..., ::2] > FLOOR).all()


def test_a_hypothesis_depends_on_its_latent_alone(net: PoseModule) -> None:
    image = torch.rand(1, 3, 128, 96) * 255
    latent = torch.from_numpy(sobol_latents(8))
    together = net(image, latent).hypotheses.mean
    alone = net(image, latent[3:4]).hypotheses.mean
    torch.testing.assert_close(together[:, 3:4], alone, atol=1e-5, rtol=0)
    assert (together[:, 0] - together[:, 3]).abs().max() > 1e-6


def test_the_sampler_can_be_taught_to_follow_a_peak_by_its_latent() -> None:
    """Two equal peaks, two latents: after a few steps each hypothesis sits on its own peak."""
    torch.manual_seed(0)
    sampler = Sampler(1, 4, 4, dim=32, rank=2)
    heatmap = torch.full((1, 1, 32, 24), -10.0)
    heatmap[0, 0, 16, 4] = heatmap[0, 0, 16, 20] = 5.0
    features = torch.zeros(1, 4, 32, 24)
    features[0, 0, :, :12], features[0, 1, :, 12:] = 1.0, 1.0
    latent = torch.zeros(2, LATENT_DIM)
    latent[0, 0], latent[1, 0] = 2.0, -2.0
    due = torch.tensor([[4.5 / 32, 16.5 / 32], [20.5 / 32, 16.5 / 32]])
    optimizer = torch.optim.Adam(sampler.parameters(), lr=3e-3)
    for _ in range(150):
        hypotheses, _ = sampler(heatmap, features, torch.zeros(1, 4), latent)
        loss = (hypotheses.mean[0, :, 0] - due).abs().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_the_sampler_hardly_bends_what_it_looks_at() -> None:
    torch.manual_seed(0)
    net = PoseModule(TINY).train()
    image, latent = 255 * torch.rand(4, 3, 128, 96), torch.randn(3, LATENT_DIM)
    trunk, last = net.neck.from_fine[0].weight, net.heatmap.weight

    def pull(hypotheses: Hypotheses) -> tuple[torch.Tensor, torch.Tensor | None]:
        loss = hypotheses.chol.sum() + hypotheses.mean.square().sum()
        return torch.autograd.grad(loss, (trunk, last), allow_unused=True)

    output = net(image, latent)
    damped, none = pull(output.hypotheses)
    heatmap, features, context = net.look(image)
    whole, _ = pull(net.sampler(heatmap.detach(), features, context, latent)[0])
    assert none is None
    torch.testing.assert_close(damped, SAMPLER_PULL * whole, rtol=1e-3, atol=1e-6)
    assert whole.abs().max() > 1e-4
    assert torch.autograd.grad(output.heatmap.sum(), last)[0].abs().max() > 0


def test_masses_follow_the_heights_of_the_peaks() -> None:
    """Two peaks anywhere, one as likely as its share of the map: so is what the sampler says."""
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Maps, both places, mass of the first."""
        first = rng.uniform([0.05, 0.2], [0.25, 0.8], (n, 2))
        places = np.stack([first, first + np.array([0.35, 0.0])], axis=1)
        mass = rng.uniform(0.05, 0.95, n)
        cell = cell_centres(torch.zeros(1, 1, 16, 12)).numpy() / 16
        squared = ((cell - places[:, :, None]) ** 2).sum(axis=-1)
        bump = np.exp(-0.5 * squared / 0.05**2)
        bump /= bump.sum(axis=-1, keepdims=True)
        p = (np.stack([mass, 1 - mass], axis=1)[..., None] * bump).sum(axis=1)
        maps = torch.from_numpy(np.log(p + 1e-5)).float().reshape(n, 1, 16, 12)
        return maps, torch.from_numpy(places).float(), torch.from_numpy(mass).float()

    torch.manual_seed(0)
    sampler = Sampler(1, 4, 4, dim=32, rank=2)
    latent = torch.from_numpy(sobol_latents(4))
    sides = torch.zeros(1, 4, 16, 12)
    sides[:, 0, :, :5], sides[:, 1, :, 5:] = 1.0, 1.0

    def read(maps: Tensor, k: Tensor) -> Hypotheses:
        n = len(maps)
        return sampler(maps, sides.expand(n, -1, -1, -1), torch.zeros(n, 4), k)[0]

    # A step that falls, as the product's does, and time enough: from the starts 0 to 5 the error is
    # .007 to .014; with 300 equal steps .006 to .078, by the start and by the CPU.
    steps = 450
    optimizer = torch.optim.Adam(sampler.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.03, steps)
    one = torch.ones(32, 1)
    for step in range(steps):
        maps, places, mass = draw(32)
        mode = (torch.rand(32, generator=torch.Generator().manual_seed(step)) > mass).long()
        target = places[torch.arange(32), mode][:, None] + 0.02 * torch.randn(32, 1, 2)
        if step < steps // 3:
            loss, _ = imle_loss(read(maps, torch.randn(4, LATENT_DIM)), target, one, 0.05 * one)
        else:
            loss = mixture_loss(read(maps, latent), target, one, beta=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    maps, places, mass = draw(256)
    with torch.no_grad():
        hypotheses = read(maps, latent)
    nearer = (hypotheses.mean - places[:, None]).norm(dim=-1).argmin(dim=-1)
    told = (torch.softmax(hypotheses.logit, dim=-1) * (nearer == 0)).sum(dim=1)
    assert (told - mass).abs().mean() < 0.05


def test_the_detector_gives_a_sound_box_for_every_cell() -> None:
    config = DetectorConfig(stem=8, widths=(8, 8, 16, 16), blocks=(1, 1, 1, 1), features=8)
    box, logit = DetectorModule(config).eval()(torch.rand(2, 3, 96, 160) * 255)
    n_cells = sum((96 // s) * (160 // s) for s in STRIDES)
    assert box.shape == (2, n_cells, 4)
    assert logit.shape == (2, n_cells)
    assert (box[..., 2:] > box[..., :2]).all()
    centre = (box[..., :2] + box[..., 2:]) / 2
    assert (centre.amin(dim=1) < 16).all()
    assert (centre.amax(dim=1) > torch.tensor([144.0, 80.0])).all()


@pytest.mark.parametrize("apart", [0.12, 0.2, 0.4])
@pytest.mark.parametrize("mass", [0.6, 0.8])
def test_a_hypothesis_ends_on_the_higher_of_two_peaks(apart: float, mass: float) -> None:
    torch.manual_seed(0)
    sampler = Sampler(1, 4, 4, dim=32, rank=2).eval()
    place = cell_centres(torch.zeros(1, 1, 32, 24)) / 32
    peaks = torch.tensor([[0.3 - apart / 2, 0.4], [0.3 + apart / 2, 0.6]])
    bumps = torch.exp(-0.5 * (place[:, None] - peaks).square().sum(dim=-1) / 0.04**2)
    heat = torch.log(bumps @ torch.tensor([mass, 1 - mass]) + 1e-5).reshape(1, 1, 32, 24)
    # On nothing to look for, and shifted by next to nothing, as a new sampler is.
    hypotheses, _ = sampler(heat, torch.zeros(1, 4, 32, 24), torch.zeros(1, 4), torch.zeros(1, 16))
    assert (hypotheses.mean[0, 0, 0] - peaks[0]).norm() < 0.02


def test_settling_slopes_differ_in_training_but_answers_do_not() -> None:
    torch.manual_seed(0)
    sampler = Sampler(3, 4, 4, dim=32, rank=2)
    seen = torch.randn(2, 3, 32, 24), torch.randn(2, 4, 32, 24), torch.randn(2, 4)
    latent = torch.randn(5, LATENT_DIM)
    trained, _ = sampler.train()(*seen, latent)
    used, _ = sampler.eval()(*seen, latent)
    torch.testing.assert_close(trained.mean, used.mean)
