"""BM25 (Robertson and Zaragoza 2009, section 3.4): how well words of a query find a short text.

    score(q, d) = sum over the terms t of q and d:  q_t idf(t) tf (k1 + 1) / (tf + K)
    K = k1 (1 - b + b |d| / mean |d|),   idf(t) = ln(1 + (N - n_t + 0.5) / (n_t + 0.5))

with tf how often t is in d, n_t in how many of the N texts it is. The 1 in the idf is Lucene's: a
term in most of the texts counts little instead of less than nothing. q_t is how often t is in q,
or with ``terms_once`` 1 (their k3 = 0): a dialogue repeats its small words.

Letters: Q queries, C candidates, V terms of the candidates.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

K1, B = 1.2, 0.75
_ENDINGS = (("ies", "y"), ("sses", "ss"), ("es", "e"), ("s", ""))


def words_of(text: str) -> list[str]:
    """The words, in lower case, without the endings of plurals."""
    return [_singular(word) for word in re.findall(r"[a-z]+", text.lower())]


def _singular(word: str) -> str:
    for ending, other in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return word if word.endswith("ss") else word[: -len(ending)] + other
    return word


def pieces_of(text: str) -> list[str]:
    """All runs of 3 to 5 letters of its words, whose ends are marked: "cakes" finds "pancake"."""
    marked = [f"<{word}>" for word in re.findall(r"[a-z]+", text.lower())]
    return [
        word[start : start + size]
        for word in marked
        for size in (3, 4, 5)
        for start in range(len(word) - size + 1)
    ]


def bm25_scores(
    queries: Sequence[Sequence[str]],
    candidates: Sequence[Sequence[str]],
    *,
    terms_once: bool,
    k1: float = K1,
    b: float = B,
) -> np.ndarray:
    """Scores (Q, C) of lists of terms; all candidates together are the collection."""
    place = {term: v for v, term in enumerate(dict.fromkeys(t for c in candidates for t in c))}
    weights_CV = np.zeros((len(candidates), len(place)), dtype=np.float32)
    counts = [Counter(candidate) for candidate in candidates]
    num_with = Counter(term for count in counts for term in count)
    lengths = np.array([len(candidate) for candidate in candidates], dtype=np.float64)
    norms = k1 * (1 - b + b * lengths / max(float(lengths.mean()), 1e-9))
    for row, count, norm in zip(weights_CV, counts, norms, strict=True):
        for term, tf in count.items():
            n = num_with[term]
            idf = np.log1p((len(candidates) - n + 0.5) / (n + 0.5))
            row[place[term]] = idf * tf * (k1 + 1) / (tf + norm)
    asked_QV = np.zeros((len(queries), len(place)), dtype=np.float32)
    for row, query in zip(asked_QV, queries, strict=True):
        for term, times in Counter(query).items():
            if term in place:
                row[place[term]] = 1 if terms_once else times
    return asked_QV @ weights_CV.T
