"""``evaluate(checkpoint, data)``: a model measured on data, as a report with its passport."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from showtell.data.sources import DataSource, open_data
from showtell.dialogue import Dialogue
from showtell.errors import DataError, UsageError
from showtell.evaluation.answered import working_folder
from showtell.evaluation.reported import reported_rows
from showtell.evaluation.score import PROTOCOLS, Measured, measure_dialogues
from showtell.evaluation.substitutes import missing_photos as policy_of
from showtell.metrics.pictures import contact_sheet, save_picture
from showtell.metrics.report import Report, Reported, model_digest
from showtell.metrics.rows import Encoders
from showtell.models.checkpoint import model_folder, read_description
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.papers import load_model
from showtell.papers.forms import form_named, swap_speakers
from showtell.progress import Progress, quiet

__all__ = ["evaluate"]

REPLIES = 1000  # of each kind of answers, unless a number of dialogues is named


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
    policy, paint = policy_of(missing_photos, folder=(out or Path("out")) / "substitutes")
    source = open_data(data, skip_bad=skip_bad, missing=policy, paint=paint)
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}; wanted at least 1")
    folder = model_folder(checkpoint)
    recipe = read_description(folder)["recipe"].get("name", "")
    with working_folder(out) as work:
        found, reported, digest = _measure(
            load_model(checkpoint),
            source,
            folder=work,
            limit=limit,
            seed=seed,
            protocols=protocols,
            form=form,
            encoders=encoders,
            told=told,
        )
        skipped = {"skipped": len(source.skipped)} if source.files else {}
        report = Report(
            metrics=found.values,
            recipe=recipe,
            checkpoint=checkpoint,
            model_digest=model_digest(folder),
            data=data,
            data_digest=digest,
            seeds=(seed,),
            seconds=time.perf_counter() - began,
            counts=found.counts | skipped,
            notes=(*found.notes, *source.notes),
            reported=reported,
            encoders=found.encoders,
        )
        report.write(work)
    return report


def _measure(
    model: PhotoDialogueModel,
    source: DataSource,
    *,
    folder: Path,
    limit: int | None,
    seed: int,
    protocols: Sequence[str],
    form: str,
    encoders: Encoders,
    told: Progress,
) -> tuple[Measured, tuple[Reported, ...], str]:
    """(what was measured, what was published, the data's digest)."""
    most = REPLIES if limit is None else None
    dialogues = list(islice(source, limit))
    if source.kind == "world" and not (protocols or form):
        from showtell.evaluation.measures import measure_world

        if not dialogues:
            raise DataError(
                f"{source.name} holds no dialogues; name some seeds, as in world:100000-100999"
            )
        found, sheet = measure_world(model, dialogues, folder=folder, seed=seed, told=told)
        if sheet[0]:
            title = f"{model.name} on {source.name}"
            sheet_of_photos = contact_sheet(*sheet, columns=6, title=title)
            save_picture(sheet_of_photos, folder / "contact_sheet.png")
        return found, (), hashlib.sha256(repr(dialogues).encode()).hexdigest()[:16]
    if source.kind == "photochat" and not (protocols or form):
        from showtell.evaluation.measures_photochat import PHOTOCHAT, measure_photochat

        found = measure_photochat(
            model, dialogues, folder=folder, path=source.path, seed=seed, most=most, told=told
        )
        return found, reported_rows(source.origin, (PHOTOCHAT,), ""), source.digest()
    protocols, form = tuple(protocols) or PROTOCOLS, form or "dialogue"
    found = measure_dialogues(
        model,
        _examples(dialogues, form, symmetric=source.symmetric, seed=seed),
        protocols=protocols,
        encoders=encoders,
        seed=seed,
        most=most,
        folder=folder,
        told=told,
    )
    found = replace(found, notes=(*found.notes, f"form: {form}"))
    return found, reported_rows(source.origin, protocols, form), source.digest()


def _examples(
    dialogues: Sequence[Dialogue], form: str, *, symmetric: bool, seed: int
) -> list[Dialogue]:
    """Dialogues in their form; without an agent, each speaker is measured in turn."""
    make = form_named(form, seed=seed)
    found = [example for dialogue in dialogues for example in make(dialogue)]
    if symmetric and form == "dialogue":
        found += [swap_speakers(dialogue) for dialogue in found]
    return found
