"""The verbs of the command line: each parses, calls and prints; the work is done elsewhere.

Heavy modules are imported inside the commands, so that ``showtell --help`` answers at once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from showtell.cli.album import album_app
from showtell.cli.data import data_app
from showtell.cli.exits import exit_code_of
from showtell.cli.judge import judge_app
from showtell.cli.measure import evaluate, score
from showtell.cli.options import (
    DeviceOption,
    JsonOption,
    SeedOption,
    argument,
    emit,
    option,
    say,
    writable,
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
ModelOption = Annotated[str, option("model", "mini|PATH", "A shipped model or a directory.")]


def _version(wanted: bool) -> None:
    if wanted:
        from showtell import __version__

        say(f"showtell {__version__}")
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
    model: ModelOption = "mini",
    say: Annotated[
        list[str] | None, option("say", "TEXT", "Answer this and print JSON; may be repeated.")
    ] = None,
    photo: Annotated[
        list[Path] | None, option("photo", "FILE", "Goes with the first turn; may be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    seed: SeedOption = 0,
    photos_dir: Annotated[
        Path,
        option("photos-dir", "DIR", "Where painted photos are written.", callback=writable),
    ] = Path("showtell-photos"),
    album: Annotated[
        Path | None, option("album", "DIR", 'Share these too: see "showtell album add".')
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Talk with a model. In a terminal it is a conversation; with --say it prints JSON.

    Without --say, lines are read from the terminal (or a pipe) until they end. Each JSON object
    is one answer: ordered "parts" of type text or photo, "p_share", "seconds_to_first_word" and
    "seconds_to_photo".
    """
    from showtell.agent.chat import TerminalChat, answers, check_lines, typed_lines
    from showtell.agent.session import Session
    from showtell.agent.terminal import console_of

    photos = photo or []
    check_lines(say or [], photos)
    from showtell.papers import load_model
    from showtell.runtime import on_device

    with on_device(device):
        session = Session(load_model(model), seed=seed, album=album)
    if say or json:
        lines = say or (line.rstrip("\r\n") for line in sys.stdin if line.strip())
        for answer in answers(session, lines, photos=photos, photos_dir=photos_dir):
            emit(True, answer, indent=None if json else 2)
            sys.stdout.flush()
        return
    conversation = TerminalChat(session, photos_dir=photos_dir, console=console_of(sys.stdout))
    if sys.stdin.isatty():
        conversation.greet()
        conversation.run(typed_lines(), photos=photos)
    else:
        conversation.run(sys.stdin, photos=photos)


@app.command(epilog="Example: showtell demo --seed 7")
def demo(
    seed: SeedOption = 0,
    out: Annotated[
        Path, option("out", "DIR", "Where page and photos are written.", callback=writable)
    ] = Path("demo"),
    model: ModelOption = "mini",
    device: DeviceOption = None,
) -> None:
    """Hold three conversations, shown in the terminal and as a page: index.html."""
    from showtell.agent.demo import run_demo
    from showtell.agent.terminal import console_of

    say("Loading the model ...", file=sys.stderr)
    from showtell.papers import load_model
    from showtell.runtime import on_device

    with on_device(device):
        run_demo(load_model(model), seed=seed, out=out, console=console_of(sys.stdout))


@app.command()
def recipes(json: JsonOption = False) -> None:
    """List what can be trained, and how long it takes."""
    from showtell.recipes import RECIPES

    width = max(len(name) for name in RECIPES)
    lines = []
    for name, recipe in RECIPES.items():
        hours = recipe.hours.partition(", not run")[0]
        hours = "" if hours == "not run" else f"{hours} h{'?' if recipe.hours != hours else ''}"
        lines.append(f"{name:<{width}}  {hours:>6}  {recipe.summary}")
    lines.append(
        "\nHours on 2 CPU cores; with ? by the parts' costs, not run; none: as long as its data."
    )
    emit(
        json,
        {name: {"summary": r.summary, "hours": r.hours} for name, r in RECIPES.items()},
        *lines,
    )


@app.command(epilog="Example: showtell train world_mini --set stage.steps=200 --out runs/trial")
def train(
    recipe: Annotated[str, argument("RECIPE", 'See "showtell recipes".')],
    overrides: Annotated[
        list[str] | None, option("set", "KEY=VALUE", "Change one value; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, option("out", "DIR", "Where the run is written.", callback=writable)
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
    emit(json, {"checkpoint": str(path)}, f"Wrote {path}")


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
            told = error.format_message()
            if "\n" not in told:  # not the help, which stands for a missing command
                context = getattr(error, "ctx", None)
                path = context.command_path if context else "showtell"
                told = f'showtell: error: {told.rstrip(".")}; see "{path} --help"'
            say(told, file=sys.stderr)
            return error.exit_code
        except typer.Abort as abort:
            raise KeyboardInterrupt from abort
        except SystemExit as closed:  # what typer makes of a closed pipe
            raise BrokenPipeError from closed
        return code if isinstance(code, int) else 0

    return exit_code_of(action)
