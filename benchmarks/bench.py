"""The frame of the benchmarks: warm up, ways in turn within every run, medians and ranges, a
passport, and JSON. It imports nothing heavy, so that a process's peak memory is its own."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def parser(doc: str | None, *, runs: int, threads: int | None = None) -> argparse.ArgumentParser:
    """The options of a benchmark; ``parsed`` reads them."""
    found = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    found.add_argument("--runs", type=int, default=runs, help="timed runs, after one warm-up")
    found.add_argument("--threads", type=int, default=threads, help="torch's (default: its choice)")
    found.add_argument("--json", type=Path, help="write the figures here")
    return found


def parsed(options: argparse.ArgumentParser) -> argparse.Namespace:
    found = options.parse_args()
    if found.threads:
        import torch

        torch.set_num_threads(found.threads)
    return found


def in_turn(
    ways: Mapping[str, Callable[[], Any]],
    *,
    runs: int,
    before: Callable[[], Any] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each way, ``runs`` times: all in turn within a run, so that a slow minute is slow
    for all; the first run warms up. ``before`` each: what is not measured; ``clock``: of the wall,
    or of the processor, which others at work hardly slow."""
    import torch

    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, way in ways.items():
            before()
            began = clock()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if run:
                seconds[name].append(clock() - began)
    return seconds


def spread(values: Sequence[float], *, middle: bool = False) -> dict[str, float]:
    """Median and range, or the ``middle`` half."""
    ordered, count = sorted(values), len(values)
    low, high = (count // 4, 3 * count // 4) if middle else (0, count - 1)
    found = {"median": statistics.median(ordered), "low": ordered[low], "high": ordered[high]}
    return {**found, "n": count}


def show(rows: Mapping[str, Mapping[str, float]], *, head: str = "low to high") -> None:
    """Spreads of seconds."""
    print(f"| | median | {head} | n |\n|---|--:|:-:|--:|")
    for name, row in rows.items():
        median, low, high = (f"{row[key]:.4f}" for key in ("median", "low", "high"))
        print(f"| {name} | {median} s | {low} to {high} | {row['n']} |")


def written(options: argparse.Namespace, **found: Any) -> None:
    """The figures with their passport, in --json."""
    if options.json:
        import torch

        from showtell.metrics.report import current_commit
        from showtell.runtime import device_label

        passport = {
            "commit": current_commit(),
            "torch": torch.__version__,
            "device": device_label(),
            "machine": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "runs": options.runs,
        }
        text = json.dumps({"passport": passport, **found}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {options.json}")
