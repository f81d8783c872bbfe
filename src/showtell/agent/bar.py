"""The progress bar of a download: what, how many of how many, bytes and bytes a second."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def download_bar() -> Iterator[Callable[[str, int, int | None, int], None]]:
    """A ``told(what, done, total, num_bytes)`` that moves the bar; silent outside a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, done, total, num_bytes: None
        return
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[counted]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, counted="")

        def told(what: str, done: int, total: int | None, num_bytes: int) -> None:
            elapsed = progress.tasks[0].elapsed or 0.0
            speed = f", {decimal(int(num_bytes / elapsed))}/s" if elapsed > 1 else ""
            of = f"/{total:,}" if total is not None else ""
            progress.update(
                task,
                description=what,
                completed=done,
                total=total,
                counted=f"{done:,}{of}, {decimal(num_bytes)}{speed}",
            )

        yield told
