"""``score``: predictions beside references, under a named protocol, as a report with its passport.

Needs no model of ours. What a row needs and does not get (an encoder, a file) is said in its note,
with the option that gives it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from showtell.data.photos import load_photo
from showtell.errors import ConfigError, DataError, PhotoError
from showtell.metrics.answers import Matched, Record, Source, match
from showtell.metrics.photo_rows import put_photos, put_relevance
from showtell.metrics.protocols import Protocol, protocol_named
from showtell.metrics.report import Report, digest, encoded
from showtell.metrics.rows import Encoders, Rows, put_decisions, put_texts
from showtell.progress import Progress, quiet


def score(
    predictions: Source,
    references: Source,
    *,
    protocol: str,
    encoders: Encoders = Encoders(),  # noqa: B008 (frozen)
    threshold: float = 0.5,
    seed: int = 0,
    skip_bad: bool = False,
    out: str | Path | None = None,
    told: Progress = quiet,
) -> Report:
    """Measure what the protocol names; with ``out``, write report.json and report.md there.

    ``threshold`` is that of the share moment. Raises DataError, ConfigError, CheckpointError,
    PhotoError, MissingDependency.
    """
    began = time.perf_counter()
    chosen = protocol_named(protocol)
    if not 0 <= threshold <= 1:
        raise ConfigError(f"the threshold is {threshold}, wanted a probability")
    if encoders.inception is not None and encoders.features is not None:
        raise ConfigError("--inception beside --features; wanted one encoder of sets of photos")
    matched = match(predictions, references, skip_bad=skip_bad)
    if skip_bad:
        matched = _readable(matched)
    rows = Rows(chosen, matched.pairs, encoders=encoders, seed=seed, told=told)
    put_texts(rows)
    put_photos(rows)
    put_relevance(rows)
    put_decisions(rows, threshold)
    if not rows.values:
        raise DataError(
            f"nothing to score under {protocol}: the {len(matched.pairs):,} pairs hold neither "
            "texts nor photos on both sides. Look at the files."
        )
    sides = zip((predictions, references), zip(*matched.pairs, strict=True), strict=True)
    names, digests = zip(*(_named(*side) for side in sides), strict=True)
    report = Report(
        metrics=rows.values,
        recipe=f"score, protocol {protocol}",
        data=" against ".join(names),
        data_digest=" against ".join(digests),
        seeds=(seed,),
        seconds=time.perf_counter() - began,
        counts=_counts(matched),
        notes=(*rows.notes(), *_notes(chosen, matched)),
        encoders=rows.used,
    )
    if out is not None:
        report.write(out)
    return report


def _readable(matched: Matched) -> Matched:
    """Without the pairs of which a photo cannot be read, which are counted.

    Each photo is decoded once more for this, so that all rows are of the same pairs.
    """
    kept, first_bad, num_bad = [], matched.first_bad, 0
    for pair in matched.pairs:
        try:
            for photo in (photo for record in pair for photo in record.photos):
                load_photo(photo)
        except PhotoError as error:
            num_bad += 1
            first_bad = first_bad or f"{pair[0].where}: {error}"
            continue
        kept.append(pair)
    if not kept:
        raise DataError(f"of every pair a photo cannot be read. The first: {first_bad}")
    skipped = dict(matched.skipped) | ({"pairs with a bad photo": num_bad} if num_bad else {})
    return replace(matched, pairs=tuple(kept), skipped=skipped, first_bad=first_bad)


def _notes(protocol: Protocol, matched: Matched) -> list[str]:
    found = [
        f"protocol {protocol.name}: {protocol.source}",
        f"BLEU: {protocol.bleu}; means over {protocol.mean_over}",
        *(f"quirk kept: {quirk}" for quirk in protocol.quirks),
    ]
    dialogues = {wanted.dialogue for _, wanted in matched.pairs}
    if protocol.name == "minigpt5" and len(dialogues) == len(matched.pairs):
        found.insert(
            0,
            'warning: no record names a "dialogue" that another names, so each is a dialogue '
            "of its own, and the mean over dialogues is one over turns",
        )
    if matched.skipped:
        text = ", ".join(f"{n:,} {name}" for name, n in matched.skipped.items())
        found.append(f"warning: left out: {text}. {matched.first_bad}".strip())
    return found


def _counts(matched: Matched) -> dict[str, int]:
    pairs = matched.pairs
    return {
        "pairs": len(pairs),
        "dialogues": len({wanted.dialogue for _, wanted in pairs}),
        "texts said": sum(bool(said.texts) for said, _ in pairs),
        "texts wanted": sum(bool(wanted.texts) for _, wanted in pairs),
        "photos said": sum(len(said.photos) for said, _ in pairs),
        "photos wanted": sum(len(wanted.photos) for _, wanted in pairs),
    } | dict(matched.skipped)


def _named(source: Source, records: Sequence[Record]) -> tuple[str, str]:
    """Name and digest of a file, or of what records in memory say."""
    if isinstance(source, str | Path):
        return str(source), digest([source])
    said = repr([(record.id, *map(str, record.elements)) for record in records])
    return "records in memory", hashlib.sha256(encoded(said)).hexdigest()[:16]
