"""METEOR (Lavie and Agarwal 2007) by nltk, with its synonyms or, under another name, without.

With m matched words, P = m / words said, R = m / words wanted and c runs of matches that stand in
the same order on both sides,

    METEOR = (1 - 0.5 (c / m)^3) * P R / (0.9 P + 0.1 R),   0 where m = 0.

A word matches if it is the same, else if Porter's stems agree, else if WordNet lists the other
among its synonyms. The last step needs WordNet; a score without it is another measure, hence the
other function and the other name in every report: ``meteor_exact_stem``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from showtell.errors import DataError, import_extra
from showtell.metrics.text import References

# nltk's own word_tokenize without its sentence splitter, which would need a file (punkt_tab)
TOKENS = "nltk word_tokenize(preserve_line=True), lower case"


class NoSynonyms:
    """Stands where nltk wants WordNet, and knows no synonyms."""

    def synsets(self, word: str) -> list[Any]:
        return []


def open_wordnet(folder: str | Path | None = None) -> Any:
    """nltk's reader of WordNet: of the data folder ``folder`` (which holds corpora/wordnet), else
    of nltk's own search path.

    Raises DataError, which says which files are wanted and where to put them.
    """
    nltk = import_extra("nltk", what="METEOR")
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.corpus.util import LazyCorpusLoader

    if folder is not None:
        # nltk reads below its own search path only, and this is its way to allow a folder
        root = str(Path(folder).resolve())
        nltk.data.path[:] = [root, *(path for path in nltk.data.path if path != root)]
    reader = LazyCorpusLoader("wordnet", WordNetCorpusReader, None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other languages than English, which are absent
            reader.ensure_loaded()
    except Exception as error:  # its reader fails in as many ways as a text file can be broken
        met = f"cannot read ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
        if isinstance(error, LookupError) and "not found" in str(error):
            met = "did not find"  # in place of a page with a frame
        raise DataError(
            f"METEOR needs WordNet 3.0, which nltk {met}; wanted the whole folder corpora/wordnet "
            "(data.noun, index.noun, ..., lexnames) or corpora/wordnet.zip in one of "
            f"{', '.join(map(str, nltk.data.path[:3]))}. Put it there (python -m nltk.downloader "
            "wordnet), or name the folder that holds corpora by --wordnet. Without it, "
            "meteor_exact_stem is another measure."
        ) from error
    return reader


def meteor(
    hypotheses: Sequence[str], references: References, *, wordnet: Any = None
) -> list[float]:
    """METEOR of each text, the best over its references; ``wordnet`` has ``synsets(word)``.

    Raises DataError where WordNet is absent, MissingDependency without nltk.
    """
    if len(hypotheses) != len(references):
        raise DataError(
            f"{len(hypotheses)} hypotheses and {len(references)} references; wanted as many of each"
        )
    score = import_extra("nltk.translate.meteor_score", what="METEOR").meteor_score
    from nltk.tokenize import word_tokenize

    wordnet = open_wordnet() if wordnet is None else wordnet

    def words(text: str) -> list[str]:
        return word_tokenize(text, preserve_line=True)

    scores = []
    for hypothesis, row in zip(hypotheses, references, strict=True):
        wanted = [words(reference) for reference in ([row] if isinstance(row, str) else row)]
        scores.append(float(score(wanted, words(hypothesis), wordnet=wordnet)))
    return scores


def meteor_exact_stem(hypotheses: Sequence[str], references: References) -> list[float]:
    """The same without synonyms: exact and stem matches only. Not to be printed as METEOR."""
    return meteor(hypotheses, references, wordnet=NoSynonyms())
