"""The comparison: systems' answers to the same dialogues scored alike, example by example, so that
two can be paired (``metrics/paired.py``); a cell for every system and measure.

A cell is a value with its interval, the difference to the system that all are held against, paired
by dialogue, and the smallest difference that could have been seen. What a system cannot have is a
reason and never a number. No model of a system runs here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from showtell.data.sources import open_data
from showtell.dialogue import Photo
from showtell.evaluation.score_runs import FEW_PHOTOS, Gold, Run, photo_run
from showtell.evaluation.world_answers import drawn, photo_places, photos_at
from showtell.metrics.intervals import Value
from showtell.metrics.paired import Difference, difference, run_value

OTHERS = "world:150000-160000"  # whose photos stand for "other real photos"
NOT_RUN, NO_SYSTEM = "not run", "no system"


# ------------------------------------------------------------------------------------- the cells


@dataclass(frozen=True, kw_only=True)
class Column:
    """A measure of the table: its name in docs/metrics.md, and how it is headed and printed."""

    name: str
    head: str
    group: str
    higher_is_better: bool | None = True
    unit: str = "fraction"


def _columns(group: str, *rows: tuple[Any, ...]) -> tuple[Column, ...]:
    """(name, head, unit, which way is better) of columns of a group."""
    return tuple(
        Column(name=row[0], head=row[1], group=group, unit=row[2], higher_is_better=row[3])
        for row in (tuple(row) + ("fraction", True)[len(row) - 2 :] for row in rows)
    )


COLUMNS: tuple[Column, ...] = (
    *_columns(
        "words",
        ("text.psdg.bleu1", "BLEU-1"),
        ("text.psdg.bleu2", "BLEU-2"),
        ("text.psdg.rouge_l", "ROUGE-L"),
        ("text.meteor_exact_stem", "METEOR, no synonyms"),
        ("text.meteor", "METEOR"),
        ("text.similarity", "similarity", ""),
        ("text.word_perplexity", "perplexity", "", False),
    ),
    *_columns(
        "when, and what is seen",
        ("moment.f1", "moment F1"),
        ("moment.auprc", "moment AUPRC"),
        ("seeing.accuracy", "seeing"),
    ),
    *_columns(
        "photos",
        ("photo.attribute_accuracy_in_dialogue", "attributes"),
        ("photo.kid", "KID", "", False),
        ("photo.kid_encoder", "KID, encoder", "", False),
        ("photo.fid", "FID", "", False),
        ("photo.fid_encoder", "FID, encoder", "", False),
        ("photo.inception_score", "IS", ""),
        ("photo.inception_score_encoder", "IS, encoder", ""),
    ),
    *_columns(
        "photos and words",
        ("photo.clip_i", "CLIP-I", ""),
        ("photo.clip_t", "CLIP-T", ""),
        ("relevance.f1", "MM-Relevance", ""),
    ),
    *_columns(
        "retrieval",
        ("retrieval.r1", "R@1"),
        ("retrieval.r5", "R@5"),
        ("retrieval.r10", "R@10"),
        ("retrieval.mrr", "MRR", ""),
    ),
    *_columns(
        "cost",
        ("cost.parameters", "parameters", "", None),
        ("cost.trained", "trained", "", None),
        ("cost.training_seconds", "training", "s", False),
        ("cost.peak_memory", "peak memory", "MB", False),
        ("cost.answer", "an answer", "s", False),
        ("cost.answer_with_photo", "with a photo", "s", False),
    ),
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
) -> Table:
    """A row for each system. ``absent``: systems that were not run, and why.

    A system without runs, or one that ``against`` has no scores for, is not held against it.
    """
    measured = {name for runs in systems.values() for run in runs for name in run.scores}
    table: Table = {}
    for name, runs in systems.items():
        others = systems.get(against, ()) if name != against else ()
        table[name] = {
            column.name: _cell(column, runs, others, measured, num_photos) for column in columns
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
) -> Cell:
    """``measured``: the columns in which some row has scores."""
    ours = [run.scores[column.name] for run in runs if column.name in run.scores]
    theirs = [run.scores[column.name] for run in others if column.name in run.scores]
    if ours and len(ours) == len(runs):
        value = run_value(ours, seed=0, higher_is_better=column.higher_is_better, unit=column.unit)
        return Cell(
            value=value,
            against=difference(ours, theirs, seed=0) if theirs else None,
            runs=tuple(run.value() for run in ours),
        )
    plain = [run.values[column.name] for run in runs if column.name in run.values]
    if not plain or len(plain) < len(runs):
        return Cell(value=None, reason=_reason(column, measured, num_photos))
    mean = Value(
        value=float(np.mean(plain)),
        low=None,
        high=None,
        n=num_photos if column.group == "photos" else len(runs),
        higher_is_better=column.higher_is_better,
        protocol="world",
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
    return {
        "cost.answer_with_photo": "no answer had a photo",
        "text.meteor": "WordNet was not named (--wordnet)",
        "text.meteor_exact_stem": "METEOR itself stands beside it",
    }.get(name, "not measured of this row" if name in measured else "nothing to measure")


def floors(rebuilt_N3HW: Tensor | None, gold: Gold) -> Table:
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
    table = table_of(runs, against="", num_photos=len(gold.photos))
    return {
        name: {
            key: cell if cell.value else replace(cell, reason=NO_SYSTEM)
            for key, cell in cells.items()
        }
        for name, cells in table.items()
    }
