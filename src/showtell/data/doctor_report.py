"""What the data doctor found, as text and as JSON (``doctor_page`` makes the page)."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.data.published import COLUMNS
from showtell.data.storage import write_atomically

SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """Counts of a split, and those that its paper prints ("cutter" is compared with both rules)."""

    split: str
    counts: dict[str, int]
    reported: dict[str, int]

    def difference(self, key: str) -> int | None:
        """Counted less reported; None where nothing is reported."""
        wanted = self.reported.get("cutter" if key.startswith("cutter") else key)
        return None if wanted is None else self.counts.get(key, 0) - wanted


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that was met ``count`` times, with examples and paths of photos to show."""

    key: str
    severity: str  # error, warning or note
    text: str
    count: int
    examples: tuple[str, ...] = ()
    pictures: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Drop:
    """How many examples of a split a kind of training would keep, and why it drops the others."""

    split: str
    need: str
    examples: int
    kept: int
    reasons: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """The whole finding. ``source`` is where the reported counts come from."""

    data: str
    kind: str
    licence: str
    licences: dict[str, int]
    splits: tuple[SplitReport, ...]
    source: str
    findings: tuple[Finding, ...]
    drops: tuple[Drop, ...]
    photos_read: int
    photos_flat: int
    photos_looked_at: bool

    def finding(self, key: str) -> Finding:
        return next(finding for finding in self.findings if finding.key == key)

    @property
    def healthy(self) -> bool:
        """Whether no error was found (warnings and notes aside)."""
        return not any(f.count for f in self.findings if f.severity == "error")

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), ensure_ascii=True, indent=2) + "\n"

    def table(self) -> list[list[str]]:
        """The counts: a head, and for each split what was counted, reported, and the difference."""
        rows = [["split", "", *COLUMNS.values(), "U/D", "I/D"]]
        for split in self.splits:
            counts = split.counts
            num = max(1, counts.get("dialogues", 0))
            ratios = [f"{counts.get(key, 0) / num:.2f}" for key in ("cutter_merged", "images")]
            counted = [f"{counts.get(key, 0):,}" for key in COLUMNS]
            rows.append([split.split, "counted", *counted, *ratios])
            if split.reported:
                wanted = [
                    split.reported.get("cutter" if key.startswith("cutter") else key)
                    for key in COLUMNS
                ]
                rows.append(
                    ["", "reported", *("" if n is None else f"{n:,}" for n in wanted), "", ""]
                )
                apart = [split.difference(key) for key in COLUMNS]
                cells = ["" if n is None else "equal" if n == 0 else f"{n:+,}" for n in apart]
                rows.append(["", "difference", *cells, "", ""])
        return rows

    def remarks(self) -> list[str]:
        """What the table needs said beside it."""
        said = []
        for split in self.splits:
            apart = [split.difference(key) for key in ("cutter_skipped", "cutter_merged")]
            if apart[0] is not None and all(apart):
                said.append(
                    f"{split.split}: CUtter is reported as {split.reported['cutter']:,}; counted "
                    f"are {split.counts['cutter_skipped']:,} with the photo turn skipped and "
                    f"{split.counts['cutter_merged']:,} with runs merged over it: neither matches."
                )
            neighbours = split.counts.get("neighbours", 0)
            if neighbours:
                same = split.counts.get("same_speaker", 0)
                said.append(
                    f"{split.split}: {same:,} of {neighbours:,} neighbouring turns "
                    f"({same / neighbours:.1%}) are by the same speaker."
                )
        if not self.photos_looked_at:
            said.append("The pixels were not looked at.")
        elif self.photos_read or self.photos_flat:
            said.append(
                f"{self.photos_read:,} photo files were read; {self.photos_flat:,} are too flat "
                "for a perceptual hash."
            )
        return said

    def to_text(self) -> str:
        """For a terminal."""
        lines = [f"{self.data}", f"licence: {self.licence}"]
        lines += [f"  {count:,} dialogues state: {text}" for text, count in self.licences.items()]
        lines += ["", *aligned(self.table())]
        if self.source:
            lines.append(f"(reported: {self.source})")
        lines += ["", *self.remarks(), ""]
        for finding in self.findings:
            lines.append(f"{finding.count:>9,}  {finding.text} [{finding.severity}]")
            if finding.count:
                shown = finding.examples[:SHOWN]
                lines += [f"           {example}" for example in shown]
                if finding.count > len(shown):
                    lines.append(f"           ... and {finding.count - len(shown):,} more")
        lines += ["", "What training would drop:"]
        for drop in self.drops:
            lines.append(f"  {drop.split}, {drop.need}: keeps {drop.kept:,} of {drop.examples:,}")
            lines += [f"      {count:>9,}  {reason}" for reason, count in drop.reasons.items()]
        return "\n".join(lines) + "\n"

    def write(self, out: Path) -> None:
        """``out/doctor.txt``, ``doctor.json`` and ``doctor.html``; StorageError if that fails."""
        from showtell.data.doctor_page import page

        write_atomically(out / "doctor.txt", self.to_text().encode("utf-8", "backslashreplace"))
        write_atomically(out / "doctor.json", self.to_json().encode())
        write_atomically(out / "doctor.html", page(self).encode("utf-8", "backslashreplace"))


def aligned(rows: list[list[str]]) -> list[str]:
    """Rows of cells as lines of text, the first two columns to the left and the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
