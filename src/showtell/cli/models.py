"""inspect, export, push, convert: what is inside a model, and how it goes and comes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.cli import options as opt
from showtell.errors import CheckpointError, UsageError, did_you_mean

if TYPE_CHECKING:
    from showtell.models.inside import Inside

DTYPES = ("float32", "bfloat16", "float16")


def inspect(
    model: str = opt.argument("MODEL", "A model by name, or a folder of any library."),
    json: bool = opt.JSON,
) -> None:
    """Tell what is inside a model's folder, without loading it.

    Parts with their classes, numbers and sizes; what was trained and on which base; template,
    thresholds, licence. What is broken is said last, with exit code 1.
    """
    from showtell.models.inside import look_inside

    inside = look_inside(_folder(model))
    opt.emit(json, inside.plain, *_lines(inside))
    if inside.faults:
        raise CheckpointError(f"{inside.folder} would not load: {'; '.join(inside.faults)}")


def inspect_context(
    talk: Path = opt.argument("FOLDER", "A conversation that was saved (/save in a chat)."),
    model: str | None = opt.option(
        None, "model", "NAME|PATH", "Who reads it (home, or mini where it cannot be had)."
    ),
    lm: str | None = opt.option(None, "lm", "ID|DIR|URL", "Any LLM that chats, in its stead."),
    json: bool = opt.JSON,
    device: str | None = opt.DEVICE,
) -> None:
    """Print what a model reads of each photo.

    Of each: whose it is, id, origin, caption, and what stands for it in the model's context: words,
    embeddings of its pixels, or nothing, where the talk has become longer than the model reads.
    """
    from functools import partial

    from showtell.agent.context import photos_in_context
    from showtell.agent.home import agent_of, llm_agent
    from showtell.agent.session import Session

    if lm is not None and model is not None:
        raise UsageError("--model and --lm both say who reads; leave one of them out")
    aside = partial(opt.say, file=sys.stderr)
    agent = agent_of(model, say=aside) if lm is None else llm_agent(lm)
    session = Session.open(agent, talk)
    photos = photos_in_context(session.model, session.turns, session.images)
    read = sum(photo.read is not None for photo in photos)
    head = (
        f"{session.model.name} reads {read} of {len(photos)} photos in {len(session.turns)} turns"
    )
    told = {"model": session.model.name, "photos": [photo.plain for photo in photos]}
    opt.emit(json, told, head, *(photo.line for photo in photos))


def export(
    model: str = opt.argument("MODEL", "A model by name or a directory."),
    out: Path = opt.NEW_FOLDER,
    merged: bool = opt.switch("merged", "Add LoRA to the weights that it stands beside."),
    dtype: str = opt.option("float32", "dtype", "DTYPE", f"{', '.join(DTYPES)}."),
    json: bool = opt.JSON,
) -> None:
    """Write a model's LLM as a folder that vLLM serves.

    With the rows of its new tokens, a chat template that reads as the model was trained, and its
    own settings of generation. Painter, photo encoder and bridge stay where they are.
    """
    if dtype not in DTYPES:
        raise UsageError(f'unknown --dtype "{dtype}"{did_you_mean(dtype, DTYPES)}')
    import torch

    from showtell.data.storage import new_folder
    from showtell.models.adapters import has_lora
    from showtell.models.merged import write_plain
    from showtell.papers import load_model

    found = load_model(model)
    if has_lora(found.language) and not merged:
        raise UsageError(
            f'"{model}" has LoRA beside its weights, and a plain folder has one set of weights: '
            "give --merged to add the two"
        )
    with new_folder(out) as fresh:
        write_plain(found, fresh, dtype=getattr(torch, dtype))
    opt.emit(json, {"folder": str(out), "dtype": dtype}, f"Wrote {out}")


def push(
    model: str = opt.argument("MODEL", "A model by name or a directory."),
    repo_id: str = opt.argument("OWNER/NAME", "Its id on the hub."),
    private: bool = opt.switch("private", "For yourself and those you let in."),
    whole: bool = opt.switch("whole", "With the parts that it refers to in folders of yours."),
    report: Path | None = opt.option(
        None, "report", "DIR", "What evaluate wrote, for the card (report.md)."
    ),
    json: bool = opt.JSON,
) -> None:
    """Put a model on the hub of models, with a card.

    It is loaded by its id then. The token is the hub client's own: "hf auth login". The card is
    written from the model, unless a README.md lies beside it.
    """
    import tempfile

    from showtell.models.checkpoint import model_folder, read_description, save_model
    from showtell.models.sharing import push_to_hub

    folder, figures = model_folder(model), ""
    if report is not None:
        path = report / "report.md"
        if not path.is_file():
            raise UsageError(f'--report "{report}" has no report.md; name the --out of evaluate')
        figures = path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as room:
        if whole:
            from showtell.models.bases import write_whole
            from showtell.papers import load_model

            found = load_model(str(folder))
            write_whole(found)
            recipe = read_description(folder)["recipe"]
            save_model(found, folder := Path(room) / "model", recipe=recipe)
        address = push_to_hub(folder, repo_id, private=private, figures=figures)
    opt.emit(json, {"address": address}, f"Wrote {address}")


def convert(
    release: str = opt.argument("RELEASE", "gill or minigpt5."),
    files: list[Path] = opt.argument("FILE...", "What its authors released."),
    base: str = opt.option(
        ..., "base", "MODEL", 'Holds its LLM, vision and painter: see "showtell train parts".'
    ),
    out: Path = opt.NEW_FOLDER,
    json: bool = opt.JSON,
) -> None:
    """Make a model of what a paper's authors released.

    GILL: its folder with pretrained_ckpt.pth.tar and model_args.json. MiniGPT-5: the checkpoint of
    its first stage, and then that of its second. They are opened by a process of their own, which
    runs nothing that they hold.
    """
    from showtell.data.storage import new_folder
    from showtell.models.checkpoint import save_model
    from showtell.papers import load_model
    from showtell.progress import terminal_progress
    from showtell.recipes.releases import converted

    model = converted(release, files, load_model(base), told=terminal_progress)
    recipe = {"name": f"convert {release}", "config": {"base": base}}
    with new_folder(out) as fresh:
        save_model(model, fresh / "model", recipe=recipe)
    opt.emit(json, {"checkpoint": str(out / "model")}, f"Wrote {out / 'model'}")


def _folder(name: str) -> Path:
    """A folder as it is named; else a model or a part of that name."""
    path = Path(name)
    if path.is_dir() and not (path / "model" / "showtell.json").is_file():
        return path
    from showtell.models.hub import index_parts

    part = index_parts().get(name)
    if part is not None and part.here:
        return part.folder
    from showtell.models.sharing import any_model_folder

    return any_model_folder(name)


def _lines(inside: Inside) -> list[str]:
    rows = [("part", "class", "parameters", "of", "MB")]
    rows += [
        (part.path, part.kind, f"{part.parameters:,}", _dtypes(part.dtypes), _mb(part.num_bytes))
        for part in inside.parts
    ]
    plain = inside.plain
    rows.append(("all", "", f"{plain['parameters']:,}", "", _mb(plain["bytes"])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(
            text.rjust(width) if place in (2, 4) else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    hidden = ("renderer", "decoding", "bridge", "card", "name", "format", "recipe_config")
    told = {key: value for key, value in inside.told.items() if key not in hidden}
    limits = inside.told.get("card", {}).get("limits")
    lines = [f"{key:<11} {_words(value)}" for key, value in told.items() if value]
    return [
        f"{inside.told.get('name') or inside.folder.name}: {inside.kind}, in {inside.folder}",
        "",
        *table,
        "",
        *lines,
        *([f"{'limits':<11} {limits}"] if limits else []),
    ]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(
            f"{key.replace('_', ' ')} {_words(each)}"
            for key, each in value.items()
            if each not in (None, "", [])
        )
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _dtypes(dtypes: dict[str, int]) -> str:
    return ", ".join(sorted(dtypes, key=lambda name: -dtypes[name]))


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f}"
