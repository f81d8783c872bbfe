"""Which: ranks of the true photo, R@k and MRR; and the decision to retrieve or to paint.

Letters: Q queries, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from showtell.errors import DataError
from showtell.metrics.report import Value, mean_value, percentiles, resample_counts

CUTS = (1, 5, 10)


def ranks(scores_QC: Any, gold_Q: Any) -> np.ndarray:
    """The rank of each query's gold candidate, from 1; higher scores come first.

    A candidate with the gold one's score counts as before it, so that a scorer that says the same
    of everything gets the last rank and not the first.
    """
    scores = np.asarray(scores_QC, dtype=np.float64)
    gold = np.asarray(gold_Q)
    if scores.ndim != 2 or gold.shape != scores.shape[:1] or not len(gold):
        raise DataError(
            f"scores of shape {scores.shape} and gold of shape {gold.shape}; wanted (queries, "
            "candidates) and the number of the gold candidate of each query."
        )
    if not np.issubdtype(gold.dtype, np.integer) or gold.min() < 0 or gold.max() >= scores.shape[1]:
        raise DataError(
            f"gold candidates that are not among 0..{scores.shape[1] - 1}; wanted their numbers."
        )
    if np.isnan(scores).any():
        raise DataError("scores hold NaN, which has no rank; wanted numbers. Look at the scorer.")
    own = scores[np.arange(len(gold)), gold]
    return (scores >= own[:, None]).sum(1)


def recall_at(ranks_Q: Any, k: int) -> float:
    """R@k: the share of queries whose gold candidate is among the first k."""
    return float((_ranks(ranks_Q) <= k).mean())


def mean_reciprocal_rank(ranks_Q: Any) -> float:
    """MRR: the mean of 1 / rank."""
    return float((1 / _ranks(ranks_Q)).mean())


def retrieval_values(
    ranks_Q: Any,
    *,
    seed: int,
    groups: Sequence[str] | None = None,
    prefix: str = "retrieval",
    protocol: str = "",
    cuts: Sequence[int] = CUTS,
) -> dict[str, Value]:
    """``retrieval.r1``, ``r5``, ``r10`` and ``retrieval.mrr``, with intervals."""
    found = _ranks(ranks_Q)
    rows = {f"r{k}": (found <= k).astype(np.float64) for k in cuts} | {"mrr": 1 / found}
    return {
        f"{prefix}.{name}": mean_value(row, seed=seed, groups=groups, protocol=protocol)
        for name, row in rows.items()
    }


def _ranks(ranks_Q: Any) -> np.ndarray:
    found = np.asarray(ranks_Q, dtype=np.float64)
    if found.ndim != 1 or not len(found) or not (found >= 1).all() or (found % 1).any():
        raise DataError("ranks other than 1, 2, 3, ...; wanted at least one of them.")
    return found


# ------------------------------------------------------------------------------------- decision


def decision_f1(labels: Sequence[str], decisions: Sequence[str]) -> float:
    """Macro-F1 over the classes that the labels name, as GILL's notebook prints it (2305.17216).

    A class that is never decided for has F1 0.
    """
    return float(_macro_f1(_confusion(labels, decisions).sum(0)[None])[0])


def decision_values(
    labels: Sequence[str],
    decisions: Sequence[str],
    *,
    seed: int,
    prefix: str = "decision",
    protocol: str = "",
) -> dict[str, Value]:
    """``decision.macro_f1``, ``decision.accuracy`` and ``decision.macro_f1_prior``.

    The prior is a coin with the labels' own shares: its expected macro-F1 is the mean over classes
    of 2 r r / (r + r) = r, that is 1 / classes.
    """
    confusion_NLD = _confusion(labels, decisions)
    flat = confusion_NLD.reshape(len(labels), -1)
    draws = []
    for counts in resample_counts(len(labels), seed=seed):
        draws.append(_macro_f1((counts @ flat).reshape(-1, *confusion_NLD.shape[1:])))
    low, high = percentiles(draws)
    classes = sorted(set(labels))
    return {
        f"{prefix}.macro_f1": Value(
            value=float(_macro_f1(confusion_NLD.sum(0)[None])[0]),
            low=low,
            high=high,
            n=len(labels),
            protocol=protocol,
            note=f"mean over {', '.join(classes)}",
        ),
        f"{prefix}.accuracy": mean_value(
            [float(one == other) for one, other in zip(labels, decisions, strict=True)],
            seed=seed,
            protocol=protocol,
        ),
        f"{prefix}.macro_f1_prior": Value(
            value=1 / len(classes),
            low=None,
            high=None,
            n=len(labels),
            higher_is_better=None,
            protocol=protocol,
            note="a coin with the labels' shares",
        ),
    }


def _confusion(labels: Sequence[str], decisions: Sequence[str]) -> np.ndarray:
    """(N, classes of the labels, those and one for anything else), one 1 in each."""
    if len(labels) != len(decisions) or not labels:
        raise DataError(
            f"{len(labels)} labels and {len(decisions)} decisions; wanted as many of each, and at "
            "least one."
        )
    place = {name: k for k, name in enumerate(sorted(set(labels)))}
    found = np.zeros((len(labels), len(place), len(place) + 1))
    for n, (label, decision) in enumerate(zip(labels, decisions, strict=True)):
        found[n, place[label], place.get(decision, len(place))] = 1
    return found


def _macro_f1(confusion_RLD: np.ndarray) -> np.ndarray:
    num = confusion_RLD.shape[1]
    hits = np.diagonal(confusion_RLD, axis1=1, axis2=2)
    wanted, decided = confusion_RLD.sum(2), confusion_RLD.sum(1)[:, :num]
    return (2 * hits / np.maximum(wanted + decided, 1)).mean(1)
