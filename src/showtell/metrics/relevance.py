"""Whole answers, texts and photos in order, as two published protocols score them.

An answer is a sequence of elements; a ``str`` is a text, anything else a photo. Texts:

``minigpt5``  what the released code of 2310.02239 computes on MMDialog. The text is what stands
              before the first photo, stripped, and empty if it holds nothing but punctuation.
              BLEU-1 and BLEU-2 are nltk's sentence BLEU *on characters* (strings were handed over
              where lists of words are wanted), cumulative, unsmoothed, cased; ROUGE-L is the F of
              the package ``rouge`` 1.0.1. A missing text counts 0, a turn without a reference text
              counts nothing; mean over the turns of a dialogue, then over dialogues.
``mmdialog``  the alignment of 2211.05719: texts with texts and photos with photos, each paired from
              the left; the sum over the pairs is divided by the number of *reference* elements, so
              that missing ones count 0 and surplus ones nothing; mean over answers. Which BLEU is
              put in is not published: ours is sentence BLEU on words, cumulative, unsmoothed.

MM-Relevance in both definitions, and what it is made of: plain cosines of embeddings, not times
100, not clipped at 0, not times CLIP's logit scale. Letters: N pairs, E width of an embedding.
"""

from __future__ import annotations

import itertools
import math
import string
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from showtell.errors import DataError, import_extra
from showtell.metrics.rouge import rouge_l_f1, rouge_package_l

Answer = Sequence[Any]
TextEncoder = Callable[[Sequence[str]], Tensor]  # N texts -> NE
PhotoEncoder = Callable[[Sequence[Any]], Tensor]  # N photos -> NE, in the space of the texts


def cosines(one_NE: Tensor, other_NE: Tensor) -> Tensor:
    """The cosine of each pair of rows, in float64; 0 where a row is all zeros."""
    if one_NE.shape != other_NE.shape or one_NE.ndim != 2:
        raise DataError(
            f"embeddings of shapes {tuple(one_NE.shape)} and {tuple(other_NE.shape)}; wanted one "
            "row for each side of each pair, all of one width. Use one encoder for both."
        )
    one, other = one_NE.double(), other_NE.double()
    norms = one.norm(dim=-1) * other.norm(dim=-1)
    found = (one * other).sum(-1) / norms.clamp_min(1e-300)
    if not torch.isfinite(found).all():
        raise DataError(
            "an embedding holds NaN or infinity; wanted numbers. Look at what the encoder got."
        )
    return found


def texts_of(answer: Answer) -> list[str]:
    return [element for element in answer if isinstance(element, str)]


def text_before_photo(answer: Answer) -> str:
    """What MiniGPT-5's script compares: the text before the first photo, "" if only punctuation."""
    before = itertools.takewhile(lambda element: isinstance(element, str), answer)
    text = " ".join(before).replace("###", "").split("[IMG0]")[0].strip()
    return "" if all(character in string.punctuation for character in text) else text


def sentence_bleu(hypothesis: Sequence[str], reference: Sequence[str], order: int) -> float:
    """nltk's sentence BLEU up to ``order`` with equal weights, unsmoothed.

    Of two strings it is BLEU on characters: so MiniGPT-5's script calls it.
    """
    score = import_extra("nltk.translate.bleu_score", what="sentence BLEU").sentence_bleu
    if not hypothesis or not reference:
        return 0.0
    with warnings.catch_warnings():
        # nltk warns that a count of 0 makes the score 0, which is what unsmoothed means
        warnings.simplefilter("ignore")
        return float(score([reference], hypothesis, weights=(1 / order,) * order))


def minigpt5_text(said: Answer, wanted: Answer) -> dict[str, float] | None:
    """``bleu1``, ``bleu2`` and ``rouge_l`` of one turn; None without a reference text."""
    hypothesis, reference = text_before_photo(said), text_before_photo(wanted)
    if not reference:
        return None
    return {
        "bleu1": sentence_bleu(hypothesis, reference, 1),
        "bleu2": sentence_bleu(hypothesis, reference, 2),
        "rouge_l": rouge_package_l(hypothesis, reference) if hypothesis else 0.0,
    }


