"""Text scores of whole answers, texts and photos in order, as two released protocols have them.

An answer is a sequence of elements; a ``str`` is a text, anything else a photo.

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
"""

from __future__ import annotations

import math
import string
import warnings
from collections.abc import Sequence
from typing import Any

from showtell.errors import MissingDependency
from showtell.metrics.text import rouge_l_f1

Answer = Sequence[Any]


def texts_of(answer: Answer) -> list[str]:
    return [element for element in answer if isinstance(element, str)]


def photos_of(answer: Answer) -> list[Any]:
    return [element for element in answer if not isinstance(element, str)]


# ------------------------------------------------------------------------------------- minigpt5


def text_before_photo(answer: Answer) -> str:
    """What MiniGPT-5's script compares: the text before the first photo, "" if only punctuation."""
    texts = []
    for element in answer:
        if not isinstance(element, str):
            break
        texts.append(element)
    text = " ".join(texts).replace("###", "").split("[IMG0]")[0].strip()
    return "" if all(character in string.punctuation for character in text) else text


def sentence_bleu(hypothesis: Sequence[str], reference: Sequence[str], order: int) -> float:
    """nltk's sentence BLEU up to ``order`` with equal weights, unsmoothed.

    Of two strings it is BLEU on characters: so MiniGPT-5's script calls it.
    """
    try:
        from nltk.translate.bleu_score import sentence_bleu as score
    except ImportError as error:
        raise MissingDependency(
            "sentence BLEU needs nltk, which is not installed. Install it: "
            "python -m pip install 'showtell[eval]'"
        ) from error
    if not hypothesis or not reference:
        return 0.0
    with warnings.catch_warnings():
        # nltk warns that a count of 0 makes the score 0, which is what unsmoothed means
        warnings.simplefilter("ignore")
        return float(score([reference], hypothesis, weights=(1 / order,) * order))


def rouge_package_l(hypothesis: str, reference: str) -> float:
    """ROUGE-L F of the package ``rouge`` 1.0.1 (not of rouge-score), quirks included.

    Texts are cut into sentences at every full stop, sentences into words at single spaces. The
    *sets* of words on the longest common subsequences of all pairs of sentences are united; the
    size of the union is divided by the number of *different* words on either side; and

        F = 2 P R / (P + R + 1e-8).

    Raises ValueError where a text has no sentence ("..."), as the package does; MiniGPT-5's script
    never gets there (``text_before_photo``).
    """
    said, wanted = _sentences(hypothesis), _sentences(reference)
    if not said or not wanted:
        raise ValueError("a text without any sentence; wanted some words on both sides")
    union: set[str] = set()
    for sentence in wanted:
        for other in said:
            union |= set(_common_subsequence(sentence.split(" "), other.split(" ")))
    precision = len(union) / len({word for s in said for word in s.split(" ")})
    recall = len(union) / len({word for s in wanted for word in s.split(" ")})
    return 2 * precision * recall / (precision + recall + 1e-8)


def _sentences(text: str) -> list[str]:
    # a space between two full stops is a sentence of one empty word: so the package counts it
    return [" ".join(part.split()) for part in text.split(".") if part]


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """The longest common subsequence; of several the one that the package walks back to."""
    lengths = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, word in enumerate(one, start=1):
        for j, match in enumerate(other, start=1):
            lengths[i][j] = (
                lengths[i - 1][j - 1] + 1
                if word == match
                else max(lengths[i - 1][j], lengths[i][j - 1])
            )
    i, j, found = len(one), len(other), []
    while i and j:
        if one[i - 1] == other[j - 1]:
            found.append(one[i - 1])
            i, j = i - 1, j - 1
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found[::-1]


def minigpt5_text(said: Answer, wanted: Answer) -> dict[str, float] | None:
    """``bleu1``, ``bleu2`` and ``rouge_l`` of one turn; None without a reference text."""
    hypothesis, reference = text_before_photo(said), text_before_photo(wanted)
    if not reference:
        return None
    if not hypothesis:
        return {"bleu1": 0.0, "bleu2": 0.0, "rouge_l": 0.0}
    return {
        "bleu1": sentence_bleu(hypothesis, reference, 1),
        "bleu2": sentence_bleu(hypothesis, reference, 2),
        "rouge_l": rouge_package_l(hypothesis, reference),
    }


# ------------------------------------------------------------------------------------- mmdialog


def aligned(said: Sequence[Any], wanted: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Pairs from the left, (said, wanted), one for every wanted element; a missing one is None."""
    return [(said[k] if k < len(said) else None, wanted[k]) for k in range(len(wanted))]


def mmdialog_text(said: Answer, wanted: Answer) -> dict[str, float] | None:
    """``bleu1``, ``bleu2`` and ``rouge_l`` of one answer; None without a reference text."""
    pairs = aligned(texts_of(said), texts_of(wanted))
    if not pairs:
        return None
    present = [(h, r) for h, r in pairs if h is not None]

    def mean(scores: list[float]) -> float:
        return math.fsum(scores) / len(pairs)

    return {
        "bleu1": mean([sentence_bleu(h.split(), r.split(), 1) for h, r in present]),
        "bleu2": mean([sentence_bleu(h.split(), r.split(), 2) for h, r in present]),
        "rouge_l": mean([rouge_l_f1(h, r) for h, r in present]),
    }
