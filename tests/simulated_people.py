"""People that walk across a picture and what a network would say of them, for the tests."""

import numpy as np
from hypothesis import settings

from tracker.skeleton import COCO17
from tracker.types import Detection, Mixture, PoseMixture

STANDING = np.array(
    [
        [0.5, 0.08],
        [0.53, 0.065],
        [0.47, 0.065],
        [0.56, 0.075],
        [0.44, 0.075],
        [0.62, 0.19],
        [0.38, 0.19],
        [0.66, 0.33],
        [0.34, 0.33],
        [0.67, 0.46],
        [0.33, 0.46],
        [0.58, 0.5],
        [0.42, 0.5],
        [0.58, 0.72],
        [0.42, 0.72],
        [0.58, 0.93],
        [0.42, 0.93],
    ]
) - [0.5, 0.0]
"""COCO-17 in heights; the top of the head is the origin."""

LEGS = slice(11, 17)

law = settings(max_examples=20, deadline=None, derandomize=True)
"""How often a law is tried; no deadline, since test machines are shared."""


def walker(time, start=(100.0, 50.0), velocity=(80.0, 0.0), height=200.0):
    """Keypoints of a person who walks and swings arms and legs once a second."""
    swing = np.zeros((17, 2))
    phase = 0.12 * np.sin(2 * np.pi * time)
    swing[[9, 16], 0], swing[[10, 15], 0] = phase, -phase
    swing[[7, 14], 0], swing[[8, 13], 0] = phase / 2, -phase / 2
    return height * (STANDING + swing) + np.asarray(start) + time * np.asarray(velocity)


def box_of(keypoints, height=200.0):
    low, high = keypoints.min(axis=0), keypoints.max(axis=0)
    margin = height * np.array([0.06, 0.08])
    return np.concatenate([low - margin, high + margin])


def seen(
    keypoints,
    rng,
    std=3.0,
    hypotheses=8,
    mirrored=0.0,
    visible=0.95,
    track_id=None,
    outlier=None,
):
    """A pose as a calibrated network gives it, with some hypotheses for crossed legs."""
    noisy = keypoints + rng.normal(size=(17, 2)) * std
    box = box_of(keypoints)
    if outlier is not None:
        noisy[outlier[0]] += outlier[1]
    mean = np.repeat(noisy[None], hypotheses, axis=0)
    crossed = round(hypotheses * 0.5) if mirrored else 0
    if crossed:
        mean[:crossed, LEGS] = mean[:crossed, COCO17.mirror[LEGS]]
    weight = np.full(hypotheses, 1 / hypotheses)
    if crossed:
        weight[:crossed], weight[crossed:] = (
            mirrored / crossed,
            (1 - mirrored) / (hypotheses - crossed),
        )
    mean = mean + rng.normal(size=mean.shape) * std / 10
    cov = np.repeat(std**2 * np.eye(34)[None], hypotheses, axis=0)
    mixture = Mixture(mean.reshape(hypotheses, 34), cov, np.log(weight))
    return PoseMixture(Detection(box, 0.9, track_id), mixture, np.full(17, visible))


def random_cov(rng, D):
    """A covariance with eigenvalues over two decades."""
    axes = np.linalg.qr(rng.normal(size=(D, D)))[0]
    return axes * np.exp(rng.uniform(-2, 2, size=D)) @ axes.T


def random_mixture(seed, K, D):
    rng = np.random.default_rng(seed)
    log_weight = 2 * rng.normal(size=K)
    return Mixture(
        3 * rng.normal(size=(K, D)),
        np.stack([random_cov(rng, D) for _ in range(K)]),
        log_weight - np.logaddexp.reduce(log_weight),
    )


def correlated(covs, rho, rng):
    """Errors of these covariances, frame after frame: whitened, each is rho times the last one."""
    errors, white = [], rng.normal(size=covs.shape[-1])
    for cov in covs:
        errors.append(np.linalg.cholesky(cov) @ white)
        white = rho * white + np.sqrt(1 - rho**2) * rng.normal(size=len(white))
    return np.stack(errors)


def wanderer(body, frames, rng, height=200.0, fps=30):
    """Keypoints of somebody who moves just as a `BodyMotion` says, from the middle of a picture."""
    F, Q = body.seen(1 / fps)
    root = np.linalg.cholesky(height**2 * Q + 1e-9 * np.eye(len(Q)))
    speed = height * np.linalg.cholesky(body.start_cov) @ rng.normal(size=34)
    x, path = np.concatenate([walker(0.0, height=height).ravel(), speed]), []
    for _ in range(frames):
        path.append(x[:34].reshape(17, 2).copy())
        x = F @ x + root @ rng.normal(size=68)
    return np.stack(path)
