"""The verbs of the command line: each parses, calls and prints; the work is done elsewhere.

Heavy modules are imported inside the commands, so that ``showtell --help`` answers at once.
"""

from __future__ import annotations

import json as json_module
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from showtell.errors import UsageError
from showtell.serve.exits import exit_code_of

if TYPE_CHECKING:
    from showtell.serve.show import Render

_DATA_HELP = (
    "world:test, world:novel, world:dev, world:train or world:100000-100999; photochat:, "
    "dialogcc:, mmdialog:, vist:, visdial:, cc3m:, folder: or showtell:PATH; shards:DIR"
)
app = typer.Typer(
    name="showtell",
    help="A chat agent that tells and shows: it shares a photo at the right moment.",
    epilog='Begin with "showtell chat", or: showtell chat --say "Can you send me a photo of Luna?"',
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(
    name="data",
    help="Fetch data and look at it, or write the photo world to files.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(data_app)
judge_app = typer.Typer(
    name="judge",
    help="Have people compare two systems blindly, and count their votes.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(judge_app)

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
DataArgument = Annotated[str, typer.Argument(metavar="DATA", help=_DATA_HELP)]
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
_READERS = {"world": "mini", "photochat": "photochat_small"}


def _version(wanted: bool) -> None:
    if wanted:
        from showtell import __version__

        print(f"showtell {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _render_of(model: str) -> Render:
    """How a model's renderer breaks a dialogue into tokens, trained or not."""
    from functools import partial

    from showtell.prompt import render_for_show
    from showtell.recipes import load_model

    return partial(render_for_show, load_model(model).renderer)


def _progress() -> Callable[[str, int, int], None]:
    """Shows (what, done, total) on one line of a terminal; says nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda what, done, total: None

    def told(what: str, done: int, total: int) -> None:
        end = "\n" if done >= total else ""
        print(f"\r{what} {done:,}/{total:,}\x1b[K", end=end, file=sys.stderr, flush=True)

    return told


def _print_json(value: Any, *, indent: int | None = 2) -> None:
    print(json_module.dumps(value, ensure_ascii=False, indent=indent))


@app.command(epilog='Example: showtell chat --say "How was the beach?" --say "Show me!" --json')
def chat(
    model: Annotated[
        str, typer.Option("--model", metavar="mini|PATH", help="A shipped model or a directory.")
    ] = "mini",
    say: Annotated[
        list[str] | None,
        typer.Option("--say", metavar="TEXT", help="Answer this and print JSON; may be repeated."),
    ] = None,
    photo: Annotated[
        list[Path] | None,
        typer.Option("--photo", metavar="FILE", help="Goes with the first turn; may be repeated."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    seed: SeedOption = 0,
    photos_dir: Annotated[
        Path, typer.Option("--photos-dir", metavar="DIR", help="Where painted photos are written.")
    ] = Path("showtell-photos"),
    device: DeviceOption = None,
) -> None:
    """Talk with a model. In a terminal it is a conversation; with --say it prints JSON.

    Without --say, lines are read from the terminal (or a pipe) until they end. Each JSON object
    is one answer: ordered "parts" of type text or photo, "p_share", "seconds_to_first_word" and
    "seconds_to_photo".
    """
    from showtell.serve.chat import TerminalChat, answer_lines, check_lines
    from showtell.serve.terminal import screen_of

    photos = photo or []
    check_lines(say or [], photos)
    from showtell.devices import on_device
    from showtell.recipes import load_model

    with on_device(device):
        loaded = load_model(model)
    if say or json:
        answer_lines(
            loaded,
            say or (line.rstrip("\r\n") for line in sys.stdin if line.strip()),
            photos=photos,
            seed=seed,
            photos_dir=photos_dir,
            indent=None if json else 2,
            out=sys.stdout,
        )
        return
    conversation = TerminalChat(
        loaded, seed=seed, photos_dir=photos_dir, out=sys.stdout, screen=screen_of(sys.stdout)
    )
    if sys.stdin.isatty():
        conversation.greet()
        conversation.run(_typed_lines(), photos=photos)
    else:
        conversation.run(sys.stdin, photos=photos)


def _typed_lines() -> Iterator[str]:
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (editing and history for input())
    while True:
        try:
            yield input("     you: ")
        except EOFError:
            print()
            return


@app.command()
def recipes(json: JsonOption = False) -> None:
    """List what can be trained, and how long it takes."""
    from showtell.recipes import RECIPES

    if json:
        _print_json({name: {"summary": r.summary, "hours": r.hours} for name, r in RECIPES.items()})
        return
    width = max(len(name) for name in RECIPES)
    for name, recipe in RECIPES.items():
        hours = recipe.hours.partition(", not run")[0]
        hours = "" if hours == "not run" else f"{hours} h{'?' if recipe.hours != hours else ''}"
        print(f"{name:<{width}}  {hours:>6}  {recipe.summary}")
    print("\nHours on 2 CPU cores; with ? by the parts' costs, not run; none: as long as its data.")


@app.command(epilog="Example: showtell train world_mini --set stage.steps=200 --out runs/trial")
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help='See "showtell recipes".')],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the run is written.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Train a recipe, or go on with --resume."""
    for override in overrides or []:
        if not re.match(r"[^=\s]+=", override):
            raise UsageError(
                f'--set "{override}": wanted KEY=VALUE, for example --set stage.steps=200'
            )
    from showtell.devices import on_device
    from showtell.recipes import run_recipe

    with on_device(device):
        path = run_recipe(recipe, overrides=overrides or [], out=out, resume=resume, seed=seed)
    if json:
        _print_json({"checkpoint": str(path)})
    else:
        print(f"Wrote {path}")


@app.command(epilog="Example: showtell evaluate mini world:test --limit 200 --json")
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
    from showtell.devices import on_device
    from showtell.evaluation import Encoders
    from showtell.evaluation import evaluate as run_evaluation

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
            told=_progress(),
        )
    if json:
        print(report.to_json(), end="")
    else:
        print(report.to_markdown())
        print(f"Wrote {out}")


@app.command(
    epilog="Example: showtell score said.jsonl gold.jsonl --protocol psdg --json; a line is "
    '{"id": "1", "text": "Look!", "photos": ["1.png"]}'
)
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
    from showtell.devices import on_device
    from showtell.metrics.scoring import score as run_score

    with on_device(device):
        report = run_score(
            predictions,
            references,
            protocol=protocol,
            only=metric or (),
            clip=clip,
            relevance_clip=relevance_clip,
            sentence_encoder=sentence_encoder,
            inception=inception,
            features=features,
            lpips=lpips,
            wordnet=wordnet,
            threshold=threshold,
            seed=seed,
            skip_bad=skip_bad,
            out=out,
            told=_progress(),
        )
    if json:
        print(report.to_json(), end="")
    else:
        print(report.to_markdown())
        if out is not None:
            print(f"Wrote {out}")


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

    from showtell.serve.judge import export_page

    exported = export_page(a, b, out, context=context, seed=seed, limit=limit, skip_bad=skip_bad)
    if json:
        values = dataclasses.asdict(exported)
        _print_json(values | {"page": str(exported.page), "key": str(exported.key)})
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
    from showtell.serve.judge_score import score_ratings

    report = score_ratings(ratings, key, seed=seed)
    if out is not None:
        report.write(out)
    if json:
        print(report.to_json(), end="")
        return
    print(report.to_markdown())
    if out is not None:
        print(f"Wrote {out}")


@data_app.command("show", epilog="Example: showtell data show world:test 3")
def data_show(
    data: DataArgument,
    index: Annotated[
        int, typer.Argument(metavar="[INDEX]", min=0, help="Which dialogue, from 0.")
    ] = 0,
    model: RenderOption = None,
    json: JsonOption = False,
    skip_bad: SkipOption = False,
) -> None:
    """Print a dialogue, its trained tokens coloured."""
    from showtell.data.sources import open_data
    from showtell.serve.show import dialogue_at, shown_as_dict, shown_dialogue
    from showtell.serve.terminal import screen_of

    source = open_data(data, skip_bad=skip_bad)
    dialogue = dialogue_at(source, index)
    render = _render_of(model or _READERS.get(source.kind, "mini"))
    if json:
        _print_json(shown_as_dict(dialogue, render=render))
    else:
        print(shown_dialogue(dialogue, screen_of(sys.stdout), render=render))


@data_app.command("stats", epilog="Example: showtell data stats world:dev --json")
def data_stats(
    data: DataArgument,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N dialogues.")
    ] = None,
    model: RenderOption = None,
    json: JsonOption = False,
    skip_bad: SkipOption = False,
) -> None:
    """Count dialogues, turns, photos and tokens."""
    from itertools import islice

    from showtell.data.sources import open_data
    from showtell.serve.show import statistics

    source = open_data(data, skip_bad=skip_bad)
    render = _render_of(model or _READERS.get(source.kind, "mini"))
    counts = statistics(source, islice(source, limit), render=render)
    if json:
        _print_json(counts)
        return
    for name, value in counts.items():
        print(f"{name.replace('_', ' '):<16} {value if isinstance(value, str) else f'{value:>9,}'}")
    for error in source.skipped[:3]:
        print(f"skipped: {error}", file=sys.stderr)


@data_app.command("world", epilog="Example: showtell data world --seeds 0-99 --out out/world")
def data_world(
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="A-B", help="First and last seed, both included.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder.")],
    json: JsonOption = False,
) -> None:
    """Write the photo world as JSONL and PNG."""
    from showtell.data.export import export_world
    from showtell.data.sources import open_data

    source = open_data(f"world:{seeds}")
    told = _progress()
    export = export_world(
        source, out, on_dialogue=lambda done: told("dialogues", done, len(source))
    )
    if json:
        _print_json(
            {"path": str(export.path), "dialogues": export.dialogues, "photos": export.photos}
        )
    else:
        print(f"Wrote {export.dialogues:,} dialogues and {export.photos:,} photos to {export.path}")


