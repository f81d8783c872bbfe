"""``evaluate(checkpoint, data)``: a model measured on data, as a report with its passport."""

from __future__ import annotations

import hashlib
import shlex
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from showtell.data.sources import open_data
from showtell.errors import DataError, UsageError
from showtell.evaluation.substitutes import missing_photos as policy_of
from showtell.metrics.pictures import contact_sheet
from showtell.metrics.report import Report, Reported, model_digest
from showtell.models.checkpoint import read_description
from showtell.recipes import SHIPPED, load_model, model_folder
from showtell.world.scenes import split_of


def evaluate(
    checkpoint: str,
    data: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    skip_bad: bool = False,
    missing_photos: str | None = None,
    told: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Measure; with ``out``, write report.json, report.md and (where photos are painted)
    contact_sheet.png there. ``missing_photos``: "error", "skip" or "paint:MODEL", whose substitutes
    are kept in ``out``/substitutes; None leaves missing photos missing.

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
    if source.kind == "world":
        from showtell.evaluation.world import measure_world
        from showtell.world.oracle import AttributeReader

        dialogues = list(islice(source, limit))
        if not dialogues:
            raise DataError(
                f"{data} holds no dialogues; name some seeds, as in world:100000-100999"
            )
        measures = measure_world(
            model,
            dialogues,
            oracle=AttributeReader.from_pretrained(SHIPPED / "oracle"),
            encoder=AttributeReader.from_pretrained(SHIPPED / "encoder"),
            seed=seed,
            told=told,
        )
        metrics = measures.metrics
        counts = {"dialogues": len(dialogues), "photos": sum(len(d.photos) for d in dialogues)}
        splits = sorted({split_of(d.labels["seed"]) for d in dialogues})
        notes = (f"seeds of split: {', '.join(splits)}",)
        if "train" in splits:
            notes += ("these are training seeds: the figures are not those of unseen data",)
        if measures.sheet[0]:
            sheet = contact_sheet(*measures.sheet, columns=6, title=f"{model.name} on {data}")
        digest = hashlib.sha256(repr(dialogues).encode()).hexdigest()[:16]
    elif source.kind == "photochat":
        from showtell.evaluation.photochat import evaluate_photochat

        metrics, counts, reported = evaluate_photochat(
            model, source, seed=seed, limit=limit, told=told
        )
        digest = source.digest()
    else:
        raise UsageError(
            f'there is no protocol for data of kind "{source.kind}" yet; wanted world or '
            "photochat; score your own answers to it with showtell score"
        )
    notes += source.notes
    report = Report.of_this_run(
        metrics=metrics,
        recipe=recipe,
        checkpoint=checkpoint,
        model_digest=model_digest(folder),
        data=data,
        data_digest=digest,
        seeds=(seed,),
        seconds=time.perf_counter() - began,
        command="showtell " + shlex.join(sys.argv[1:]) if "showtell" in sys.argv[0] else "",
        counts=counts,
        notes=notes,
        reported=reported,
    )
    if out is not None:
        report.write(out)
        if sheet is not None:
            sheet.save(out / "contact_sheet.png")
    return report