def aligned(said: Sequence[Any], wanted: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Pairs from the left, (said, wanted), one for every wanted element; a missing one is None."""
    return [(said[k] if k < len(said) else None, wanted[k]) for k in range(len(wanted))]


def mmdialog_text(said: Answer, wanted: Answer) -> dict[str, float] | None:
    """``bleu1``, ``bleu2`` and ``rouge_l`` of one answer; None without a reference text."""
    pairs = aligned(texts_of(said), texts_of(wanted))
    if not pairs:
        return None
    present = [(h, r) for h, r in pairs if h is not None]
    words = [(h.split(), r.split()) for h, r in present]
    scores = {f"bleu{n}": [sentence_bleu(h, r, n) for h, r in words] for n in (1, 2)}
    scores["rouge_l"] = [rouge_l_f1(h, r) for h, r in present]
    return {name: math.fsum(found) / len(pairs) for name, found in scores.items()}


# --------------------------------------------------------------------------------- MM-Relevance


class Relevance(NamedTuple):
    """Soft precision and recall, and their harmonic mean ``f1``."""

    precision: float
    recall: float
    f1: float


def relevance(total: float, *, num_said: int, num_wanted: int) -> Relevance:
    """Of a sum of similarities: over what was said, over what was wanted, and F1.

    F1 = 2 P R / (P + R) = 2 total / (num_said + num_wanted); 0 with nothing said or wanted.
    """
    if not num_said or not num_wanted or total == 0:
        return Relevance(0.0, 0.0, 0.0)
    precision, recall = total / num_said, total / num_wanted
    return Relevance(precision, recall, 2 * precision * recall / (precision + recall))


def _likeness(pairs: Sequence[tuple[Any, Any]], texts: TextEncoder, photos: PhotoEncoder) -> float:
    """The sum of the cosines of pairs of elements; texts and photos are each encoded together."""
    if not pairs:
        return 0.0
    elements = [element for side in zip(*pairs, strict=True) for element in side]
    rows: dict[int, Tensor] = {}
    for encoder, is_text in ((texts, True), (photos, False)):
        places = [k for k, element in enumerate(elements) if isinstance(element, str) == is_text]
        if places:
            encoded = encoder([elements[k] for k in places])
            rows |= dict(zip(places, encoded, strict=True))
    stacked = torch.stack([rows[k] for k in range(len(elements))])
    return math.fsum(cosines(*stacked.split(len(pairs))).tolist())


def mmdialog_relevance(
    said: Answer, wanted: Answer, *, text_encoder: TextEncoder, photo_encoder: PhotoEncoder
) -> Relevance:
    """MM-Relevance of 2211.05719: elements aligned from the left *whatever their modality*.

    s_k is the cosine of the k-th element said and the k-th wanted, text or photo; P = sum s / m,
    R = sum s / n. The release prints 100 s (its logit scale); the paper's figures are without it.
    """
    total = _likeness(list(zip(said, wanted, strict=False)), text_encoder, photo_encoder)
    return relevance(total, num_said=len(said), num_wanted=len(wanted))


def minigpt5_relevance(
    said: Sequence[Answer],
    wanted: Sequence[Answer],
    *,
    text_encoder: TextEncoder,
    photo_encoder: PhotoEncoder,
) -> Relevance:
    """MM-Relevance of 2310.02239's release, of the turns of *one dialogue*.

    A turn gives at most two similarities: of the texts before the first photo, and of the first
    photos. P divides their sum by how many were said, R by how many were wanted; a dialogue in
    which nothing was both said and wanted scores 0. The value of a corpus is the mean of ``f1``
    over dialogues.
    """
    pairs, num_said, num_wanted = [], 0, 0
    for h, r in zip(said, wanted, strict=True):
        for one, other in zip(_text_and_photo(h), _text_and_photo(r), strict=True):
            num_said += one is not None
            num_wanted += other is not None
            if one is not None and other is not None:
                pairs.append((one, other))
    total = _likeness(pairs, text_encoder, photo_encoder)
    return relevance(total, num_said=num_said, num_wanted=num_wanted)


def _text_and_photo(answer: Answer) -> tuple[str | None, Any]:
    photo = next((element for element in answer if not isinstance(element, str)), None)
    return text_before_photo(answer) or None, photo
