"""The rows of texts of a score, under any named protocol."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from showtell.errors import DataError
from showtell.metrics.answers import minigpt5_text, mmdialog_text, text_before_photo
from showtell.metrics.perplexity import perplexity_value
from showtell.metrics.protocols import Protocol
from showtell.metrics.records import Record
from showtell.metrics.report import Value, mean_value, percentiles, resample_counts
from showtell.metrics.similarity import TextEncoder, cosines
from showtell.metrics.text import distinct_n, text_values
from showtell.metrics.text_meteor import TOKENS, meteor, meteor_exact_stem
from showtell.runtime import dealt

Pairs = Sequence[tuple[Record, Record]]
_DESCRIPTION = re.compile(r"\[img\].*?(\[/img\]|$)", re.IGNORECASE | re.DOTALL)
_CHUNK = 256


def without_description(text: str) -> str:
    """The text without what stands between [img] and [/img], marks included."""
    return _DESCRIPTION.sub(" ", text)


def corpus_values(pairs: Pairs, protocol: Protocol, *, seed: int) -> dict[str, Value]:
    """BLEU and ROUGE-L of the protocols that score plain texts: standard, psdg, gill.

    A pair counts where the reference has a text; what was not said there is an empty text.
    """
    kept = [(said, wanted) for said, wanted in pairs if wanted.texts]
    if not kept:
        return {}
    clean = without_description if protocol.name == "psdg" else str
    return text_values(
        [clean(said.text) for said, _ in kept],
        [[clean(t) for t in (wanted.text, *wanted.alternatives)] for _, wanted in kept],
        protocol=protocol.name,
        seed=seed,
        groups=groups_of(kept),
    )


def answer_values(pairs: Pairs, protocol: Protocol, *, seed: int) -> dict[str, Value]:
    """BLEU and ROUGE-L of the protocols that score whole answers: minigpt5, mmdialog."""
    score = minigpt5_text if protocol.name == "minigpt5" else mmdialog_text
    rows = []
    for said, wanted in pairs:
        found = score(said.elements, wanted.elements)
        if found is not None:
            rows.append((wanted.dialogue, found))
    if not rows:
        return {}
    dialogues = [dialogue for dialogue, _ in rows]
    values = {}
    for name in rows[0][1]:
        values[f"text.{protocol.name}.{name}"] = averaged(
            [found[name] for _, found in rows], dialogues, protocol, seed=seed
        )
    return values


def averaged(
    values_N: Sequence[float],
    dialogues: Sequence[str],
    protocol: Protocol,
    *,
    seed: int,
    note: str = "",
) -> Value:
    """The mean over answers; of minigpt5 the mean over dialogues of their own means."""
    if protocol.name != "minigpt5":
        several = len(set(dialogues)) < len(dialogues)
        return mean_value(
            values_N,
            seed=seed,
            groups=dialogues if several else None,
            protocol=protocol.name,
            note=note,
        )
    _, index = np.unique(np.asarray(dialogues), return_inverse=True)
    means_G = np.bincount(index, weights=np.asarray(values_N)) / np.bincount(index)
    draws = resample_counts(len(means_G), seed=seed)
    low, high = percentiles((c @ means_G) / c.sum(1) for c in draws)
    return Value(
        value=float(means_G.mean()),
        low=low,
        high=high,
        n=len(means_G),
        protocol=protocol.name,
        note="; ".join(part for part in (note, f"dialogues, of {len(values_N):,} turns") if part),
    )


def sbert_value(
    pairs: Pairs, protocol: Protocol, encoder: TextEncoder, *, seed: int, id: str
) -> Value | None:
    """S-BERT similarity; a missing text counts 0, a turn without a reference text nothing."""
    text: Callable[[Record], str]
    if protocol.name == "minigpt5":

        def text(record: Record) -> str:
            return text_before_photo(record.elements)

    else:

        def text(record: Record) -> str:
            return record.text

    rows = [(text(said), text(wanted), wanted.dialogue) for said, wanted in pairs]
    rows = [row for row in rows if row[1]]
    if not rows:
        return None

    def measure(part: Sequence[tuple[str, str, str]]) -> list[float]:
        said = [row for row in part if row[0]]
        scores: Iterator[float] = iter(())
        if said:
            one, other = (encoder([row[k] for row in said]) for k in (0, 1))
            scores = iter(cosines(one, other).tolist())
        return [next(scores) if row[0] else 0.0 for row in part]

    found = dealt(rows, measure, _CHUNK)
    return averaged(found, [row[2] for row in rows], protocol, seed=seed, note=f"cosine; {id}")


def meteor_value(
    pairs: Pairs, protocol: Protocol, *, seed: int, wordnet: Any | None
) -> Value | None:
    """METEOR with a WordNet, ``meteor_exact_stem`` without."""
    kept = [(said, wanted) for said, wanted in pairs if wanted.texts]
    if not kept:
        return None
    said = [pair[0].text for pair in kept]
    wanted = [[pair[1].text, *pair[1].alternatives] for pair in kept]
    if wordnet is None:
        found, note = meteor_exact_stem(said, wanted), f"no synonyms: not METEOR; {TOKENS}"
    else:
        found, note = meteor(said, wanted, wordnet=wordnet), f"nltk; {TOKENS}"
    return averaged(found, [pair[1].dialogue for pair in kept], protocol, seed=seed, note=note)


def distinct_value(pairs: Pairs, order: int) -> Value | None:
    """Of what was said; no interval, as every resampled corpus has fewer different n-grams."""
    texts = [said.text for said, _ in pairs if said.texts]
    if not texts:
        return None
    return Value(
        value=distinct_n(texts, order),
        low=None,
        high=None,
        n=len(texts),
        protocol="standard",
        note="whitespace tokens; falls with n",
    )


def perplexity_of_records(pairs: Pairs, *, seed: int) -> Value | None:
    """From ``nll`` and ``tokens`` of the predictions; None where no prediction has them."""
    kept = [pair for pair in pairs if "nll" in pair[0].numbers or "tokens" in pair[0].numbers]
    if not kept:
        return None
    for said, _ in kept:
        if len(said.numbers.keys() & {"nll", "tokens"}) != 2:
            raise DataError(f'{said.where}: "nll" without "tokens" or the reverse; wanted both.')
    return perplexity_value(
        [said.numbers["nll"] for said, _ in kept],
        [said.numbers["tokens"] for said, _ in kept],
        seed=seed,
        groups=groups_of(kept),
        protocol="standard",
        note=f"of {len(kept):,} texts",
    )


def groups_of(pairs: Pairs) -> list[str] | None:
    """Dialogues to resample; None where each pair is a dialogue of its own."""
    dialogues = [wanted.dialogue for _, wanted in pairs]
    return dialogues if len(set(dialogues)) < len(dialogues) else None


def missing_share(pairs: Pairs) -> float:
    """The share of reference texts for which nothing was said."""
    kept = [said for said, wanted in pairs if wanted.texts]
    return math.fsum(not said.text.strip() for said in kept) / len(kept) if kept else 0.0
