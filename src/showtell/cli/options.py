"""Options that several verbs have, and how they show progress and print."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from showtell.agent.show import Render
    from showtell.metrics.report import Report

DATA_HELP = (
    "world:test, world:novel, world:dev, world:train or world:100000-100999; photochat:, "
    "dialogcc:, mmdialog:, vist:, visdial:, cc3m:, folder: or showtell:PATH; shards:DIR"
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")]
SeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="All chance comes from it.")
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="cpu|cuda|cuda:N", help="Where models run (a GPU where there is one)."
    ),
]
SkipOption = Annotated[
    bool, typer.Option("--skip-bad", help="Go on past broken records, and count them.")
]
DataArgument = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)]
RenderOption = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME|PATH", help="Whose tokens (the data's shipped model)."),
]
MissingOption = Annotated[
    str | None,
    typer.Option(
        "--missing-photos",
        metavar="error|skip|paint:MODEL",
        help="What to do about photos that are not there (they stay missing).",
    ),
]
ClipOption = Annotated[
    str | None, typer.Option("--clip", metavar="FOLDER|ID", help="CLIP of CLIP-I and CLIP-T.")
]
RelevanceClipOption = Annotated[
    str | None,
    typer.Option("--relevance-clip", metavar="FOLDER|ID", help="CLIP of MM-Relevance."),
]
SentenceOption = Annotated[
    str | None,
    typer.Option("--sentence-encoder", metavar="FOLDER|ID", help="Of S-BERT similarity."),
]
InceptionOption = Annotated[
    Path | None,
    typer.Option("--inception", metavar="FILE", help="FID's Inception, as safetensors."),
]
FeaturesOption = Annotated[
    str | None,
    typer.Option("--features", metavar="world:oracle", help="Other features for FID, KID."),
]
LpipsOption = Annotated[
    Path | None, typer.Option("--lpips", metavar="FILE", help="LPIPS, as safetensors.")
]
WordnetOption = Annotated[
    Path | None,
    typer.Option("--wordnet", metavar="FOLDER", help="Holds corpora/wordnet, for METEOR."),
]
READERS = {"world": "mini", "photochat": "photochat_small"}


def render_of(model: str) -> Render:
    """How a model's renderer breaks a dialogue into tokens, trained or not."""
    from functools import partial

    from showtell.papers import load_model
    from showtell.prompt import render_for_show

    return partial(render_for_show, load_model(model).renderer)


def progress() -> Callable[[str, int, int], None]:
    """Shows (what, done, total) on one line of a terminal; says nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda what, done, total: None

    def told(what: str, done: int, total: int) -> None:
        end = "\n" if done >= total else ""
        print(f"\r{what} {done:,}/{total:,}\x1b[K", end=end, file=sys.stderr, flush=True)

    return told


def print_json(value: Any, *, indent: int | None = 2) -> None:
    print(json_module.dumps(value, ensure_ascii=False, indent=indent))


def print_report(report: Report, *, json: bool, out: Path | None) -> None:
    """On stdout, and where it was written, if anywhere."""
    if json:
        print(report.to_json(), end="")
        return
    print(report.to_markdown())
    if out is not None:
        print(f"Wrote {out}")
