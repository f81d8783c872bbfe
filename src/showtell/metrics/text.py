"""BLEU, ROUGE-L, perplexity and distinct-n. Five protocols mean five things by "BLEU".

Three score a corpus of plain texts; what they count of a pair is ten numbers, which add up:

``psdg``      what the released code of 2408.08650 computes: whitespace tokens, cased; BLEU-n is the
              *individual* n-gram precision times the brevity penalty,

                  BLEU-n = BP * (matches_n + 1e-13) / (totals_n + 1e-13),

              ROUGE-L is the mean over the pairs of the F1 of their longest common subsequence.
              With no n-gram at all (every hypothesis shorter than n) BLEU-n is BP, not 0: the
              release's quirk, kept. What stands between [img] and [/img] is taken out before.
``standard``  sacrebleu's corpus BLEU, cumulative up to n, at its defaults (13a, exp smoothing), and
              rouge-score's ROUGE-L F, without stemming; a pair may have several references.
``gill``      what the released code of 2305.17216 computes of captions: torchmetrics' corpus BLEU,
              whitespace, cased, cumulative, unsmoothed; a caption is cut at its first full stop if
              that stands behind the sixth character; several references, no ROUGE.

``minigpt5`` and ``mmdialog`` score whole answers, photos included: ``metrics/relevance.py``. All
scores but perplexity are fractions. Letters: N pairs, R bootstrap draws, G groups, O orders 1..4.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from showtell.errors import DataError, import_extra
from showtell.metrics.intervals import (
    Value,
    bootstrap,
    grouped,
    mean_value,
    percentiles,
    resample_counts,
)
from showtell.metrics.rouge import rouge_l_f1, rouge_score_l, without_a_word

References = Sequence[str] | Sequence[Sequence[str]]  # of each text one, or several

ORDERS = (1, 2, 3, 4)
_EPSILON = 1e-13
_DESCRIPTION = re.compile(r"\[img\].*?(\[/img\]|$)", re.IGNORECASE | re.DOTALL)


def _grams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[k : k + order]) for k in range(len(tokens) - order + 1))


@dataclass(frozen=True, kw_only=True)
class TextScores:
    """Scores of a corpus of pairs: BLEU-1 to BLEU-4, and ROUGE-L (None without); what was counted
    of each pair, and its ROUGE-L."""

    bleu: tuple[float, ...]
    rouge_l: float | None
    signature: str
    counts_N10: np.ndarray
    rouge_N: Sequence[float]


def psdg_counts(hypotheses: Sequence[str], references: References) -> np.ndarray:
    """(pairs, 10): clipped matches for n = 1..4, totals for n = 1..4, both lengths; of whitespace
    tokens. Clipped by the reference that has most of a gram; the length is the nearest
    reference's, of equally near ones the first."""
    rows = np.zeros((len(hypotheses), 10))
    for row, hypothesis, several in zip(rows, hypotheses, _several(references), strict=True):
        said, others = hypothesis.split(), [reference.split() for reference in several]
        for order in ORDERS:
            grams, most = _grams(said, order), Counter[tuple[str, ...]]()
            for other in others:
                most |= _grams(other, order)
            row[order - 1] = sum((grams & most).values())
            row[order + 3] = sum(grams.values())
        row[8:] = len(said), min(map(len, others), key=lambda length: abs(length - len(said)))
    return rows


def _penalty(counts_R10: np.ndarray) -> np.ndarray:
    said, wanted = counts_R10[:, 8], counts_R10[:, 9]
    penalty_R = np.where(said > wanted, 1.0, np.exp(1 - wanted / np.maximum(said, 1)))
    return np.where(said == 0, 0.0, penalty_R)[:, None]


def psdg_bleu(counts_R10: np.ndarray) -> np.ndarray:
    """(R, 10) summed counts -> (R, 4) BLEU-1 to BLEU-4, individual."""
    matches, totals = counts_R10[:, :4], counts_R10[:, 4:8]
    return _penalty(counts_R10) * (matches + _EPSILON) / (totals + _EPSILON)


