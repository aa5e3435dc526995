import numpy as np
import pytest
from filterpy.kalman import KalmanFilter
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal
from simulated_people import law, random_cov

from tracker import kalman, mixture
from tracker.motion import BodyMotion, MotionConfig, constant_velocity
from tracker.skeleton import COCO17
from tracker.types import Mixture

seeds = st.integers(0, 2**32 - 1)


def problem(seed, D, batch=()):
    """A random prior, measurement and noise."""
    rng = np.random.default_rng(seed)
    P = np.array([random_cov(rng, 2 * D) for _ in range(int(np.prod(batch)))])
    R = np.array([random_cov(rng, D) for _ in range(int(np.prod(batch)))])
    return (
        rng.normal(size=(*batch, 2 * D)),
        P.reshape(*batch, 2 * D, 2 * D),
        rng.normal(size=(*batch, D)),
        R.reshape(*batch, D, D),
    )


def filterpy_of(x, P, z, R, F, Q):
    D = len(z)
    oracle = KalmanFilter(dim_x=2 * D, dim_z=D)
    oracle.x, oracle.P, oracle.R = x.copy(), P.copy(), R.copy()
    oracle.F, oracle.Q, oracle.H = F, Q, np.eye(D, 2 * D)
    return oracle


@pytest.mark.parametrize("D", [2, 34])
def test_a_run_of_steps_is_filterpys(D):
    rng = np.random.default_rng(D)
    x, P, z, R = problem(D, D)
    step = constant_velocity(0.04)
    density = BodyMotion.of(COCO17, MotionConfig()).density[:D, :D]
    F, Q = np.kron(step.F, np.eye(D)), np.kron(step.Q, density)
    oracle = filterpy_of(x, P, z, R, F, Q)
    for _ in range(5):
        z = z + 0.1 * rng.normal(size=D)
        oracle.predict()
        oracle.update(z)
        x, P = kalman.predict(x, P, F, Q)
        innovation = kalman.innovate(x, P, z, R, np.ones(D, dtype=bool))
        x, P = kalman.update(x, P, innovation)
        assert_allclose(x, oracle.x, rtol=1e-8, atol=1e-8)
        assert_allclose(P, oracle.P, rtol=1e-7, atol=1e-8)
        assert innovation.log_likelihood == pytest.approx(oracle.log_likelihood, rel=1e-8)
        assert innovation.nis == pytest.approx(oracle.mahalanobis**2, rel=1e-8)


@law
@given(seeds, st.integers(1, 6))
def test_update_is_the_information_form(seed, D):
    x, P, z, R = problem(seed, D)
    H = np.eye(D, 2 * D)
    mean, cov = kalman.update(x, P, kalman.innovate(x, P, z, R, np.ones(D, dtype=bool)))
    information = np.linalg.inv(P) + H.T @ np.linalg.inv(R) @ H
    vector = np.linalg.inv(P) @ x + H.T @ np.linalg.inv(R) @ z
    assert_allclose(cov, np.linalg.inv(information), rtol=1e-6, atol=1e-8)
    assert_allclose(mean, np.linalg.solve(information, vector), rtol=1e-6, atol=1e-8)


@law
@given(seeds, st.integers(1, 6))
def test_update_is_josephs(seed, D):
    x, P, z, R = problem(seed, D)
    H = np.eye(D, 2 * D)
    K = P @ H.T @ np.linalg.inv(H @ P @ H.T + R)
    rest = np.eye(2 * D) - K @ H
    mean, cov = kalman.update(x, P, kalman.innovate(x, P, z, R, np.ones(D, dtype=bool)))
    assert_allclose(cov, rest @ P @ rest.T + K @ R @ K.T, rtol=1e-7, atol=1e-9)
    assert_allclose(mean, x + K @ (z - H @ x), rtol=1e-7, atol=1e-9)
    assert_allclose(cov, cov.T, rtol=1e-12, atol=1e-14)


@law
@given(seeds, st.lists(st.booleans(), min_size=4, max_size=4).filter(any))
def test_a_mask_is_the_same_as_measuring_less(seed, measured):
    x, P, z, R = problem(seed, 4)
    keep = np.flatnonzero(measured)
    H = np.eye(8)[keep]
    innovation = kalman.innovate(x, P, z, R, np.array(measured))
    mean, cov = kalman.update(x, P, innovation)
    S = H @ P @ H.T + R[np.ix_(keep, keep)]
    gain = P @ H.T @ np.linalg.inv(S)
    assert_allclose(mean, x + gain @ (z[keep] - x[keep]), rtol=1e-7, atol=1e-9)
    assert_allclose(cov, P - gain @ S @ gain.T, rtol=1e-7, atol=1e-9)
    want = multivariate_normal(x[keep], S).logpdf(z[keep])
    assert innovation.log_likelihood == pytest.approx(want)


def test_nothing_measured_changes_nothing():
    x, P, z, R = problem(0, 4)
    innovation = kalman.innovate(x, P, z, R, np.zeros(4, dtype=bool))
    mean, cov = kalman.update(x, P, innovation)
    assert_allclose(mean, x)
    assert_allclose(cov, P)
    assert innovation.log_likelihood == 0


