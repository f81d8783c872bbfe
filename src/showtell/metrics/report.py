"""A number and its passport: value, interval, N, protocol; and where the whole report came from.

Fractions inside, percent only in print.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from showtell.data.storage import write_atomically
from showtell.errors import DataError

RESAMPLES = 1000
_Z = 1.959963984540054  # the normal quantile of a two-sided 95 %
_PACKAGES = (
    *("torch", "transformers", "diffusers", "numpy", "pillow", "tokenizers", "safetensors"),
    *("sacrebleu", "rouge-score", "nltk", "torchmetrics"),
)

# The version goes up whenever the same data would give another number.
PROTOCOLS: dict[str, str] = {
    "psdg": "1",  # BLEU and ROUGE-L as the released code of 2408.08650 computes them
    "standard": "1",  # sacrebleu, rouge-score and nltk at their defaults
    "minigpt5": "1",  # the released metric.py of 2310.02239
    "mmdialog": "1",  # the alignment and MM-Relevance of 2211.05719
    "gill": "1",  # the released validation and evals of 2305.17216
    "photochat": "1",  # the share moment: every position from the second turn to the share
    "world": "1",  # the photo world: scored by the oracle
    "judge": "1",  # people's votes on the three questions of 2310.02239
}


@dataclass(frozen=True, kw_only=True)
class Value:
    """A measured number with its 95% interval; ``value`` is None exactly where ``n`` is 0.

    ``unit`` is "fraction" (printed as percent) or what the plain number counts ("s", "photos").
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    higher_is_better: bool | None = True  # None: a description, neither better nor worse
    protocol: str = ""
    note: str = ""
    unit: str = "fraction"

    def __post_init__(self) -> None:
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise DataError(
                    f"a measured value is {number}, wanted a finite number. The model or the data "
                    "gave NaN or infinity: look at the losses, or evaluate another checkpoint."
                )

    @property
    def printed(self) -> str:
        return _print(self.value, self.unit)

    @property
    def interval(self) -> str:
        if self.low is None or self.high is None:
            return "–"
        return f"{_print(self.low, self.unit)} – {_print(self.high, self.unit)}"


