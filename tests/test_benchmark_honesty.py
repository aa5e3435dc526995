"""The judges find honest mixtures honest, and every method gets the calibration it needs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp
from simulated_people import random_cov

from benchmarks import accuracy
from benchmarks.calibrating import Beliefs, _Likelihood, _start, _unpack, fit
from benchmarks.honesty import Truth, in_falloffs, judge_all, nll_difference, summary
from benchmarks.rivals import METHODS, Seen, heatmap_argmax, heatmap_moments
from tracker import weights
from tracker.crops import crop_box, image_from_net
from tracker.metrics import squared_mahalanobis
from tracker.mixture import log_density, sample
from tracker.skeleton import COCO17
from tracker.types import Detection, Mixture, PoseMixture

J = 17
BOX = np.array([50.0, 20.0, 150.0, 260.0])


def believers(rng, n, hypotheses=3, spread=8.0):
    """Mixtures of people, truths drawn from them, some keypoints without labels."""
    cov = np.stack([[spread**2 * random_cov(rng, 2 * J) for _ in range(hypotheses)]] * n)
    log_weight = np.log(rng.dirichlet(np.ones(hypotheses), size=n))
    mean = rng.uniform(40, 200, (n, 1, 2 * J)) + 4 * spread * rng.normal(size=(n, hypotheses, 1))
    beliefs = Beliefs(mean, cov, log_weight)
    truth = np.stack([sample(m, 1, rng)[0].reshape(J, 2) for m in beliefs.mixtures()])
    return beliefs, truth, rng.random((n, J)) < 0.7


@pytest.fixture(scope="module")
def honest():
    rng = np.random.default_rng(0)
    beliefs, truth, labelled = believers(rng, 250)
    people = [Truth(t, seen, 9000.0) for t, seen in zip(truth, labelled, strict=True)]
    return people, beliefs


def test_honest_mixtures_are_found_honest_whatever_is_labelled(honest):
    people, beliefs = honest
    found = summary(judge_all(people, beliefs.mixtures(), np.random.default_rng(1)))
    for p in (0.5, 0.9, 0.95, 0.99):
        noise = 5 * np.sqrt(p * (1 - p) / len(people)) + 0.01
        assert abs(found["coverage_pose"][f"{p:.0%}"] - p) < noise
        assert abs(found["coverage_keypoint"][f"{p:.0%}"] - p) < noise
    assert found["expected_oks"] == pytest.approx(found["oks"], abs=0.03)
    assert found["tac"]["gain"] > 0.05 > 0 > found["tac"]["control_gain"]
    best = list(found["best_of"].values())
    assert best == sorted(best)


def test_too_wide_and_too_narrow_are_told_apart_and_cost_likelihood(honest):
    people, beliefs = honest
    rng = np.random.default_rng(2)
    judged = {
        factor: judge_all(people, beliefs._replace(cov=factor * beliefs.cov).mixtures(), rng)
        for factor in (0.25, 1.0, 4.0)
    }
    inside = {f: summary(j)["coverage_keypoint"]["50%"] for f, j in judged.items()}
    assert inside[0.25] < inside[1.0] - 0.1 < inside[4.0] - 0.2
    for wrong in (0.25, 4.0):
        worse = nll_difference(judged[1.0], judged[wrong], rng)
        assert worse["mean"] > 5 * worse["standard_error"] > 0
    assert nll_difference(judged[1.0], judged[1.0], rng)["mean"] == 0


def test_falloffs_are_a_change_of_unit(honest):
    people, beliefs = honest
    person, mixture = people[0], beliefs.mixtures()[0]
    one = Mixture(mixture.mean[:1], mixture.cov[:1], np.zeros(1))
    part = in_falloffs(one, person)
    unit = COCO17.falloff(np.array(person.area))[person.labelled].repeat(2)
    index = person.labelled.repeat(2)
    offset = person.keypoints.ravel() - one.mean[0]
    due = squared_mahalanobis(offset[None, index], one.cov[:, index][:, :, index])
    truth = person.keypoints.ravel()[index] / unit
    assert squared_mahalanobis(truth - part.mean, part.cov) == pytest.approx(due)


def test_the_gradient_of_the_calibration_is_that_of_its_loss():
    rng = np.random.default_rng(3)
    likelihood = _Likelihood.of(*believers(rng, 5))
    theta = _start(J, 3) + 0.1 * rng.normal(size=J + 5)
    steps = 1e-5 * np.eye(len(theta))
    numeric = [
        (likelihood.loss(theta + s)[0] - likelihood.loss(theta - s)[0]) / 2e-5 for s in steps
    ]
    np.testing.assert_allclose(likelihood.loss(theta)[1], numeric, atol=1e-7)


def test_the_loss_of_the_calibration_is_the_density_of_the_calibrated_mixtures():
    rng = np.random.default_rng(4)
    beliefs, truth, labelled = believers(rng, 5)
    labelled[:] = True
    theta = _start(J, 3) + 0.1 * rng.normal(size=J + 5)
    theta[:J], theta[J] = 0.2, 0.0  # nothing to pull
    mixtures = _unpack(theta, J).apply(beliefs).mixtures()
    assert all(len(m) == 9 for m in mixtures)
    assert all(logsumexp(m.log_weight) == pytest.approx(0) for m in mixtures)
    due = -np.mean([log_density(m, t.ravel()) for m, t in zip(mixtures, truth, strict=True)]) / J
    assert _Likelihood.of(beliefs, truth, labelled).loss(theta)[0] == pytest.approx(due)


def test_wrong_scales_are_found_again():
    rng = np.random.default_rng(5)
    beliefs, truth, labelled = believers(rng, 200)
    wrong = np.where(np.arange(J) < 5, 0.5, 3.0).repeat(2)
    trust, _ = fit(beliefs._replace(cov=beliefs.cov * wrong[:, None] * wrong), truth, labelled)
    np.testing.assert_allclose(np.exp(trust.log_scale) * wrong[::2], 1.0, atol=0.15)


def test_one_lost_person_ruins_a_gaussian_fit_but_not_one_with_tails():
    rng = np.random.default_rng(6)
    beliefs, truth, labelled = believers(rng, 100, hypotheses=1)
    truth[0] += 3000.0
    plain, tails = (fit(beliefs, truth, labelled, n)[0] for n in (1, 2))
    assert np.exp(plain.log_scale).mean() > 2
    assert np.exp(tails.log_scale).mean() == pytest.approx(1.0, abs=0.1)
    assert np.exp(tails.log_share[1]) == pytest.approx(0.01, abs=0.01)


def test_without_tails_it_is_the_calibration_that_ships():
    torch = pytest.importorskip("torch")
    from tracker.nets.sampler import Hypotheses
    from tracker.pose import factors_to_cov
    from tracker.training.calibrate import calibrate

    rng = np.random.default_rng(7)
    n, k = 40, 3
    mean = rng.uniform(0.2, 0.8, (n, 1, J, 2)) + 0.05 * rng.normal(size=(n, k, 1, 2))
    chol = np.abs(rng.normal(0.03, 0.005, (n, k, J, 3)))
    lowrank, logit = rng.normal(0, 0.02, (n, k, 2 * J, 4)), rng.normal(size=(n, k))
    truth, labelled = mean[:, 0] + 0.05 * rng.normal(size=(n, J, 2)), rng.random((n, J)) < 0.8
    parts = Hypotheses(*(torch.from_numpy(part) for part in (mean, chol, lowrank, logit)))
    shipped = calibrate(parts, torch.from_numpy(truth), torch.from_numpy(labelled).double())
    beliefs = Beliefs(
        mean.reshape(n, k, -1),
        factors_to_cov(chol, lowrank),
        logit - logsumexp(logit, axis=1, keepdims=True),
    )
    ours, _ = fit(beliefs, truth, labelled)
    np.testing.assert_allclose(np.exp(ours.log_scale), shipped.scale, rtol=0.01)
    assert np.exp(ours.log_temperature) == pytest.approx(shipped.temperature, rel=0.05)


def seen_peak(at):
    """One person; a Gaussian bump of 1.5 cells in every map, its peak at image px."""
    h, w = 32, 24
    crop = crop_box(BOX)
    cell = (crop[3] - crop[1]) / h
    centre = (np.asarray(at) - crop[:2]) / cell
    y, x = np.mgrid[:h, :w] + 0.5
    bump = -0.5 * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 1.5**2
    heatmap = np.broadcast_to(bump, (1, J, h, w)).astype(np.float32)
    pose = Mixture(np.zeros((1, 2 * J)), np.eye(2 * J)[None], np.zeros(1))
    return Seen(
        BOX[None],
        np.broadcast_to(np.asarray(at, float), (1, J, 2)).copy(),
        np.ones((1, J), bool),
        [PoseMixture(Detection(BOX, 1.0), pose, np.ones(J))],
        np.ones((1, J, 3)),
        heatmap,
        {},
    ), cell


def test_heatmap_methods_find_the_peak_and_its_width():
    seen, cell = seen_peak((103.0, 140.0))
    argmax, whole = heatmap_argmax(seen), heatmap_moments(seen)
    assert argmax is not None
    assert whole is not None
    assert np.abs(argmax.mean.reshape(J, 2) - seen.truth[0]).max() < 0.5 * cell
    np.testing.assert_allclose(whole.mean.reshape(J, 2), seen.truth[0], atol=0.01 * cell)
    np.testing.assert_allclose(np.diagonal(whole.cov[0, 0]), cell**2 * (1.5**2 + 1 / 12), rtol=0.02)
    place = image_from_net(crop_box(BOX)).points(np.zeros(2))
    np.testing.assert_allclose(place, crop_box(BOX)[:2])


def test_methods_without_what_they_need_stand_back():
    seen, _ = seen_peak((103.0, 140.0))
    blind = replace(seen, heatmap=None)
    able = {name for name, method in METHODS.items() if method.predict(blind, 0.0) is not None}
    assert able == {"ours", "single_gaussian", "teacher"}


def add_errors(index: Path) -> None:
    """A teacher that is never wrong leaves nothing to compare."""
    arrays = dict(np.load(index))
    xy = arrays["person_teacher"][..., :2]
    arrays["person_teacher"][..., :2] += np.random.default_rng(0).normal(0, 3, xy.shape)
    np.savez(index, **arrays)


def test_the_command_compares_all_methods_and_draws_them(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    from tracker.training.synthetic import write_split

    write_split(tmp_path, "train", scenes=1, pictures_per_scene=2)
    write_split(tmp_path, "dev", scenes=1, pictures_per_scene=2)
    for name in ("train", "dev"):
        add_errors(tmp_path / f"{name}.npz")
    own = str(weights.find("pose").path)
    accuracy.main(tmp_path, tmp_path / "result.json", plots=tmp_path / "plots", fitted=(own,))
    record = json.loads((tmp_path / "result.json").read_text())
    fitted = {name + tail for name in (*METHODS, "nano") for tail in ("", "+tails")}
    assert set(record["methods"]) == {"shipped", "flip_test"} | fitted
    assert set(record["calibrations"]) == fitted
    for sources in record["methods"].values():
        assert set(sources) == {"synthetic", "all"}
        assert np.isfinite(sources["all"]["nll"])
    # Our own network once more, as a further one.
    for name in ("ours", "nano"):
        assert record["methods"][name]["all"]["nll_behind_ours"]["mean"] == 0
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "coverage-pose.png",
        "coverage-keypoint.png",
        "reliability.png",
        "risk.png",
    }
