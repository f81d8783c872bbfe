"""What the experiments of MiniGPT-5 and GILL share: the photos and texts that a row makes of given
contexts, made once, and a table of what they score (``evaluation/scored.py``).

A context is a dialogue whose last turn is the agent's photo: a system makes its own in that place.
A painter alone has no dialogue; it reads texts.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import e2e_rows
import torch
from _rows import Row, about, kept, parser, trained, write
from e2e_rows import instruments, schedule
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from photoworld.scenes import TEST_SEEDS
from showtell.data.storage import write_atomically
from showtell.dialogue import AGENT, Dialogue
from showtell.errors import UsageError
from showtell.evaluation.outputs import as_bytes
from showtell.evaluation.scored import (
    FEW_PHOTOS,
    Gold,
    Instruments,
    attribute_scores,
    photo_scores,
    set_values,
)
from showtell.evaluation.table import COLUMNS, NOT_RUN, Cell, Column, Table, cell_of
from showtell.evaluation.world import first_texts
from showtell.evaluation.world_photos import images_of, spoken_photos
from showtell.metrics.encoders import load_clip
from showtell.metrics.intervals import Value
from showtell.metrics.paired import Scores
from showtell.metrics.report import model_digest
from showtell.models.checkpoint import model_folder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.parts import Conditioning
from showtell.recipes import RECIPES
from showtell.recipes.world_experiments import readable

Opener = Callable[[], PhotoDialogueModel]
BATCH = 32
ZERO_SHOT = "painter, zero-shot"  # the base's own: nothing is trained

NOTES = (
    "CLIP-I, CLIP-T and similarity are cosines of a small CLIP of the world (--clip, the model of "
    '"showtell train world_contrastive"), and not to be compared with figures of OpenAI\'s CLIP.',
    f"FID and IS stand in the oracle's features, from {FEW_PHOTOS:,} photos on; KID beside them.",
    "A cell is the mean over training seeds; its interval is over examples and tells nothing of "
    "other training seeds. The single seeds stand in the JSON.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """What one run of a row scores: measures with examples, and FID and IS without."""

    scores: dict[str, Scores]
    values: dict[str, Value] = dataclasses.field(default_factory=dict)


def columns_of(*names: str) -> tuple[Column, ...]:
    """Columns of the comparison by their names, in this order."""
    known = {column.name: column for column in COLUMNS}
    return tuple(known[name] for name in names)


def options_parser(
    doc: str | None, *, name: str, limit: int = 500, after_alignment: bool = False
) -> argparse.ArgumentParser:
    """The options of ``_rows.parser``, where the measuring CLIP is, and, where rows go on after
    unimodal alignment, which one to go on from."""
    found = parser(doc, name=name, limit=limit)
    found.set_defaults(aligned=None)
    found.add_argument("--clip", help='the model of "showtell train world_contrastive"')
    if after_alignment:
        found.add_argument(
            "--aligned",
            help="the model of a run of world_vokens with stage.steps=0, for all rows that else "
            "begin with an alignment of their own; {seed} in it is the row's seed",
        )
    return found


def readers(options: argparse.Namespace) -> Instruments:
    """The shipped readers, and the CLIP that was named."""
    clip = load_clip(options.clip) if options.clip else None
    return dataclasses.replace(instruments(), clip=clip)


def test_seeds(options: argparse.Namespace) -> range:
    return TEST_SEEDS[: options.limit]


# ----------------------------------------------------------------------------------- the systems


def run_of(row: Row, seed: int, options: argparse.Namespace, *, only_aligned: bool = False) -> Path:
    """The folder of the finished run of a row (see ``_rows.trained``).

    Where there is an alignment stage it has half of the steps, or, if ``only_aligned``, all; or
    the row goes on from --aligned, which has had it.
    """
    settings = schedule(row, options)
    config = RECIPES[row.recipe].config()
    if hasattr(config, "alignment") and options.aligned and "alignment.steps=0" not in row.settings:
        aligned = model_folder(options.aligned.format(seed=seed)).resolve()
        settings += [f"base={aligned}", "alignment.steps=0"]
    elif hasattr(config, "alignment"):
        steps = options.steps if only_aligned else -(-options.steps // 2)
        warmup = round(config.alignment.warmup * steps / config.alignment.steps)
        settings += [f"alignment.steps={steps}", f"alignment.warmup={warmup}"]
        settings += ["stage.steps=0"] if only_aligned else []
        settings += ["alignment.batch_size=2", "num_pairs=8"] if options.tiny else []
    return trained(row, seed, options, settings=settings)


def opened(folder: str | Path, options: argparse.Namespace) -> PhotoDialogueModel:
    """The model of a run, or the base."""
    model = e2e_rows.opened(folder)
    if options.tiny:
        model.decoding = dataclasses.replace(model.decoding, num_steps=1, max_new_tokens=4)
    return model


def runs_of(
    rows: Sequence[Row], options: argparse.Namespace, *, only_aligned: bool = False
) -> Iterator[tuple[str, Path, Opener]]:
    """The name of each row, trained if it is not yet, the folder of each of its runs, and what
    opens the model. ``ZERO_SHOT`` is the base, which has one run and no training."""
    for row in rows:
        for seed in options.seeds[:1] if row.name == ZERO_SHOT else options.seeds:
            if row.name == ZERO_SHOT:
                folder, model = options.runs / "zero-shot", options.base
            else:
                folder = model = run_of(row, seed, options, only_aligned=only_aligned)
            yield row.name, folder, functools.cache(functools.partial(opened, model, options))


# ------------------------------------------------------------------------- what a system makes


def kept_photos(path: Path, settings: Mapping[str, object], make: Callable[[], Tensor]) -> Tensor:
    """Photos (N, 3, H, W) in [0, 1], made once (see ``_rows.kept``)."""

    def write() -> int:
        print(f"painting {path}", file=sys.stderr, flush=True)
        photos_N3HW = as_bytes(make()).contiguous()
        write_atomically(path, save_tensors({"photos_N3HW": photos_N3HW}))
        return len(photos_N3HW)

    kept(path.with_suffix(".json"), settings, write)
    return load_file(path)["photos_N3HW"].float() / 255


def own_photos(model: PhotoDialogueModel, contexts: Sequence[Dialogue]) -> Tensor:
    """A system's photos in the places of the gold ones."""
    photos_N3HW = spoken_photos(model, contexts, seed=0).pixels_N3HW
    if photos_N3HW is None:
        raise UsageError(f'"{model.name}" paints no photo; name a --base with a painter')
    return photos_N3HW


