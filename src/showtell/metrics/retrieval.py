"""Which: ranks of the true photo, R@k and MRR, and BM25 to be held against; and the decision to
retrieve or to paint.

Letters: Q queries, C candidates, V terms.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from showtell.errors import DataError
from showtell.metrics.intervals import Value, bootstrap, grouped, mean_value, percentiles

CUTS = (1, 5, 10)
COIN_DRAWS = 10_000
K1, B = 1.2, 0.75  # of BM25
_ENDINGS = (("ies", "y"), ("sses", "ss"), ("es", "e"), ("s", ""))


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


def retrieval_values(
    ranks_Q: Any, *, seed: int, groups: Sequence[str] | None = None
) -> dict[str, Value]:
    """``retrieval.r1``, ``r5``, ``r10`` and ``retrieval.mrr``, with intervals."""
    found = _ranks(ranks_Q)
    rows = {f"r{k}": (found <= k).astype(np.float64) for k in CUTS} | {"mrr": 1 / found}
    return {
        f"retrieval.{name}": mean_value(row, seed=seed, groups=groups) for name, row in rows.items()
    }


def _ranks(ranks_Q: Any) -> np.ndarray:
    found = np.asarray(ranks_Q, dtype=np.float64)
    if found.ndim != 1 or not len(found) or not (found >= 1).all() or (found % 1).any():
        raise DataError("ranks other than 1, 2, 3, ...; wanted at least one of them.")
    return found


# ----------------------------------------------------------------------------------------- BM25


def terms_of(text: str) -> list[str]:
    """Runs of letters and digits of any script, in lower case, without a plural's ending."""
    text = unicodedata.normalize("NFC", text.lower())
    runs = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text).split()
    return [_singular(word) for word in runs]


def _singular(word: str) -> str:
    for ending, other in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return word if word.endswith("ss") else word[: -len(ending)] + other
    return word


def bm25_scores(queries: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
    """Scores (Q, C) of texts by BM25 (Robertson and Zaragoza 2009, section 3.4); all candidates
    are the collection. Each term of a query counts once (k3 = 0): dialogues repeat small words."""
    # not by bm25s: it adds in float32 and in another order, which moves ranks
    counts = [Counter(terms_of(candidate)) for candidate in candidates]
    num_with = Counter(term for count in counts for term in count)
    place = {term: v for v, term in enumerate(num_with)}
    lengths_C = np.array([count.total() for count in counts], dtype=np.float64)
    norms_C = K1 * (1 - B + B * lengths_C / max(float(lengths_C.mean()), 1e-9))
    weights_CV = np.zeros((len(candidates), len(place)))
    for row, count, norm in zip(weights_CV, counts, norms_C, strict=True):
        for term, tf in count.items():
            idf = np.log1p((len(candidates) - num_with[term] + 0.5) / (num_with[term] + 0.5))
            row[place[term]] = idf * tf * (K1 + 1) / (tf + norm)
    asked_QV = np.zeros((len(queries), len(place)))
    for row, query in zip(asked_QV, queries, strict=True):
        row[[place[term] for term in set(terms_of(query)) if term in place]] = 1
    return asked_QV @ weights_CV.T


# ------------------------------------------------------------------------------------- decision


def macro_f1(labels: Sequence[Any] | np.ndarray, decisions: Sequence[Any] | np.ndarray) -> float:
    """The mean F1 over the classes that the labels name (of booleans: both), as GILL's notebook
    prints it (2305.17216); an F1 without anything to find and anything found is 0."""
    return float(_macro_f1(_confusion(labels, decisions)[0].sum(0)[None])[0])


def macro_f1_value(
    labels: Sequence[Any] | np.ndarray,
    decisions: Sequence[Any] | np.ndarray,
    *,
    seed: int,
    groups_N: Sequence[Any] | np.ndarray | None = None,
) -> Value:
    """The same with the percentile bootstrap; ``groups_N`` says what was drawn independently (the
    prompt of a vote)."""
    confusion_NLD, classes = _confusion(labels, decisions)
    shape = confusion_NLD.shape[1:]
    sums_GS = grouped(confusion_NLD.reshape(len(confusion_NLD), -1), groups_N)
    low, high = bootstrap(
        lambda counts_RG: _macro_f1((counts_RG @ sums_GS).reshape(-1, *shape)),
        len(sums_GS),
        seed=seed,
    )
    return Value(
        value=float(_macro_f1(confusion_NLD.sum(0)[None])[0]),
        low=low,
        high=high,
        n=len(confusion_NLD),
        note=f"mean over {', '.join(map(str, classes))}",
    )


def coin_macro_f1(
    labels_N: Sequence[bool] | np.ndarray, *, share: float, seed: int, draws: int = COIN_DRAWS
) -> Value:
    """A coin that says yes with probability ``share``: mean and range of its macro-F1.

    The range is of the coin's luck on these very cases: a rule inside it shows nothing.
    """
    labels_N, rng = np.asarray(labels_N, dtype=bool), np.random.default_rng(seed)
    values = np.array([macro_f1(labels_N, rng.random(len(labels_N)) < share) for _ in range(draws)])
    low, high = percentiles([values])
    return Value(value=float(values.mean()), low=low, high=high, n=len(labels_N))


def decision_values(
    labels: Sequence[str], decisions: Sequence[str], *, seed: int
) -> dict[str, Value]:
    """``decision.macro_f1``, ``decision.accuracy`` and ``decision.macro_f1_prior``.

    The prior is a coin with the labels' own shares: its expected macro-F1 is the mean over classes
    of 2 r r / (r + r) = r, that is 1 / classes.
    """
    found = macro_f1_value(labels, decisions, seed=seed)
    right = [float(one == other) for one, other in zip(labels, decisions, strict=True)]
    prior, note = 1 / len(set(labels)), "a coin with the labels' shares"
    return {
        "decision.macro_f1": found,
        "decision.accuracy": mean_value(right, seed=seed),
        "decision.macro_f1_prior": Value(
            value=prior, n=len(labels), higher_is_better=None, note=note
        ),
    }


def _confusion(
    labels: Sequence[Any] | np.ndarray, decisions: Sequence[Any] | np.ndarray
) -> tuple[np.ndarray, list[Any]]:
    """((N, classes, those and one for anything else), one 1 in each; the classes)."""
    labels_N, decisions_N = np.asarray(labels), np.asarray(decisions)
    if len(labels_N) != len(decisions_N) or not len(labels_N):
        raise DataError(
            f"{len(decisions_N)} decisions for {len(labels_N)} labels; wanted as many of each, and "
            "at least one. Score the same cases that were labelled."
        )
    classes = np.array([False, True]) if labels_N.dtype == bool else np.unique(labels_N)
    labelled_NL, decided_ND = (some_N[:, None] == classes for some_N in (labels_N, decisions_N))
    decided_ND = np.column_stack([decided_ND, ~decided_ND.any(1)])
    return (labelled_NL[:, :, None] & decided_ND[:, None]).astype(float), classes.tolist()


def _macro_f1(confusion_RLD: np.ndarray) -> np.ndarray:
    num = confusion_RLD.shape[1]
    hits = np.diagonal(confusion_RLD, axis1=1, axis2=2)
    wanted, decided = confusion_RLD.sum(2), confusion_RLD.sum(1)[:, :num]
    return (2 * hits / np.maximum(wanted + decided, 1)).mean(1)
