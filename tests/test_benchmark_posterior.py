"""The figures have the posterior that they state; the benchmark tells right from wrong ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chi2, multivariate_normal

from benchmarks import posterior
from benchmarks.figures import MIRROR, NAMES, Truth, draw_labels, make_figures
from benchmarks.posterior_metrics import Predicted, log_density, nearer_first, score, summary

J = len(MIRROR)


def one_figure(n: int) -> Truth:
    """The posterior of one picture, n times over."""
    truth = make_figures(1, np.random.default_rng(3)).truth
    repeated = (np.repeat(x, n, axis=0) for x in (truth.mean, truth.cov, truth.log_mass))
    return Truth(*repeated)


def test_labels_have_the_mass_and_the_covariance_that_the_figure_states() -> None:
    n = 20_000
    truth = one_figure(n)
    label = draw_labels(truth, np.random.default_rng(0))
    offset = (label[:, None] - truth.mean).reshape(n, 2, -1)
    squared = np.einsum("nmd,nde,nme->nm", offset, np.linalg.inv(truth.cov), offset)
    mode = squared.argmin(axis=1)
    mass = np.exp(truth.log_mass[0, 0])
    assert abs((mode == 0).mean() - mass) < 5 * np.sqrt(mass * (1 - mass) / n)
    # Sum of squares over a pose: χ² with D degrees of freedom, variance 2D.
    near = squared.min(axis=1)
    assert abs(near.mean() - 2 * J) < 5 * np.sqrt(4 * J / n)
    residual = offset[np.arange(n), mode]
    cov = residual.T @ residual / n
    variance = truth.cov[0].diagonal()
    error = np.sqrt((np.outer(variance, variance) + truth.cov[0] ** 2) / n)
    assert (np.abs(cov - truth.cov[0]) < 5 * error).all()


def test_the_second_pose_is_the_first_with_left_and_right_changed_over() -> None:
    figures = make_figures(50, np.random.default_rng(0))
    first, second = figures.truth.mean.swapaxes(0, 1)
    np.testing.assert_array_equal(second, first[:, MIRROR])
    # An involution that leaves the covariance and all names but left and right as they are.
    np.testing.assert_array_equal(MIRROR[MIRROR], np.arange(J))
    assert [NAMES[i][2:] for i in MIRROR[1:]] == [name[2:] for name in NAMES[1:]]
    mirrored = np.repeat(2 * MIRROR, 2) + np.tile([0, 1], J)
    cov = figures.truth.cov
    np.testing.assert_array_equal(cov[:, mirrored][:, :, mirrored], cov)
    assert figures.truth.mean.min() > 0
    assert (figures.truth.mean < [0.75, 1.0]).all()


def test_what_the_posterior_depends_on_can_be_seen() -> None:
    """Torso and ground have the colours that tell mass and shared error; dots tell their own."""
    figures = make_figures(200, np.random.default_rng(1))
    torso = np.stack(
        [
            image[tuple((128 * keypoints[[1, 2, 5, 6]].mean(axis=0)).astype(int)[::-1])]
            for image, keypoints in zip(figures.image, figures.truth.mean[:, 0], strict=True)
        ]
    ).astype(float)
    coldness = torso[:, 2] - torso[:, 0]
    assert np.corrcoef(coldness, np.exp(figures.truth.log_mass[:, 0]))[0, 1] > 0.99
    ground = figures.image[:, :4, :4].mean(axis=(1, 2, 3))
    shared = np.sqrt(figures.truth.cov[:, 0, 2])
    assert np.corrcoef(ground, shared)[0, 1] > 0.99
    own = np.sqrt(figures.truth.cov[:, 0, 0] - figures.truth.cov[:, 0, 2])
    green = (np.abs(figures.image - np.array([80.0, 230.0, 90.0])).max(axis=-1) < 30).sum((1, 2))
    assert np.corrcoef(np.sqrt(green), own)[0, 1] > 0.9


def test_the_truth_itself_passes_and_wrong_ones_fail() -> None:
    n, rng = 1000, np.random.default_rng(4)
    truth = make_figures(n, rng).truth
    label = draw_labels(truth, rng)
    right = Predicted.true(truth)
    found = score(right, truth, label)
    assert np.abs(found.mass - found.true_mass).max() < 1e-3
    assert np.abs(found.excess).max() < 1e-9
    assert np.abs([found.shape, found.spread]).max() < 1e-9
    assert abs(found.stray.mean() - 0.001) < 5 * np.sqrt(0.001 / found.stray.size / 199)
    told = summary(found)
    for level, name in ((0.5, "50%"), (0.9, "90%"), (0.99, "99%")):
        error = np.sqrt(level * (1 - level) / n)
        assert abs(told["coverage"][name] - level) < 5 * error

    narrow = summary(score(right._replace(cov=0.5 * right.cov), truth, label))
    assert narrow["coverage"]["90%"] < 0.7
    assert narrow["excess_nll"] > 0.1
    d = 2 * J
    assert narrow["spread_kl"] == pytest.approx(0.5 * (d - d * np.log(2)) / J)
    even = summary(score(right._replace(log_weight=torch.full((n, 2), -np.log(2))), truth, label))
    assert even["mass_error"] == pytest.approx(0.9 / 4, abs=0.01)
    assert even["mass_bias"] > 0.35
    moved = summary(score(right._replace(mean=right.mean + 0.05), truth, label))
    assert moved["shape_kl"] > 0.1
    assert moved["spread_kl"] == pytest.approx(0.0, abs=1e-9)
    assert moved["stray"] > 0.005


def test_a_gaussian_between_the_poses_is_told_from_a_mixture_of_both() -> None:
    rng = np.random.default_rng(5)
    truth = make_figures(500, rng).truth
    offset = 0.5 * (truth.mean[:, 0] - truth.mean[:, 1]).reshape(500, -1)
    wide = truth.cov + offset[:, :, None] * offset[:, None]
    single = Predicted(
        torch.from_numpy(truth.mean.mean(axis=1).reshape(500, 1, -1)),
        torch.from_numpy(wide[:, None]),
        torch.zeros(500, 1, dtype=torch.float64),
    )
    told = summary(score(single, truth, draw_labels(truth, rng)))
    assert told["mass_error"] > 0.2
    assert told["shape_kl"] > 0.1
    assert told["excess_nll"] > 0.1


def test_the_share_of_a_component_is_the_share_of_its_draws() -> None:
    truth = one_figure(1)
    right = Predicted.true(truth)
    between = right.mean.mean(dim=1, keepdim=True) + 0.3 * (right.mean[:, :1] - right.mean[:, 1:])
    wide = 300 * right.cov[:, :1]
    odd = Predicted(between, wide, torch.zeros(1, 1, dtype=torch.float64))
    share = nearer_first(odd, right).item()
    draws = np.random.default_rng(0).multivariate_normal(
        between[0, 0].numpy(), wide[0, 0].numpy(), 20_000
    )
    precision = np.linalg.inv(truth.cov[0])
    offset = draws[:, None] - truth.mean[0].reshape(2, -1)
    squared = np.einsum("nmd,de,nme->nm", offset, precision, offset)
    assert 0.05 < share < 0.95
    assert abs((squared[:, 0] < squared[:, 1]).mean() - share) < 5 * np.sqrt(0.25 / 20_000)


def test_density_is_that_of_scipy() -> None:
    truth = one_figure(1)
    label = draw_labels(truth, np.random.default_rng(1))
    gaussians = [multivariate_normal(m.ravel(), truth.cov[0]) for m in truth.mean[0]]
    y = label.reshape(-1)
    due = np.logaddexp.reduce([g.logpdf(y) for g in gaussians] + truth.log_mass[0])
    found = log_density(Predicted.true(truth), torch.from_numpy(label).reshape(1, 1, -1))
    assert found.item() == pytest.approx(due)
    assert chi2.sf(chi2.ppf(0.999, 2 * J), 2 * J) == pytest.approx(0.001)


def test_every_method_trains_and_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = replace(posterior.QUICK, maps=16, sampler=16, calibration=16, test=16, batch=8)
    monkeypatch.setattr(posterior, "QUICK", tiny)
    posterior.main(tmp_path / "result.json", tmp_path / "plots", quick=True, seeds=2)
    record = json.loads((tmp_path / "result.json").read_text())
    assert set(record["methods"]) == set(posterior.METHODS)
    for found in record["methods"].values():
        first, second = (one["excess_nll"] for one in found["seeds"])
        assert first != second
        assert found["mean"]["excess_nll"] == pytest.approx((first + second) / 2)
        assert found["std"]["excess_nll"] == pytest.approx(abs(first - second) / np.sqrt(2))
        assert min(first, second) > 0
        assert 0 <= found["mean"]["mass_error"] <= 1
        assert {"50%", "90%", "99%"} < set(found["mean"])
    assert 0 <= record["twice"]["mass_error"] <= 1
    assert {"command", "machine", "versions"} <= set(record["environment"])
    assert (tmp_path / "plots" / "mass.png").is_file()
