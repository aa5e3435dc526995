import numpy as np
import pytest
from filterpy.common import Q_continuous_white_noise
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.linalg import expm
from simulated_people import law

from tracker import motion
from tracker.motion import BodyMotion, MotionConfig, Step
from tracker.skeleton import COCO17, Skeleton

BODY = BodyMotion.of(COCO17, MotionConfig())
times = st.floats(0.002, 1.5)


def twice(first: Step, second: Step) -> Step:
    return Step(second.F @ first.F, second.F @ first.Q @ second.F.T + second.Q)


@pytest.mark.parametrize("step", [BODY.seen, BODY.unseen])
@law
@given(times, times)
def test_two_steps_are_one_long_step(step, a, b):
    both, once = twice(step(a), step(b)), step(a + b)
    assert_allclose(both.F, once.F, atol=1e-12)
    assert_allclose(both.Q, once.Q, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("step", [BODY.seen, BODY.unseen])
@law
@given(times)
def test_noise_is_a_covariance(step, dt):
    Q = step(dt).Q
    assert_allclose(Q, Q.T, atol=1e-12)
    assert np.linalg.eigvalsh(Q).min() > -1e-12 * np.trace(Q)


@pytest.mark.parametrize("step", [BODY.seen, BODY.unseen])
def test_no_time_no_change(step):
    F, Q = step(0.0)
    assert_allclose(F, np.eye(68), atol=1e-15)
    assert_allclose(Q, 0, atol=1e-15)


@law
@given(times)
def test_constant_velocity_is_filterpys(dt):
    assert_allclose(motion.constant_velocity(dt).Q, Q_continuous_white_noise(2, dt, 1.0))


@law
@given(times, st.floats(0.05, 5))
def test_relaxing_velocity_is_van_loans(dt, tau):
    """Both matrices of a linear stochastic system from one exponential (Van Loan 1978)."""
    A, noise = np.array([[0, 1], [0, -1 / tau]]), np.diag([0.0, 1.0])
    whole = expm(np.block([[-A, noise], [np.zeros((2, 2)), A.T]]) * dt)
    F = whole[2:, 2:].T
    step = motion.relaxing_velocity(dt, tau)
    assert_allclose(step.F, F, rtol=1e-6, atol=1e-9)
    assert_allclose(step.Q, F @ whole[:2, 2:], rtol=1e-5, atol=1e-9)


def test_slow_relaxation_is_constant_velocity():
    slow, constant = motion.relaxing_velocity(0.1, 1e3), motion.constant_velocity(0.1)
    assert_allclose(slow.F, constant.F, rtol=1e-3)
    assert_allclose(slow.Q, constant.Q, rtol=1e-3)


def test_unseen_limbs_stop_and_the_body_goes_on():
    walk = np.tile([1.0, 0.0], 17)
    swing = np.zeros(34)
    swing[2 * 9], swing[2 * 10] = 1.0, -1.0  # wrists, against each other
    F = BODY.unseen(1.0).F[:34, 34:]
    tau = BODY.config.drift_time
    assert_allclose(F @ walk, walk * tau * (1 - np.exp(-1 / tau)))
    assert_allclose(F @ swing, swing * BODY.config.swing_time, rtol=1e-4)


def test_correlation_of_keypoints_is_one_of_a_gaussian():
    correlation = motion.joint_correlation(COCO17)
    assert_allclose(np.diag(correlation), 1)
    assert_allclose(correlation, correlation.T)
    assert np.linalg.eigvalsh(correlation).min() > 0.01


def test_correlation_has_the_measured_edges_and_no_side():
    correlation = motion.joint_correlation(COCO17)
    place = COCO17.keypoint_names.index
    assert correlation[place("left_wrist"), place("left_elbow")] == pytest.approx(0.78)
    assert correlation[place("right_hip"), place("left_hip")] == pytest.approx(0.86)
    assert correlation[place("left_ankle"), place("right_ankle")] < 0.1
    mirrored = correlation[np.ix_(COCO17.mirror, COCO17.mirror)]
    assert_allclose(mirrored, correlation)


def test_accelerations_are_those_of_the_table_per_sample():
    """White noise of this density, averaged over a thirtieth of a second, has the measured rms."""
    wrist = 2 * COCO17.keypoint_names.index("left_wrist")
    per_axis = BODY.density[wrist, wrist] / motion.SAMPLE_PERIOD
    assert np.sqrt(per_axis) == pytest.approx(motion.ACCELERATION["wrist"])


def test_other_skeletons_move_too():
    fish = Skeleton(("nose", "left_eye", "tail"), ((0, 1),), np.array([0, 1, 2]), np.ones(3))
    correlation = motion.joint_correlation(fish)
    assert_allclose(correlation, [[1, 0.95, 0], [0.95, 1, 0], [0, 0, 1]])
    assert BodyMotion.of(fish, MotionConfig()).density.shape == (6, 6)


@law
@given(st.floats(0.2, 3.0), st.floats(-20, 20))
def test_innovations_that_are_alike_tell_of_a_livelier_person(liveliness, alike):
    now = motion.livelier(liveliness, alike, 0.3)
    assert 0.2 <= now <= 3.0
    assert abs(np.log(now / liveliness)) <= 0.3 + 1e-9
    assert (now - liveliness) * alike >= 0
    assert motion.livelier(liveliness, alike, 0.0) == liveliness


def test_body_height_is_the_long_side():
    assert motion.body_height(np.array([10.0, 20.0, 40.0, 220.0])) == 200
    assert motion.body_height(np.array([10.0, 20.0, 310.0, 120.0])) == 300


def test_the_place_of_an_unseen_person_wanders_at_its_own_rate():
    mean_of_x = np.tile([1.0, 0.0], 17) / 17
    moved = mean_of_x @ BODY.unseen(0.01).Q[34:, 34:] @ mean_of_x
    assert moved / 0.01 == pytest.approx(BODY.config.drift_density, rel=0.01)
