"""What the data doctor found: as text, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from showtell.data.audit.counts import COLUMNS
from showtell.errors import printable

SHOWN = 3
EXAMPLES = 20


@dataclass
class SplitReport:
    """Counts of a split, and those that its paper prints ("cutter" is compared with both rules)."""

    split: str
    reported: dict[str, int]
    counts: Counter[str] = field(default_factory=Counter)

    def wanted(self, key: str) -> int | None:
        """What is reported; None where nothing is."""
        return self.reported.get("cutter" if key.startswith("cutter") else key)

    def difference(self, key: str) -> int | None:
        """Counted less reported; None where nothing is reported."""
        wanted = self.wanted(key)
        return None if wanted is None else self.counts[key] - wanted


@dataclass
class Finding:
    """Something that was met ``count`` times, and the first places where."""

    key: str
    severity: str  # error, warning or note
    text: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(printable(example))


@dataclass(kw_only=True)
class Audit:
    """The whole finding. ``source`` is where the reported counts come from."""

    data: str
    kind: str
    licence: str
    photos_looked_at: bool
    findings: tuple[Finding, ...]
    source: str = ""
    licences: Counter[str] = field(default_factory=Counter)
    splits: list[SplitReport] = field(default_factory=list)
    photos_read: int = 0
    photos_flat: int = 0

    def finding(self, key: str) -> Finding:
        return next(finding for finding in self.findings if finding.key == key)

    def to_json(self) -> str:
        return json.dumps(vars(self), ensure_ascii=True, indent=2, default=vars) + "\n"

    def table(self) -> list[list[str]]:
        """The counts: a head, and for each split what was counted, reported, and the difference."""
        rows = [["split", "", *COLUMNS.values()]]
        for split in self.splits:
            rows.append([split.split, "counted", *(f"{split.counts[key]:,}" for key in COLUMNS)])
            if split.reported:
                wanted = [split.wanted(key) for key in COLUMNS]
                apart = [split.difference(key) for key in COLUMNS]
                rows.append(["", "reported", *("" if n is None else f"{n:,}" for n in wanted)])
                shown = ("" if n is None else "equal" if n == 0 else f"{n:+,}" for n in apart)
                rows.append(["", "difference", *shown])
        return rows

    def remarks(self) -> list[str]:
        """What the table needs said beside it."""
        said = []
        for split in self.splits:
            if neighbours := split.counts["neighbours"]:
                same = split.counts["same_speaker"]
                said.append(
                    f"{split.split}: {same:,} of {neighbours:,} neighbouring turns "
                    f"({same / neighbours:.1%}) are by the same speaker."
                )
        if not self.photos_looked_at:
            said.append("The pixels were not looked at.")
        elif self.photos_read:
            said.append(
                f"{self.photos_read:,} photo files were read; {self.photos_flat:,} are too flat "
                "for a perceptual hash."
            )
        return said

    def to_text(self) -> str:
        """For a terminal."""
        lines = [f"{self.data}", f"licence: {self.licence}"]
        lines += [
            f"  {count:,} dialogues state: {text}"
            for text, count in self.licences.most_common(EXAMPLES)
        ]
        lines += ["", *aligned(self.table())]
        if self.source:
            lines.append(f"(reported: {self.source})")
        lines += ["", *self.remarks(), ""]
        for finding in self.findings:
            lines.append(f"{finding.count:>9,}  {finding.text} [{finding.severity}]")
            lines += [f"           {example}" for example in finding.examples[:SHOWN]]
            if finding.count > SHOWN:
                lines.append(f"           ... and {finding.count - SHOWN:,} more")
        return "\n".join(lines) + "\n"


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows of cells as lines of text, the first two columns to the left and the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
