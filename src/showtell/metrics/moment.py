"""When to share: how well scores in [0, 1] pick out the positions at which a photo was shared.

``labels_N`` are 0/1, ``scores_N`` probabilities; positions of one dialogue depend on each other, so
intervals resample dialogues (``groups_N``) where these are given. Beside the measures stand the
baselines that a model has to beat: a keyword rule, and TF-IDF + logistic regression.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from showtell.dialogue import Turn
from showtell.errors import DataError, import_extra
from showtell.metrics.intervals import Value, grouped, percentiles, resample_counts

BINS = 15


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Precision, recall and F1 of ``scores >= threshold`` for the positive class."""

    threshold: float
    precision: float
    recall: float
    f1: float


def at_threshold(labels_N: Any, scores_N: Any, threshold: float) -> Moment:
    """What is found and what is right at a threshold; 0 where a ratio has no denominator."""
    labels_N, scores_N = _pair(labels_N, scores_N)
    chosen_N = scores_N >= threshold
    hits = float(labels_N[chosen_N].sum())
    return Moment(
        threshold=float(threshold),
        precision=hits / max(1.0, float(chosen_N.sum())),
        recall=hits / max(1.0, float(labels_N.sum())),
        f1=2 * hits / max(1.0, float(chosen_N.sum() + labels_N.sum())),
    )


def best_threshold(labels_N: Any, scores_N: Any) -> Moment:
    """The threshold of the highest F1, among the scores themselves; the highest of equals.

    Choose it on held-out positions, never on those that are reported.
    """
    labels_N, scores_N = _pair(labels_N, scores_N)
    _needs_positives(labels_N)
    order_N, ends_K = _order(scores_N)
    hits_K, chosen_K = _steps(labels_N, np.ones_like(scores_N), order_N, ends_K)
    best = int(np.argmax(2 * hits_K / (chosen_K + labels_N.sum())))
    return at_threshold(labels_N, scores_N, float(scores_N[order_N[ends_K[best]]]))


def average_precision(labels_N: Any, scores_N: Any) -> float:
    """AUPRC as average precision: sum over thresholds of (R_k - R_{k-1}) P_k; ties are one step."""
    labels_N, scores_N = _pair(labels_N, scores_N)
    _needs_positives(labels_N)
    return float(average_precision_of_draws(labels_N, scores_N, np.ones((1, len(labels_N))))[0])


def average_precision_of_draws(
    labels_N: Any, scores_N: Any, counts_RN: Iterable[np.ndarray]
) -> np.ndarray:
    """The same of R draws of the positions, (R,): how often each was drawn. Sorted once, not in
    each draw, as scikit-learn's would be."""
    labels_N, scores_N = _pair(labels_N, scores_N)
    order_N, ends_K = _order(scores_N)
    areas = []
    for counts_N in counts_RN:
        hits_K, chosen_K = _steps(labels_N, counts_N, order_N, ends_K)
        precision_K = hits_K / np.maximum(chosen_K, 1e-12)
        area = (np.diff(hits_K, prepend=0.0) * precision_K).sum()
        areas.append(area / max(hits_K[-1], 1e-12))
    return np.array(areas)


