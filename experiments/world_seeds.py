"""The comparison over training seeds: how far two trainings of one recipe differ.

    sh experiments/world_table.sh quick --seed 1 --out runs/seed-1
    python experiments/world_seeds.py docs/results/world.json runs/seed-1/world.json ...

Each table is of one training seed, made when and where it suited; this reads them and trains
nothing. A cell is the mean over training seeds and Student's 95% interval of it; a difference to
the pipeline is taken within each seed, so it is paired. What bootstraps over dialogues tell is left
out: it stands in each table. Writes docs/results/world_seeds.md and .json.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from world_table import PIPELINE

from showtell.cli.exits import exit_code_of
from showtell.errors import DataError, UsageError
from showtell.evaluation.compare import COLUMNS, Cell, Column, Table
from showtell.evaluation.table_page import from_json, write
from showtell.metrics.paired import Difference
from showtell.metrics.report import current_commit

NAME = "world_seeds"
TOLD = ("base", "data", "steps", "commit", "device")  # what is said of each table's passport
HEAD = """\
Better is higher where the arrow points up (↑), lower where down (↓). A cell is the mean over
training seeds; in brackets stands Student's 95% interval of it over these seeds. A star marks a
difference to "{against}" at p < 0.05, taken within each seed and not corrected for the number of
tests. "-" is explained below the table. Every measure is defined in [metrics.md](../metrics.md).
"""
NOTES = (
    "The dialogues are the same for all seeds: what other dialogues would give stands in the "
    "intervals of the single tables, and here not at all.",
    "Costs are those of the machines that the single tables name.",
)


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One table: the seed of its trainings, what makes it comparable, its cells and passport."""

    seed: int
    settings: Mapping[str, Any]
    table: Table
    passport: Mapping[str, str]


def read(path: Path) -> Seed:
    """Raises UsageError or DataError for a file that is no table of one training seed."""
    if not path.is_file():
        raise UsageError(
            f'there is no table at "{path}"; make one by '
            '"sh experiments/world_table.sh quick --seed N --out FOLDER"'
        )
    try:
        table, passport = from_json(path.read_text(encoding="utf-8"))
        settings = json.loads(passport["settings"])
        seeds = settings.pop("seeds")
        told = {key: passport[key] for key in TOLD}
    except (DataError, KeyError, ValueError) as error:
        raise DataError(f'"{path}" is no world.json of world_table.py ({error})') from error
    if len(seeds) != 1:
        raise DataError(f'"{path}" has training seeds {seeds}; wanted a table of one')
    base = told["base"].rpartition("digest ")[2]
    return Seed(seed=seeds[0], settings={**settings, "base": base}, table=table, passport=told)


def comparable(found: Sequence[Seed]) -> None:
    """Raises UsageError where tables differ in more than the seed, or do not."""
    seeds = [one.seed for one in found]
    if len(set(seeds)) < max(2, len(seeds)):
        raise UsageError(f"training seeds are {seeds}; wanted two or more, each once")
    for one in found[1:]:
        for key, value in found[0].settings.items():
            if one.settings.get(key) != value:
                raise UsageError(
                    f'seed {one.seed} has "{key}" {one.settings.get(key)}, seed {found[0].seed} '
                    f"has {value}; wanted tables that differ in nothing but the training seed"
                )


def over_seeds(column: Column, ours: Sequence[Cell], theirs: Sequence[Cell] | None) -> Cell:
    """The cells of one row and column, a seed each; ``theirs`` are what it is held against."""
    absent = [cell.reason for cell in ours if cell.value is None or cell.value.value is None]
    if absent:
        return Cell(value=None, reason=absent[0])
    values = [cell.value.value for cell in ours]
    mean, half, _, _ = student(values)
    against = None
    if theirs and all(cell.value is not None for cell in theirs):
        gains = [a - b.value.value for a, b in zip(values, theirs, strict=True)]
        gain, wide, p, detectable = student(gains)
        if wide > 0:
            against = Difference(
                value=gain,
                low=gain - wide,
                high=gain + wide,
                p=p,
                detectable=detectable,
                n=len(gains),
            )
    value = replace(ours[0].value, value=mean, low=mean - half, high=mean + half, n=len(values))
    return Cell(value=value, against=against, runs=tuple(values))


def student(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean, half of its 95% interval, p of a mean of 0, and what would have been detected in four
    of five repetitions at a level of 5%."""
    from scipy.stats import t

    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean, freedom = float(np.mean(values)), len(values) - 1
    p = float(2 * t.sf(abs(mean) / error, freedom)) if error else 1.0
    level, power = t.ppf(0.975, freedom), t.ppf(0.8, freedom)
    return mean, float(level * error), p, float((level + power) * error)


def merged(found: Sequence[Seed]) -> Table:
    """A cell for each row that is in all tables, and each column."""
    shared = [name for name in found[0].table if all(name in one.table for one in found)]
    table: Table = {}
    for name in shared:
        rows = [one.table[name] for one in found]
        base = [one.table[PIPELINE] for one in found] if PIPELINE in shared else None
        table[name] = {}
        for column in COLUMNS:
            if not all(column.name in row for row in rows):
                table[name][column.name] = Cell(value=None, reason="not in every table")
                continue
            # what has no difference in its table (a floor, the pipeline itself) has none here
            held = base is not None and rows[0][column.name].against is not None
            theirs = [row[column.name] for row in base] if base and held else None
            ours = [row[column.name] for row in rows]
            table[name][column.name] = over_seeds(column, ours, theirs)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tables", type=Path, nargs="+", help="world.json of one seed each")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args(arguments)
    found = [read(path) for path in options.tables]
    comparable(found)
    table = merged(found)
    passport = {
        "command": f"`python experiments/{NAME}.py {shlex.join(map(str, options.tables))}`",
        "base": found[0].passport["base"],
        "data": found[0].passport["data"],
        "steps": found[0].passport["steps"],
        **{
            f"seed {one.seed}": f"commit {one.passport['commit']}, {one.passport['device']}"
            for one in found
        },
        "commit": current_commit() or "not a git checkout",
    }
    page = write(
        table,
        out=options.out,
        name=NAME,
        title="The photo world: all systems from one base, over training seeds",
        against=PIPELINE,
        notes=NOTES,
        passport=passport,
        head=HEAD,
    )
    print(page)
    print(f"Wrote {options.out / NAME}.md and .json")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
