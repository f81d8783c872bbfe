"""What people prefer of two systems, A and B: win, tie and loss of A, and how far raters agree.

The protocol ``judge`` is that of MiniGPT-5's human evaluation (2310.02239, table 4): each vote
names the better answer or a tie. Agreement is Fleiss' kappa (1971), as Divter's authors report it,
in its usual form for items with different numbers of votes; with two raters it is Scott's pi.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from showtell.metrics.report import Value, resample_counts, wilson

Choice = Literal["win", "tie", "loss"]
CHOICES: tuple[Choice, ...] = ("win", "tie", "loss")
PROTOCOL = "judge"


@dataclass(frozen=True, kw_only=True)
class Vote:
    """A rater's answer to one question on one item; ``group`` is what was drawn independently."""

    item: str
    rater: str
    choice: Choice
    group: str


def preference_values(votes: Sequence[Vote], *, prefix: str, seed: int) -> dict[str, Value]:
    """win, tie, loss, preferred (wins among wins and losses), agreement and kappa of some votes.

    Shares have Wilson's interval over groups, a group counting as one vote that may be divided:
    the votes of a group hang together. Kappa's resamples groups.
    """
    decided = [vote for vote in votes if vote.choice != "tie"]
    values: dict[str, Value] = {
        choice: _share(
            [float(vote.choice == choice) for vote in votes],
            [vote.group for vote in votes],
            higher_is_better={"win": True, "tie": None, "loss": False}[choice],
        )
        for choice in CHOICES
    }
    values["preferred"] = _share(
        [float(vote.choice == "win") for vote in decided],
        [vote.group for vote in decided],
        higher_is_better=True,
        note="wins among wins and losses: A is better where the whole interval is above 50%",
    )
    values |= _agreement(votes, seed=seed)
    return {f"{prefix}.{name}": value for name, value in values.items()}


def _share(
    hits: Sequence[float], groups: Sequence[str], *, higher_is_better: bool | None, note: str = ""
) -> Value:
    if not hits:
        return _nothing("all votes are ties")
    share, num_groups = sum(hits) / len(hits), len(set(groups))
    low, high = wilson(share * num_groups, num_groups)
    return Value(
        value=share,
        low=low,
        high=high,
        n=len(hits),
        higher_is_better=higher_is_better,
        protocol=PROTOCOL,
        note=note,
    )


def fleiss_kappa(counts_IJ: np.ndarray, weights_RI: np.ndarray | None = None) -> np.ndarray:
    """Fleiss' kappa of I items with counts of J answers, for each of R weightings of the items.

    (P - P_e) / (1 - P_e): P is the mean share of an item's pairs of votes that agree, P_e that of
    two votes drawn from all answers. NaN where all votes are the same, or no item has two.
    """
    weights_RI = np.ones((1, len(counts_IJ))) if weights_RI is None else weights_RI
    votes_I = counts_IJ.sum(1)
    several = votes_I >= 2
    counts_IJ, votes_I, weights_RI = counts_IJ[several], votes_I[several], weights_RI[:, several]
    agreed_I = _agreed(counts_IJ)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed_R = (weights_RI @ agreed_I) / weights_RI.sum(1)
        answers_RJ = weights_RI @ counts_IJ
        shares_RJ = answers_RJ / answers_RJ.sum(1, keepdims=True)
        expected_R = (shares_RJ**2).sum(1)
        return np.where(expected_R < 1, (observed_R - expected_R) / (1 - expected_R), np.nan)


def _agreed(counts_IJ: np.ndarray) -> np.ndarray:
    """The share of each item's pairs of votes that agree."""
    votes_I = counts_IJ.sum(1)
    return ((counts_IJ**2).sum(1) - votes_I) / (votes_I * (votes_I - 1))


def _agreement(votes: Sequence[Vote], *, seed: int) -> dict[str, Value]:
    by_item: dict[str, list[Vote]] = {}
    for vote in votes:
        by_item.setdefault(vote.item, []).append(vote)
    shared = [row for row in by_item.values() if len(row) >= 2]
    if not shared:
        nothing = _nothing("no item has the votes of two raters")
        return {"agreement": nothing, "kappa": nothing}
    counts_IJ = np.array(
        [[sum(v.choice == c for v in row) for c in CHOICES] for row in shared], dtype=np.float64
    )
    groups = [row[0].group for row in shared]
    agreement = _share(list(_agreed(counts_IJ)), groups, higher_is_better=None)
    kappa = float(fleiss_kappa(counts_IJ)[0])
    if np.isnan(kappa):
        return {"agreement": agreement, "kappa": _nothing("all votes are the same")}
    _, group_I = np.unique(groups, return_inverse=True)
    draws_R = np.concatenate(
        [
            fleiss_kappa(counts_IJ, weights_RG[:, group_I])
            for weights_RG in resample_counts(len(set(groups)), seed=seed)
        ]
    )
    low, high = np.percentile(draws_R[np.isfinite(draws_R)], (2.5, 97.5))
    raters = len({vote.rater for vote in votes})
    return {
        "agreement": agreement,
        "kappa": Value(
            value=kappa,
            low=float(low),
            high=float(high),
            n=len(shared),
            protocol=PROTOCOL,
            higher_is_better=None,
            unit="",
            note=f"Fleiss' kappa, {raters} raters",
        ),
    }


def _nothing(note: str) -> Value:
    return Value(
        value=None, low=None, high=None, n=0, higher_is_better=None, protocol=PROTOCOL, note=note
    )
