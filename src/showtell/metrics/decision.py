"""Retrieve or generate: macro-F1 over prompts, its interval, and what a coin would get.

Macro-F1 is the mean of the F1 of "retrieve" and the F1 of "generate", as GILL (2305.17216)
reports it; an F1 without anything to find and anything found is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from showtell.errors import DataError
from showtell.metrics.report import percentiles, resample_counts

COIN_DRAWS = 10_000


@dataclass(frozen=True, kw_only=True)
class MacroF1:
    """A macro-F1 with the 2.5% and 97.5% percentiles of its bootstrap (or of a coin's draws)."""

    value: float
    low: float
    high: float
    n: int


def macro_f1(
    retrieve_N: Sequence[bool] | np.ndarray, chosen_N: Sequence[bool] | np.ndarray
) -> float:
    """Macro-F1 of choices against labels (both: whether to retrieve)."""
    labels_N, chosen_N = _pair(retrieve_N, chosen_N)
    return float(_macro_f1(labels_N, chosen_N, np.ones((1, len(labels_N))))[0])


def macro_f1_value(
    retrieve_N: Sequence[bool] | np.ndarray,
    chosen_N: Sequence[bool] | np.ndarray,
    *,
    seed: int,
    groups_N: Sequence[int] | np.ndarray | None = None,
) -> MacroF1:
    """The same with the percentile bootstrap.

    ``groups_N`` says what was drawn independently (the prompt of a vote); whole groups are drawn.
    """
    labels_N, chosen_N = _pair(retrieve_N, chosen_N)
    groups = np.arange(len(labels_N)) if groups_N is None else np.asarray(groups_N)
    names, group_N = np.unique(groups, return_inverse=True)
    draws = (
        _macro_f1(labels_N, chosen_N, counts_RG[:, group_N])
        for counts_RG in resample_counts(len(names), seed=seed)
    )
    low, high = percentiles(draws)
    return MacroF1(value=macro_f1(labels_N, chosen_N), low=low, high=high, n=len(labels_N))


def coin_macro_f1(
    retrieve_N: Sequence[bool] | np.ndarray,
    *,
    share: float,
    seed: int,
    draws: int = COIN_DRAWS,
) -> MacroF1:
    """A coin that says "retrieve" with probability ``share``: mean and range of its macro-F1.

    The range is of the coin's luck on these very prompts: a rule inside it shows nothing.
    """
    labels_N = np.asarray(retrieve_N, dtype=bool)
    rng = np.random.default_rng(seed)
    ones_1N = np.ones((1, len(labels_N)))

    def toss() -> Iterator[np.ndarray]:
        for _ in range(draws):
            yield _macro_f1(labels_N, rng.random(len(labels_N)) < share, ones_1N)

    values = np.concatenate(list(toss()))
    low, high = percentiles([values])
    return MacroF1(value=float(values.mean()), low=low, high=high, n=len(labels_N))


def _macro_f1(labels_N: np.ndarray, chosen_N: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    """One macro-F1 for each row of weights (how often each prompt was drawn)."""
    scores = []
    for kind in (True, False):
        found_R = weights_RN @ ((labels_N == kind) & (chosen_N == kind))
        total_R = weights_RN @ ((labels_N == kind).astype(float) + (chosen_N == kind))
        scores.append(
            np.divide(2 * found_R, total_R, out=np.zeros_like(total_R), where=total_R > 0)
        )
    return np.mean(scores, axis=0)


def _pair(
    labels: Sequence[bool] | np.ndarray, chosen: Sequence[bool] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    labels_N, chosen_N = np.asarray(labels, dtype=bool), np.asarray(chosen, dtype=bool)
    if len(labels_N) != len(chosen_N) or not len(labels_N):
        raise DataError(
            f"{len(chosen_N)} choices for {len(labels_N)} labels; wanted one choice for each of at "
            "least one label. Score the same prompts that were labelled."
        )
    return labels_N, chosen_N
