"""evaluate, score and judge: a model on data, anybody's texts and photos against references, and
a blind page for people with what their votes say."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from showtell.cli import options as opt
from showtell.progress import terminal_progress

judge_app = opt.verbs("judge", "Have people compare two systems, and count votes.")
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
    dtype: str | None = opt.DTYPE,
) -> None:
    """Measure a model on data, and write a report.

    The photo world and PhotoChat have measures of their own. Other data, and these with --protocol
    or --form, are answered at gold contexts and scored as "showtell score" does; predictions.jsonl,
    references.jsonl, context.jsonl (for "showtell judge") and the photos stay beside the report.
    """
    if out is None:
        out = Path("out") / re.sub(r"[^\w.-]+", "-", f"{checkpoint}-{data}").strip("-.")[-100:]
        opt.writable(out)
    from showtell.evaluation import evaluate as run_evaluation
    from showtell.metrics.rows import Encoders

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
        told=terminal_progress,
    )
    opt.print_report(report, json=json, out=out)


@opt.with_encoders
def score(
    predictions: Path = opt.argument("PREDICTIONS.jsonl", "What a model said, by id."),
    references: Path = opt.argument("REFERENCES.jsonl", "What was to be said, by id."),
    protocol: str = opt.option("standard", "protocol", "NAME", PROTOCOLS),
    encoders: Any = None,
    threshold: float = opt.option(0.5, "threshold", "P", "Of the share moment, from p_share."),
    seed: int = opt.SEED,
    device: str | None = opt.DEVICE,
    json: bool = opt.JSON,
    out: Path | None = opt.REPORT,
    skip_bad: bool = opt.SKIP_BAD,
) -> None:
    """Score anybody's predictions as a published table does.

    Rows that need an encoder or a file say which one and how to name it; the rest is measured.
    """
    from showtell.metrics.rows import Encoders
    from showtell.metrics.scoring import score as run_score

    report = run_score(
        predictions,
        references,
        protocol=protocol,
        encoders=Encoders(**encoders),
        threshold=threshold,
        seed=seed,
        skip_bad=skip_bad,
        out=out,
        told=terminal_progress,
    )
    opt.print_report(report, json=json, out=out)


@judge_app.command(
    "export",
    epilog="Example: showtell judge export a/predictions.jsonl b/predictions.jsonl "
    "--context showtell:a/context.jsonl",
)
def judge_export(
    a: Path = opt.argument("A.jsonl", "What one system said, by id."),
    b: Path = opt.argument("B.jsonl", "What the other said."),
    out: Path = opt.option(
        Path("judge.html"),
        "out",
        "FILE.html",
        "The page; its key lies beside it.",
        callback=opt.writable,
        dir_okay=False,
    ),
    context: str | None = opt.option(
        None, "context", "DATA", "Dialogues by the same ids: said before."
    ),
    limit: int | None = opt.option(None, "limit", "N", "Only N pairs, drawn by lot.", min=1),
    seed: int = opt.SEED,
    json: bool = opt.JSON,
    skip_bad: bool = opt.SKIP_BAD,
) -> None:
    """Write a blind page for raters, and its key.

    A and B are as for "showtell score". The page needs no server and does not tell who said what;
    keep the key.
    """
    from showtell.metrics.blind_page import export_page

    exported = export_page(a, b, out, context=context, seed=seed, limit=limit, skip_bad=skip_bad)
    opt.emit(
        json,
        dataclasses.asdict(exported) | {"page": str(exported.page), "key": str(exported.key)},
        *exported.lines(),
        f"Wrote {exported.page} for the raters and {exported.key} for you",
    )


@judge_app.command(
    "score", epilog="Example: showtell judge score ann.json bo.json --key judge.key.json"
)
def judge_score(
    ratings: list[Path] = opt.argument("RATINGS.json...", "What raters saved, a file each."),
    key: Path = opt.option(Path("judge.key.json"), "key", "FILE", "Written beside the page."),
    seed: int = opt.SEED,
    json: bool = opt.JSON,
    out: Path | None = opt.REPORT,
) -> None:
    """Count win, tie and loss of A, and how far the raters agree."""
    from showtell.metrics.preference import score_ratings

    report = score_ratings(ratings, key, seed=seed)
    if out is not None:
        report.write(out)
    opt.print_report(report, json=json, out=out)
