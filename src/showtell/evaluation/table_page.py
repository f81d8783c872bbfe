"""The comparison on paper: Markdown, JSON and a chart with intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from showtell.data.storage import write_atomically
from showtell.errors import DataError, import_extra
from showtell.evaluation.compare import COLUMNS, NO_SYSTEM, NOT_RUN, Cell, Column, Table
from showtell.metrics.intervals import Value
from showtell.metrics.paired import Difference
from showtell.metrics.pictures import save_picture

FOR_WHOM = """\
For researchers who want every figure of this experiment with its interval and its command. A
script writes this page; what its figures say about a paper's claims is said on that paper's page
(docs/papers).
"""
HEAD = """\
Better is higher where the arrow points up (↑), lower where down (↓). In brackets stands the 95%
interval of a bootstrap over dialogues; it tells nothing of other training seeds. A star marks a
difference to "{against}" at p < 0.05, paired by dialogue and not corrected for the number of tests.
"-" is explained below the table. Every measure is defined in [metrics.md](../metrics.md).
"""


# -------------------------------------------------------------------------------------- Markdown


def to_markdown(
    table: Table,
    *,
    title: str,
    against: str,
    notes: Sequence[str],
    passport: Mapping[str, str],
    columns: Sequence[Column] = COLUMNS,
    head: str = HEAD,
) -> str:
    """All groups of measures, then the differences to ``against``, then where it came from.
    ``head`` says what a cell and its interval are."""
    lines = [f"# {title}", "", FOR_WHOM, head.format(against=against)]
    lines += [*_absent(table, columns[0]), ""]
    groups = _groups(table, columns)
    for group, members in groups.items():
        rows = _rows_with(table, members, _belongs)
        lines += [f"## {group.capitalize()}", "", *_grid(rows, members, _cell_text), ""]
        lines += [*_reasons(rows, members), ""]
    lines += _differences(table, groups, against)
    lines += ["## Notes", "", *(f"- {note}" for note in notes), ""]
    lines += ["## Passport", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in passport.items() if text]
    return "\n".join(lines) + "\n"


def _differences(table: Table, groups: Mapping[str, Sequence[Column]], against: str) -> list[str]:
    """The differences that there are, by group; nothing where ``against`` was not run."""
    lines: list[str] = []
    for members in groups.values():
        tested = [c for c in members if any(row[c.name].against for row in table.values())]
        rows = _rows_with(table, tested, lambda cell: cell.against is not None)
        lines += [*_grid(rows, tested, _difference_text), ""] if rows else []
    if not lines:
        return []
    head = (
        'The difference and its 95% interval; p, two-sided; and, after "sees", the smallest '
        "difference that would have been found in four of five repetitions at a level of 5%."
    )
    return [f"## Differences to {against}", "", head, "", *lines]


def _groups(table: Table, columns: Sequence[Column]) -> dict[str, list[Column]]:
    """The columns in which some system has a value, by group."""
    groups: dict[str, list[Column]] = {}
    for column in columns:
        if any(row[column.name].value is not None for row in table.values()):
            groups.setdefault(column.group, []).append(column)
    return groups


def _rows_with(table: Table, columns: Sequence[Column], what: Callable[[Cell], bool]) -> Table:
    """The rows of which it is true of some cell."""
    return {
        name: row
        for name, row in table.items()
        if any(what(row[column.name]) for column in columns)
    }


def _belongs(cell: Cell) -> bool:
    """Whether there is a value, or a reason that this system has of its own."""
    return cell.value is not None or not cell.reason.startswith((NOT_RUN, NO_SYSTEM))


def _absent(table: Table, column: Column) -> list[str]:
    """The systems that were not run, and why."""
    cells = {name: row[column.name] for name, row in table.items()}
    return [
        f"- {name}: {cell.reason}"
        for name, cell in cells.items()
        if cell.reason.startswith(NOT_RUN)
    ]


def _grid(
    table: Table, columns: Sequence[Column], text_of: Callable[[Cell, Column], str]
) -> list[str]:
    arrow = {True: " ↑", False: " ↓", None: ""}
    heads = [f"{column.head}{arrow[column.higher_is_better]}" for column in columns]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'--:|' * len(columns)}"]
    for name, row in table.items():
        cells = [text_of(row[column.name], column) for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cell_text(cell: Cell, column: Column) -> str:
    if cell.value is None:
        return "-"
    value = cell.value
    text = _number(value.value, column)
    if value.low is not None and value.high is not None:
        text += f" [{_number(value.low, column)}, {_number(value.high, column)}]"
    return text + ("*" if cell.against and cell.against.p < 0.05 else "")


def _difference_text(cell: Cell, column: Column) -> str:
    found = cell.against
    if found is None:
        return "-"
    value, low, high, seen = (
        _number(number, column) for number in (found.value, found.low, found.high, found.detectable)
    )
    return f"{value} [{low}, {high}], p {found.p:.3f}, sees {seen}"


def _number(value: float | None, column: Column) -> str:
    """Fractions as percentages without a sign, counts whole, the rest with three digits."""
    assert value is not None
    if column.unit == "fraction":
        return f"{100 * value:.1f}%"
    if column.group == "cost":
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _reasons(table: Table, columns: Sequence[Column]) -> list[str]:
    """Why cells are empty: each reason once, with the columns where these are not all."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name, row in table.items():
        heads: dict[str, list[str]] = {}
        for column in columns:
            if row[column.name].value is None and row[column.name].reason != NO_SYSTEM:
                heads.setdefault(row[column.name].reason, []).append(column.head)
        for reason, some in heads.items():
            where = () if len(some) == len(columns) else tuple(some)
            found.setdefault((reason, where), []).append(name)
    return [
        f"- {'; '.join(names)}: {reason}" + (f" ({', '.join(where)})" if where else "")
        for (reason, where), names in found.items()
    ]


