"""BLEU-1..4 and ROUGE-L under three corpus protocols, and distinct-n.

``psdg``      what the released code of 2408.08650 computes: corpus level, whitespace tokens, cased;
              BLEU-n is the *individual* n-gram precision times the brevity penalty,

                  BLEU-n = BP * (matches_n + 1e-13) / (totals_n + 1e-13),

              ROUGE-L is the mean over the pairs of the F1 of their longest common subsequence.
              With no n-gram at all (every hypothesis shorter than n) BLEU-n is BP, not 0: the
              release's quirk, kept.
``standard``  sacrebleu's corpus BLEU, cumulative up to n, at its defaults (13a, exp smoothing), and
              rouge-score's ROUGE-L F, without stemming; a pair may have several references.
``gill``      what the released code of 2305.17216 computes of captions: torchmetrics' corpus BLEU,
              whitespace, cased, cumulative, unsmoothed; a caption is cut at its first full stop if
              that stands behind the sixth character; several references, no ROUGE.

``minigpt5`` and ``mmdialog`` score whole answers, photos included: ``metrics/answers.py``. All
scores are fractions. Letters: R bootstrap draws, G groups, O orders 1..4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from showtell.errors import DataError, MissingDependency
from showtell.metrics.report import Value, mean_interval, percentiles, resample_counts

References = Sequence[str] | Sequence[Sequence[str]]  # of each text one, or several

ORDERS = (1, 2, 3, 4)
_EPSILON = 1e-13
_INSTALL = "python -m pip install 'showtell[eval]'"


@dataclass(frozen=True, kw_only=True)
class TextScores:
    """Scores of a corpus of pairs; ``bleu`` holds BLEU-1 to BLEU-4, ``rouge_l`` None without."""

    bleu: tuple[float, ...]
    rouge_l: float | None
    n: int
    protocol: str
    signature: str


# ----------------------------------------------------------------------------------------- psdg


def psdg_scores(hypotheses: Sequence[str], references: Sequence[str]) -> TextScores:
    """Protocol ``psdg`` over pairs of texts, one reference each."""
    _check(hypotheses, references)
    bleu_O = psdg_bleu(psdg_counts(hypotheses, references).sum(0)[None])[0]
    rouges = [rouge_l_f1(h, r) for h, r in zip(hypotheses, references, strict=True)]
    return TextScores(
        bleu=tuple(float(score) for score in bleu_O),
        rouge_l=sum(rouges) / len(rouges),
        n=len(rouges),
        protocol="psdg",
        signature="corpus|tok:whitespace|case:mixed|individual|eps:1e-13",
    )


def psdg_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(pairs, 10): clipped matches for n = 1..4, totals for n = 1..4, both lengths."""
    rows = np.zeros((len(hypotheses), 10))
    for row, hypothesis, reference in zip(rows, hypotheses, references, strict=True):
        said, wanted = hypothesis.split(), reference.split()
        for order in ORDERS:
            grams, others = _grams(said, order), _grams(wanted, order)
            row[order - 1] = sum((grams & others).values())
            row[order + 3] = sum(grams.values())
        row[8:] = len(said), len(wanted)
    return rows


def _grams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[k : k + order]) for k in range(len(tokens) - order + 1))


def psdg_bleu(counts_R10: np.ndarray) -> np.ndarray:
    """(R, 10) summed counts -> (R, 4) BLEU-1 to BLEU-4."""
    matches, totals = counts_R10[:, :4], counts_R10[:, 4:8]
    said, wanted = counts_R10[:, 8], counts_R10[:, 9]
    penalty = np.where(said > wanted, 1.0, np.exp(1 - wanted / np.maximum(said, 1)))
    penalty = np.where(said == 0, 0.0, penalty)
    return penalty[:, None] * (matches + _EPSILON) / (totals + _EPSILON)


