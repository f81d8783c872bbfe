"""Photo retrieval by description on PhotoChat: BM25, TF-IDF and the learnt ranker, on dev.

    showtell train photochat_retrieval --set photochat=PHOTOCHAT_FOLDER/train.jsonl
    python experiments/photochat_retrieval.py PHOTOCHAT_FOLDER MODEL [--out DIR]

where the folder holds dev.jsonl, and MODEL is runs/photochat_retrieval/model. Training and table
take seconds each.

The dialogue up to the share ranks the descriptions of the split's distinct photos (dev: 1,000), of
which it wants its own. An equal score counts as before the wanted one, so of two photos with one
description neither comes first: the best possible R@1 is ``ceiling``'s.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from photochat_moments import PhotoChat, parser

from showtell.cli.exits import exit_code_of
from showtell.dialogue import Dialogue
from showtell.errors import import_extra
from showtell.metrics.intervals import Value, mean_value, percentiles, resample_counts
from showtell.metrics.report import model_digest
from showtell.metrics.retrieval import ranks, retrieval_values
from showtell.recipes.description_ranker import (
    Candidates,
    DescriptionRanker,
    bm25_scores,
    candidates_of,
    words_of,
)

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


ROWS = ("tfidf", "bm25_all_terms", "bm25", "encoder", "ranker", "gain")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("model", type=Path, help="what photochat_retrieval has trained")
    chat = PhotoChat(options.parse_args())
    ranker = DescriptionRanker.load(chat.options.model)
    values = evaluate_retrieval(ranker, chat.dev, seed=chat.options.seed)
    print(f"{len(chat.dev):,} dialogues; in brackets 95% intervals")
    print(f"{'':<16}" + "".join(f"{name:^24}" for name in ("R@1", "R@5", "R@10", "MRR")))
    for row in ROWS:
        cells = [values[f"{PREFIX}.{row}.{name}"] for name in ("r1", "r5", "r10", "mrr")]
        print(f"{row:<16}" + "".join(f"{v.printed:>7} [{v.interval}]".center(24) for v in cells))
    alone = values[f"{PREFIX}.ceiling.r1"]
    print(f"photos whose description is no other's: {alone.printed}")
    chat.report(
        "photochat_retrieval",
        values,
        ("dev.jsonl",),
        checkpoint=str(chat.options.model),
        model_digest=model_digest(chat.options.model),
        notes=(
            "bm25: k1 1.2, b 0.75, idf of the candidates, each word of the dialogue once; "
            "bm25_all_terms: as often as it was said",
            "ranker: a learnt combination of the encoder and BM25 of words and of pieces of "
            f"words, weights {ranker.mixture}",
        ),
    )


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
