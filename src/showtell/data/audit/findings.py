"""What the data doctor found: as text, as JSON, and as one HTML file that loads nothing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from showtell.data.audit.counts import COLUMNS
from showtell.data.photos import data_uri, load_photo
from showtell.data.storage import write_atomically
from showtell.errors import PhotoError, printable

THUMBNAIL = 112
MAX_PICTURES = 12  # groups a finding
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
style-src 'unsafe-inline'">
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color: #222; background: #fff }
pre { overflow-x: auto } summary { cursor: pointer } ul { overflow-wrap: anywhere }
figure { display: inline-block; margin: .3rem; padding: .3rem; border: 1px solid #ddd }
.error b { color: #b00020 } .warning b { color: #9a5b00 } .note b { color: #555 }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #16181c } figure { border-color: #444 }
  .error b { color: #ff8a80 } .warning b { color: #ffc46b } .note b { color: #aaa } }
</style>"""
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
    """Something that was met ``count`` times, with the first places and paths of photos to show."""

    key: str
    severity: str  # error, warning or note
    text: str
    count: int = 0
    examples: list[str] = field(default_factory=list)
    pictures: list[tuple[str, ...]] = field(default_factory=list)

    def note(self, example: str, *pictures: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(printable(example))
            if pictures:
                self.pictures.append(pictures)


@dataclass
class Drop:
    """How many examples of a split a kind of training would keep, and why it drops the others."""

    split: str
    need: str
    examples: int = 0
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def note(self, reason: str | None) -> None:
        self.examples += 1
        if reason is None:
            self.kept += 1
        else:
            self.reasons[reason] += 1


@dataclass(kw_only=True)
class Audit:
    """The whole finding. ``source`` is where the reported counts come from."""

    data: str
    kind: str
    licence: str
    source: str
    photos_looked_at: bool
    findings: tuple[Finding, ...]
    licences: Counter[str] = field(default_factory=Counter)
    splits: list[SplitReport] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    photos_read: int = 0
    photos_flat: int = 0

    def finding(self, key: str) -> Finding:
        return next(finding for finding in self.findings if finding.key == key)

    @property
    def healthy(self) -> bool:
        """Whether no error was found (warnings and notes aside)."""
        return not any(f.count for f in self.findings if f.severity == "error")

    def to_json(self) -> str:
        return json.dumps(vars(self), ensure_ascii=True, indent=2, default=vars) + "\n"

    def table(self) -> list[list[str]]:
        """The counts: a head, and for each split what was counted, reported, and the difference."""
        rows = [["split", "", *COLUMNS.values(), "U/D", "I/D"]]
        for split in self.splits:
            counts = split.counts
            num = max(1, counts["dialogues"])
            ratios = [f"{counts[key] / num:.2f}" for key in ("cutter_merged", "images")]
            rows.append([split.split, "counted", *(f"{counts[key]:,}" for key in COLUMNS), *ratios])
            if split.reported:
                wanted = [split.wanted(key) for key in COLUMNS]
                apart = [split.difference(key) for key in COLUMNS]
                shown = ["" if n is None else f"{n:,}" for n in wanted]
                rows.append(["", "reported", *shown, "", ""])
                shown = ["" if n is None else "equal" if n == 0 else f"{n:+,}" for n in apart]
                rows.append(["", "difference", *shown, "", ""])
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
            if neighbours := split.counts["neighbours"]:
                same = split.counts["same_speaker"]
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
            if finding.count:
                shown = finding.examples[:SHOWN]
                lines += [f"           {example}" for example in shown]
                if finding.count > len(shown):
                    lines.append(f"           ... and {finding.count - len(shown):,} more")
        lines += ["", "What training would drop:"]
        for drop in self.drops:
            lines.append(f"  {drop.split}, {drop.need}: keeps {drop.kept:,} of {drop.examples:,}")
            lines += [
                f"      {count:>9,}  {reason}" for reason, count in drop.reasons.most_common()
            ]
        return "\n".join(lines) + "\n"

    def write(self, out: Path) -> None:
        """``out/doctor.txt``, ``doctor.json`` and ``doctor.html``; StorageError if that fails."""
        write_atomically(out / "doctor.txt", self.to_text().encode("utf-8", "backslashreplace"))
        write_atomically(out / "doctor.json", self.to_json().encode())
        write_atomically(out / "doctor.html", _page(self).encode("utf-8", "backslashreplace"))


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


# -------------------------------------------------------------------------------------------- page


def _page(audit: Audit) -> str:
    """The text, and all examples of the findings with small copies of photos, without metadata."""
    title = f"Data doctor: {escape(audit.data)}"
    found = [_finding(finding) for finding in audit.findings if finding.count]
    return (
        f"{_HEAD}<title>{title}</title></head><body><h1>{title}</h1>\n"
        f"<pre>{escape(audit.to_text())}</pre>\n<h2>Findings</h2>\n{''.join(found)}</body></html>\n"
    )


def _finding(finding: Finding) -> str:
    groups = (
        f"<figure>{''.join(_thumbnail(path) for path in paths[:4])}</figure>"
        for paths in finding.pictures[:MAX_PICTURES]
    )
    examples = "".join(f"<li>{escape(example)}</li>" for example in finding.examples)
    more = finding.count - len(finding.examples)
    return (
        f'<details class="{finding.severity}" {"open" if finding.pictures else ""}><summary><b>'
        f"{finding.count:,}</b> {escape(finding.text)} [{finding.severity}]</summary>"
        f"{''.join(groups)}<ul>{examples}{f'<li>... and {more:,} more</li>' if more else ''}</ul>"
        "</details>\n"
    )


def _thumbnail(path: str) -> str:
    try:
        image = load_photo(path)
    except PhotoError:
        return f"<span>{escape(path)} (cannot be read)</span>"
    uri = data_uri(image, side=THUMBNAIL, enlarged=False)
    return f'<img src="{uri}" alt="{escape(path)}" title="{escape(path)}">'
