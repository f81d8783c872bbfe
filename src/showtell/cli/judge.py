"""judge: a blind page for people, and what their votes say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from showtell.cli.options import (
    JsonOption,
    SeedOption,
    SkipOption,
    print_json,
    print_report,
)

judge_app = typer.Typer(
    name="judge",
    help="Have people compare two systems blindly, and count their votes.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@judge_app.command(
    "export",
    epilog="Example: showtell judge export a/predictions.jsonl b/predictions.jsonl "
    "--context showtell:a/context.jsonl",
)
def judge_export(
    a: Annotated[Path, typer.Argument(metavar="A.jsonl", help="What one system said, by id.")],
    b: Annotated[Path, typer.Argument(metavar="B.jsonl", help="What the other said.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.html", help="The page; its key lies beside it.")
    ] = Path("judge.html"),
    context: Annotated[
        str | None,
        typer.Option("--context", metavar="DATA", help="Dialogues by the same ids: said before."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only N pairs, drawn by lot.")
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
    skip_bad: SkipOption = False,
) -> None:
    """Write a blind page for raters, which works without a server, and its key.

    A and B are as for "showtell score". The page does not tell who said what; keep the key.
    """
    import dataclasses

    from showtell.metrics.blind_page import export_page

    exported = export_page(a, b, out, context=context, seed=seed, limit=limit, skip_bad=skip_bad)
    if json:
        values = dataclasses.asdict(exported)
        print_json(values | {"page": str(exported.page), "key": str(exported.key)})
        return
    for line in exported.lines():
        print(line)
    print(f"Wrote {exported.page} for the raters and {exported.key} for you")


@judge_app.command(
    "score", epilog="Example: showtell judge score ann.json bo.json --key judge.key.json"
)
def judge_score(
    ratings: Annotated[
        list[Path],
        typer.Argument(metavar="RATINGS.json...", help="What raters saved, a file each."),
    ],
    key: Annotated[
        Path, typer.Option("--key", metavar="FILE", help="Written beside the page.")
    ] = Path("judge.key.json"),
    seed: SeedOption = 0,
    json: JsonOption = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where report.json and report.md are written."),
    ] = None,
) -> None:
    """Count win, tie and loss of A for each question, and how far the raters agree."""
    from showtell.metrics.preference import score_ratings

    report = score_ratings(ratings, key, seed=seed)
    if out is not None:
        report.write(out)
    print_report(report, json=json, out=out)
