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


def step(x, P, z, R, measured=None):
    """Weigh a measurement with independent errors, and take it in."""
    D = z.shape[-1]
    measured = np.ones(D, dtype=bool) if measured is None else measured
    innovation = kalman.innovate(z - x[..., :D], P[..., :D, :D] + R, measured)
    return *kalman.update(x, P, P[..., :D], innovation), innovation


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
    move = constant_velocity(0.04)
    density = BodyMotion.of(COCO17, MotionConfig()).density[:D, :D]
    F, Q = np.kron(move.F, np.eye(D)), np.kron(move.Q, density)
    oracle = filterpy_of(x, P, z, R, F, Q)
    for _ in range(5):
        z = z + 0.1 * rng.normal(size=D)
        oracle.predict()
        oracle.update(z)
        x, P = kalman.predict(x, P, F, Q)
        x, P, innovation = step(x, P, z, R)
        assert_allclose(x, oracle.x, rtol=1e-8, atol=1e-8)
        assert_allclose(P, oracle.P, rtol=1e-7, atol=1e-8)
        assert innovation.log_likelihood == pytest.approx(oracle.log_likelihood, rel=1e-8)
        assert innovation.nis == pytest.approx(oracle.mahalanobis**2, rel=1e-8)


@law
@given(seeds, st.integers(1, 6))
def test_update_is_the_information_form(seed, D):
    x, P, z, R = problem(seed, D)
    H = np.eye(D, 2 * D)
    mean, cov, _ = step(x, P, z, R)
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
    mean, cov, _ = step(x, P, z, R)
    assert_allclose(cov, rest @ P @ rest.T + K @ R @ K.T, rtol=1e-7, atol=1e-9)
    assert_allclose(mean, x + K @ (z - H @ x), rtol=1e-7, atol=1e-9)
    assert_allclose(cov, cov.T, rtol=1e-12, atol=1e-14)


@law
@given(seeds, st.lists(st.booleans(), min_size=4, max_size=4).filter(any))
def test_a_mask_is_the_same_as_measuring_less(seed, measured):
    x, P, z, R = problem(seed, 4)
    keep = np.flatnonzero(measured)
    H = np.eye(8)[keep]
    mean, cov, innovation = step(x, P, z, R, np.array(measured))
    S = H @ P @ H.T + R[np.ix_(keep, keep)]
    gain = P @ H.T @ np.linalg.inv(S)
    assert_allclose(mean, x + gain @ (z[keep] - x[keep]), rtol=1e-7, atol=1e-9)
    assert_allclose(cov, P - gain @ S @ gain.T, rtol=1e-7, atol=1e-9)
    want = multivariate_normal(x[keep], S).logpdf(z[keep])
    assert innovation.log_likelihood == pytest.approx(want)


def test_nothing_measured_changes_nothing():
    x, P, z, R = problem(0, 4)
    mean, cov, innovation = step(x, P, z, R, np.zeros(4, dtype=bool))
    assert_allclose(mean, x)
    assert_allclose(cov, P)
    assert innovation.log_likelihood == 0


@pytest.mark.parametrize("batch", [(3,), (2, 3)])
def test_a_batch_is_its_members(batch):
    x, P, z, R = problem(5, 3, batch)
    move = constant_velocity(0.1)
    F, Q = np.kron(move.F, np.eye(3)), np.kron(move.Q, np.eye(3))
    measured = np.array([True, False, True])

    def both(x, P, z, R):
        x, P = kalman.predict(x, P, F, Q)
        x, P, innovation = step(x, P, z, R, measured)
        return x, P, innovation.nis, innovation.log_likelihood

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
    moves = [constant_velocity(dt) for dt in times]
    F = [np.kron(move.F, np.eye(D)) for move in moves]
    Q = [np.kron(move.Q, np.diag([1.0, 3.0])) for move in moves]
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
        x, P, innovation = step(x, P, zs[k], R)
        log_likelihood += float(innovation.log_likelihood)
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
    for _ in range(1800):
        x, P = kalman.predict(x, P, F, 200.0**2 * Q)
        x, P, _ = step(x, P, np.zeros(34), R)
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
    for _ in range(frames):
        noise = rng.normal(size=(n, 68)) @ np.linalg.cholesky(Q + 1e-9 * np.eye(68)).T
        truth = truth @ F.T + noise
        z = truth[:, :D] + rng.normal(size=(n, D)) @ np.linalg.cholesky(R).T
        x, P = kalman.predict(x, P, F, Q)
        x, P, innovation = step(x, P, z, R)
        nis.append(innovation.nis)
    error = truth - x
    nees = (error * np.linalg.solve(P, error[..., None])[..., 0]).sum(axis=-1)
    assert abs(nees.mean() - 68) < 6 * np.sqrt(2 * 68 / n)
    assert abs(np.mean(nis) - 34) < 6 * np.sqrt(2 * 34 / (n * frames))


