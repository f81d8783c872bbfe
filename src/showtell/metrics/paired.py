"""Two systems on the same dialogues: how much they differ, whether that could be chance, and the
smallest difference that could have been seen.

A measure is kept as *rows*: what it needs of each example, and the dialogue of the example. A draw
of the bootstrap counts how often each dialogue was drawn, the same for both systems, so that what
makes a dialogue easy or hard for both falls out of their difference. Of R draws d_r of the
difference d:

    interval      the 2.5% and 97.5% percentiles of d_r
    p             (1 + #{|d_r - d| >= |d|}) / (1 + R), two-sided, of "no difference"
    detectable    (1.96 + 0.84) sd(d_r): found in four of five repetitions, at a level of 5%

Several runs of a system (training seeds) are averaged within each draw: all of this tells of the
sample of dialogues, and of other training seeds only what the runs at hand tell.

Letters: N examples, S numbers an example, G dialogues, R draws, E features, A attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from showtell.errors import DataError
from showtell.metrics.fid import kid_of_draws
from showtell.metrics.intervals import Value, Z, percentiles, resample_counts
from showtell.metrics.moment import average_precision_of_draws, calibration_error_of_draws
from showtell.metrics.text import psdg_bleu

FEW = 10  # dialogues: a bootstrap of fewer says nothing
_Z_POWER = 0.8416212335729143  # of 80%; the level is 5% two-sided


# ------------------------------------------------------------------- measures of drawn examples


def _mean(rows_N1: np.ndarray, counts_RN: np.ndarray) -> np.ndarray:
    """value"""
    return (counts_RN @ rows_N1[:, 0]) / counts_RN.sum(1)


def _ratio(rows_N2: np.ndarray, counts_RN: np.ndarray) -> np.ndarray:
    """numerator, denominator; F1 is that of 2 hit and chosen + positive"""
    top_R, bottom_R = (counts_RN @ rows_N2).T
    return top_R / np.maximum(bottom_R, 1e-12)


def _perplexity(rows_N2: np.ndarray, counts_RN: np.ndarray) -> np.ndarray:
    """-log p, tokens"""
    return np.exp(_ratio(rows_N2, counts_RN))


def _macro(rows_N2A: np.ndarray, counts_RN: np.ndarray) -> np.ndarray:
    """right of each of A attributes, counted of each: the mean over attributes that count"""
    right_RA, counted_RA = np.split(counts_RN @ rows_N2A, 2, axis=1)
    used_RA = counted_RA > 0
    shares_RA = right_RA / np.maximum(counted_RA, 1e-12)
    return (shares_RA * used_RA).sum(1) / np.maximum(used_RA.sum(1), 1)


def _bleu(order: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def of_draws(rows_N10: np.ndarray, counts_RN: np.ndarray) -> np.ndarray:
        return psdg_bleu(counts_RN @ rows_N10)[:, order - 1]

    return of_draws


def _auprc(rows_N2: np.ndarray, counts_RN: np.ndarray) -> np.ndarray:
    """label, score"""
    return average_precision_of_draws(rows_N2[:, 0], rows_N2[:, 1], counts_RN)


def _ece(rows_N2: np.ndarray, counts_RN: np.ndarray) -> np.ndarray:
    """label, score"""
    return calibration_error_of_draws(rows_N2[:, 0], rows_N2[:, 1], counts_RN)


def _kid(rows_N2E: np.ndarray, counts_RN: np.ndarray) -> np.ndarray:
    """features of the real photo, features of the painted one"""
    real_NE, painted_NE = np.split(rows_N2E, 2, axis=1)
    return kid_of_draws(real_NE, painted_NE, counts_RN, counts_RN, paired=True)


KINDS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mean": _mean,
    "ratio": _ratio,
    "perplexity": _perplexity,
    "macro": _macro,
    "bleu1": _bleu(1),
    "bleu2": _bleu(2),
    "auprc": _auprc,
    "ece": _ece,
    "kid": _kid,
}


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One measure of one run: ``kind`` (of ``KINDS``) says what its rows NS hold.

    ``dialogue_N`` is the dialogue that each example came from.
    """

    kind: str
    dialogue_N: np.ndarray
    rows_NS: np.ndarray

    def __post_init__(self) -> None:
        if len(self.dialogue_N) != len(self.rows_NS) or not len(self.rows_NS):
            raise DataError(
                f"{len(self.dialogue_N)} dialogues and {len(self.rows_NS)} rows of a measure of "
                f'kind "{self.kind}"; wanted one dialogue for each row, and at least one row.'
            )
        if not np.isfinite(self.rows_NS).all():
            raise DataError(
                f'a measure of kind "{self.kind}" holds NaN or infinity; wanted numbers. Look at '
                "what the model said, or evaluate another checkpoint."
            )

    def value(self) -> float:
        """The measure of all examples, each counted once."""
        return float(KINDS[self.kind](self.rows_NS, np.ones((1, len(self.rows_NS))))[0])


