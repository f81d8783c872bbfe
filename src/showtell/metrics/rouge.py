"""ROUGE-L, of which three definitions are in use, over one table of common subsequences.

The table costs length times length over 64, so that texts of 20,000 words are compared in less
than a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from showtell.errors import import_extra


def _rows(one: Sequence[str], other: Sequence[str]) -> Iterator[int]:
    """A row of the table for each token of ``one``, as bits of an integer (Hyyrö 2004): bit j is 0
    where the subsequence grows at token j of ``other``."""
    places: dict[str, int] = {}
    for k, token in enumerate(other):
        places[token] = places.get(token, 0) | 1 << k
    row = everywhere = (1 << len(other)) - 1
    for token in one:
        hits = row & places.get(token, 0)
        row = ((row + hits) | (row - hits)) & everywhere
        yield row


def _common_length(one: Sequence[str], other: Sequence[str]) -> int:
    row = (1 << len(other)) - 1
    for row in _rows(one, other):  # noqa: B007 (the last one counts)
        pass
    return len(other) - row.bit_count()


def _common_words(one: Sequence[str], other: Sequence[str]) -> set[str]:
    """The words of the subsequence; of several the one that the package ``rouge`` walks back to."""
    rows, found = list(_rows(one, other)), set()
    i, j = len(one), len(other)
    while i and j:
        if one[i - 1] == other[j - 1]:
            found.add(one[i - 1])
            i, j = i - 1, j - 1
        elif rows[i - 1] >> (j - 1) & 1:
            j -= 1
        else:
            i -= 1
    return found


def rouge_l_f1(hypothesis: str, reference: str) -> float:
    """F1 of the longest common subsequence of whitespace tokens; 0 where nothing is common."""
    said, wanted = hypothesis.split(), reference.split()
    common = _common_length(said, wanted)
    # 2PR / (P + R) with P = common / len(said) and R = common / len(wanted)
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def rouge_package_l(hypothesis: str, reference: str) -> float:
    """ROUGE-L F of the package ``rouge`` 1.0.1 (not of rouge-score), quirks included.

    Texts are cut into sentences at every full stop, sentences into words at single spaces. The
    *sets* of words on the longest common subsequences of all pairs of sentences are united; the
    size of the union is divided by the number of *different* words on either side; and

        F = 2 P R / (P + R + 1e-8).

    Raises ValueError where a text has no sentence ("..."), as the package does; MiniGPT-5's script
    never gets there (``text_before_photo``). The package itself recurses once a word.
    """
    said, wanted = _sentences(hypothesis), _sentences(reference)
    if not said or not wanted:
        raise ValueError("a text without any sentence; wanted some words on both sides")
    union: set[str] = set()
    hypotheses = [list(sentence) for sentence in dict.fromkeys(map(tuple, said))]
    for one in dict.fromkeys(map(tuple, wanted)):
        words = set(one)
        for other in hypotheses:
            if not words.isdisjoint(other):
                union |= _common_words(one, other)
    precision, recall = (len(union) / len(set().union(*some)) for some in (said, wanted))
    return 2 * precision * recall / (precision + recall + 1e-8)


def _sentences(text: str) -> list[list[str]]:
    # a space between two full stops is a sentence of one empty word: so the package counts it
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def _rouge_words(text: str) -> list[str]:
    return import_extra("rouge_score.tokenize", what="the protocol standard").tokenize(text, None)


def rouge_score_l(hypothesis: str, references: Sequence[str]) -> float:
    """rouge-score's F of its best reference; its words, and a faster table of the same lengths."""
    said, best = _rouge_words(hypothesis), 0.0
    for wanted in map(_rouge_words, references):
        if common := _common_length(wanted, said):
            precision, recall = common / len(said), common / len(wanted)
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def without_a_word(texts: Sequence[str]) -> str:
    """Says how many texts hold words, but none that rouge-score sees; "" for none."""
    blind = sum(any(map(str.isalnum, text)) and not _rouge_words(text) for text in texts)
    return f"{blind:,} texts hold no word that it sees (a to z, 0 to 9)" if blind else ""