@law
@given(seeds, st.floats(0.002, 1.0), st.sampled_from([2, 4]))
def test_gliding_is_predicting_at_constant_velocity(seed, dt, D):
    x, P, _, _ = problem(seed, D, (3,))
    rng = np.random.default_rng(seed)
    density = np.stack([random_cov(rng, D) for _ in range(3)])
    move = constant_velocity(dt)
    F, Q = np.kron(move.F, np.eye(D)), np.stack([np.kron(move.Q, one) for one in density])
    mean, cov = kalman.glide(x, P, dt, density)
    want_mean, want_cov = kalman.predict(x, P, F, Q)
    assert_allclose(mean, want_mean, rtol=1e-9, atol=1e-9)
    assert_allclose(cov, want_cov, rtol=1e-9, atol=1e-9)
    symmetric = (P + P.mT) / 2
    again = kalman.glide(x, symmetric, dt, (density + density.mT) / 2)[1]
    assert_allclose(again, again.mT, rtol=0, atol=0)


def correlated_run(rho, D=4, frames=6):
    """A walk, measurements of it whose errors are AR(1), and the covariances of both."""
    rng = np.random.default_rng(round(100 * rho))
    move = constant_velocity(0.04)
    F, Q = np.kron(move.F, np.eye(D)), np.kron(move.Q, random_cov(rng, D))
    P0, R = random_cov(rng, 2 * D), random_cov(rng, D)
    return F, Q, P0, R, 3 * rng.normal(size=(frames, D))


def joint_of_walk(F, Q, P0, R, rho, n):
    """Covariance of any two states, and that of all n measurements of their first half at once."""
    covs, P = [], P0
    for _ in range(n):
        covs.append(P)
        P = F @ P @ F.T + Q

    def state_cov(i, j):
        """The earlier state's covariance, carried on."""
        if i > j:
            return state_cov(j, i).T
        return covs[i] @ np.linalg.matrix_power(F, j - i).T

    D = len(R)
    measured = np.block(
        [[state_cov(i, j)[:D, :D] + rho ** abs(i - j) * R for j in range(n)] for i in range(n)]
    )
    return state_cov, measured


def echoed_steps(F, Q, P0, R, zs, rho):
    """Our way: 2D states, the last error known through the last position."""
    D = len(R)
    x, P = np.zeros(2 * D), P0
    gain = np.zeros(D)
    everything = np.ones(D, dtype=bool)
    echo = kalman.Echo(np.zeros(D), np.zeros((D, D)), np.zeros((2 * D, D)))
    log_likelihood = 0.0
    for z in zs:
        fresh = np.sqrt(1 - gain**2)
        S = kalman.with_echo(P[:D, :D], R, echo, gain, fresh)
        innovation = kalman.innovate(z - x[:D] - gain * echo.mean, S, everything)
        log_likelihood += float(innovation.log_likelihood)
        x, P = kalman.update(x, P, P[:, :D] + echo.cross * gain, innovation)
        yield x, P, log_likelihood
        echo = kalman.Echo(z - x[:D], P[:D, :D], -F @ P[:, :D])
        x, P = kalman.predict(x, P, F, Q)
        gain = np.full(D, rho)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_correlated_errors_are_filterpys_with_the_errors_in_the_state(rho):
    """The textbook's way: 3D states, of which the last D are the errors; nothing else is noisy."""
    F, Q, P0, R, zs = correlated_run(rho)
    D = len(R)
    oracle = KalmanFilter(dim_x=3 * D, dim_z=D)
    oracle.x, oracle.P = np.zeros(3 * D), np.zeros((3 * D, 3 * D))
    oracle.P[: 2 * D, : 2 * D], oracle.P[2 * D :, 2 * D :] = P0, R
    oracle.F, oracle.Q = np.zeros((3 * D, 3 * D)), np.zeros((3 * D, 3 * D))
    oracle.F[: 2 * D, : 2 * D], oracle.F[2 * D :, 2 * D :] = F, rho * np.eye(D)
    oracle.Q[: 2 * D, : 2 * D], oracle.Q[2 * D :, 2 * D :] = Q, (1 - rho**2) * R
    oracle.H = np.hstack([np.eye(D), np.zeros((D, D)), np.eye(D)])
    oracle.R = np.zeros((D, D))
    total = 0.0
    for z, (x, P, log_likelihood) in zip(zs, echoed_steps(F, Q, P0, R, zs, rho), strict=True):
        oracle.update(z)
        total += oracle.log_likelihood
        assert_allclose(x, oracle.x[: 2 * D], rtol=1e-6, atol=1e-7)
        assert_allclose(P, oracle.P[: 2 * D, : 2 * D], rtol=1e-6, atol=1e-7)
        assert log_likelihood == pytest.approx(total, rel=1e-6)
        oracle.predict()


def test_correlated_errors_are_conditioning_the_joint_gaussian_of_all_times():
    """Evidence of all measurements at once, from the covariance of every pair of them."""
    rho = 0.7
    F, Q, P0, R, zs = correlated_run(rho)
    n, D = zs.shape
    _, whole = joint_of_walk(F, Q, P0, R, rho, n)
    want = multivariate_normal(np.zeros(n * D), whole).logpdf(zs.ravel())
    *_, (_, _, got) = echoed_steps(F, Q, P0, R, zs, rho)
    assert got == pytest.approx(want)