def _order(scores_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The positions from the highest score down, and where each of the K distinct scores ends."""
    order_N = np.argsort(-scores_N, kind="stable")
    return order_N, np.append(np.flatnonzero(np.diff(scores_N[order_N])), len(scores_N) - 1)


def _steps(
    labels_N: np.ndarray, weights_N: np.ndarray, order_N: np.ndarray, ends_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(hits, chosen) down to each distinct score."""
    hits_N = np.cumsum((labels_N * weights_N)[order_N])
    return hits_N[ends_K], np.cumsum(weights_N[order_N])[ends_K]


# ---------------------------------------------------------------------------------- calibration


def _bins(scores_N: np.ndarray) -> np.ndarray:
    """The bin of each score, all of equal width; a score of 1 belongs to the last."""
    return np.minimum((scores_N * BINS).astype(int), BINS - 1)


def calibration_error(labels_N: Any, scores_N: Any) -> float:
    """ECE: sum over bins of n_b / N * |share of positives - mean score|."""
    labels_N, scores_N = _pair(labels_N, scores_N)
    place_N, total = _bins(scores_N), 0.0
    for k in np.unique(place_N):
        inside = place_N == k
        gap = float(labels_N[inside].mean()) - float(scores_N[inside].mean())
        total += int(inside.sum()) * abs(gap)
    return total / len(labels_N)


def calibration_error_of_draws(
    labels_N: Any, scores_N: Any, counts_RN: Iterable[np.ndarray]
) -> np.ndarray:
    """The same of R draws of the positions, (R,): how often each was drawn."""
    labels_N, scores_N = _pair(labels_N, scores_N)
    place_N, errors = _bins(scores_N), []
    for counts_N in counts_RN:
        gap_N = counts_N * (labels_N - scores_N)
        errors.append(np.abs(np.bincount(place_N, weights=gap_N)).sum() / counts_N.sum())
    return np.array(errors)


def brier(labels_N: Any, scores_N: Any) -> float:
    """The mean of (score - label)^2."""
    labels_N, scores_N = _pair(labels_N, scores_N)
    return float(((scores_N - labels_N) ** 2).mean())


# ------------------------------------------------------------------------ values with intervals


def moment_values(
    labels_N: Any,
    scores_N: Any,
    *,
    threshold: float,
    seed: int,
    groups_N: Sequence[Any] | np.ndarray | None = None,
    prefix: str = "moment",
    protocol: str = "",
) -> dict[str, Value]:
    """``moment.f1``, ``precision``, ``recall``, ``auprc``, ``ece``, ``brier``, ``prevalence``.

    ``threshold`` comes from held-out positions (``best_threshold``). Intervals: the percentile
    bootstrap over dialogues, or over positions without ``groups_N``.
    """
    labels_N, scores_N = _pair(labels_N, scores_N)
    _needs_positives(labels_N)
    num = len(labels_N)
    index_N = np.arange(num)
    if groups_N is not None:
        index_N = np.unique(np.asarray(groups_N), return_inverse=True)[1]
    chosen_N, place_N = (scores_N >= threshold).astype(np.float64), _bins(scores_N)
    square_N = (scores_N - labels_N) ** 2
    sums_G5 = grouped(
        np.stack((labels_N * chosen_N, chosen_N, labels_N, square_N, np.ones(num)), 1), index_N
    )
    blocks = []
    for counts_RG in resample_counts(len(sums_G5), seed=seed):
        hits, chosen, positive, square, total = (counts_RG @ sums_G5).T
        gaps = (counts_G[index_N] * (labels_N - scores_N) for counts_G in counts_RG)
        gap_R = [np.abs(np.bincount(place_N, weights=gap_N)).sum() for gap_N in gaps]
        drawn_RN = (counts_G[index_N] for counts_G in counts_RG)
        blocks.append(
            (
                2 * hits / np.maximum(chosen + positive, 1),
                hits / np.maximum(chosen, 1),
                hits / np.maximum(positive, 1),
                average_precision_of_draws(labels_N, scores_N, drawn_RN),
                np.array(gap_R) / total,
                square / total,
                positive / total,
            )
        )
    at, area = at_threshold(labels_N, scores_N, threshold), average_precision(labels_N, scores_N)
    rows = (
        ("f1", at.f1, True, f"threshold {threshold:.4g}"),
        ("precision", at.precision, True, ""),
        ("recall", at.recall, True, ""),
        ("auprc", area, True, "average precision"),
        ("ece", calibration_error(labels_N, scores_N), False, f"{BINS} bins"),
        ("brier", brier(labels_N, scores_N), False, ""),
        ("prevalence", float(labels_N.mean()), None, "share of positives"),
    )
    values = {}
    for (name, value, better, note), drawn in zip(rows, zip(*blocks, strict=True), strict=True):
        low, high = percentiles(drawn)
        values[f"{prefix}.{name}"] = Value(
            value=value,
            low=low,
            high=high,
            n=num,
            higher_is_better=better,
            protocol=protocol,
            note=note,
        )
    return values


def _pair(labels_N: Any, scores_N: Any) -> tuple[np.ndarray, np.ndarray]:
    labels_N = np.asarray(labels_N, dtype=np.float64)
    scores_N = np.asarray(scores_N, dtype=np.float64)
    if labels_N.shape != scores_N.shape or labels_N.ndim != 1 or not len(labels_N):
        raise DataError(
            f"labels of shape {labels_N.shape} and scores of shape {scores_N.shape}; wanted one "
            "score for each label, and at least one."
        )
    if not (
        np.isin(labels_N, (0.0, 1.0)).all() and (scores_N >= 0).all() and (scores_N <= 1).all()
    ):
        raise DataError(
            "labels other than 0 and 1, or scores that are no probabilities (NaN included); wanted "
            "0/1 and [0, 1]. Look at the model's logits, or evaluate another checkpoint."
        )
    return labels_N, scores_N


def _needs_positives(labels_N: np.ndarray) -> None:
    if not labels_N.any():
        raise DataError(
            "no position is positive, so neither F1 nor AUPRC is defined. Evaluate more dialogues "
            "(a larger --limit)."
        )


# ------------------------------------------------------------------------------------ baselines

KEYWORDS = re.compile(
    r"\b(photos?|pictures?|pics?|selfies?|images?|snapshots?|(show|send) (me|you)|let me see|"
    r"(can|could|may) i see|(want|wanna|like|love) (to )?see|(take a|have a) look|"
    r"look at (this|that)|check (this|it) out|share)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+|[?!]")


def keyword_score(context: Sequence[Turn]) -> float:
    """1 if the last turn speaks of photos or of seeing, 0.5 if the one before it does, else 0."""
    for turn, score in zip(reversed(context[-2:]), (1.0, 0.5), strict=False):
        if KEYWORDS.search(turn.text):
            return score
    return 0.0


def tagged_text(context: Sequence[Turn]) -> str:
    """A text that lets a bag of words know where a word stood: the strongest lexical baseline.

    The words of the last three turns are tagged with their distance and with whether the last
    speaker said them (never with *who* that is); then the last eight turns once more untagged, and
    how long the dialogue is.
    """
    pieces = [f"length{min(len(context), 15)}"]
    for distance, turn in enumerate(reversed(context[-3:])):
        tag = f"{distance}{'same' if turn.speaker == context[-1].speaker else 'other'}"
        pieces += [tag, *(f"{tag}_{word}" for word in _words(turn))]
    return " ".join([*pieces, *(word for turn in context[-8:] for word in _words(turn))])


def _words(turn: Turn) -> list[str]:
    photos = [f"<photo> {photo.caption}" for photo in turn.photos]
    return _WORD.findall(" ".join([turn.text, *photos]).lower())


def tfidf_moment_scores(
    train_texts: Sequence[str], train_labels: Sequence[int], texts: Sequence[str]
) -> np.ndarray:
    """P(share) of each text by TF-IDF + logistic regression.

    The classes are balanced in training, so the scores rank and need a threshold of their own;
    they are not calibrated.
    """
    what = "the lexical baseline (scikit-learn)"
    words = import_extra("sklearn.feature_extraction.text", what=what)
    linear = import_extra("sklearn.linear_model", what=what)
    vectorizer = words.TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"\S+"
    )
    # liblinear is deterministic here: its primal solver draws no random numbers
    model = linear.LogisticRegression(
        C=0.5, class_weight="balanced", solver="liblinear", max_iter=1000
    )
    model.fit(vectorizer.fit_transform(train_texts), np.asarray(train_labels))
    return model.predict_proba(vectorizer.transform(texts))[:, 1]
