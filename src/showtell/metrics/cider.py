"""CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726): captions against several references.

    g_n(c) = (count of gram k in c) * (ln I - ln max(1, images with k in a reference))    for all k
    CIDEr-D_n(c, s) = 10 e^(-(|c| - |s|)^2 / (2 * 6^2)) sum_k min(g_n(c), g_n(s)) g_n(s)
                      / (||g_n(c)|| ||g_n(s)||)

the mean over the references s of an image and over n = 1..4 (section 7 of the paper, with the
counts of coco-caption). Coco-caption splits words by a Java program; here they are runs of
letters, digits and apostrophes of any script, in lower case. Scores go from 0 to 10.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from showtell.errors import DataError

ORDERS = (1, 2, 3, 4)
SIGMA = 6.0
Gram = tuple[str, ...]


def cider_d(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """The score of each caption, (N,); rarity is counted over the references of all N images.

    Raises DataError for numbers that do not fit, no caption, or an image without a reference.
    """
    if len(hypotheses) != len(references) or not hypotheses or not all(map(len, references)):
        raise DataError(
            f"{len(hypotheses)} captions and the references of {len(references)} images; wanted as "
            "many of each, at least one, and at least one reference an image."
        )
    told = [[_grams(reference) for reference in several] for several in references]
    images_with = Counter(gram for several in told for gram in set().union(*several))
    most = math.log(len(references))
    scores = []
    for hypothesis, several in zip(hypotheses, told, strict=True):
        own = _grams(hypothesis)
        scores.append(np.mean([_similarity(own, one, images_with, most) for one in several]))
    return np.array(scores)


def words_of(text: str) -> list[str]:
    """Runs of letters, digits and apostrophes, with the marks that some scripts set on letters."""

    def inside(character: str) -> bool:
        kind = unicodedata.category(character)[0]
        return character == "'" or kind in "LM" or character.isalnum()

    return "".join(c if inside(c) else " " for c in text.lower()).split()


def _grams(text: str) -> Counter[Gram]:
    words = words_of(unicodedata.normalize("NFC", text))
    return Counter(tuple(words[k : k + n]) for n in ORDERS for k in range(len(words) - n + 1))


def _similarity(
    hypothesis: Mapping[Gram, int],
    reference: Mapping[Gram, int],
    images_with: Mapping[Gram, int],
    most: float,
) -> float:
    def weights(some: Mapping[Gram, int], n: int) -> dict[Gram, float]:
        rare = {k: most - math.log(max(1, images_with[k])) for k in some if len(k) == n}
        return {k: some[k] * weight for k, weight in rare.items()}

    total = 0.0
    for n in ORDERS:
        own, other = weights(hypothesis, n), weights(reference, n)
        norm = math.hypot(*own.values()) * math.hypot(*other.values())
        if norm:
            shared = own.keys() & other.keys()
            # fsum: a set has another order in every process
            total += math.fsum(min(own[k], other[k]) * other[k] for k in shared) / norm
    length, wanted = (
        sum(count for gram, count in some.items() if len(gram) == 1)
        for some in (hypothesis, reference)
    )
    return 10 * math.exp(-((length - wanted) ** 2) / (2 * SIGMA**2)) * total / len(ORDERS)
