"""``evaluate(checkpoint, data)``: a model measured on data, as a report with its passport."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from showtell.data.sources import open_data
from showtell.dialogue import Dialogue
from showtell.errors import DataError, UsageError
from showtell.evaluation.answered import working_folder
from showtell.evaluation.measures import measure_world
from showtell.evaluation.measures_photochat import measure_photochat
from showtell.evaluation.reported import reported_rows
from showtell.evaluation.score import PROTOCOLS, measure_dialogues
from showtell.evaluation.substitutes import missing_photos as policy_of
from showtell.metrics.report import Report, model_digest
from showtell.metrics.rows import Encoders
from showtell.models.checkpoint import model_folder, read_description
from showtell.papers import load_model
from showtell.papers.forms import form_named, swap_speakers
from showtell.progress import Progress, quiet

__all__ = ["evaluate"]

MOST = 1000  # answers of each kind, unless a number of dialogues is named


def evaluate(
    checkpoint: str,
    data: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    skip_bad: bool = False,
    missing_photos: str | None = None,
    protocols: Sequence[str] = (),
    form: str = "",
    encoders: Encoders = Encoders(),  # noqa: B008 (frozen)
    told: Progress = quiet,
) -> Report:
    """Measure; with ``out``, write report.json, report.md, the answers as records
    (``answered.py``) and, of the photo world, contact_sheet.png there. ``missing_photos``: "error",
    "skip" or "paint:MODEL", whose substitutes are kept in ``out``/substitutes; None leaves missing
    photos missing.

    The photo world and PhotoChat have measures of their own. Other data, and these where
    ``protocols`` or a ``form`` (``papers/forms.py``) are named, are scored by protocols, with
    ``encoders``.

    Raises CheckpointError, DataError, StorageError or UsageError.
    """
    began = time.perf_counter()
    policy = policy_of(missing_photos, folder=(out or Path("out")) / "substitutes")
    source = open_data(data, skip_bad=skip_bad, missing=policy)
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}; wanted at least 1")
    folder = model_folder(checkpoint)
    recipe = read_description(folder)["recipe"].get("name", "")
    kind = "protocols" if protocols or form else source.kind
    most = MOST if limit is None else None
    with working_folder(out) as work:
        model = load_model(checkpoint)
        dialogues = list(islice(source, limit))
        notes: tuple[str, ...] = ()
        if kind == "world":
            if not dialogues:
                raise DataError(
                    f"{source.name} holds no dialogues; name some seeds, as in world:100000-100999"
                )
            found = measure_world(
                model, dialogues, name=source.name, folder=work, seed=seed, told=told
            )
        elif kind == "photochat":
            protocols = ("photochat",)
            found = measure_photochat(
                model, dialogues, folder=work, path=source.path, seed=seed, most=most, told=told
            )
        else:
            protocols, form = tuple(protocols) or PROTOCOLS, form or "dialogue"
            notes = (f"form: {form}",)
            found = measure_dialogues(
                model,
                _examples(dialogues, form, symmetric=source.symmetric, seed=seed),
                protocols=protocols,
                encoders=encoders,
                seed=seed,
                most=most,
                folder=work,
                told=told,
            )
        made = hashlib.sha256(repr(dialogues).encode()).hexdigest()[:16]
        report = Report(
            metrics=found.values,
            recipe=recipe,
            checkpoint=checkpoint,
            model_digest=model_digest(folder),
            data=data,
            data_digest=made if kind == "world" else source.digest(),
            seeds=(seed,),
            seconds=time.perf_counter() - began,
            counts=found.counts | ({"skipped": len(source.skipped)} if source.files else {}),
            notes=(*found.notes, *notes, *source.notes),
            reported=reported_rows(source.origin, protocols, form),
            encoders=found.encoders,
        )
        report.write(work)
    return report


def _examples(
    dialogues: Sequence[Dialogue], form: str, *, symmetric: bool, seed: int
) -> list[Dialogue]:
    """Dialogues in their form; without an agent, each speaker is measured in turn."""
    make = form_named(form, seed=seed)
    found = [example for dialogue in dialogues for example in make(dialogue)]
    if symmetric and form == "dialogue":
        found += [swap_speakers(dialogue) for dialogue in found]
    return found
