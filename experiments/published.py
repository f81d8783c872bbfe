"""A measured table on paper: its cells, its passport, its files."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workers import slug

from showtell.evaluation.compare import Table, floors, table_of
from showtell.evaluation.table_page import write
from showtell.evaluation.world_answers import through_vae
from showtell.metrics.intervals import RESAMPLES
from showtell.metrics.report import current_commit, installed_versions, model_digest
from showtell.papers import load_model
from showtell.runtime import device_label

if TYPE_CHECKING:
    from runner import Bench, Row, Rows, Sheet


def publish(bench: Bench, sheet: Sheet, rows: Sequence[Row], found: Rows) -> None:
    """Print the table and write NAME.md and NAME.json."""
    cells = cells_of(bench, sheet, found)
    options, script = bench.options, Path(bench.command[0]).name
    counts = {
        column.head: next((c.n for row in cells.values() if (c := row[column.name].value)), 0)
        for column in sheet.columns
    }
    command = f"python experiments/{script} {shlex.join(bench.command[1:])}"
    passport = {
        "command": f"`{without_folders(command)}`",
        "N": ", ".join(f"{head} {count:,}" for head, count in counts.items() if count),
        "base": f"{Path(bench.base).name}, digest {model_digest(bench.base)}",
        "rows": f"{options.steps:,} steps, training seeds {', '.join(map(str, bench.seeds))}",
        "trained on": devices(bench, rows),
        "settings": " ".join(options.settings),
        "photos": "painted by bfloat16 products, on a device that has them",
        "measuring CLIP": model_digest(options.clip) if options.clip else "",
        "bootstrap": f"{RESAMPLES:,} draws of dialogues",
        "written on": device_label(),
        "commit": current_commit() or "not a git checkout",
        "versions": ", ".join(f"{key} {value}" for key, value in installed_versions().items()),
    }
    page = write(
        cells,
        sheet.columns,
        out=bench.out,
        name=sheet.name,
        title=sheet.title,
        against=sheet.against,
        notes=sheet.notes,
        passport=passport,
    )
    print(f"{page}\nWrote {bench.out / sheet.name}.md and .json")


def cells_of(bench: Bench, sheet: Sheet, found: Rows) -> Table:
    """All rows: those that failed with the reason, and what no system made."""
    photos = (s for runs in found.values() for run in runs for s in run.scores.items())
    num = max((len(s.rows_NS) for name, s in photos if name.startswith("photo.")), default=0)
    absent = {row.name: bench.failed[row.name] for row in sheet.rows if row.name in bench.failed}
    cells = table_of(found, sheet.columns, against=sheet.against, absent=absent, num_photos=num)
    if sheet.floors:
        rebuilt = through_vae(load_model(bench.base), bench.gold.pixels_N3HW)
        cells |= floors(rebuilt, bench.gold, sheet.columns)
    return cells


def devices(bench: Bench, rows: Sequence[Row]) -> str:
    """What rows were trained on; where that is several things, each with its rows."""
    found: dict[str, list[str]] = {}
    for name in (f"{row.name}, seed {seed}" for row in rows for seed in bench.seeds):
        about = bench.runs / slug(name) / "row.json"
        if about.is_file():
            device = json.loads(about.read_text())["value"].get("device", "unknown")
            found.setdefault(device, []).append(name)
    if len(found) < 2:
        return next(iter(found), "")
    return ". ".join(f"{device}: {'; '.join(names)}" for device, names in found.items())


def without_folders(text: str) -> str:
    """Absolute paths cut to their last two parts: a page names no machine."""
    return re.sub(r"(?<![^\s'\"=:])/(?:[^/\s]+/)+([^/\s]+/[^/\s]+)", r"\1", text)