@torch.no_grad()
def painted_texts(model: PhotoDialogueModel, texts: Sequence[str]) -> Tensor:
    """What the painter alone makes of texts, the n-th from seed n; of a long text its text tower
    reads the words that it knows (``readable``), as many as it has room for."""
    painter, settings = model.painter, model.decoding
    if not isinstance(painter, LatentDiffusionPainter):
        raise UsageError(f'"{model.name}" has no painter that reads texts; name another --base')
    parts = []
    for start in range(0, len(texts), BATCH):
        part = [readable(text, painter.text) for text in texts[start : start + BATCH]]
        parts.append(
            painter.paint(
                Conditioning(cond_NSC=painter.encode_text(part)),
                num_steps=settings.num_steps,
                guidance=settings.guidance,
                seeds=range(start, start + len(part)),
            )
        )
    return torch.cat(parts)


def own_texts(model: PhotoDialogueModel, tasks: Sequence[Dialogue]) -> list[str]:
    """A system's texts in the places of the agent's first turns."""
    contexts = [task.turns[: first_answer(task)] for task in tasks]
    images = [images_of(context) for context in contexts]
    return first_texts(model, contexts, images, seed=0)


def first_answer(task: Dialogue) -> int:
    return next(k for k, turn in enumerate(task.turns) if turn.speaker == AGENT)


# ------------------------------------------------------------------------------------- the table


def scored_photos(
    photos_N3HW: Tensor,
    gold: Gold,
    counted: Mapping[str, Sequence[Sequence[str]]] | None = None,
) -> Scored:
    """What photos score in the places of the gold ones; ``counted`` names further measures of the
    attributes that count for each photo."""
    found = photo_scores(photos_N3HW, gold)
    if counted:
        read = gold.instruments.oracle.read(photos_N3HW)
        for name, counts in counted.items():
            if any(counts):
                found[name] = attribute_scores(read, gold, counts)
    return Scored(scores=found, values=set_values(photos_N3HW, gold))


def scored_once(
    path: Path,
    settings: Mapping[str, object],
    make: Callable[[], Tensor],
    gold: Gold,
    counted: Mapping[str, Sequence[Sequence[str]]] | None = None,
) -> Scored:
    """``scored_photos`` of photos that are made once (see ``kept_photos``)."""
    return scored_photos(kept_photos(path, settings, make), gold, counted)


def table_of(
    rows: Mapping[str, Sequence[Scored]],
    columns: Sequence[Column],
    *,
    against: str,
    absent: Mapping[str, str] | None = None,
) -> Table:
    """A cell for each row and column; ``absent``: rows that were not run, and why."""
    measured = {name for runs in rows.values() for run in runs for name in run.scores}
    table: Table = {}
    for name, runs in rows.items():
        others = rows.get(against, []) if name != against else []
        table[name] = {column.name: _cell(column, runs, others, measured) for column in columns}
    for name, reason in (absent or {}).items():
        table[name] = {c.name: Cell(value=None, reason=f"{NOT_RUN}: {reason}") for c in columns}
    return table


def _cell(
    column: Column, runs: Sequence[Scored], others: Sequence[Scored], measured: Collection[str]
) -> Cell:
    """``measured``: the columns in which some row has scores."""
    values = [run.scores[column.name] for run in runs if column.name in run.scores]
    theirs = [run.scores[column.name] for run in others if column.name in run.scores]
    if values:
        return cell_of(column, values, theirs, seed=0)
    plain = [run.values[column.name] for run in runs if column.name in run.values]
    if plain:
        single = tuple(float(value.value or 0) for value in plain)
        mean = dataclasses.replace(plain[0], value=sum(single) / len(single))
        return Cell(value=mean, runs=single)
    if column.name in measured:
        return Cell(value=None, reason="not measured of this row")
    if "clip" in column.name or "similarity" in column.name:
        return Cell(value=None, reason="no CLIP was named (--clip)")
    if "fid" in column.name or "inception" in column.name:
        return Cell(value=None, reason=f"fewer than {FEW_PHOTOS:,} photos")
    return Cell(value=None, reason="nothing to measure")


def publish(
    table: Table,
    columns: Sequence[Column],
    *,
    script: str,
    name: str,
    title: str,
    against: str,
    notes: Sequence[str],
    options: argparse.Namespace,
) -> None:
    """Print and write the table ``name`` of ``script`` (see ``_rows.write``)."""
    passport = {
        **about(options),
        "command": f"`python experiments/{script}.py {shlex.join(sys.argv[1:])}`",
        "measuring CLIP": model_digest(options.clip) if options.clip else "none",
    }
    write(
        table,
        columns,
        name=name,
        title=title,
        against=against,
        notes=[*notes, *NOTES],
        about=passport,
        out=options.out,
    )
