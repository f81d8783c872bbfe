"""Photo retrieval by description on PhotoChat: the dialogue up to the share ranks all photos.

Candidates are the descriptions of the split's distinct photos (dev: 1,000), of which each dialogue
wants its own. An equal score counts as before the wanted one (``metrics/retrieval.ranks``), so of
two photos with one description neither comes first: the best possible R@1 is ``ceiling``'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from showtell.album.text_search import (
    Candidates,
    DescriptionRanker,
    bm25_scores,
    candidates_of,
    words_of,
)
from showtell.dialogue import Dialogue
from showtell.errors import import_extra
from showtell.metrics.intervals import Value, mean_value, percentiles, resample_counts
from showtell.metrics.retrieval import ranks, retrieval_values

BASELINE = "bm25"
PREFIX = "retrieval"


def evaluate_retrieval(
    ranker: DescriptionRanker, dialogues: Sequence[Dialogue], *, seed: int
) -> dict[str, Value]:
    """R@1/5/10 and MRR of ranker and baselines, and the ranker less BM25, query by query."""
    asked = candidates_of(dialogues)
    parts_3QC = ranker.parts(asked.queries, asked.descriptions)
    scores = {
        "tfidf": tfidf_scores(asked),
        "bm25_all_terms": _bm25(asked, terms_once=False),
        BASELINE: _bm25(asked, terms_once=True),
        "encoder": parts_3QC[0],
        "ranker": ranker.scores(asked.queries, asked.descriptions),
    }
    found = {name: ranks(scores_QC, asked.gold_Q) for name, scores_QC in scores.items()}
    values: dict[str, Value] = {}
    for name, ranks_Q in found.items():
        values |= retrieval_values(
            ranks_Q, seed=seed, prefix=f"{PREFIX}.{name}", protocol="photochat"
        )
    for k in (1, 5, 10):
        gained_Q = (found["ranker"] <= k).astype(float) - (found[BASELINE] <= k)
        values[f"{PREFIX}.gain.r{k}"] = _gain(gained_Q, seed=seed)
    values[f"{PREFIX}.gain.mrr"] = _gain(1 / found["ranker"] - 1 / found[BASELINE], seed=seed)
    times = Counter(asked.descriptions)
    alone_Q = [float(times[asked.descriptions[gold]] == 1) for gold in asked.gold_Q]
    values[f"{PREFIX}.ceiling.r1"] = mean_value(
        alone_Q, seed=seed, protocol="photochat", note="photos whose description is no other's"
    )
    return values


def _gain(gained_Q: np.ndarray, *, seed: int) -> Value:
    # not mean_value, which would take differences of 0 and 1 alone for a proportion
    draws = resample_counts(len(gained_Q), seed=seed)
    low, high = percentiles(counts @ gained_Q / len(gained_Q) for counts in draws)
    return Value(
        value=float(gained_Q.mean()),
        low=low,
        high=high,
        n=len(gained_Q),
        protocol="photochat",
        note=f"ranker less {BASELINE}, paired",
    )


def _bm25(asked: Candidates, *, terms_once: bool) -> np.ndarray:
    return bm25_scores(
        [words_of(query.text) for query in asked.queries],
        [words_of(text) for text in asked.descriptions],
        terms_once=terms_once,
    )


def tfidf_scores(asked: Candidates) -> np.ndarray:
    """(Q, C): cosines of scikit-learn's TF-IDF, idf from the candidates; the words of BM25.

    Raises MissingDependency.
    """
    words = import_extra("sklearn.feature_extraction.text", what="the TF-IDF baseline")
    vectorizer = words.TfidfVectorizer(analyzer=words_of)
    candidates_CV = vectorizer.fit_transform(asked.descriptions)
    queries_QV = vectorizer.transform([query.text for query in asked.queries])
    return (queries_QV @ candidates_CV.T).toarray()