def scores(kind: str, dialogues: Sequence[int], rows: Any) -> Scores:
    """Rows as a list of numbers or of tuples."""
    rows_NS = np.asarray(rows, dtype=np.float64)
    return Scores(
        kind=kind,
        dialogue_N=np.asarray(dialogues, dtype=np.int64),
        rows_NS=rows_NS[:, None] if rows_NS.ndim == 1 else rows_NS,
    )


# ------------------------------------------------------------------------ intervals and differences


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Ours less theirs, on ``n`` dialogues; ``detectable`` is never below 0."""

    value: float
    low: float
    high: float
    p: float
    detectable: float
    n: int


def run_value(
    runs: Sequence[Scores],
    *,
    seed: int,
    higher_is_better: bool | None = True,
    unit: str = "fraction",
    protocol: str = "world",
    note: str = "",
) -> Value:
    """The mean over the runs of a system, with its bootstrap interval over dialogues; no interval
    of fewer than ``FEW`` of these."""
    low = high = None
    if len(np.unique(runs[0].dialogue_N)) >= FEW:
        low, high = percentiles(_draws([runs], seed=seed))
    return Value(
        value=_value(runs),
        low=low,
        high=high,
        n=len(runs[0].rows_NS),
        higher_is_better=higher_is_better,
        protocol=protocol,
        note=note,
        unit=unit,
    )


def difference(ours: Sequence[Scores], theirs: Sequence[Scores], *, seed: int) -> Difference | None:
    """Ours less theirs, paired by dialogue; None for fewer than ``FEW`` dialogues.

    Raises DataError where they saw other dialogues.
    """
    ours_R, theirs_R = _draws([ours, theirs], seed=seed)
    num = len(np.unique(ours[0].dialogue_N))
    if num < FEW:
        return None
    value, found_R = _value(ours) - _value(theirs), ours_R - theirs_R
    low, high = percentiles([found_R])
    extreme = (np.abs(found_R - value) >= abs(value)).sum()
    return Difference(
        value=value,
        low=low,
        high=high,
        p=float((1 + extreme) / (1 + len(found_R))),
        detectable=float((Z + _Z_POWER) * found_R.std(ddof=1)),
        n=num,
    )


def _value(runs: Sequence[Scores]) -> float:
    return float(np.mean([run.value() for run in runs]))


def _draws(systems: Sequence[Sequence[Scores]], *, seed: int) -> list[np.ndarray]:
    """R values of each system, from the same draws of dialogues."""
    dialogues = np.unique(systems[0][0].dialogue_N)
    for run in (run for runs in systems for run in runs):
        if not np.array_equal(np.unique(run.dialogue_N), dialogues):
            raise DataError(
                f"one run was measured on {len(dialogues)} dialogues and another on "
                f"{len(np.unique(run.dialogue_N))}, or on others; wanted the same for all. "
                "Evaluate both on the same data."
            )
    found: list[list[np.ndarray]] = [[] for _ in systems]
    for counts_RG in resample_counts(len(dialogues), seed=seed):
        for values, runs in zip(found, systems, strict=True):
            drawn = [
                KINDS[run.kind](
                    run.rows_NS, counts_RG[:, np.searchsorted(dialogues, run.dialogue_N)]
                )
                for run in runs
            ]
            values.append(np.mean(drawn, axis=0))
    return [np.concatenate(values) for values in found]
