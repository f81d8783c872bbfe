"""The verbs of the command line: each parses, calls and prints; the work is done elsewhere.

Heavy modules are imported inside the commands, so that ``showtell --help`` answers at once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from showtell.agent.exits import exit_code_of
from showtell.cli.album import album_app
from showtell.cli.data import data_app
from showtell.cli.judge import judge_app
from showtell.cli.measure import evaluate, score
from showtell.cli.options import (
    DeviceOption,
    JsonOption,
    SeedOption,
    print_json,
)
from showtell.errors import UsageError

app = typer.Typer(
    name="showtell",
    help="A chat agent that tells and shows: it shares a photo at the right moment.",
    epilog='Begin with "showtell chat", or: showtell chat --say "Can you send me a photo of Luna?"',
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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
    album: Annotated[
        Path | None,
        typer.Option("--album", metavar="DIR", help='Share these too: see "showtell album add".'),
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Talk with a model. In a terminal it is a conversation; with --say it prints JSON.

    Without --say, lines are read from the terminal (or a pipe) until they end. Each JSON object
    is one answer: ordered "parts" of type text or photo, "p_share", "seconds_to_first_word" and
    "seconds_to_photo".
    """
    from showtell.agent.chat import TerminalChat, answer_lines, check_lines
    from showtell.agent.terminal import screen_of

    photos = photo or []
    check_lines(say or [], photos)
    from showtell.models.decoder import Decoder
    from showtell.models.respond import Responder, open_album
    from showtell.papers import load_model
    from showtell.runtime import on_device

    with on_device(device):
        loaded = load_model(model)
        opened = None if album is None else open_album(loaded, album)
        responder = Responder(Decoder(loaded), album=opened)
    if say or json:
        answer_lines(
            responder,
            say or (line.rstrip("\r\n") for line in sys.stdin if line.strip()),
            photos=photos,
            seed=seed,
            photos_dir=photos_dir,
            indent=None if json else 2,
            out=sys.stdout,
        )
        return
    conversation = TerminalChat(
        responder, seed=seed, photos_dir=photos_dir, out=sys.stdout, screen=screen_of(sys.stdout)
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
        print_json({name: {"summary": r.summary, "hours": r.hours} for name, r in RECIPES.items()})
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
    from showtell.recipes import run_recipe
    from showtell.runtime import on_device

    with on_device(device):
        path = run_recipe(recipe, overrides=overrides or [], out=out, resume=resume, seed=seed)
    if json:
        print_json({"checkpoint": str(path)})
    else:
        print(f"Wrote {path}")


app.command(epilog="Example: showtell evaluate mini world:test --limit 200 --json")(evaluate)
app.command(
    epilog="Example: showtell score said.jsonl gold.jsonl --protocol psdg --json; a line is "
    '{"id": "1", "text": "Look!", "photos": ["1.png"]}'
)(score)
app.add_typer(album_app)
app.add_typer(data_app)
app.add_typer(judge_app)


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
