"""judge: a blind page for people, and what their votes say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from showtell.cli.options import (
    JsonOption,
    ReportOption,
    SeedOption,
    SkipOption,
    argument,
    emit,
    held,
    new_file,
    option,
    print_report,
    verbs,
)

judge_app = verbs("judge", "Have people compare two systems blindly, and count their votes.")


@judge_app.command(
    "export",
    epilog="Example: showtell judge export a/predictions.jsonl b/predictions.jsonl "
    "--context showtell:a/context.jsonl",
)
def judge_export(
    a: Annotated[Path, argument("A.jsonl", "What one system said, by id.")],
    b: Annotated[Path, argument("B.jsonl", "What the other said.")],
    out: Annotated[
        Path, option("out", "FILE.html", "The page; its key lies beside it.", callback=new_file)
    ] = Path("judge.html"),
    context: Annotated[
        str | None, option("context", "DATA", "Dialogues by the same ids: said before.")
    ] = None,
    limit: Annotated[int | None, option("limit", "N", "Only N pairs, drawn by lot.", min=1)] = None,
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
    emit(
        json,
        dataclasses.asdict(exported) | {"page": str(exported.page), "key": str(exported.key)},
        *exported.lines(),
        f"Wrote {exported.page} for the raters and {exported.key} for you",
    )


@judge_app.command(
    "score", epilog="Example: showtell judge score ann.json bo.json --key judge.key.json"
)
def judge_score(
    ratings: Annotated[list[Path], argument("RATINGS.json...", "What raters saved, a file each.")],
    key: Annotated[Path, option("key", "FILE", "Written beside the page.")] = Path(
        "judge.key.json"
    ),
    seed: SeedOption = 0,
    json: JsonOption = False,
    out: ReportOption = None,
) -> None:
    """Count win, tie and loss of A for each question, and how far the raters agree."""
    from showtell.metrics.preference import score_ratings

    with held(out):
        report = score_ratings(ratings, key, seed=seed)
        if out is not None:
            report.write(out)
    print_report(report, json=json, out=out)
