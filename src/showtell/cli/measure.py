"""evaluate and score: a model on data, or anybody's texts and photos against references."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from showtell.cli.options import (
    DataArgument,
    DeviceOption,
    JsonOption,
    LimitOption,
    MissingOption,
    ReportOption,
    SeedOption,
    SkipOption,
    argument,
    held,
    option,
    print_report,
    progress,
    with_encoders,
    writable,
)

PROTOCOLS = "standard|psdg|minigpt5|mmdialog|gill"


@with_encoders
def evaluate(
    checkpoint: Annotated[str, argument("CHECKPOINT", "A shipped model or a directory.")],
    data: DataArgument,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
    out: Annotated[
        Path | None,
        option("out", "DIR", "Where report and contact sheet are written.", callback=writable),
    ] = None,
    skip_bad: SkipOption = False,
    missing_photos: MissingOption = None,
    protocol: Annotated[
        list[str] | None,
        option("protocol", "NAME", f"{PROTOCOLS}; may be repeated (psdg and standard)."),
    ] = None,
    form: Annotated[
        str, option("form", "NAME", "dialogue|alignment|story_end:both|photo_last:10|...")
    ] = "",
    encoders: Any = None,
    device: DeviceOption = None,
) -> None:
    """Measure a model and write a report: report.json, report.md and a contact sheet.

    The photo world and PhotoChat have measures of their own. Other data, and these with --protocol
    or --form, are answered at gold contexts and scored as "showtell score" does; predictions.jsonl,
    references.jsonl, context.jsonl (for "showtell judge") and the photos stay beside the report.
    """
    if out is None:
        out = Path("out") / re.sub(r"[^\w.-]+", "-", f"{checkpoint}-{data}").strip("-.")[-100:]
        writable(out)
    from showtell.evaluation import evaluate as run_evaluation
    from showtell.metrics.rows import Encoders
    from showtell.runtime import on_device

    with on_device(device):
        report = run_evaluation(
            checkpoint,
            data,
            limit=limit,
            seed=seed,
            out=out,
            skip_bad=skip_bad,
            missing_photos=missing_photos,
            protocols=protocol or (),
            form=form,
            encoders=Encoders(**encoders),
            told=progress(),
        )
    print_report(report, json=json, out=out)


@with_encoders
def score(
    predictions: Annotated[Path, argument("PREDICTIONS.jsonl", "What a model said, by id.")],
    references: Annotated[Path, argument("REFERENCES.jsonl", "What was to be said, by id.")],
    protocol: Annotated[str, option("protocol", "NAME", PROTOCOLS)] = "standard",
    metric: Annotated[
        list[str] | None, option("metric", "NAME", "Only this row, as bleu1; may be repeated.")
    ] = None,
    encoders: Any = None,
    threshold: Annotated[
        float, option("threshold", "P", "Of the share moment, from p_share.")
    ] = 0.5,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    json: JsonOption = False,
    out: ReportOption = None,
    skip_bad: SkipOption = False,
) -> None:
    """Score any model's predictions under the protocol of a published table.

    Rows that need an encoder or a file say which one and how to name it; the rest is measured.
    """
    from showtell.metrics.rows import Encoders
    from showtell.metrics.scoring import score as run_score
    from showtell.runtime import on_device

    with held(out), on_device(device):
        report = run_score(
            predictions,
            references,
            protocol=protocol,
            only=metric or (),
            encoders=Encoders(**encoders),
            threshold=threshold,
            seed=seed,
            skip_bad=skip_bad,
            out=out,
            told=progress(),
        )
    print_report(report, json=json, out=out)
