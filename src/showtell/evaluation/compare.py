"""The comparison: systems' answers to the same dialogues scored alike, example by example, so that
two can be paired (``metrics/paired.py``); a cell for every system and measure.

A cell is a value with its interval, the difference to the system that all are held against, paired
by dialogue, and the smallest difference that could have been seen. What a system cannot have is a
reason and never a number. No model of a system runs here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial

import numpy as np
from torch import Tensor

from showtell.data.sources import open_data
from showtell.dialogue import Photo
from showtell.evaluation.score_runs import FEW_PHOTOS, IN_DIALOGUE, Run, photo_run
from showtell.evaluation.world_gold import Gold, drawn, photo_places, photos_at
from showtell.metrics.intervals import Value
from showtell.metrics.paired import Difference, difference, run_value

OTHERS = "world:150000-160000"  # whose photos stand for "other real photos"
NOT_RUN, NO_SYSTEM = "not run", "no system"


@dataclass(frozen=True)
class Column:
    """A measure of the table: its name in docs/metrics.md, and how it is headed and printed."""

    name: str
    head: str
    group: str
    _: KW_ONLY
    higher_is_better: bool | None = True
    unit: str = "fraction"


WHEN = "when, and what is seen"
plain, lower = partial(Column, unit=""), partial(Column, unit="", higher_is_better=False)
fact, price = partial(Column, higher_is_better=None), partial(Column, higher_is_better=False)
COLUMNS: tuple[Column, ...] = (
    Column("text.psdg.bleu1", "BLEU-1", "words"),
    Column("text.psdg.bleu2", "BLEU-2", "words"),
    Column("text.psdg.rouge_l", "ROUGE-L", "words"),
    Column("text.meteor_exact_stem", "METEOR, no synonyms", "words"),
    plain("text.similarity", "similarity", "words"),
    lower("text.word_perplexity", "perplexity", "words"),
    Column("moment.f1", "moment F1", WHEN),
    Column("moment.auprc", "moment AUPRC", WHEN),
    Column("seeing.accuracy", "seeing", WHEN),
    Column(IN_DIALOGUE, "attributes", "photos"),
    lower("photo.kid", "KID", "photos"),
    lower("photo.kid_encoder", "KID, encoder", "photos"),
    lower("photo.fid", "FID", "photos"),
    lower("photo.fid_encoder", "FID, encoder", "photos"),
    plain("photo.inception_score", "IS", "photos"),
    plain("photo.inception_score_encoder", "IS, encoder", "photos"),
    plain("photo.clip_i", "CLIP-I", "photos and words"),
    plain("photo.clip_t", "CLIP-T", "photos and words"),
    plain("relevance.f1", "MM-Relevance", "photos and words"),
    Column("retrieval.r1", "R@1", "retrieval"),
    Column("retrieval.r5", "R@5", "retrieval"),
    Column("retrieval.r10", "R@10", "retrieval"),
    plain("retrieval.mrr", "MRR", "retrieval"),
    fact("cost.parameters", "parameters", "cost", unit=""),
    fact("cost.trained", "trained", "cost", unit=""),
    price("cost.training_seconds", "training", "cost", unit="s"),
    price("cost.answer", "an answer", "cost", unit="s"),
    price("cost.answer_with_photo", "with a photo", "cost", unit="s"),
)


def columns_of(*names: str) -> tuple[Column, ...]:
    """Columns of the comparison by their names, in this order."""
    known = {column.name: column for column in COLUMNS}
    return tuple(known[name] for name in names)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A value, or the ``reason`` why there is none; ``against`` the system that all are held to.

    ``runs`` are the values of the single training seeds.
    """

    value: Value | None
    reason: str = ""
    against: Difference | None = None
    runs: tuple[float, ...] = ()


Table = dict[str, dict[str, Cell]]  # system -> name of a column -> cell


def table_of(
    systems: Mapping[str, Sequence[Run]],
    columns: Sequence[Column] = COLUMNS,
    *,
    against: str,
    absent: Mapping[str, str] | None = None,
    num_photos: int = 0,
    protocol: str = "world",
) -> Table:
    """A row for each system. ``absent``: systems that were not run, and why.

    A system without runs, or one that ``against`` has no scores for, is not held against it.
    """
    measured = {name for runs in systems.values() for run in runs for name in run.scores}
    table: Table = {}
    for name, runs in systems.items():
        others = systems.get(against, ()) if name != against else ()
        table[name] = {
            column.name: _cell(column, runs, others, measured, num_photos, protocol)
            for column in columns
        }
    for name, reason in (absent or {}).items():
        table[name] = {c.name: Cell(value=None, reason=f"{NOT_RUN}: {reason}") for c in columns}
    return table


def _cell(
    column: Column,
    runs: Sequence[Run],
    others: Sequence[Run],
    measured: Collection[str],
    num_photos: int,
    protocol: str,
) -> Cell:
    """``measured``: the columns in which some row has scores."""
    ours = [run.scores[column.name] for run in runs if column.name in run.scores]
    theirs = [run.scores[column.name] for run in others if column.name in run.scores]
    if ours and len(ours) == len(runs):
        return Cell(
            value=run_value(
                ours,
                seed=0,
                higher_is_better=column.higher_is_better,
                unit=column.unit,
                protocol=protocol,
            ),
            against=difference(ours, theirs, seed=0) if theirs else None,
            runs=tuple(run.value() for run in ours),
        )
    plain = [run.values[column.name] for run in runs if column.name in run.values]
    if not plain or len(plain) < len(runs):
        return Cell(value=None, reason=_reason(column, measured, num_photos))
    mean = Value(
        value=float(np.mean(plain)),
        n=num_photos if column.group == "photos" else len(runs),
        higher_is_better=column.higher_is_better,
        protocol=protocol,
        unit=column.unit,
    )
    return Cell(value=mean, runs=tuple(plain))


def _reason(column: Column, measured: Collection[str], num_photos: int) -> str:
    """Why a row has nothing in a column."""
    name = column.name
    if name.startswith(("photo.fid", "photo.inception")) and 0 < num_photos < FEW_PHOTOS:
        return f"{num_photos:,} photos; wanted {FEW_PHOTOS:,} or more"
    if name.startswith("retrieval."):
        return "it has no query for an album"
    if name in measured and name.startswith("photo."):
        return "it shows no photo"
    if name not in measured and any(word in name for word in ("clip", "similarity", "relevance")):
        return "no CLIP was named (--clip)"
    if name == "cost.answer_with_photo":
        return "no answer had a photo"
    return "not measured of this row" if name in measured else "nothing to measure"


def floors(rebuilt_N3HW: Tensor | None, gold: Gold, columns: Sequence[Column]) -> Table:
    """What photos score that no system made: real ones of other dialogues, and the true ones
    after the VAE and back (None: the base has none)."""
    others: list[Photo] = []
    for dialogue in open_data(OTHERS):
        others += photos_at([dialogue], photo_places([dialogue]))
        if len(others) >= len(gold.photos):
            break
    rows = {"real photos of other dialogues": drawn(others[: len(gold.photos)])}
    if rebuilt_N3HW is not None:
        rows["the true photos, through the VAE"] = rebuilt_N3HW
    runs = {name: [photo_run(photos, gold)] for name, photos in rows.items()}
    table = table_of(runs, columns, against="", num_photos=len(gold.photos))
    return {
        name: {
            key: cell if cell.value else replace(cell, reason=NO_SYSTEM)
            for key, cell in cells.items()
        }
        for name, cells in table.items()
    }
