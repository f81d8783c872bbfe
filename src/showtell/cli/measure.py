"""evaluate and score: a model on data, or anybody's texts and photos against references."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from showtell.cli.options import (
    ClipOption,
    DataArgument,
    DeviceOption,
    FeaturesOption,
    InceptionOption,
    JsonOption,
    LpipsOption,
    MissingOption,
    RelevanceClipOption,
    SeedOption,
    SentenceOption,
    SkipOption,
    WordnetOption,
    print_report,
    progress,
)


def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A shipped model or a directory.")
    ],
    data: DataArgument,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N dialogues.")
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where report and contact sheet are written."),
    ] = None,
    skip_bad: SkipOption = False,
    missing_photos: MissingOption = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="standard|psdg|minigpt5|mmdialog|gill; may be repeated (psdg and standard).",
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--form", metavar="NAME", help="dialogue|alignment|story_end:both|photo_last:10|..."
        ),
    ] = "",
    clip: ClipOption = None,
    relevance_clip: RelevanceClipOption = None,
    sentence_encoder: SentenceOption = None,
    inception: InceptionOption = None,
    features: FeaturesOption = None,
    lpips: LpipsOption = None,
    wordnet: WordnetOption = None,
    device: DeviceOption = None,
) -> None:
    """Measure a model and write a report: report.json, report.md and a contact sheet.

    The photo world and PhotoChat have measures of their own. Other data, and these with --protocol
    or --form, are answered at gold contexts and scored as "showtell score" does; predictions.jsonl,
    references.jsonl, context.jsonl (for "showtell judge") and the photos stay beside the report.
    """
    from showtell.evaluation import evaluate as run_evaluation
    from showtell.metrics.rows import Encoders
    from showtell.runtime import on_device

    if out is None:
        out = Path("out") / re.sub(r"[^\w.-]+", "-", f"{checkpoint}-{data}").strip("-.")[-100:]
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
            encoders=Encoders(
                clip=clip,
                relevance_clip=relevance_clip,
                sentence_encoder=sentence_encoder,
                inception=inception,
                features=features,
                lpips=lpips,
                wordnet=wordnet,
            ),
            told=progress(),
        )
    print_report(report, json=json, out=out)


def score(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS.jsonl", help="What a model said, by id.")
    ],
    references: Annotated[
        Path, typer.Argument(metavar="REFERENCES.jsonl", help="What was to be said, by id.")
    ],
    protocol: Annotated[
        str,
        typer.Option("--protocol", metavar="NAME", help="standard|psdg|minigpt5|mmdialog|gill"),
    ] = "standard",
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Only this row, as bleu1; may be repeated."),
    ] = None,
    clip: ClipOption = None,
    relevance_clip: RelevanceClipOption = None,
    sentence_encoder: SentenceOption = None,
    inception: InceptionOption = None,
    features: FeaturesOption = None,
    lpips: LpipsOption = None,
    wordnet: WordnetOption = None,
    threshold: Annotated[
        float, typer.Option("--threshold", metavar="P", help="Of the share moment, from p_share.")
    ] = 0.5,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    json: JsonOption = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where report.json and report.md are written."),
    ] = None,
    skip_bad: SkipOption = False,
) -> None:
    """Score any model's predictions under the protocol of a published table.

    Rows that need an encoder or a file say which one and how to name it; the rest is measured.
    """
    from showtell.metrics.rows import Encoders
    from showtell.metrics.scoring import score as run_score
    from showtell.runtime import on_device

    with on_device(device):
        report = run_score(
            predictions,
            references,
            protocol=protocol,
            only=metric or (),
            encoders=Encoders(
                clip=clip,
                relevance_clip=relevance_clip,
                sentence_encoder=sentence_encoder,
                inception=inception,
                features=features,
                lpips=lpips,
                wordnet=wordnet,
            ),
            threshold=threshold,
            seed=seed,
            skip_bad=skip_bad,
            out=out,
            told=progress(),
        )
    print_report(report, json=json, out=out)
