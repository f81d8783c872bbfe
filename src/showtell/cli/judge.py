"""judge: a blind page for people, and what their votes say."""

from __future__ import annotations

from pathlib import Path

from showtell.cli import options as opt

judge_app = opt.verbs("judge", "Have people compare two systems blindly, and count their votes.")


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
    """Write a blind page for raters, which works without a server, and its key.

    A and B are as for "showtell score". The page does not tell who said what; keep the key.
    """
    import dataclasses

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
    """Count win, tie and loss of A for each question, and how far the raters agree."""
    from showtell.metrics.preference import score_ratings

    with opt.held(out):
        report = score_ratings(ratings, key, seed=seed)
        if out is not None:
            report.write(out)
    opt.print_report(report, json=json, out=out)