@data_app.command("doctor", epilog="Example: showtell data doctor photochat:data/photochat")
def data_doctor(
    data: DataArgument,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only N dialogues a split.")
    ] = None,
    no_photos: Annotated[
        bool, typer.Option("--no-photos", help="Leave the pixels alone: names and words only.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where doctor.txt, .json and .html are written."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say what is missing, broken, doubled or leaking in data. It changes nothing.

    Of a folder all splits are read together, and what they share is named. Broken records are
    counted and passed over.
    """
    from showtell.data.doctor import examine

    report = examine(data, photos=not no_photos, limit=limit, told=_progress())
    print(report.to_json() if json else report.to_text(), end="")
    if out is not None:
        report.write(out)
        if not json:
            print(f"Wrote {out}")


@data_app.command("pack", epilog="Example: showtell data pack mmdialog:data/train --out shards")
def data_pack(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder.")],
    shard_size: Annotated[
        int, typer.Option("--shard-size", min=1, metavar="MB", help="The most a shard may take.")
    ] = 256,
    missing_photos: MissingOption = None,
    json: JsonOption = False,
    skip_bad: SkipOption = False,
) -> None:
    """Write dialogues and photos as WebDataset shards, for training at scale."""
    import dataclasses

    from showtell.data.pack import pack
    from showtell.data.sources import open_data
    from showtell.evaluation.substitutes import missing_photos as policy_of

    policy, paint = policy_of(
        missing_photos, folder=out.with_name(f"{out.name}-painted"), decode=True
    )
    source = open_data(data, skip_bad=skip_bad, missing=policy, paint=paint)
    told = _progress()
    packed = pack(
        source,
        out,
        source=data,
        shard_bytes=shard_size * 1_000_000,
        on_dialogue=lambda done: told("dialogues", done, done + 1),
    )
    told("dialogues", packed.dialogues, packed.dialogues)
    if json:
        _print_json(
            {
                **dataclasses.asdict(packed),
                "path": str(packed.path),
                "skipped": len(source.skipped),
                "missing": source.missing_counts.as_dict(),
            }
        )
        return
    for error in source.skipped[:3]:
        print(f"skipped: {error}", file=sys.stderr)
    if source.skipped:
        print(f"{len(source.skipped):,} broken records were skipped")
    for note in source.notes:
        print(note)
    if packed.missing_photos:
        print(f"{packed.missing_photos:,} photos are missing and were packed as such")
    print(
        f"Wrote {packed.dialogues:,} dialogues and {packed.photos - packed.missing_photos:,} "
        f"photos in {packed.shards:,} shards to {packed.path}"
    )


@data_app.command("fetch", epilog="Example: showtell data fetch photochat --photos --limit 100")
def data_fetch(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="photochat|dialogcc|mmdialog|vist|visdial|cc3m|parti"),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder (NAME in $SHOWTELL_DATA or data)."),
    ] = None,
    photos: Annotated[
        bool, typer.Option("--photos", help="The photos as well; dead links are counted.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N photos.")
    ] = None,
    parallel: Annotated[
        int,
        typer.Option(
            "--parallel", min=1, max=16, metavar="N", help="Downloads at a time; 4 a host at most."
        ),
    ] = 4,
    json: JsonOption = False,
) -> None:
    """Download a data set from its owners' addresses; run it again to go on where it stopped."""
    from showtell.data.fetch import fetch
    from showtell.data.fetch_sources import default_folder, source_of
    from showtell.serve.bar import download_bar

    source = source_of(name)
    print(f"{source.notice} Its owners' page: {source.page}", file=sys.stderr, flush=True)
    with download_bar() as told:
        fetched = fetch(
            source,
            out or default_folder(name),
            photos=photos,
            limit=limit,
            parallel=parallel,
            told=told,
        )
    if json:
        _print_json(fetched.as_dict())
        return
    for line in fetched.lines():
        print(line)
    print(f"Wrote {fetched.path}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point: runs a command and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # any locale can print any answer
    command = typer.main.get_command(app)

    def action() -> int:
        try:
            code = command.main(
                args=None if arguments is None else list(arguments),
                prog_name="showtell",
                standalone_mode=False,
            )
        except TyperException as error:
            error.show() if hasattr(error, "show") else print(error, file=sys.stderr)
            return error.exit_code
        except typer.Abort as abort:
            raise KeyboardInterrupt from abort
        return code if isinstance(code, int) else 0

    return exit_code_of(action)


if __name__ == "__main__":
    sys.exit(main())
