"""The comparison: a cell for every system and measure.

``table_of`` takes what systems said of the same dialogues (``outputs.py``), scored alike
(``scored.py``): a cell is a value with its interval, the difference to the system that all are held
against, paired by dialogue, and the smallest difference that could have been seen. What a system
cannot have is a reason and never a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from showtell.evaluation.outputs import Outputs, latency
from showtell.evaluation.scored import (
    FEW_PHOTOS,
    Gold,
    other_photos,
    photo_scores,
    run_scores,
    set_values,
)
from showtell.evaluation.world_photos import Told, quiet
from showtell.metrics.intervals import Value
from showtell.metrics.paired import Difference, Scores, difference, run_value

NOT_RUN, NO_SYSTEM = "not run", "no system"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A measure of the table: its name in docs/metrics.md, and how it is headed and printed."""

    name: str
    head: str
    group: str
    higher_is_better: bool | None = True
    unit: str = "fraction"


COLUMNS: tuple[Column, ...] = (
    Column(name="text.psdg.bleu1", head="BLEU-1", group="words"),
    Column(name="text.psdg.bleu2", head="BLEU-2", group="words"),
    Column(name="text.psdg.rouge_l", head="ROUGE-L", group="words"),
    Column(name="text.meteor_exact_stem", head="METEOR, no synonyms", group="words"),
    Column(name="text.meteor", head="METEOR", group="words"),
    Column(name="text.similarity", head="similarity", group="words", unit=""),
    Column(
        name="text.word_perplexity",
        head="perplexity",
        group="words",
        higher_is_better=False,
        unit="",
    ),
    Column(name="moment.f1", head="moment F1", group="when, and what is seen"),
    Column(name="moment.auprc", head="moment AUPRC", group="when, and what is seen"),
    Column(name="seeing.accuracy", head="seeing", group="when, and what is seen"),
    Column(
        name="photo.attribute_accuracy_in_dialogue",
        head="attributes",
        group="photos",
    ),
    Column(name="photo.kid", head="KID", group="photos", higher_is_better=False, unit=""),
    Column(
        name="photo.kid_encoder",
        head="KID, encoder",
        group="photos",
        higher_is_better=False,
        unit="",
    ),
    Column(name="photo.fid", head="FID", group="photos", higher_is_better=False, unit=""),
    Column(
        name="photo.fid_encoder",
        head="FID, encoder",
        group="photos",
        higher_is_better=False,
        unit="",
    ),
    Column(name="photo.inception_score", head="IS", group="photos", unit=""),
    Column(name="photo.inception_score_encoder", head="IS, encoder", group="photos", unit=""),
    Column(name="photo.clip_i", head="CLIP-I", group="photos and words", unit=""),
    Column(name="photo.clip_t", head="CLIP-T", group="photos and words", unit=""),
    Column(name="relevance.f1", head="MM-Relevance", group="photos and words", unit=""),
    Column(name="retrieval.r1", head="R@1", group="retrieval"),
    Column(name="retrieval.r5", head="R@5", group="retrieval"),
    Column(name="retrieval.r10", head="R@10", group="retrieval"),
    Column(name="retrieval.mrr", head="MRR", group="retrieval", unit=""),
    Column(name="cost.parameters", head="parameters", group="cost", higher_is_better=None, unit=""),
    Column(name="cost.trained", head="trained", group="cost", higher_is_better=None, unit=""),
    Column(
        name="cost.training_seconds",
        head="training",
        group="cost",
        higher_is_better=False,
        unit="s",
    ),
    Column(
        name="cost.peak_memory",
        head="peak memory",
        group="cost",
        higher_is_better=False,
        unit="MB",
    ),
    Column(name="cost.answer", head="an answer", group="cost", higher_is_better=False, unit="s"),
    Column(
        name="cost.answer_with_photo",
        head="with a photo",
        group="cost",
        higher_is_better=False,
        unit="s",
    ),
)


