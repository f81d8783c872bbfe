"""What the papers print (reported.csv), by kind of data, protocol and form: shown apart, never as
our own."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from showtell.metrics.report import Reported


def reported_rows(kind: str, protocols: Sequence[str], form: str) -> tuple[Reported, ...]:
    """The published figures for this measurement."""
    with open(Path(__file__).with_suffix(".csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        Reported(
            name=row["name"],
            value=float(row["value"]),
            source=row["source"],
            split=row["split"],
            unit=row["unit"],
        )
        for protocol in protocols
        for row in rows
        if (row["kind"], row["protocol"], row["form"]) == (kind, protocol, form)
    )