def _print(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "fraction":
        return f"{100 * value:.1f}%"
    digits = 0 if value == int(value) and abs(value) >= 10 else 3 if abs(value) < 10 else 1
    return f"{value:,.{digits}f} {unit}".strip()


# ------------------------------------------------------------------------------------ intervals


def resample_counts(
    num_groups: int, *, seed: int, resamples: int = RESAMPLES
) -> Iterator[np.ndarray]:
    """Bootstrap draws in blocks (R, G): how often each of the G groups was drawn."""
    rng = np.random.default_rng(seed)
    block = max(1, min(resamples, 2_000_000 // num_groups))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn_RG = rng.integers(num_groups, size=(rows, num_groups))
        drawn_RG += np.arange(rows)[:, None] * num_groups
        counts = np.bincount(drawn_RG.ravel(), minlength=rows * num_groups)
        yield counts.reshape(rows, num_groups).astype(np.float64)


def percentiles(values: Iterable[np.ndarray]) -> tuple[float, float]:
    """The 2.5% and 97.5% percentiles of bootstrapped values."""
    low, high = np.percentile(np.concatenate(list(values)), (2.5, 97.5))
    return float(low), float(high)


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval of a proportion: sound at 0, at 1 and for small n."""
    share = successes / n
    centre = share + _Z**2 / (2 * n)
    spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def mean_interval(
    values: Sequence[float] | np.ndarray,
    *,
    seed: int,
    groups: Sequence[Any] | None = None,
    resamples: int = RESAMPLES,
) -> tuple[float, float, float]:
    """(mean, low, high): Wilson for 0/1 values, else the percentile bootstrap.

    ``groups`` names what was drawn independently (the photo of an attribute, the dialogue of a
    position); whole groups are then resampled, 0/1 or not.
    """
    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean())
    if groups is None and np.isin(values, (0.0, 1.0)).all():
        return (mean, *wilson(float(values.sum()), len(values)))
    if groups is None:
        sums_G, sizes_G = values, np.ones_like(values)
    else:
        _, index = np.unique(np.asarray(groups), return_inverse=True)
        sums_G, sizes_G = np.bincount(index, weights=values), np.bincount(index)
    draws = resample_counts(len(sums_G), seed=seed, resamples=resamples)
    return (mean, *percentiles((c @ sums_G) / (c @ sizes_G) for c in draws))


def mean_value(
    values: Sequence[float] | np.ndarray,
    *,
    seed: int,
    groups: Sequence[Any] | None = None,
    higher_is_better: bool | None = True,
    protocol: str = "",
    note: str = "",
    unit: str = "fraction",
) -> Value:
    """The mean of the values with its interval; no values give ``n`` 0 and no number."""
    mean = low = high = None
    if len(values):
        mean, low, high = mean_interval(values, seed=seed, groups=groups)
    return Value(
        value=mean,
        low=low,
        high=high,
        n=len(values),
        higher_is_better=higher_is_better,
        protocol=protocol,
        note=note,
        unit=unit,
    )


# --------------------------------------------------------------------------------- the passport


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
    checkpoint: str
    model_digest: str
    data: str
    data_digest: str
    seeds: tuple[int, ...]
    seconds: float
    command: str = ""
    commit: str | None = None
    showtell: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    protocols: Mapping[str, str] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)  # dialogues, missing photos, skipped
    notes: tuple[str, ...] = ()
    reported: tuple[Reported, ...] = ()
    encoders: Mapping[str, str] = field(default_factory=dict)  # role -> id: CLIP, features, ...

    @classmethod
    def of_this_run(
        cls,
        *,
        metrics: Mapping[str, Value],
        recipe: str,
        checkpoint: str,
        model_digest: str,
        data: str,
        data_digest: str,
        seeds: tuple[int, ...],
        seconds: float,
        command: str = "",
        counts: Mapping[str, int] | None = None,
        notes: tuple[str, ...] = (),
        reported: tuple[Reported, ...] = (),
    ) -> Report:
        """A report whose commit, versions, protocols and memory are this process's own."""
        used = {value.protocol for value in metrics.values() if value.protocol}
        return cls(
            metrics=metrics,
            recipe=recipe,
            checkpoint=checkpoint,
            model_digest=model_digest,
            data=data,
            data_digest=data_digest,
            seeds=seeds,
            seconds=seconds,
            command=command,
            commit=current_commit(),
            showtell=_version("showtell"),
            versions=installed_versions(),
            protocols={name: PROTOCOLS.get(name, "") for name in sorted(used)},
            peak_memory_bytes=peak_memory_bytes(),
            counts=counts or {},
            notes=notes,
            reported=reported,
        )

    def as_dict(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {
            "metrics": {name: asdict(value) for name, value in self.metrics.items()},
            "reported": [asdict(row) for row in self.reported],
        }

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        lines = [f"# {self.recipe or 'report'} on {self.data}", ""]
        lines += [
            "Better is higher where the arrow points up (↑), lower where down (↓). The interval "
            "holds 95%: Wilson's for proportions, else a bootstrap.",
            "",
        ]
        for group, names in _groups(self.metrics).items():
            lines += [f"## {group}", "", "| measure | value | 95% | n | protocol | note |"]
            lines += ["|---|--:|:-:|--:|---|---|"]
            for name in names:
                value = self.metrics[name]
                arrow = {True: " ↑", False: " ↓", None: ""}[value.higher_is_better]
                lines.append(
                    f"| {_cell(name)}{arrow} | {value.printed} | {value.interval} | {value.n:,} "
                    f"| {_cell(value.protocol)} | {_cell(value.note)} |"
                )
            lines.append("")
        if self.reported:
            lines += ["## reported, not measured here", "", "| measure | value | split | source |"]
            lines += ["|---|--:|---|---|"]
            lines += [
                f"| {_cell(r.name)} | {_print(r.value, r.unit)} | {_cell(r.split)} "
                f"| {_cell(r.source)} |"
                for r in self.reported
            ]
            lines.append("")
        if self.notes:
            lines += ["## notes", "", *(f"- {note}" for note in self.notes), ""]
        lines += ["## passport", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {_cell(text)} |" for name, text in self._passport() if text]
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
            write_atomically(out_dir / "report.json", self.to_json().encode()),
            write_atomically(out_dir / "report.md", self.to_markdown().encode()),
        )


def _groups(metrics: Mapping[str, Value]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in metrics:
        groups.setdefault(name.split(".")[0], []).append(name)
    return groups


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# -------------------------------------------------------------------------- what this run ran on


def digest(paths: Iterable[str | Path]) -> str:
    """16 hex digits of the SHA-256 over the files' names and bytes, whatever their order."""
    total = hashlib.sha256()
    for path in sorted(map(Path, paths), key=lambda path: path.name):
        try:
            with open(path, "rb") as file:
                one = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
        total.update(f"{path.name}\0{one}\n".encode())
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
