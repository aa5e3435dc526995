"""Cholesky factors, S = LLᵀ, batched over leading axes.

Two coordinates go in closed form: a few calls for all parts of all people, where LAPACK spends most
of its time on being called. With more of them BLAS solves with L as it is; numpy.linalg.solve would
take L to pieces first, ten times as long (ADR 0060).
"""

import numpy as np
from jaxtyping import Float
from scipy.linalg.blas import dtrsm


def cholesky(S: Float[np.ndarray, "*batch d d"]) -> Float[np.ndarray, "*batch d d"]:
    """L."""
    if S.shape[-1] != 2:
        return np.linalg.cholesky(S)
    L = np.zeros(S.shape)
    L[..., 0, 0] = x = np.sqrt(S[..., 0, 0])
    L[..., 1, 0] = xy = S[..., 1, 0] / x
    L[..., 1, 1] = np.sqrt(S[..., 1, 1] - xy**2)
    return L


def solve(
    L: Float[np.ndarray, "*batch d d"], y: Float[np.ndarray, "*batch d n"]
) -> Float[np.ndarray, "*batch d n"]:
    """L⁻¹y."""
    if L.shape[-1] != 2:
        x = np.empty(y.mT.shape).mT  # column after column, as BLAS has it
        for i in np.ndindex(L.shape[:-2]):
            x[i] = dtrsm(1.0, L[i].T, y[i], trans_a=1)
        return x
    x = np.empty(y.shape)
    x[..., 0, :] = y[..., 0, :] / L[..., 0, 0, None]
    x[..., 1, :] = (y[..., 1, :] - L[..., 1, 0, None] * x[..., 0, :]) / L[..., 1, 1, None]
    return x


def whiten(
    S: Float[np.ndarray, "*batch d d"], y: Float[np.ndarray, "*batch d"]
) -> tuple[Float[np.ndarray, "*batch d d"], Float[np.ndarray, "*batch d"]]:
    """L, and L⁻¹y with it from one factorisation.

    [[S, y], [yᵀ, big]] has the factor [[L, 0], [(L⁻¹y)ᵀ, …]].
    """
    d = S.shape[-1]
    if d == 2:
        L = cholesky(S)
        return L, solve(L, y[..., None])[..., 0]
    bordered = np.empty((*S.shape[:-2], d + 1, d + 1))
    bordered[..., :d, :d] = S
    bordered[..., d, :d] = bordered[..., :d, d] = y
    bordered[..., d, d] = 1e200  # more than any yᵀS⁻¹y
    factor = np.linalg.cholesky(bordered)
    return factor[..., :d, :d], factor[..., d, :d]


def log_det(L: Float[np.ndarray, "*batch d d"]) -> Float[np.ndarray, "*batch"]:
    """Of S, from L: log |S|."""
    if L.shape[-1] == 2:
        return np.asarray(2 * np.log(L[..., 0, 0] * L[..., 1, 1]))
    return np.asarray(2 * np.log(L.diagonal(0, -2, -1)).sum(axis=-1))


def gram(x: Float[np.ndarray, "*batch d n"]) -> Float[np.ndarray, "*batch n n"]:
    """xᵀx."""
    # Of an array with itself NumPy mirrors one half of the product, which costs as much again.
    return x.copy().mT @ x
