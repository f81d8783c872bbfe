"""The comparison on paper: Markdown for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from showtell.data.storage import write_atomically
from showtell.evaluation.compare import COLUMNS, NO_SYSTEM, NOT_RUN, Cell, Column, Table

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
DIFFERENCES = (
    'The difference and its 95% interval; p, two-sided; and, after "sees", the smallest '
    "difference that would have been found in four of five repetitions at a level of 5%."
)


def write(
    table: Table,
    columns: Sequence[Column] = COLUMNS,
    *,
    out: Path,
    name: str,
    notes: Sequence[str],
    passport: Mapping[str, str],
    **page: str,
) -> str:
    """NAME.json and NAME.md in ``out``, the page last; the page (``to_markdown``)."""
    text = to_markdown(table, columns, notes=notes, passport=passport, **page)
    plain = to_json(table, notes=notes, passport=passport)
    write_atomically(out / f"{name}.json", plain.encode())
    write_atomically(out / f"{name}.md", text.encode())
    return text


# ------------------------------------------------------------------------------------------ JSON


def to_json(table: Table, *, notes: Sequence[str], passport: Mapping[str, Any]) -> str:
    """Every cell with its value, interval, reason, difference and single runs."""
    rows = {name: {key: asdict(cell) for key, cell in row.items()} for name, row in table.items()}
    plain = {"passport": passport, "notes": list(notes), "rows": rows}
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


# -------------------------------------------------------------------------------------- Markdown


def to_markdown(
    table: Table,
    columns: Sequence[Column] = COLUMNS,
    *,
    title: str,
    against: str,
    notes: Sequence[str],
    passport: Mapping[str, str],
) -> str:
    """All groups of measures, then the differences to ``against``, then where it came from."""
    groups: dict[str, list[Column]] = {}  # the columns in which some system has a value
    for column in columns:
        if any(row[column.name].value is not None for row in table.values()):
            groups.setdefault(column.group, []).append(column)
    cells = ((name, row[columns[0].name]) for name, row in table.items())
    absent = [f"- {name}: {cell.reason}" for name, cell in cells if cell.reason.startswith(NOT_RUN)]
    lines = [f"# {title}", "", FOR_WHOM, HEAD.format(against=against), *absent, ""]
    for group, members in groups.items():
        rows = _rows_with(table, members, _belongs)
        lines += [f"## {group.capitalize()}", "", *_grid(rows, members, _cell_text), ""]
        lines += [*_reasons(rows, members), ""]
    differences: list[str] = []
    for members in groups.values():
        tested = [c for c in members if any(row[c.name].against for row in table.values())]
        if rows := _rows_with(table, tested, lambda cell: cell.against is not None):
            differences += [*_grid(rows, tested, _difference_text), ""]
    if differences:
        lines += [f"## Differences to {against}", "", DIFFERENCES, "", *differences]
    lines += ["## Notes", "", *(f"- {note}" for note in notes), ""]
    lines += ["## Passport", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in passport.items() if text]
    return "\n".join(lines) + "\n"


def _rows_with(table: Table, columns: Sequence[Column], what: Callable[[Cell], bool]) -> Table:
    """The rows of which it is true of some cell."""
    return {name: row for name, row in table.items() if any(what(row[c.name]) for c in columns)}


def _belongs(cell: Cell) -> bool:
    """Whether there is a value, or a reason that this system has of its own."""
    return cell.value is not None or not cell.reason.startswith((NOT_RUN, NO_SYSTEM))


def _grid(
    table: Table, columns: Sequence[Column], text_of: Callable[[Cell, Column], str]
) -> Iterator[str]:
    arrow = {True: " ↑", False: " ↓", None: ""}
    heads = [f"{column.head}{arrow[column.higher_is_better]}" for column in columns]
    yield f"| | {' | '.join(heads)} |"
    yield f"|---|{'--:|' * len(columns)}"
    for name, row in table.items():
        yield f"| {name} | {' | '.join(text_of(row[c.name], c) for c in columns)} |"


def _cell_text(cell: Cell, column: Column) -> str:
    if (value := cell.value) is None:
        return "-"
    text = _number(value.value, column)
    if value.low is not None and value.high is not None:
        text += f" [{_number(value.low, column)}, {_number(value.high, column)}]"
    return text + ("*" if cell.against and cell.against.p < 0.05 else "")


def _difference_text(cell: Cell, column: Column) -> str:
    if (found := cell.against) is None:
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
