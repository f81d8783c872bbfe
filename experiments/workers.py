"""Processes of a table: some at a time, each with one thread and a log of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def run_all(jobs: Mapping[str, Sequence[str]], *, logs: Path, workers: int) -> dict[str, str]:
    """Run commands of this Python by their names, ``workers`` at a time; those that failed, and
    why. Ctrl-C or SIGTERM ends all that were begun, and begins no other."""
    logs.mkdir(parents=True, exist_ok=True)
    running: list[subprocess.Popen] = []

    def work(name: str) -> str:
        log = logs / f"{slug(name)}.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, *jobs[name]],
                stdout=said,
                stderr=said,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            running.append(process)
            tell(f"began {name}; it writes to {log}")
            code = process.wait()
        lines = log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "error" in line.lower()] or lines or ["no word"]
        why = errors[-1].removeprefix("showtell: error: ")[:300]
        tell(f"{name}: done" if not code else f"{name}: it failed with exit code {code}: {why}")
        return f"it failed: {why}" if code else ""

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    pool = ThreadPoolExecutor(workers)
    try:
        ended = {name: pool.submit(work, name) for name in jobs}
        return {name: why for name, one in ended.items() if (why := one.result())}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()  # nothing happens to those that have ended
        pool.shutdown()
        signal.signal(signal.SIGTERM, before)


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
