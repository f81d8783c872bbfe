"""A report: measured values and their passport, which says where all of it came from.

Fractions inside, percent only in print.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from showtell.data.storage import sha256_of, write_atomically
from showtell.errors import DataError
from showtell.metrics.intervals import Value, printed
from showtell.metrics.protocols import VERSIONS

_PACKAGES = (
    *("torch", "transformers", "diffusers", "numpy", "pillow", "tokenizers", "safetensors"),
    *("sacrebleu", "rouge-score", "nltk", "torchmetrics"),
)


def command_line() -> str:
    """The command of this process as one types it; "" where it is not showtell's."""
    program = Path(sys.argv[0])
    ours = program.name == "showtell" or program.parts[-2:] == ("showtell", "__main__.py")
    return "showtell " + shlex.join(sys.argv[1:]) if ours else ""


def installed_versions() -> dict[str, str]:
    """Versions of Python and of what computes, read without importing any of it."""
    found = {name: _version(name) for name in _PACKAGES}
    return {"python": platform.python_version()} | {k: v for k, v in found.items() if v}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def current_commit() -> str | None:
    """The commit of this checkout, "-dirty" with changes to tracked files; None without git. The
    environment's SHOWTELL_COMMIT goes before: a copy on another machine may be told where it is
    from."""
    if told := os.environ.get("SHOWTELL_COMMIT"):
        return told
    package = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(package), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        return done.stdout.strip()

    try:
        # an installed package inside some other repository has no commit of its own
        if Path(git("rev-parse", "--show-toplevel")) / "src" / package.name != package:
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory_bytes() -> int | None:
    """The most resident memory this process has had; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes elsewhere


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A figure that others published: printed apart, never among what was measured."""

    name: str
    value: float
    source: str
    split: str
    unit: str = "fraction"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Measured values and everything one needs to measure them again."""

    metrics: Mapping[str, Value]
    recipe: str
    checkpoint: str = ""
    model_digest: str = ""
    data: str
    data_digest: str
    seeds: tuple[int, ...]
    seconds: float
    command: str = field(default_factory=command_line)
    commit: str | None = field(default_factory=current_commit)
    showtell: str = field(default_factory=lambda: _version("showtell"))
    versions: Mapping[str, str] = field(default_factory=installed_versions)
    peak_memory_bytes: int | None = field(default_factory=peak_memory_bytes)
    counts: Mapping[str, int] = field(default_factory=dict)  # dialogues, missing photos, skipped
    notes: tuple[str, ...] = ()
    reported: tuple[Reported, ...] = ()
    encoders: Mapping[str, str] = field(default_factory=dict)  # role -> id: CLIP, features, ...

    @property
    def protocols(self) -> dict[str, str]:
        """The protocols of the values, and their versions."""
        used = {value.protocol for value in self.metrics.values() if value.protocol}
        return {name: VERSIONS.get(name, "") for name in sorted(used)}

    def as_dict(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {
            "protocols": self.protocols,
            "metrics": {name: asdict(value) for name, value in self.metrics.items()},
            "reported": [asdict(row) for row in self.reported],
        }

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        lines = [f"# {self.recipe or 'report'} on {self.data}", ""]
        lines += [
            "For people who want every measured figure with its interval and where it came from.",
            "",
            "Better is higher where the arrow points up (↑), lower where down (↓). The interval "
            "holds 95%: Wilson's for proportions, else a bootstrap.",
            "",
        ]
        groups: dict[str, list[Sequence[str]]] = {}
        for name, v in self.metrics.items():
            arrow = {True: " ↑", False: " ↓", None: ""}[v.higher_is_better]
            row = (f"{name}{arrow}", v.printed, v.interval, f"{v.n:,}", v.protocol, v.note)
            groups.setdefault(name.split(".")[0], []).append(row)
        head = ("measure", "value", "95%", "n", "protocol", "note")
        for group, rows in groups.items():
            lines += [f"## {group}", "", *_table(head, "|---|--:|:-:|--:|---|---|", rows), ""]
        if self.reported:
            found = [(r.name, printed(r.value, r.unit), r.split, r.source) for r in self.reported]
            lines += ["## reported, not measured here", ""]
            lines += [*_table(("measure", "value", "split", "source"), "|---|--:|---|---|", found)]
            lines.append("")
        if self.notes:
            lines += ["## notes", "", *(f"- {' '.join(note.split())}" for note in self.notes), ""]
        passport = [row for row in self._passport() if row[1]]
        lines += ["## passport", "", *_table(("", ""), "|---|---|", passport)]
        return "\n".join(lines) + "\n"

    def _passport(self) -> Iterator[tuple[str, str]]:
        def pairs(values: Mapping[str, Any]) -> str:
            return ", ".join(f"{key} {value}" for key, value in values.items())

        yield "command", f"`{self.command}`" if self.command else ""
        yield "checkpoint", self.checkpoint
        yield "model digest", self.model_digest
        yield "data", self.data
        yield "data digest", self.data_digest
        yield "counts", ", ".join(f"{n:,} {name}" for name, n in self.counts.items())
        yield "encoders", "; ".join(f"{role}: {id}" for role, id in self.encoders.items())
        yield "seeds", ", ".join(map(str, self.seeds))
        yield "protocols", ", ".join(f"{k} v{v}" if v else k for k, v in self.protocols.items())
        yield "showtell", self.showtell
        yield "commit", self.commit or "not a git checkout"
        yield "versions", pairs(self.versions)
        yield "time", f"{self.seconds:.1f} s"
        memory = self.peak_memory_bytes
        yield "peak memory", f"{memory / 1e9:.2f} GB" if memory else ""

    def write(self, out_dir: str | Path) -> tuple[Path, Path]:
        """Write report.json and report.md, each atomically; gives their paths."""
        out_dir = Path(out_dir)
        return (
            write_atomically(out_dir / "report.json", encoded(self.to_json())),
            write_atomically(out_dir / "report.md", encoded(self.to_markdown())),
        )


def _table(head: Sequence[str], rule: str, rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| " + " | ".join(head) + " |" if any(head) else "| | |"
    yield rule
    for row in rows:
        yield "| " + " | ".join(" ".join(text.split()).replace("|", "\\|") for text in row) + " |"


def encoded(text: str) -> bytes:
    """UTF-8; of a file's name or a rater's that is none, as JSON escapes it."""
    return text.encode(errors="backslashreplace")


def digest(paths: Iterable[str | Path]) -> str:
    """16 hex digits of the SHA-256 over the files' names and bytes, whatever their order."""
    total = hashlib.sha256()
    for path in sorted(map(Path, paths), key=lambda path: path.name):
        try:
            one = sha256_of(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
        total.update(f"{path.name}\0{one}\n".encode(errors="surrogateescape"))
    return total.hexdigest()[:16]


def model_digest(folder: str | Path) -> str:
    """The digest of a checkpoint: its weights and JSON files, without reports on it."""
    folder = Path(folder)
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix in (".safetensors", ".json") and path.name != "report.json"
    ]
    total = hashlib.sha256()
    for path in sorted(found):
        total.update(f"{path.relative_to(folder)}\0{digest([path])}\n".encode())
    return total.hexdigest()[:16]
