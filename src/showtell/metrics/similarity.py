"""Cosines of embeddings: S-BERT similarity, CLIP-I, CLIP-T, and MM-Relevance in both definitions.

Letters: N pairs, E width of an embedding. A cosine is a plain cosine: not times 100, not clipped
at 0, not times CLIP's logit scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from showtell.errors import DataError
from showtell.metrics.answers import Answer, text_before_photo

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


def sentence_similarity(
    hypotheses: Sequence[str], references: Sequence[str], *, encoder: TextEncoder
) -> Tensor:
    """S-BERT similarity: N cosines of the sentence embeddings of a text and its reference."""
    return cosines(encoder(hypotheses), encoder(references))


def clip_i(photos: Sequence[Any], references: Sequence[Any], *, encoder: PhotoEncoder) -> Tensor:
    """CLIP-I: N cosines of a photo and the true photo."""
    return cosines(encoder(photos), encoder(references))


def clip_t(
    photos: Sequence[Any],
    texts: Sequence[str],
    *,
    photo_encoder: PhotoEncoder,
    text_encoder: TextEncoder,
) -> Tensor:
    """CLIP-T: N cosines of a photo and the true text. Not CLIPScore, which clips and scales."""
    return cosines(photo_encoder(photos), text_encoder(texts))


# --------------------------------------------------------------------------------- MM-Relevance


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """Soft precision and recall, and their harmonic mean ``f1``."""

    precision: float
    recall: float
    f1: float


def relevance(total: float, *, num_said: int, num_wanted: int) -> Relevance:
    """Of a sum of similarities: over what was said, over what was wanted, and F1.

    F1 = 2 P R / (P + R) = 2 total / (num_said + num_wanted); 0 with nothing said or wanted.
    """
    if not num_said or not num_wanted or total == 0:
        return Relevance(precision=0.0, recall=0.0, f1=0.0)
    precision, recall = total / num_said, total / num_wanted
    return Relevance(
        precision=precision, recall=recall, f1=2 * precision * recall / (precision + recall)
    )


def _embed(elements: Sequence[Any], texts: TextEncoder, photos: PhotoEncoder) -> list[Tensor]:
    """One embedding an element, texts and photos each encoded together."""
    found: list[Tensor | None] = [None] * len(elements)
    for encoder, is_text in ((texts, True), (photos, False)):
        places = [k for k, element in enumerate(elements) if isinstance(element, str) == is_text]
        if places:
            rows = encoder([elements[k] for k in places])
            for k, row in zip(places, rows, strict=True):
                found[k] = row
    return [row for row in found if row is not None]


def mmdialog_relevance(
    said: Answer, wanted: Answer, *, text_encoder: TextEncoder, photo_encoder: PhotoEncoder
) -> Relevance:
    """MM-Relevance of 2211.05719: elements aligned from the left *whatever their modality*.

    s_k is the cosine of the k-th element said and the k-th wanted, text or photo; P = sum s / m,
    R = sum s / n. The release prints 100 s (its logit scale); the paper's figures are without it.
    """
    num = min(len(said), len(wanted))
    total = 0.0
    if num:
        rows = _embed([*said[:num], *wanted[:num]], text_encoder, photo_encoder)
        total = math.fsum(cosines(torch.stack(rows[:num]), torch.stack(rows[num:])).tolist())
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
    total = 0.0
    if pairs:
        rows = _embed([element for pair in pairs for element in pair], text_encoder, photo_encoder)
        total = math.fsum(cosines(torch.stack(rows[::2]), torch.stack(rows[1::2])).tolist())
    return relevance(total, num_said=num_said, num_wanted=num_wanted)


def _text_and_photo(answer: Answer) -> tuple[str | None, Any]:
    photo = next((element for element in answer if not isinstance(element, str)), None)
    return text_before_photo(answer) or None, photo