@pytest.mark.parametrize("batch", [(3,), (2, 3)])
def test_a_batch_is_its_members(batch):
    x, P, z, R = problem(5, 3, batch)
    step = constant_velocity(0.1)
    F, Q = np.kron(step.F, np.eye(3)), np.kron(step.Q, np.eye(3))
    measured = np.array([True, False, True])

    def both(x, P, z, R):
        x, P = kalman.predict(x, P, F, Q)
        innovation = kalman.innovate(x, P, z, R, measured)
        return *kalman.update(x, P, innovation), innovation.nis, innovation.log_likelihood

    together = both(x, P, z, R)
    for index in np.ndindex(batch):
        alone = both(x[index], P[index], z[index], R[index])
        for whole, part in zip(together, alone, strict=True):
            assert_allclose(whole[index], part, rtol=1e-9, atol=1e-12)


def test_filtering_is_conditioning_the_joint_gaussian_of_all_times():
    """Four steps at uneven times against one big Gaussian over all states and measurements."""
    D, times = 2, [0.03, 0.1, 0.02, 0.3]
    x, P, _, R = problem(8, D)
    zs = np.random.default_rng(8).normal(size=(4, D))
    steps = [constant_velocity(dt) for dt in times]
    F = [np.kron(step.F, np.eye(D)) for step in steps]
    Q = [np.kron(step.Q, np.diag([1.0, 3.0])) for step in steps]
    H = np.eye(D, 2 * D)
    # Every state is a linear map of the first one and of all process noises.
    sources = [P, *Q]
    maps, here = [], np.hstack([np.eye(2 * D), *[np.zeros((2 * D, 2 * D))] * 4])
    for k in range(4):
        here = F[k] @ here
        here[:, 2 * D * (k + 1) : 2 * D * (k + 2)] += np.eye(2 * D)
        maps.append(here.copy())
    source_cov = np.zeros((10 * D, 10 * D))
    for k, cov in enumerate(sources):
        source_cov[2 * D * k : 2 * D * (k + 1), 2 * D * k : 2 * D * (k + 1)] = cov
    whole = np.vstack([maps[-1], *[H @ m for m in maps]])
    joint_cov = whole @ source_cov @ whole.T
    joint_cov[2 * D :, 2 * D :] += np.kron(np.eye(4), R)
    joint_mean = whole[:, : 2 * D] @ x
    joint = Mixture(joint_mean[None], joint_cov[None], np.zeros(1))
    want = mixture.condition(joint, np.arange(2 * D, 6 * D), zs.ravel())

    log_likelihood = 0.0
    for k in range(4):
        x, P = kalman.predict(x, P, F[k], Q[k])
        innovation = kalman.innovate(x, P, zs[k], R, np.ones(D, dtype=bool))
        log_likelihood += float(innovation.log_likelihood)
        x, P = kalman.update(x, P, innovation)
    assert_allclose(x, want.mean[0], rtol=1e-7, atol=1e-9)
    assert_allclose(P, want.cov[0], rtol=1e-6, atol=1e-9)
    evidence = mixture.log_density(mixture.marginal(joint, np.arange(2 * D, 6 * D)), zs.ravel())
    assert log_likelihood == pytest.approx(float(evidence))


def test_a_long_run_stays_symmetric_and_positive():
    """A minute at 30 frames a second, 34 coordinates of very different precision."""
    body = BodyMotion.of(COCO17, MotionConfig())
    F, Q = body.seen(1 / 30)
    x, P = np.zeros(68), np.diag(np.repeat([100.0, 1e5], 34))
    R = np.diag(np.geomspace(0.25, 1e4, 34))
    everything = np.ones(34, dtype=bool)
    for _ in range(1800):
        x, P = kalman.predict(x, P, F, 200.0**2 * Q)
        x, P = kalman.update(x, P, kalman.innovate(x, P, np.zeros(34), R, everything))
    assert_allclose(P, P.T, rtol=1e-9, atol=1e-9)
    assert np.linalg.eigvalsh(P).min() > 0


def test_nis_and_nees_of_simulated_bodies_are_chi_squared():
    """The filter meets the model it assumes: its errors must be as large as it says."""
    rng, n, frames, D = np.random.default_rng(4), 150, 12, 34
    body = BodyMotion.of(COCO17, MotionConfig())
    F, Q = body.seen(1 / 30)
    Q = 200.0**2 * Q
    P0 = np.diag(np.repeat([25.0, 100.0**2], D))
    R = 9.0 * np.eye(D) + 4.0
    truth = rng.normal(size=(n, 68)) @ np.linalg.cholesky(P0).T
    x, P = np.zeros((n, 68)), np.repeat(P0[None], n, axis=0)
    nis = []
    everything = np.ones(D, dtype=bool)
    for _ in range(frames):
        noise = rng.normal(size=(n, 68)) @ np.linalg.cholesky(Q + 1e-9 * np.eye(68)).T
        truth = truth @ F.T + noise
        z = truth[:, :D] + rng.normal(size=(n, D)) @ np.linalg.cholesky(R).T
        x, P = kalman.predict(x, P, F, Q)
        innovation = kalman.innovate(x, P, z, R[None], everything)
        nis.append(innovation.nis)
        x, P = kalman.update(x, P, innovation)
    error = truth - x
    nees = (error * np.linalg.solve(P, error[..., None])[..., 0]).sum(axis=-1)
    assert abs(nees.mean() - 68) < 6 * np.sqrt(2 * 68 / n)
    assert abs(np.mean(nis) - 34) < 6 * np.sqrt(2 * 34 / (n * frames))
