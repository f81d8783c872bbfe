"""The frame of the small experiments: rows are trained and measured once, kept, and printed.

    options = parser(__doc__, name="e2e_table2").parse_args()
    for row in chosen(ROWS, options):
        for seed in options.seeds:
            run = trained(row, seed, options)              a recipe with settings, from --base
            kept(run / "numbers.json", settings, make)     JSON that is made once
    write(table, COLUMNS, name="e2e_table2", ...)          prints; .md, .json and .png in a folder

Stopped at any point, the same command goes on where it was. What was begun with other settings is
refused, so that rows stay comparable. --tiny runs everything once on next to nothing, for tests,
and writes beside its runs and not to docs/results.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import slug

from showtell.data.storage import write_atomically
from showtell.errors import ConfigError, UsageError, did_you_mean
from showtell.evaluation.table import Cell, Column
from showtell.evaluation.table_page import chart, to_json, to_markdown
from showtell.metrics.intervals import RESAMPLES
from showtell.metrics.report import current_commit, installed_versions, model_digest
from showtell.models.checkpoint import model_folder
from showtell.recipes import run_recipe
from showtell.runtime import device_label

AS_BUILT = "mapper not started by captions"  # with start_captions=0
TINY = ("stage.batch_size=2", "num_dialogues=8", "calibration_dialogues=12")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: a recipe, and the settings that make it this row."""

    name: str
    settings: tuple[str, ...] = ()
    recipe: str = "world_mini"


def parser(doc: str | None, *, name: str, limit: int = 500) -> argparse.ArgumentParser:
    """The options that all experiments have; ``settle`` finishes what it parsed."""
    found = argparse.ArgumentParser(description=(doc or name).splitlines()[0])
    found.add_argument("--base", help="a world_base to start from; default: the shipped parts")
    found.add_argument("--runs", type=Path, default=Path("runs") / name)
    found.add_argument("--out", type=Path, help="default: docs/results")
    found.add_argument("--steps", type=int, default=2000, help="of each row's stage on dialogues")
    found.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")])
    found.add_argument("--limit", type=int, default=limit, help="dialogues to measure on")
    found.add_argument("--only", action="append", metavar="ROW", help="these rows; repeatable")
    found.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    found.add_argument("--tiny", action="store_true", help="next to nothing of everything")
    return found


def settle(options: argparse.Namespace, *, seeds: Sequence[int] = (0, 1, 2)) -> argparse.Namespace:
    """Defaults that hang on other options."""
    if options.tiny:
        options.steps, options.limit, seeds = 1, 12, (0,)
    options.seeds = options.seeds or list(seeds)
    options.out = options.out or (options.runs if options.tiny else Path("docs/results"))
    options.base = str(model_folder(options.base or "mini").resolve())
    return options


def chosen(rows: Sequence[Row], options: argparse.Namespace) -> list[Row]:
    """All rows, or those of --only. Raises UsageError for a row that is not there."""
    names = [row.name for row in rows]
    for name in options.only or ():
        if name not in names:
            raise UsageError(f'there is no row "{name}"{did_you_mean(name, names)}')
    return [row for row in rows if not options.only or row.name in options.only]


def trained(
    row: Row,
    seed: int,
    options: argparse.Namespace,
    *,
    train: Callable[..., Path] = run_recipe,
    settings: Sequence[str] = (),
) -> Path:
    """The folder of the finished run of a row; ``settings`` stand before the row's own."""
    out = options.runs / slug(f"{row.name}, seed {seed}")
    overrides = [f"base={options.base}", f"stage.steps={options.steps}", *settings]
    overrides += [*(TINY if options.tiny else ()), *options.settings, *row.settings]
    kept(out / "row.json", {"recipe": row.recipe, "settings": overrides}, dict)
    if not (out / "model" / "showtell.json").is_file():
        print(f"training {row.name}, seed {seed}", file=sys.stderr, flush=True)
        train(row.recipe, overrides=overrides, out=out, resume=True, seed=seed)
    return out


def kept(path: Path, settings: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """What ``make`` gave, as JSON; made once. Raises ConfigError if it was with other settings."""
    if not path.is_file():
        plain = {"settings": dict(settings), "value": make()}
        write_atomically(path, (json.dumps(plain) + "\n").encode())
    found = json.loads(path.read_text())
    if found["settings"] != json.loads(json.dumps(dict(settings))):
        raise ConfigError(
            f'"{path}" was made with {found["settings"]}; wanted {dict(settings)}, so that all '
            f'rows are alike; remove the folder "{path.parent}", or name another --runs'
        )
    return found["value"]


def about(options: argparse.Namespace) -> dict[str, str]:
    """What a passport says of trained rows."""
    return {
        "base": f"{Path(options.base).name}, digest {model_digest(options.base)}",
        "rows": f"{options.steps:,} steps, training seeds {', '.join(map(str, options.seeds))}",
        "settings": " ".join(options.settings),
        "photos": "painted by bfloat16 products, on a device that has them",
    }


def write(
    table: Mapping[str, Mapping[str, Cell]],
    columns: Sequence[Column],
    *,
    name: str,
    title: str,
    against: str,
    notes: Sequence[str],
    about: Mapping[str, str],
    out: Path,
    picture: Callable[[Path], Any] | None = None,
) -> None:
    """Print the table and write NAME.md, NAME.json and NAME.png to ``out``; ``against`` is what the
    differences of its cells are to, ``picture`` draws instead of a panel for each column."""
    empty = Cell(value=None, reason="not measured")
    whole = {
        row: {column.name: cells.get(column.name, empty) for column in columns}
        for row, cells in table.items()
    }
    passport = {
        "command": f"`python experiments/{name}.py {shlex.join(sys.argv[1:])}`",
        "N": ", ".join(
            f"{column.head} {found[0].n:,}"
            for column in columns
            if (found := [c[column.name].value for c in whole.values() if c[column.name].value])
        ),
        **about,
        "bootstrap": f"{RESAMPLES:,} draws of dialogues",
        "written on": device_label(),  # rows may have been trained elsewhere
        "commit": current_commit() or "not a git checkout",
        "versions": ", ".join(f"{key} {value}" for key, value in installed_versions().items()),
    }
    page = to_markdown(
        whole, title=title, against=against, notes=notes, passport=passport, columns=columns
    )
    print(page)
    plain = to_json(whole, notes=notes, passport=passport)
    write_atomically(out / f"{name}.json", plain.encode())
    write_atomically(out / f"{name}.md", page.encode())
    if picture is None:
        chart(whole, out / f"{name}.png", columns=columns)
    else:
        picture(out / f"{name}.png")
    print(f"Wrote {out / name}.md, .json and .png")