# ------------------------------------------------------------------------------------------ JSON


def to_json(table: Table, *, notes: Sequence[str], passport: Mapping[str, Any]) -> str:
    """The same, every cell with its value, interval, reason, difference and single runs."""
    rows = {
        name: {column: asdict(cell) for column, cell in row.items()} for name, row in table.items()
    }
    plain = {"passport": passport, "notes": list(notes), "rows": rows}
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> tuple[Table, dict[str, Any]]:
    """The table and the passport that ``to_json`` wrote. Raises DataError for another text."""
    try:
        plain = json.loads(text)
        table = {
            name: {column: _cell_of_json(**cell) for column, cell in row.items()}
            for name, row in plain["rows"].items()
        }
        return table, dict(plain["passport"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"not a table as to_json writes it ({error})") from error


def _cell_of_json(
    *,
    value: Mapping[str, Any] | None,
    reason: str,
    against: Mapping[str, Any] | None,
    runs: Sequence[float],
) -> Cell:
    return Cell(
        value=Value(**value) if value is not None else None,
        reason=reason,
        against=Difference(**against) if against is not None else None,
        runs=tuple(runs),
    )


# ---------------------------------------------------------------------------------------- pictures


def chart(table: Table, path: Path, *, columns: Sequence[Column] = COLUMNS) -> Path:
    """A panel for each measure with intervals: a dot and its 95% for every system."""
    panels = [
        column
        for column in columns
        if any((v := row[column.name].value) and v.low is not None for row in table.values())
    ]
    across = max(1, min(4, len(panels)))
    down = max(1, -(-len(panels) // across))  # with too few dialogues there is no interval
    figure = import_extra("matplotlib.figure", what="a chart").Figure(
        figsize=(3.4 * across, 0.6 + (0.55 + 0.22 * len(table)) * down)
    )
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    names = list(table)
    for axes, column in zip(grid.flat, panels, strict=False):
        better = {True: " (higher is better)", False: " (lower is better)", None: ""}
        axes.set_title(f"{column.head}{better[column.higher_is_better]}", fontsize=9)
        for place, name in enumerate(names):
            value = table[name][column.name].value
            if value is not None and value.low is not None:
                axes.plot([value.low, value.high], [place, place], color="#0072b2", linewidth=2)
                axes.plot([value.value], [place], "o", color="#0072b2", markersize=4)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(axis="x", color="#e5e8ed")
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    figure.tight_layout()
    return save_picture(figure, path)


def write(
    table: Table,
    columns: Sequence[Column] = COLUMNS,
    *,
    out: Path,
    name: str,
    title: str,
    against: str,
    notes: Sequence[str],
    passport: Mapping[str, str],
    head: str = HEAD,
    picture: Callable[[Path], Any] | None = None,
) -> str:
    """NAME.json, NAME.png and NAME.md in ``out``, the page last; the page. ``picture`` draws
    instead of a panel for each column."""
    page = to_markdown(
        table,
        title=title,
        against=against,
        notes=notes,
        passport=passport,
        columns=columns,
        head=head,
    )
    plain = to_json(table, notes=notes, passport=passport)
    write_atomically(out / f"{name}.json", plain.encode())
    if picture is None:
        chart(table, out / f"{name}.png", columns=columns)
    else:
        picture(out / f"{name}.png")
    write_atomically(out / f"{name}.md", page.encode())
    return page
