import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_people import law

from tracker.consistency import Consistency, look, together


@law
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_the_views_of_a_frame_count_as_much_together_as_one_by_one(seed, n):
    rng = np.random.default_rng(seed)
    measured = np.repeat(rng.uniform(size=(n, 17)) < 0.8, 2, axis=1)
    views = look(rng.normal(size=(n, 34)), [None] * n, 2 * rng.chisquare(2, size=(n, 17)), measured)
    one_by_one = before = Consistency(1.3, 0.1, 0.9, 40)
    for view in views:
        one_by_one = one_by_one.after(view)
    at_once = before.after(together(views))
    assert at_once.views == one_by_one.views == 40 + n
    for name in ("nis", "autocorrelation", "coverage"):
        assert getattr(at_once, name) == pytest.approx(getattr(one_by_one, name))