def rouge_l_f1(hypothesis: str, reference: str) -> float:
    """F1 of the longest common subsequence of whitespace tokens; 0 where nothing is common."""
    said, wanted = hypothesis.split(), reference.split()
    common = _longest_common_subsequence(said, wanted)
    # 2PR / (P + R) with P = common / len(said) and R = common / len(wanted)
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def _longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Its length, a whole row of the table at a time as bits of one integer (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for k, token in enumerate(other):
        places[token] = places.get(token, 0) | 1 << k
    everywhere = (1 << len(other)) - 1
    row = everywhere
    for token in one:
        hits = row & places.get(token, 0)
        row = ((row + hits) | (row - hits)) & everywhere
    return len(other) - row.bit_count()


# ------------------------------------------------------------------------------------- standard


def standard_scores(hypotheses: Sequence[str], references: References) -> TextScores:
    """Protocol ``standard``; the signature is sacrebleu's and rouge-score's settings."""
    _check(hypotheses, references)
    bleu_class = _sacrebleu()
    several = _several(references)
    most = max(map(len, several))
    # sacrebleu takes streams: the k-th reference of every text, None where a text has no k-th
    streams = [[row[k] if k < len(row) else None for row in several] for k in range(most)]
    scores, signature = [], ""
    for order in ORDERS:
        # force: say nothing of texts that end in " .", as many data sets' do; no score hangs on it
        metric = bleu_class(max_ngram_order=order, force=True)
        scores.append(metric.corpus_score(list(hypotheses), streams).score / 100)
        signature = str(metric.get_signature())
    rouges = _standard_rouges(hypotheses, references)
    return TextScores(
        bleu=tuple(scores),
        rouge_l=sum(rouges) / len(rouges),
        n=len(rouges),
        protocol="standard",
        signature=f"{signature}|rouge-score:rougeL,no stemmer",
    )


def _standard_rouges(hypotheses: Sequence[str], references: References) -> list[float]:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise _missing("rouge-score") from error
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    return [
        scorer.score_multi(list(row), hypothesis)["rougeL"].fmeasure
        for hypothesis, row in zip(hypotheses, _several(references), strict=True)
    ]


def _sacrebleu() -> Any:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise _missing("sacrebleu") from error
    return BLEU


def _missing(package: str) -> MissingDependency:
    return MissingDependency(
        f"the protocol standard needs {package}, which is not installed. Install it: {_INSTALL}"
    )


# ----------------------------------------------------------------------------------------- gill


def gill_scores(hypotheses: Sequence[str], references: References) -> TextScores:
    """Protocol ``gill``: captions against one or several references."""
    _check(hypotheses, references)
    bleu_O = _gill_bleu(_gill_counts(hypotheses, references).sum(0)[None])[0]
    return TextScores(
        bleu=tuple(float(score) for score in bleu_O),
        rouge_l=None,
        n=len(hypotheses),
        protocol="gill",
        signature="corpus|tok:whitespace|case:mixed|cumulative|smooth:none|cut at first full stop",
    )


def cut_at_full_stop(caption: str) -> str:
    """The caption up to its first full stop, where that is not among the first six characters."""
    stop = caption.find(".")
    return caption[:stop] if stop > 5 else caption


def _gill_counts(hypotheses: Sequence[str], references: References) -> np.ndarray:
    """(pairs, 10) as ``psdg_counts``; matches clipped by the reference that has most of a gram,
    the length is the nearest reference's (of equally near ones the first)."""
    rows = np.zeros((len(hypotheses), 10))
    for row, hypothesis, wanted in zip(rows, hypotheses, _several(references), strict=True):
        said = cut_at_full_stop(hypothesis).split()
        others = [reference.split() for reference in wanted]
        for order in ORDERS:
            grams, most = _grams(said, order), Counter[tuple[str, ...]]()
            for other in others:
                most |= _grams(other, order)
            row[order - 1] = sum((grams & most).values())
            row[order + 3] = sum(grams.values())
        row[8:] = len(said), min(map(len, others), key=lambda length: abs(length - len(said)))
    return rows


def _gill_bleu(counts_R10: np.ndarray) -> np.ndarray:
    """(R, 10) -> (R, 4): the geometric mean of the precisions up to n; 0 where one of them is."""
    matches, totals = counts_R10[:, :4], counts_R10[:, 4:8]
    said, wanted = counts_R10[:, 8], counts_R10[:, 9]
    penalty = np.where(said > wanted, 1.0, np.exp(1 - wanted / np.maximum(said, 1)))
    with np.errstate(divide="ignore"):
        logs = np.log(matches / np.maximum(totals, 1))
    return penalty[:, None] * np.exp(np.cumsum(logs, axis=1) / np.arange(1, 5))


# ------------------------------------------------------------------------- values with intervals


def text_values(
    hypotheses: Sequence[str],
    references: References,
    *,
    protocol: str,
    seed: int,
    groups: Sequence[str] | None = None,
) -> dict[str, Value]:
    """``text.<protocol>.bleu1`` ... ``bleu4`` and ``text.<protocol>.rouge_l``, bootstrapped.

    Resampled are the pairs, or whole ``groups`` (dialogues) where these are named.
    """
    rouges: list[float] | None = None
    if protocol == "psdg":
        single = _one_each(references)
        scores = psdg_scores(hypotheses, single)
        rouges = [rouge_l_f1(h, r) for h, r in zip(hypotheses, single, strict=True)]
        counts = _grouped(psdg_counts(hypotheses, single), groups)
        bleu_of = psdg_bleu
    elif protocol == "standard":
        scores = standard_scores(hypotheses, references)
        rouges = _standard_rouges(hypotheses, references)
        counts = _grouped(_standard_counts(hypotheses, references), groups)
        bleu_of = _standard_bleu
    elif protocol == "gill":
        scores = gill_scores(hypotheses, references)
        counts = _grouped(_gill_counts(hypotheses, references), groups)
        bleu_of = _gill_bleu
    else:
        raise DataError(f'no text protocol "{protocol}"; choose psdg, standard or gill')
    draws = resample_counts(len(counts), seed=seed)
    bleu_RO = np.concatenate([bleu_of(c_RG @ counts) for c_RG in draws])
    values = {}
    for order in ORDERS:
        low, high = percentiles([bleu_RO[:, order - 1]])
        values[f"text.{protocol}.bleu{order}"] = Value(
            value=scores.bleu[order - 1],
            low=low,
            high=high,
            n=scores.n,
            protocol=protocol,
            note=scores.signature.replace("max_ngram_order:4", f"max_ngram_order:{order}"),
        )
    if rouges is not None:
        _, low, high = mean_interval(rouges, seed=seed, groups=groups)
        values[f"text.{protocol}.rouge_l"] = Value(
            value=scores.rouge_l, low=low, high=high, n=scores.n, protocol=protocol
        )
    return values


def _grouped(rows: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    """The rows added up within each group; unchanged without groups."""
    if groups is None:
        return rows
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    return np.stack([np.bincount(index, weights=column) for column in rows.T], axis=1)


def _standard_counts(hypotheses: Sequence[str], references: References) -> np.ndarray:
    """(pairs, 10) as ``psdg_counts``, from the counts that sacrebleu states for each pair."""
    metric = _sacrebleu()(effective_order=True)  # moves the score of a sentence, not its counts
    rows = []
    for hypothesis, several in zip(hypotheses, _several(references), strict=True):
        score = metric.sentence_score(hypothesis, list(several))
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.asarray(rows, dtype=np.float64)


def _standard_bleu(counts_R10: np.ndarray) -> np.ndarray:
    """(R, 10) -> (R, 4), sacrebleu's own arithmetic."""
    bleu_class = _sacrebleu()
    return np.asarray(
        [
            [
                bleu_class.compute_bleu(
                    row[:order],
                    row[4 : 4 + order],
                    row[8],
                    row[9],
                    smooth_method="exp",
                    max_ngram_order=order,
                ).score
                / 100
                for order in ORDERS
            ]
            for row in counts_R10.astype(int).tolist()
        ]
    )


def distinct_n(texts: Sequence[str], order: int) -> float:
    """Different n-grams over all n-grams of the texts (whitespace tokens); 0 without any."""
    grams = Counter(gram for text in texts for gram in _grams(text.split(), order).elements())
    total = sum(grams.values())
    return len(grams) / total if total else 0.0


def _several(references: References) -> list[Sequence[str]]:
    """Every text's references as a sequence; one string is one reference."""
    return [[row] if isinstance(row, str) else row for row in references]


def _one_each(references: References) -> list[str]:
    single = []
    for number, row in enumerate(_several(references)):
        if len(row) != 1:
            raise DataError(
                f"text {number + 1} has {len(row)} references, and the protocol psdg takes one. "
                "Choose one of them, or score with standard or gill."
            )
        single.append(row[0])
    return single


def _check(hypotheses: Sequence[str], references: References) -> None:
    if len(hypotheses) != len(references) or not hypotheses:
        raise DataError(
            f"{len(hypotheses)} hypotheses and {len(references)} references; wanted as many of "
            "each, and at least one. Score the replies beside the turns that they answer for."
        )
    for number, row in enumerate(_several(references)):
        if not row:
            raise DataError(f"text {number + 1} has no reference; wanted one or more. Add one.")
