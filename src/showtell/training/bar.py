"""How a stage says how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from showtell.training.stage import Stage


class StageBar:
    """A progress bar in a terminal, a line a minute elsewhere."""

    def __init__(self, stage: Stage, done: int, *, quiet: bool) -> None:
        self.stage, self.first, self.quiet = stage, done, quiet
        self.bar: Progress | None = None
        self.began = self.spoke = time.monotonic()

    def __enter__(self) -> Any:
        if not self.quiet and sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self.bar.start()
            self.task = self.bar.add_task(
                self.stage.name, total=self.stage.steps, completed=self.first, note=""
            )
        return self.tick

    def tick(self, step: int, losses: Mapping[str, float]) -> None:
        now = time.monotonic()
        rate = (step - self.first) / max(1e-9, now - self.began)
        note = f"{rate * self.stage.batch_size:.0f}/s " + " ".join(
            f"{key} {value:.4f}" for key, value in losses.items()
        )
        if self.bar:
            self.bar.update(self.task, completed=step, note=note)
        elif not self.quiet and now - self.spoke > 60:
            self.spoke = now
            left = (self.stage.steps - step) / max(rate, 1e-9) / 60
            print(
                f"{self.stage.name} {step}/{self.stage.steps} {note} {left:.0f} min left",
                file=sys.stderr,
                flush=True,
            )

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.stop()