def _gill_bleu(counts_R10: np.ndarray) -> np.ndarray:
    """(R, 10) -> (R, 4): the geometric mean of the precisions up to n; 0 where one of them is."""
    with np.errstate(divide="ignore"):
        logs = np.log(counts_R10[:, :4] / np.maximum(counts_R10[:, 4:8], 1))
    return _penalty(counts_R10) * np.exp(np.cumsum(logs, axis=1) / np.arange(1, 5))


def cut_at_full_stop(caption: str) -> str:
    """The caption up to its first full stop, where that is not among the first six characters."""
    stop = caption.find(".")
    return caption[:stop] if stop > 5 else caption


def without_description(text: str) -> str:
    """The text without what stands between [img] and [/img], marks included."""
    return _DESCRIPTION.sub(" ", text)


def _sacrebleu(**settings: Any) -> Any:
    return import_extra("sacrebleu.metrics.bleu", what="the protocol standard").BLEU(**settings)


def _standard_counts(hypotheses: Sequence[str], references: References) -> np.ndarray:
    """(pairs, 10) as ``psdg_counts``, from the counts that sacrebleu states for each pair."""
    metric = _sacrebleu(effective_order=True)  # moves the score of a sentence, not its counts
    rows = []
    for hypothesis, several in zip(hypotheses, _several(references), strict=True):
        score = metric.sentence_score(hypothesis, list(several))
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.asarray(rows, dtype=np.float64)


def _standard_bleu(counts_R10: np.ndarray) -> np.ndarray:
    """(R, 10) -> (R, 4), sacrebleu's own arithmetic."""
    compute = type(_sacrebleu()).compute_bleu

    def one(row: list[int], n: int) -> float:
        counts = (row[:n], row[4 : 4 + n], row[8], row[9])
        return compute(*counts, smooth_method="exp", max_ngram_order=n).score / 100

    return np.asarray([[one(row, n) for n in ORDERS] for row in counts_R10.astype(int).tolist()])


def _standard_signature(references: References) -> str:
    """sacrebleu's, with the number of references, and rouge-score's settings."""
    metric = _sacrebleu()
    numbers = set(map(len, _several(references)))
    metric.num_refs = numbers.pop() if len(numbers) == 1 else -1  # -1 is printed as "var"
    return f"{metric.get_signature()}|rouge-score:rougeL,no stemmer"


@dataclass(frozen=True, kw_only=True)
class _Corpus:
    """How a protocol counts pairs, makes BLEU of sums of counts, and compares a pair by ROUGE-L."""

    counts: Callable[[Sequence[str], References], np.ndarray]
    bleu: Callable[[np.ndarray], np.ndarray]
    signature: Callable[[References], str]
    rouge: Callable[[str, Sequence[str]], float] | None = None
    said: Callable[[str], str] = str
    wanted: Callable[[str], str] = str
    single: bool = False  # one reference a text


CORPUS: Mapping[str, _Corpus] = {
    "psdg": _Corpus(
        counts=psdg_counts,
        bleu=psdg_bleu,
        signature=lambda _: "corpus|tok:whitespace|case:mixed|individual|eps:1e-13",
        rouge=lambda hypothesis, references: rouge_l_f1(hypothesis, references[0]),
        said=without_description,
        wanted=without_description,
        single=True,
    ),
    "standard": _Corpus(
        counts=_standard_counts,
        bleu=_standard_bleu,
        signature=_standard_signature,
        rouge=rouge_score_l,
    ),
    "gill": _Corpus(
        counts=psdg_counts,
        bleu=_gill_bleu,
        signature=lambda _: (
            "corpus|tok:whitespace|case:mixed|cumulative|smooth:none|cut at first full stop"
        ),
        said=cut_at_full_stop,
    ),
}


