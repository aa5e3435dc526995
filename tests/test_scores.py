"""A detector's score is the probability that a person is there, whatever their size."""

import numpy as np
import torch

from tracker.nets.detector import DetectorModule, ExportedDetector, size_features
from tracker.training.scores import fit_scores


def test_scores_become_the_share_that_is_right() -> None:
    """Raw logits that say too little of tall people and too much of small ones."""
    rng = np.random.default_rng(0)
    n = 20_000
    height = np.exp(rng.uniform(np.log(20), np.log(300), n))
    raw = rng.normal(-1, 1, n)
    truth = 1 / (1 + np.exp(-(1.8 * raw + 0.4 + 1.2 * np.log(height / 100))))
    right = torch.from_numpy(rng.random(n) < truth)
    box = torch.from_numpy(np.column_stack([0 * height, 0 * height, height / 2, height]))
    fit = fit_scores(box, torch.from_numpy(raw), right, 500)
    assert fit.nll_after < fit.nll_before
    np.testing.assert_allclose(fit.weights, [1.8, 0.4, 1.2, 0.0], atol=0.15)
    features = np.column_stack([raw, size_features(box).numpy()])
    score = 1 / (1 + np.exp(-features @ fit.weights))
    for low in np.arange(0, 1, 0.2):
        chosen = (score >= low) & (score < low + 0.2)
        assert abs(right.numpy()[chosen].mean() - score[chosen].mean()) < 0.03


def test_nothing_to_fit_on_leaves_scores_alone() -> None:
    nothing = torch.zeros(0)
    fit = fit_scores(torch.zeros(0, 4), nothing, nothing.bool(), 0)
    np.testing.assert_allclose(fit.weights, [1, 0, 0, 0], atol=1e-9)


def test_the_graph_gives_calibrated_scores_and_the_same_boxes() -> None:
    torch.manual_seed(0)
    net = DetectorModule().eval()
    image = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        box, logit = net(image)
        plain_box, plain = ExportedDetector(net)(image)
        same_box, score = ExportedDetector(net, (2.0, 0.5, 1.0, -0.3))(image)
    torch.testing.assert_close(plain, torch.sigmoid(logit))
    torch.testing.assert_close(same_box, plain_box)
    height = torch.log((box[..., 3] - box[..., 1]).clamp(min=1) / 100)
    torch.testing.assert_close(
        score, torch.sigmoid(2 * logit + 0.5 + height - 0.3 * height**2), atol=1e-5, rtol=1e-5
    )
