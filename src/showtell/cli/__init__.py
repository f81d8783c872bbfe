"""The verbs of the command line: each parses, calls and prints; the work is done elsewhere.

Heavy modules are imported inside the commands, so that ``showtell --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from showtell.cli import options as opt
from showtell.cli.album import album_app
from showtell.cli.data import data_app
from showtell.cli.exits import exit_code_of
from showtell.cli.marks import origin
from showtell.cli.measure import evaluate, judge_app, score
from showtell.cli.models import convert, export, inspect, inspect_context, push
from showtell.cli.pretrained import parts
from showtell.cli.serving import mcp, serve
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
MODEL = opt.option(
    None, "model", "NAME|PATH", "home, mini or a directory (home, or mini where it cannot be had)."
)


def _version(wanted: bool) -> None:
    if wanted:
        from showtell import __version__

        opt.say(f"showtell {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = opt.switch("version", "Print the version.", callback=_version, is_eager=True),
) -> None:
    pass


@app.command(epilog='Example: showtell chat --say "How was the beach?" --say "Show me!" --json')
def chat(
    model: str | None = MODEL,
    say: list[str] = opt.option([], "say", "TEXT", "Answer this and print JSON; may be repeated."),
    photo: list[Path] = opt.option(
        [], "photo", "FILE", "Goes with the first turn; may be repeated."
    ),
    json: bool = opt.switch("json", "One JSON object a line."),
    seed: int = opt.SEED,
    photos_dir: Path = opt.out(
        "showtell-photos", "DIR", "Where painted photos are written.", flag="photos-dir"
    ),
    album: Path | None = opt.option(
        None,
        "album",
        "DIR|sample",
        'Share photos of this album (see "showtell album add"), or of the one that ships.',
    ),
    lm: str | None = opt.option(
        None, "lm", "ID|DIR|URL", "Any LLM that chats, in place of a model; URL#NAME."
    ),
    calibration: Path | None = opt.option(
        None, "calibration", "FILE", "What experiments/photochat.py found out about --lm."
    ),
    painter: str | None = opt.option(
        None, "painter", "ID|DIR|URL", "What paints for --lm, or for a model without a painter."
    ),
    steps: int | None = opt.option(
        None, "steps", "N", "Of --painter; without it those of its kind.", min=1
    ),
    guidance: float | None = opt.option(
        None, "guidance", "G", "Of --painter; 1: none, as for turbo models.", min=1
    ),
    decide: str | None = opt.DECIDE,
    dial: str | None = opt.DIAL,
    budget: str | None = opt.BUDGET,
    cost: str | None = opt.COST,
    device: str | None = opt.DEVICE,
    dtype: str | None = opt.DTYPE,
) -> None:
    """Talk with a model. In a terminal it is a conversation; with --say it prints JSON.

    Without --say, lines are read from the terminal (or a pipe) until they end. Each JSON object
    is one answer: ordered "parts" of type text or photo, "p_share", "seconds_to_first_word",
    "seconds_to_photo" and "notes".

    --lm and --painter name an LLM and a painter that nobody trained for this: a folder of
    transformers or diffusers, an id on the hub, or the address of an OpenAI-compatible server
    (http://HOST:PORT/v1; its key in SHOWTELL_API_KEY). A photo comes from the album if it has one
    that fits, else from the painter; with neither, the agent says that it has none.
    """
    from showtell.agent.chat import TerminalChat, answers, check_lines, typed_lines
    from showtell.agent.decisions import Decisions, decide_by
    from showtell.agent.session import Session
    from showtell.agent.terminal import console_of
    from showtell.agent.when import dial_of
    from showtell.models.reply import Dial

    check_lines(say, photo)
    how = dial_of(dial, budget, cost, usual=Dial())
    server = None if decide is None else Decisions(decide)
    if lm is not None and model is not None:
        raise UsageError("--model and --lm both say who answers; leave one of them out")
    if calibration is not None and lm is None:
        raise UsageError("--calibration is of an --lm, and none is named; name it, or leave it out")
    paints = None
    if painter is not None:
        from showtell.agent.engines import open_painter

        paints = open_painter(painter, num_steps=steps, guidance=guidance)
    elif steps is not None or guidance is not None:
        raise UsageError("--steps and --guidance are of a painter; name it too, with --painter")
    if lm is not None:
        from showtell.agent.home import llm_agent

        agent = llm_agent(lm, painter=paints, album=album, calibration=calibration)
        session = Session(agent, seed=seed)
    else:
        from showtell.agent.home import agent_of

        aside = partial(opt.say, file=sys.stderr)
        session = Session(agent_of(model, say=aside, album=album, painter=paints), seed=seed)
    session.dial = how
    if server is not None:
        decide_by(session.model, server)
    if say or json:
        lines = say or (line.rstrip("\r\n") for line in sys.stdin if line.strip())
        for answer in answers(session, lines, photos=photo, photos_dir=photos_dir):
            opt.emit(True, answer, indent=None if json else 2)
        return
    conversation = TerminalChat(session, photos_dir=photos_dir, console=console_of(sys.stdout))
    if sys.stdin.isatty():
        conversation.greet()
    conversation.run(typed_lines() if sys.stdin.isatty() else sys.stdin, photos=photo)


@app.command(epilog="Example: showtell demo --seed 7")
def demo(
    seed: int = opt.SEED,
    out: Path = opt.out("demo", "DIR", "Where page and photos are written.", held=True),
    model: str | None = MODEL,
    device: str | None = opt.DEVICE,
) -> None:
    """Hold conversations, here and on a page: index.html.

    home talks about the photos of a sample album; mini paints in a drawn world. With --model it is
    that one alone.
    """
    opt.say("Loading the models ...", file=sys.stderr)
    from showtell.agent.demo import run_demo
    from showtell.agent.home import demo_agents
    from showtell.agent.terminal import console_of

    agents = demo_agents(model, seed=seed, say=partial(opt.say, file=sys.stderr))
    run_demo(agents, seed=seed, out=out, console=console_of(sys.stdout))


@app.command(epilog="Example: showtell recipes world_mini")
def recipes(
    name: str | None = opt.argument("RECIPE", "Explain the settings of this one.", default=None),
    json: bool = opt.JSON,
) -> None:
    """List what can be trained, or explain one recipe."""
    from showtell.recipes import RECIPES, describe

    if name is None:
        width = max(map(len, RECIPES))
        told = {key: recipe.told for key, recipe in RECIPES.items()}
        lines = [f"{key:<{width}}  {text}" for key, text in told.items()]
        opt.emit(json, {key: {"summary": text} for key, text in told.items()}, *lines)
        return
    keys = describe(name)
    opt.emit(
        json,
        {key: {"default": value, "meaning": told} for key, value, told in keys},
        *(f"{key}={_as_set(value)}\n    {told}" for key, value, told in keys),
        *(["The last stage goes by the name stage, too."] if _staged(keys) else []),
    )


def _staged(keys: Sequence[tuple[str, Any, str]]) -> bool:
    return any(key.endswith(".steps") for key, _, _ in keys)


def _as_set(value: Any) -> str:
    """A value as ``--set`` takes it."""
    import json

    if value is None or isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, tuple | Mapping) else str(value)


@app.command(epilog="Example: showtell train world_mini --set stage.steps=200 --out runs/trial")
def train(
    recipe: str = opt.argument("RECIPE", 'See "showtell recipes".'),
    overrides: list[str] = opt.option([], "set", "KEY=VALUE", "Change one value; may be repeated."),
    out: Path | None = opt.out(None, "DIR", "Where the run is written."),
    resume: bool = opt.switch("resume", "Go on where the run stopped."),
    dry_run: bool = opt.switch(
        "dry-run", "Tell parameters, memory, hours and data; train nothing."
    ),
    gpus: int = opt.option(1, "gpus", "N", "Of a dry run: on so many GPUs."),
    rate: float | None = opt.option(
        None, "rate", "EXAMPLES", "Of a dry run: so many examples a second, all GPUs together."
    ),
    tokens: int | None = opt.option(
        None, "tokens", "N", "Of a dry run: so long is an example; else what the model reads."
    ),
    seed: int = opt.SEED,
    device: str | None = opt.DEVICE,
    json: bool = opt.JSON,
) -> None:
    """Train a recipe, go on with it, or tell what it takes."""
    if dry_run:
        from showtell.config import override
        from showtell.recipes import config_of
        from showtell.recipes.dry_run import dry_run as tell

        sizes: dict[str, Any] = {"gpus": gpus, "rate": rate, "tokens": tokens}
        found = tell(recipe, override(config_of(recipe), overrides), **sizes)
        return opt.emit(json, found.plain(), *found.lines())
    opt.writable(out or Path("runs") / recipe)
    from showtell.recipes import run_recipe

    path = run_recipe(recipe, overrides=overrides, out=out, resume=resume, seed=seed)
    opt.emit(json, {"checkpoint": str(path)}, f"Wrote {path}")


app.command(epilog="Example: showtell serve --album ~/album --open")(serve)
app.command(epilog="Example: showtell mcp --album ~/album")(mcp)
app.command(epilog="Example: showtell parts all-minilm-l6-v2")(parts)
app.command(epilog="Example: showtell inspect mini")(inspect)
app.command("inspect-context", epilog="Example: showtell inspect-context my-talk --model mini")(
    inspect_context
)
app.command(epilog="Example: showtell origin showtell-photos/*.png")(origin)
app.command(epilog="Example: showtell export runs/home --merged --out runs/home_plain")(export)
app.command(epilog="Example: showtell push runs/home me/home --report out")(push)
app.command(epilog="Example: showtell convert gill gill_opt --base runs/opt --out runs/gill")(
    convert
)
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
            opt.say(told, file=sys.stderr)
            return error.exit_code
        except typer.Abort as abort:
            raise KeyboardInterrupt from abort
        except SystemExit as closed:  # what typer makes of a closed pipe
            raise BrokenPipeError from closed
        return code if isinstance(code, int) else 0

    return exit_code_of(action)