def text_scores(hypotheses: Sequence[str], references: References, *, protocol: str) -> TextScores:
    """BLEU and ROUGE-L of pairs of texts under psdg, standard or gill."""
    if protocol not in CORPUS:
        raise DataError(f'no text protocol "{protocol}"; choose psdg, standard or gill')
    corpus = CORPUS[protocol]
    if len(hypotheses) != len(references) or not hypotheses:
        raise DataError(
            f"{len(hypotheses)} hypotheses and {len(references)} references; wanted as many of "
            "each, and at least one. Score the replies beside the turns that they answer for."
        )
    for number, row in enumerate(_several(references), start=1):
        if not row:
            raise DataError(f"text {number} has no reference; wanted one or more. Add one.")
        if corpus.single and len(row) != 1:
            raise DataError(
                f"text {number} has {len(row)} references, and the protocol {protocol} takes one. "
                "Choose one of them, or score with standard or gill."
            )
    said = [corpus.said(text) for text in hypotheses]
    wanted = [[corpus.wanted(text) for text in row] for row in _several(references)]
    counts_N10, rouges = corpus.counts(said, wanted), []
    if corpus.rouge is not None:
        rouges = [corpus.rouge(h, r) for h, r in zip(said, wanted, strict=True)]
    return TextScores(
        bleu=tuple(corpus.bleu(counts_N10.sum(0)[None])[0].tolist()),
        rouge_l=sum(rouges) / len(rouges) if rouges else None,
        signature=corpus.signature(references),
        counts_N10=counts_N10,
        rouge_N=rouges,
    )


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
    scores = text_scores(hypotheses, references, protocol=protocol)
    sums_G10, bleu, n = grouped(scores.counts_N10, groups), CORPUS[protocol].bleu, len(hypotheses)
    drawn_RO = np.concatenate(
        [bleu(counts_RG @ sums_G10) for counts_RG in resample_counts(len(sums_G10), seed=seed)]
    )
    values = {}
    for order, value in zip(ORDERS, scores.bleu, strict=True):
        low, high = percentiles([drawn_RO[:, order - 1]])
        values[f"text.{protocol}.bleu{order}"] = Value(
            value=value, low=low, high=high, n=n, protocol=protocol, note=scores.signature
        )
    if scores.rouge_l is not None:
        found = mean_value(scores.rouge_N, seed=seed, groups=groups, protocol=protocol)
        note = ""
        if protocol == "standard":
            note = without_a_word([*hypotheses, *itertools.chain(*_several(references))])
        values[f"text.{protocol}.rouge_l"] = replace(found, value=scores.rouge_l, note=note)
    return values


def _several(references: References) -> list[Sequence[str]]:
    """Every text's references as a sequence; one string is one reference."""
    return [[row] if isinstance(row, str) else row for row in references]


# ------------------------------------------------------------------------------------- other rows


def perplexity_value(
    nll_N: Sequence[float],
    tokens_N: Sequence[int],
    *,
    seed: int,
    groups: Sequence[str] | None = None,
    protocol: str = "",
    note: str = "",
) -> Value:
    """PPL = exp(sum of -log p(token | what stands before) / number of tokens), over all tokens of
    N texts; not a mean of the texts' own. It depends on the tokenizer: compare only models that
    share one. Resampled are the texts, or groups of them.
    """
    pairs_N2 = np.stack([np.asarray(nll_N, float), np.asarray(tokens_N, float)], axis=1)
    if not len(pairs_N2) or not (pairs_N2[:, 1] >= 1).all() or not (pairs_N2[:, 0] >= 0).all():
        raise DataError(
            "negative log-likelihoods below 0 (or none), or texts without tokens; wanted the sum "
            "of -log p in nats and the number of tokens of each text."
        )
    sums_G2 = grouped(pairs_N2, groups)

    def perplexity(counts_RG: np.ndarray) -> np.ndarray:
        nll_R, tokens_R = (counts_RG @ sums_G2).T
        return np.exp(nll_R / tokens_R)

    low, high = bootstrap(perplexity, len(sums_G2), seed=seed)
    nll, tokens = pairs_N2.sum(0)
    return Value(
        value=math.exp(nll / tokens),
        low=low,
        high=high,
        n=len(pairs_N2),
        higher_is_better=False,
        protocol=protocol,
        note=f"{int(tokens):,} tokens" + (f"; {note}" if note else ""),
        unit="",
    )


def distinct_n(texts: Sequence[str], order: int) -> float:
    """Different n-grams over all n-grams of the texts (whitespace tokens); 0 without any."""
    grams = Counter(gram for text in texts for gram in _grams(text.split(), order).elements())
    total = sum(grams.values())
    return len(grams) / total if total else 0.0
