"""Factors in closed form and by BLAS, against LAPACK's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import solve_triangular

from tracker import triangular


@given(seed=st.integers(0, 2**31), d=st.sampled_from([2, 3, 34]), scale=st.floats(1e-3, 1e3))
def test_factors_and_solutions_are_lapacks(seed: int, d: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    root = scale * rng.standard_normal((3, 2, d, d + 2))
    S, y = root @ root.mT, rng.standard_normal((3, 2, d, 5))
    L = triangular.cholesky(S)
    np.testing.assert_allclose(L, np.linalg.cholesky(S), rtol=1e-9, atol=1e-9 * scale)
    x = triangular.solve(L, y)
    due = [[solve_triangular(L[i, j], y[i, j], lower=True) for j in range(2)] for i in range(3)]
    np.testing.assert_allclose(x, due, rtol=1e-9, atol=1e-9 / scale)
    factor, whitened = triangular.whiten(S, y[..., 0])
    np.testing.assert_allclose(factor, L, rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(whitened, x[..., 0], rtol=1e-6, atol=1e-6 / scale)
    np.testing.assert_allclose(triangular.log_det(L), np.linalg.slogdet(S)[1], rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("d", [2, 34])
def test_what_is_above_the_diagonal_does_not_matter(d: int) -> None:
    rng = np.random.default_rng(1)
    L = np.tril(rng.uniform(1, 2, (4, d, d)))
    y = rng.standard_normal((4, d, 1))
    np.testing.assert_array_equal(
        triangular.solve(L + np.triu(np.ones((d, d)), 1), y), triangular.solve(L, y)
    )
