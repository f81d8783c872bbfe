"""evaluate and score: a model on data, or anybody's texts and photos against references."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from showtell.cli import options as opt

PROTOCOLS = "standard|psdg|minigpt5|mmdialog|gill"


@opt.with_encoders
def evaluate(
    checkpoint: str = opt.argument("CHECKPOINT", "A shipped model or a directory."),
    data: str = opt.DATA,
    limit: int | None = opt.LIMIT,
    seed: int = opt.SEED,
    json: bool = opt.JSON,
    out: Path | None = opt.out(None, "DIR", "Where report and contact sheet are written."),
    skip_bad: bool = opt.SKIP_BAD,
    missing_photos: str | None = opt.MISSING,
    protocol: list[str] = opt.option(
        [], "protocol", "NAME", f"{PROTOCOLS}; may be repeated (psdg and standard)."
    ),
    form: str = opt.option(
        "", "form", "NAME", "dialogue|alignment|story_end:both|photo_last:10|..."
    ),
    encoders: Any = None,
    device: str | None = opt.DEVICE,
) -> None:
    """Measure a model and write a report: report.json, report.md and a contact sheet.

    The photo world and PhotoChat have measures of their own. Other data, and these with --protocol
    or --form, are answered at gold contexts and scored as "showtell score" does; predictions.jsonl,
    references.jsonl, context.jsonl (for "showtell judge") and the photos stay beside the report.
    """
    if out is None:
        out = Path("out") / re.sub(r"[^\w.-]+", "-", f"{checkpoint}-{data}").strip("-.")[-100:]
        opt.writable(out)
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
            protocols=protocol,
            form=form,
            encoders=Encoders(**encoders),
            told=opt.progress,
        )
    opt.print_report(report, json=json, out=out)


@opt.with_encoders
def score(
    predictions: Path = opt.argument("PREDICTIONS.jsonl", "What a model said, by id."),
    references: Path = opt.argument("REFERENCES.jsonl", "What was to be said, by id."),
    protocol: str = opt.option("standard", "protocol", "NAME", PROTOCOLS),
    metric: list[str] = opt.option(
        [], "metric", "NAME", "Only this row, as bleu1; may be repeated."
    ),
    encoders: Any = None,
    threshold: float = opt.option(0.5, "threshold", "P", "Of the share moment, from p_share."),
    seed: int = opt.SEED,
    device: str | None = opt.DEVICE,
    json: bool = opt.JSON,
    out: Path | None = opt.REPORT,
    skip_bad: bool = opt.SKIP_BAD,
) -> None:
    """Score any model's predictions under the protocol of a published table.

    Rows that need an encoder or a file say which one and how to name it; the rest is measured.
    """
    from showtell.metrics.rows import Encoders
    from showtell.metrics.scoring import score as run_score
    from showtell.runtime import on_device

    with opt.held(out), on_device(device):
        report = run_score(
            predictions,
            references,
            protocol=protocol,
            only=metric,
            encoders=Encoders(**encoders),
            threshold=threshold,
            seed=seed,
            skip_bad=skip_bad,
            out=out,
            told=opt.progress,
        )
    opt.print_report(report, json=json, out=out)
