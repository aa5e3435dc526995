import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.sources.clock import CaptureClock, Timeline

delays = st.lists(st.floats(0, 0.3), min_size=2, max_size=60)


@given(delays, st.floats(-1e6, 1e6))
def test_capture_is_never_told_later_than_arrival_and_errs_by_the_least_delay(
    delay: list[float], origin: float
) -> None:
    clock = CaptureClock()
    shown = 0.04 * np.arange(len(delay))
    for k, (s, d) in enumerate(zip(shown, delay, strict=True)):
        captured = clock.see(s + origin, s + d)
        assert captured <= s + d + 1e-6
        assert captured - s == pytest.approx(min(delay[: k + 1]), abs=1e-6)


def test_two_clocks_that_drift_apart_are_kept_together() -> None:
    clock = CaptureClock()
    arrived = np.arange(0, 3600, 0.1)
    for now in arrived:
        captured = clock.see(now * (1 - 2e-4), now)
    assert arrived[-1] - captured < 0.01


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_camera_that_sets_its_clock_is_believed_again_at_once(jump: float) -> None:
    clock, timeline, times = CaptureClock(), Timeline(), []
    for k in range(100):
        shown = 0.04 * k + (jump if k >= 50 else 0.0)
        captured = clock.see(shown, 10 + 0.04 * k)
        assert captured == pytest.approx(10 + 0.04 * k, abs=1e-6)
        times.append(timeline.time(shown, captured))
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-6)


@given(delays)
def test_times_step_as_the_stream_says_however_its_pictures_are_delayed(
    delay: list[float],
) -> None:
    clock, timeline = CaptureClock(), Timeline()
    times = [
        timeline.time(0.04 * k, clock.see(0.04 * k, 0.04 * k + d)) for k, d in enumerate(delay)
    ]
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-9)


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=20))
def test_errors_of_gaps_do_not_add_up(gaps: list[float]) -> None:
    timeline, now = Timeline(), 0.0
    timeline.time(5.0, now)
    for gap in gaps:
        timeline.break_off()
        now += gap
        time = timeline.time(7.0, now)
    assert time == pytest.approx(now, abs=1e-2)


def test_pictures_without_times_are_timed_by_arrival() -> None:
    clock, timeline = CaptureClock(), Timeline()
    arrivals = [7.0, 7.5, 7.5, 9.0]
    times = [timeline.time(None, clock.see(None, a)) for a in arrivals]
    np.testing.assert_allclose(times, [0.0, 0.5, 0.501, 2.0])
