"""What verbs share: options, the check of the place to write to, and how they print."""

from __future__ import annotations

import inspect
import json as json_module
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from showtell.errors import StorageError, UsageError, printable

if TYPE_CHECKING:
    from showtell.data.sources import DataSource
    from showtell.metrics.report import Report


def option(default: Any, flag: str, metavar: str, help: str, **more: Any) -> Any:
    """``--flag METAVAR``; must be given where the default is ``...``."""
    return typer.Option(default, f"--{flag}", metavar=metavar, help=help, **more)


def switch(flag: str, help: str, **more: Any) -> Any:
    return typer.Option(False, f"--{flag}", help=help, **more)


def argument(metavar: str, help: str, *, default: Any = ..., **more: Any) -> Any:
    return typer.Argument(default, metavar=metavar, help=help, **more)


def out(default: Any, metavar: str, help: str, *, flag: str = "out", held: bool = False) -> Any:
    """A folder to write to. It is tried before the work, and ``held`` for this command alone where
    the work itself does not."""

    def folder(text: str) -> Path:
        if not text or Path(text).is_file():
            met = f'"{text}" is a file' if text else "is empty"
            raise UsageError(f"--{flag} {met}; wanted the path of a folder. Name another.")
        return Path(text)

    tried = _hold if held else writable
    return option(default, flag, metavar, help, parser=folder, callback=tried)


def verbs(name: str, help: str) -> typer.Typer:
    """A group of verbs, as ``showtell data``."""
    return typer.Typer(name=name, help=help, no_args_is_help=True, rich_markup_mode=None)


# ------------------------------------------------------------------------------- where to write


def writable(path: Path | None) -> Path | None:
    """The path, if something can be written there: found out before the work. StorageError."""
    if path is None:
        return None
    try:
        place = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
        place = place.parent if place == path and place.is_file() else place
        tempfile.TemporaryFile(dir=place).close()
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path!s:.200} cannot be written to ({getattr(error, 'strerror', None) or error}); "
            "name another place for the results"
        ) from error
    return path


def _hold(context: typer.Context, path: Path | None) -> Path | None:
    from showtell.data.storage import locked

    if path is not None and os.environ.get("RANK", "0") == "0":  # of several processes the first
        context.with_resource(locked(path))
    return path


def _choose(context: typer.Context, device: str | None) -> str | None:
    if device is not None:
        from showtell.runtime import on_device

        context.with_resource(on_device(device))
    return device


def _choose_numbers(context: typer.Context, dtype: str | None) -> str | None:
    if dtype is not None:
        from showtell.runtime import in_dtype

        context.with_resource(in_dtype(dtype))
    return dtype


def _seeded(seed: int) -> int:
    if seed > 10**15:
        raise UsageError(f"--seed is {seed}; wanted at most 1,000,000,000,000,000")
    return seed


# -------------------------------------------------------------------------------------- options

DATA_HELP = (
    "world:test, world:novel, world:dev, world:train or world:100000-100999; photochat:, "
    "dialogcc:, mmdialog:, vist:, visdial:, cc3m:, folder: or showtell:PATH; shards:DIR"
)

JSON = switch("json", "Print JSON on stdout, nothing else.")
DECIDE = option(
    None, "decide", "URL", "A v1/decisions server that says when, in the model's place; URL#NAME."
)
DIAL = option(None, "dial", "KIND", "How photos come unasked: asked (never), offer, proactive.")
BUDGET = option(None, "budget", "N/TURNS", "At most N photos unasked in so many of its turns.")
COST = option(
    None, "cost", "U:M", "What an unwanted photo costs against a missed one, as 3:1: the threshold."
)
SEED = option(0, "seed", "N", "All chance comes from it.", min=0, callback=_seeded)
DEVICE = option(  # a verb that has it runs there
    None,
    "device",
    "cpu|cuda|cuda:N",
    "Where models run (a GPU where there is one).",
    callback=_choose,
)
DTYPE = option(  # a verb that has it reads models so
    None,
    "dtype",
    "DTYPE",
    "auto, float32, bfloat16 or float16: of the LLM (as it was saved).",
    callback=_choose_numbers,
)
SKIP_BAD = switch("skip-bad", "Go on past broken records, and count them.")
LIMIT = option(None, "limit", "N", "Only the first N dialogues.", min=1)
DATA = argument("DATA", DATA_HELP)
RENDERS = option(None, "model", "NAME|PATH", "Whose tokens (the data's shipped model).")
NEW_FOLDER = out(..., "DIR", "A new folder.")
REPORT = out(None, "DIR", "Where report.json and report.md are written.", held=True)
MISSING = option(
    None,
    "missing-photos",
    "error|skip|paint:MODEL",
    "What to do about photos that are not there (they stay missing).",
)
ENCODERS: dict[str, tuple[type, str, str]] = {
    "clip": (str, "FOLDER|ID", "CLIP of CLIP-I and CLIP-T."),
    "relevance_clip": (str, "FOLDER|ID", "CLIP of MM-Relevance."),
    "sentence_encoder": (str, "FOLDER|ID", "Of S-BERT similarity."),
    "inception": (Path, "FILE", "FID's Inception, as safetensors."),
    "features": (str, "world:oracle", "Other features for FID, KID."),
    "lpips": (Path, "FILE", "LPIPS, as safetensors."),
    "wordnet": (Path, "FOLDER", "Holds corpora/wordnet, for METEOR."),
}


def with_encoders(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with an option for each encoder, which it gets together in ``encoders``."""
    given = {}
    for name, own in inspect.signature(verb, eval_str=True).parameters.items():
        if name != "encoders":
            given[name] = own
            continue
        for encoder, (kind, metavar, help) in ENCODERS.items():
            wanted = option(None, encoder.replace("_", "-"), metavar, help)
            given[encoder] = own.replace(name=encoder, annotation=kind | None, default=wanted)

    def run(**values: Any) -> None:
        verb(encoders={name: values.pop(name) for name in ENCODERS}, **values)

    run.__name__, run.__doc__ = verb.__name__, verb.__doc__
    run.__signature__ = inspect.Signature(list(given.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: own.annotation for name, own in given.items()}
    return run


# ------------------------------------------------------------------------------------- printing


def say(*lines: str, file: Any = None) -> None:
    """For people; what came from outside cannot command their terminal."""
    for line in lines:
        print(printable(line), file=file, flush=True)


def emit(json: bool, value: Any, *lines: str, indent: int | None = 2) -> None:
    """``value`` as JSON, for programs, or ``lines``, for people."""
    if json:
        say(json_module.dumps(value, ensure_ascii=False, indent=indent))
    else:
        say(*lines)


def print_report(report: Report, *, json: bool, out: Path | None) -> None:
    """On stdout, and where it was written, if anywhere."""
    if json:
        say(report.to_json().rstrip("\n"))
    else:
        say(report.to_markdown(), *([f"Wrote {out}"] if out is not None else []))


def say_skipped(source: DataSource) -> None:
    """The first of the records that were left out."""
    say(*(f"skipped: {error}" for error in source.skipped[:3]), file=sys.stderr)
