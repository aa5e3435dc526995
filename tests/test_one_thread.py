"""The tracker keeps to one thread of BLAS, whatever the process has."""

import numpy as np
import pytest
import scipy.linalg.blas  # noqa: F401 - the tracker's other BLAS
from simulated_people import seen, walker
from threadpoolctl import threadpool_info, threadpool_limits

from tracker import tracks
from tracker.tracks import MultiTracker


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_a_step_has_one_thread_and_gives_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[set[int]] = []
    sight = tracks.sight

    def watched(*args: object) -> object:
        inside.append(blas_threads())
        return sight(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(tracks, "sight", watched)
    with threadpool_limits(2, user_api="blas"):
        MultiTracker().update([seen(walker(0.0), np.random.default_rng(0))], 0.0)
        assert blas_threads() == {2}
    assert inside == [{1}]


def test_it_gives_them_back_after_an_error() -> None:
    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(ValueError, match="time must grow"):
            MultiTracker().update([], float("nan"))
        assert blas_threads() == {2}
