"""Who was followed by whom: HOTA, CLEAR and identity scores, counted by TrackEval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tracker.errors import TrackerError
from tracker.evaluation.people import Frames, People

Similarity = Callable[[People, People], Float[np.ndarray, "N T"]]

SAME = 0.5
"""Similarity from which CLEAR and identity scores take a track to follow a person."""


@dataclass(frozen=True, slots=True)
class IdentityScores:
    """Scores of one or several sequences together; shares in [0, 1]."""

    hota: float
    """Higher-order tracking accuracy, over similarities 0.05 to 0.95 (Luiten 2021)."""
    detection: float
    """DetA: its half that asks whether the people were found, …"""
    association: float
    """… AssA: and its half that asks whether they were kept apart."""
    mota: float
    """1 - (misses + false + switches) / people (Bernardin & Stiefelhagen 2008)."""
    idf1: float
    """F1 of the best one-to-one assignment of tracks to people (Ristani 2016)."""
    switches: int
    """How often a person's track became another than the last that had followed them."""
    misses: int
    false: int
    people: int
    """Person-frames of the truth."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """One sequence in the form that TrackEval counts."""

    truth_ids: list[Int[np.ndarray, " _"]]
    answer_ids: list[Int[np.ndarray, " _"]]
    """Both count from 0 without gaps."""
    similarity: list[Float[np.ndarray, "_ _"]]

    @classmethod
    def of(cls, truth: Frames, answer: Frames, similarity: Similarity) -> "Pairing":
        """The frames that the truth knows; where the answer has none, nobody was followed."""
        frames = sorted(truth)
        pairs = [(truth[f], answer.get(f, People.nobody())) for f in frames]
        return cls(
            _renumbered([t.ids for t, _ in pairs]),
            _renumbered([a.ids for _, a in pairs]),
            [similarity(t, a) for t, a in pairs],
        )

    def as_trackeval(self) -> dict[str, Any]:
        return {
            "gt_ids": self.truth_ids,
            "tracker_ids": self.answer_ids,
            "similarity_scores": self.similarity,
            "num_gt_dets": sum(map(len, self.truth_ids)),
            "num_tracker_dets": sum(map(len, self.answer_ids)),
            "num_gt_ids": _count(self.truth_ids),
            "num_tracker_ids": _count(self.answer_ids),
            "num_timesteps": len(self.truth_ids),
        }


def identity_scores(sequences: Sequence[Pairing], same: float = SAME) -> IdentityScores:
    """Scores over all sequences, which count by their people and not each the same."""
    counters = _counters(same)
    data = [sequence.as_trackeval() for sequence in sequences]
    hota, clear, identity = (
        c.combine_sequences({str(i): c.eval_sequence(d) for i, d in enumerate(data)})
        for c in counters
    )
    return IdentityScores(
        hota=float(np.mean(hota["HOTA"])),
        detection=float(np.mean(hota["DetA"])),
        association=float(np.mean(hota["AssA"])),
        mota=float(clear["MOTA"]),
        idf1=float(identity["IDF1"]),
        switches=int(clear["IDSW"]),
        misses=int(clear["CLR_FN"]),
        false=int(clear["CLR_FP"]),
        people=sum(d["num_gt_dets"] for d in data),
    )


def _counters(same: float) -> tuple[Any, Any, Any]:
    try:
        from trackeval.metrics import CLEAR, HOTA, Identity
    except ImportError as error:
        raise TrackerError(
            f"evaluation needs TrackEval, which is not here ({error}): pip install 'surepose[eval]'"
        ) from error
    config = {"THRESHOLD": same, "PRINT_CONFIG": False}
    return HOTA(), CLEAR(config), Identity(config)


def _renumbered(ids: Sequence[Int[np.ndarray, " _"]]) -> list[Int[np.ndarray, " _"]]:
    if not ids:
        return []
    _, number = np.unique(np.concatenate(ids), return_inverse=True)
    return np.split(number, np.cumsum([len(i) for i in ids])[:-1])


def _count(ids: Sequence[Int[np.ndarray, " _"]]) -> int:
    return 1 + max((int(i.max()) for i in ids if len(i)), default=-1)