# --------------------------------------------------------------------------------- the table


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training seed of a system: what it said, and what its training cost.

    ``costs`` names columns of the group cost; what nobody measured is absent.
    """

    outputs: Outputs
    costs: Mapping[str, float]


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
    gold: Gold,
    *,
    against: str,
    absent: Mapping[str, str] | None = None,
    told: Told = quiet,
) -> Table:
    """A row for each system. ``absent``: systems that were not run, and why.

    A system without runs, or one that ``against`` has no scores for, is not held against it.
    """
    found: dict[str, list[dict[str, Scores]]] = {}
    for number, (name, runs) in enumerate(systems.items()):
        told("scoring", number, len(systems))
        found[name] = [run_scores(run.outputs, gold) for run in runs]
    table: Table = {}
    for number, (name, runs) in enumerate(systems.items()):
        told("comparing", number, len(systems))
        cells = {}
        others = found.get(against, []) if name != against else []
        plain = [_plain_values(run, gold) for run in runs]
        for column in COLUMNS:
            values = [run[column.name] for run in found[name] if column.name in run]
            theirs = [run[column.name] for run in others if column.name in run]
            cells[column.name] = (
                cell_of(column, values, theirs, seed=gold.seed)
                if len(values) == len(runs)
                else _plain_cell(column, runs, plain, gold)
            )
        table[name] = cells
    for name, reason in (absent or {}).items():
        table[name] = {c.name: Cell(value=None, reason=f"{NOT_RUN}: {reason}") for c in COLUMNS}
    return table


def floors(rebuilt_N3HW: Tensor | None, gold: Gold) -> Table:
    """What photos score that no system made: real ones of other dialogues, and the true ones
    after the VAE and back (None: the base has none)."""
    rows = {"real photos of other dialogues": other_photos(len(gold.orders))}
    if rebuilt_N3HW is not None:
        rows["the true photos, through the VAE"] = rebuilt_N3HW
    table: Table = {}
    for name, photos_N3HW in rows.items():
        found, sets = photo_scores(photos_N3HW, gold), set_values(photos_N3HW, gold)
        cells = {}
        for column in COLUMNS:
            if column.name in found:
                cells[column.name] = cell_of(column, [found[column.name]], [], seed=gold.seed)
            else:
                value = sets.get(column.name)
                cells[column.name] = Cell(value=value, reason="" if value else NO_SYSTEM)
        table[name] = cells
    return table


def cell_of(
    column: Column, values: Sequence[Scores], theirs: Sequence[Scores], *, seed: int
) -> Cell:
    """The mean of a system's runs, held against ``theirs`` where there are any."""
    return Cell(
        value=run_value(
            values, seed=seed, higher_is_better=column.higher_is_better, unit=column.unit
        ),
        against=difference(values, theirs, seed=seed) if theirs else None,
        runs=tuple(run.value() for run in values),
    )


def _plain_cell(
    column: Column, runs: Sequence[Run], plain: Sequence[Mapping[str, float]], gold: Gold
) -> Cell:
    """FID, IS and costs, which have no examples to pair; else the reason why there is nothing."""
    values = [run[column.name] for run in plain if column.name in run]
    if values and len(values) == len(runs):
        mean = Value(
            value=float(np.mean(values)),
            low=None,
            high=None,
            n=len(gold.orders) if column.group == "photos" else len(runs),
            higher_is_better=column.higher_is_better,
            protocol="world",
            unit=column.unit,
        )
        return Cell(value=mean, runs=tuple(values))
    return Cell(value=None, reason=_reason(column.name, runs, gold))


def _plain_values(run: Run, gold: Gold) -> dict[str, float]:
    """A run's costs, and FID and IS of its photos where there are enough."""
    outputs, medians = run.outputs, latency(run.outputs.answers)
    found = {"cost.parameters": float(outputs.parameters), **run.costs}
    for name, key in (("cost.answer", "answer"), ("cost.answer_with_photo", "photo")):
        if key in medians:
            found[name] = medians[key]
    if outputs.photos_N3HW is not None:
        sets = set_values(outputs.photos_N3HW.float() / 255, gold)
        found |= {name: one.value for name, one in sets.items() if one.value is not None}
    return found


def _reason(name: str, runs: Sequence[Run], gold: Gold) -> str:
    if name.startswith("retrieval."):
        return "it has no query for an album"
    if name.startswith("photo.") and any(run.outputs.photos_N3HW is None for run in runs):
        return "it shows no photo"
    if name.startswith(("photo.fid", "photo.inception")):
        return f"{len(gold.orders):,} photos; wanted {FEW_PHOTOS:,} or more"
    if name == "cost.answer_with_photo":
        return "no answer had a photo"
    return {
        "text.meteor": "WordNet was not named (--wordnet)",
        "text.meteor_exact_stem": "METEOR itself stands beside it",
    }.get(name, "not measured")
