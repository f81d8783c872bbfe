"""``evaluate(checkpoint, data)``: a model measured on data, as a report with its passport."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from photoworld.scenes import split_of
from showtell.data.sources import DataSource, open_data
from showtell.dialogue import Dialogue
from showtell.errors import DataError, UsageError
from showtell.evaluation.dialogues import PROTOCOLS, REPLIES, evaluate_dialogues
from showtell.evaluation.reported import reported_rows
from showtell.evaluation.substitutes import missing_photos as policy_of
from showtell.metrics.pictures import contact_sheet
from showtell.metrics.report import Report, Reported, model_digest
from showtell.metrics.rows import Encoders
from showtell.models.checkpoint import model_folder, read_description
from showtell.papers import load_model
from showtell.papers.forms import form_named, swap_speakers


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
    told: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Measure; with ``out``, write report.json, report.md and (where photos are painted)
    contact_sheet.png there. ``missing_photos``: "error", "skip" or "paint:MODEL", whose substitutes
    are kept in ``out``/substitutes; None leaves missing photos missing.

    The photo world and PhotoChat have measures of their own. Other data, and these where
    ``protocols`` or a ``form`` (``papers/forms.py``) are named, are measured as
    ``evaluation/dialogues.py`` says, with ``encoders``.

    Raises CheckpointError, DataError or UsageError.
    """
    began = time.perf_counter()
    policy, paint = policy_of(missing_photos, folder=(out or Path("out")) / "substitutes")
    source = open_data(data, skip_bad=skip_bad, missing=policy, paint=paint)
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}; wanted at least 1")
    folder = model_folder(checkpoint)
    recipe = read_description(folder)["recipe"].get("name", "")
    model = load_model(checkpoint)
    told = told or (lambda what, done, total: None)
    notes: tuple[str, ...] = ()
    reported: tuple[Reported, ...] = ()
    sheet = None
    used: dict[str, str] = {}
    named = bool(protocols or form)
    if source.kind == "world" and not named:
        from showtell.data.world import load_oracle
        from showtell.evaluation.world import dropped_turns, measure_world

        dialogues = list(islice(source, limit))
        if not dialogues:
            raise DataError(
                f"{data} holds no dialogues; name some seeds, as in world:100000-100999"
            )
        measures = measure_world(
            model,
            dialogues,
            oracle=load_oracle("oracle"),
            encoder=load_oracle("encoder"),
            seed=seed,
            told=told,
        )
        metrics = measures.metrics
        counts = {"dialogues": len(dialogues), "photos": sum(len(d.photos) for d in dialogues)}
        if dropped := dropped_turns(model, dialogues):
            counts["dropped turns"] = sum(dropped.values())
            notes += (dropped_note(dropped, model.renderer.config.max_tokens),)
        splits = sorted({split_of(d.labels["seed"]) for d in dialogues})
        notes += (f"seeds of split: {', '.join(splits)}",)
        if "train" in splits:
            notes += ("these are training seeds: the figures are not those of unseen data",)
        if measures.sheet[0]:
            sheet = contact_sheet(*measures.sheet, columns=6, title=f"{model.name} on {data}")
        digest = hashlib.sha256(repr(dialogues).encode()).hexdigest()[:16]
    elif source.kind == "photochat" and not named:
        from showtell.evaluation.photochat import evaluate_photochat

        metrics, counts, reported = evaluate_photochat(
            model, source, seed=seed, limit=limit, told=told
        )
        digest = source.digest()
    else:
        protocols, form = tuple(protocols) or PROTOCOLS, form or "dialogue"
        metrics, counts, notes, used = evaluate_dialogues(
            model,
            _examples(source, form, limit=limit, seed=seed),
            protocols=protocols,
            encoders=encoders,
            seed=seed,
            most=REPLIES if limit is None else None,
            out=out,
            told=told,
        )
        counts |= {"skipped": len(source.skipped)} if source.skipped else {}
        notes += (f"form: {form}",)
        reported = reported_rows(source.origin, protocols, form)
        digest = source.digest()
    notes += source.notes
    report = Report(
        metrics=metrics,
        recipe=recipe,
        checkpoint=checkpoint,
        model_digest=model_digest(folder),
        data=data,
        data_digest=digest,
        seeds=(seed,),
        seconds=time.perf_counter() - began,
        counts=counts,
        notes=notes,
        reported=reported,
        encoders=used,
    )
    if out is not None:
        report.write(out)
        if sheet is not None:
            sheet.save(out / "contact_sheet.png")
    return report


def _examples(source: DataSource, form: str, *, limit: int | None, seed: int) -> list[Dialogue]:
    """The first ``limit`` dialogues in their form; without an agent, both speakers are measured."""
    make = form_named(form, seed=seed)
    dialogues = [example for dialogue in islice(source, limit) for example in make(dialogue)]
    if source.symmetric and form == "dialogue":
        dialogues += [swap_speakers(dialogue) for dialogue in dialogues]
    return dialogues


def dropped_note(dropped: Mapping[str, int], max_tokens: int) -> str:
    """Which dialogues were read without their first turns, the longest cuts first."""
    most = sorted(dropped.items(), key=lambda item: -item[1])
    named = ", ".join(f"{name}: the first {count}" for name, count in most[:10])
    more = f" and {len(most) - 10} more" if len(most) > 10 else ""
    return (
        f"{len(most)} dialogues are longer than the model reads ({max_tokens} tokens), and their "
        f"oldest turns were dropped ({named}{more}); their last turn never is"
    )
