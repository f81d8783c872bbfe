"""Progress: what long work tells, and how a terminal shows it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from showtell.errors import printable

# what is being done, how many are done, of how many (0: not known)
Progress = Callable[[str, int, int], None]


def quiet(what: str, done: int, total: int) -> None:
    """A Progress that tells nobody."""


def terminal_progress(what: str, done: int, total: int) -> None:
    """A count on one line of a terminal, written over; nothing elsewhere."""
    if sys.stderr.isatty():
        end = "\n" if done >= total > 0 else ""
        count = f"{done:,}/{total:,}" if total else f"{done:,}"
        print(f"\r{what} {count}\x1b[K", end=end, file=sys.stderr, flush=True)


def terminal_line(text: str) -> None:
    """A line for people, wherever they read."""
    print(printable(text), file=sys.stderr, flush=True)


class StepBar:
    """A progress bar in a terminal, a line a minute elsewhere; ``batch`` examples are a step."""

    bar: Any = None

    def __init__(self, name: str, *, done: int, total: int, batch: int, quiet: bool) -> None:
        self.name, self.first, self.total, self.batch = name, done, total, batch
        self.quiet, self.began = quiet, time.monotonic()
        self.spoke = self.began

    def __enter__(self) -> StepBar:
        if not self.quiet and sys.stderr.isatty():
            from rich import progress

            columns = ("{task.description}", progress.BarColumn(), progress.MofNCompleteColumn())
            times = (progress.TimeElapsedColumn(), progress.TimeRemainingColumn())
            self.bar = progress.Progress(*columns, *times, "{task.fields[note]}")
            self.bar.start()
            self.task = self.bar.add_task(
                self.name, total=self.total, completed=self.first, note=""
            )
        return self

    def tick(self, step: int, losses: Mapping[str, float]) -> None:
        now = time.monotonic()
        rate = (step - self.first) / max(1e-9, now - self.began)
        means = " ".join(f"{key} {value:.4f}" for key, value in losses.items())
        note = f"{rate * self.batch:.0f}/s {means}"
        if self.bar:
            self.bar.update(self.task, completed=step, note=note)
        elif not self.quiet and now - self.spoke > 60:
            self.spoke = now
            note += f" {(self.total - step) / max(rate, 1e-9) / 60:.0f} min left"
            print(f"{self.name} {step}/{self.total} {note}", file=sys.stderr, flush=True)

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.stop()
