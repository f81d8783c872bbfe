"""Jobs of a table: processes that are run once, some at a time, and go on where they stopped.

What is known of a job stands in a folder ``runs``: jobs/NAME.json (its arguments, device, peak
memory), logs/NAME.log, and seconds.json (how long each session took).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from showtell.cli.exits import STOPPED, exit_code_of
from showtell.data.storage import write_atomically
from showtell.errors import ConfigError
from showtell.runtime import device_label


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command of this Python. It is done where ``goal`` stands; ``out`` holds what it began."""

    name: str
    arguments: tuple[str, ...]
    out: Path
    goal: Path
    needs: tuple[str, ...] = ()
    resume: tuple[str, ...] = ()  # what to add to go on where it stopped
    impossible: str = ""  # why it cannot be run at all

    @property
    def done(self) -> bool:
        return self.goal.exists()


def training(
    name: str,
    recipe: str,
    settings: Sequence[str],
    *,
    out: Path,
    seed: int,
    writes: str = "showtell.json",
    needs: Sequence[str] = (),
    impossible: str = "",
) -> Job:
    """``showtell train`` of a recipe, whose model is there once ``out/model`` has ``writes``."""
    sets = [part for setting in settings for part in ("--set", setting)]
    arguments = ("-m", "showtell", "train", recipe, *sets, "--out", str(out), "--seed", str(seed))
    return Job(
        name=name,
        arguments=arguments,
        out=out,
        goal=out / "model" / writes,
        needs=tuple(needs),
        resume=("--resume",),
        impossible=impossible,
    )


# ------------------------------------------------------------------------------------- running


@dataclass
class Running:
    """A process at work, since when, and where it writes what it says."""

    job: Job
    process: subprocess.Popen
    log: Path
    began: float = field(default_factory=time.monotonic)


class Runner:
    """Runs jobs, ``workers`` at a time, each in a process with one thread; what failed is kept in
    ``failed``, with the reason.

    Without workers the jobs run in this process, one after the other, by ``call`` (a job's
    arguments -> exit code).
    """

    def __init__(
        self, runs: Path, *, workers: int, call: Callable[[Sequence[str]], int] | None = None
    ) -> None:
        self.runs = runs
        self.workers = workers
        self.call = call
        self.failed: dict[str, str] = {}

    def run(self, jobs: Sequence[Job]) -> None:
        """Run all that is not done. A job that fails takes those that need it with it."""
        waiting, running, began = [job for job in jobs if not job.done], [], time.monotonic()
        tell(f"{len(jobs) - len(waiting)} of {len(jobs)} jobs are done")
        try:
            while waiting or running:
                for job in list(waiting):
                    if reason := self._hopeless(job):
                        self.failed[job.name] = reason
                        waiting.remove(job)
                    elif self._ready(job, jobs) and not self.workers:
                        waiting.remove(job)
                        self._here(job)
                    elif self._ready(job, jobs) and len(running) < self.workers:
                        waiting.remove(job)
                        running.append(self._start(job))
                        tell(f"began {job.name}; it writes to {running[-1].log}")
                for one in list(running):
                    if self._ended(one):
                        running.remove(one)
                        how = self.failed.get(one.job.name, "done")
                        minutes = (time.monotonic() - one.began) / 60
                        left = len(waiting) + len(running)
                        tell(f"{one.job.name}: {how} ({minutes:.1f} min); {left} to go")
                if running:
                    time.sleep(0.2)
        finally:
            for one in running:
                one.process.terminate()
            for one in running:
                self._ended(one, block=True)
            self._spent(time.monotonic() - began)

    def _hopeless(self, job: Job) -> str:
        if job.impossible:
            return job.impossible
        return next((self.failed[name] for name in job.needs if name in self.failed), "")

    def _ready(self, job: Job, jobs: Sequence[Job]) -> bool:
        return all(other.done for other in jobs if other.name in job.needs)

    def _arguments(self, job: Job) -> list[str]:
        """What to run, to begin the job or to go on. Raises ConfigError where it was begun
        otherwise."""
        known = record_of(self.runs, job.name)
        if known and known["arguments"] != list(job.arguments) and job.out.exists():
            raise ConfigError(
                f'"{job.out}" was begun with other settings ({shlex.join(known["arguments"])}); '
                "wanted the same, so that rows are comparable; remove it, or name another --runs"
            )
        self._record(job, **known)
        return [*job.arguments, *(job.resume if job.out.exists() else ())]

    def _record(self, job: Job, **values: Any) -> None:
        at_once = max(1, self.workers)
        device = f"{device_label()}, {at_once} job{'s' if at_once > 1 else ''} at a time"
        plain = {**values, "arguments": list(job.arguments), "device": device}
        path = self.runs / "jobs" / f"{slug(job.name)}.json"
        write_atomically(path, (json.dumps(plain, indent=1) + "\n").encode())

    def _here(self, job: Job) -> None:
        assert self.call is not None
        code = self.call(self._arguments(job))
        if code == STOPPED:
            raise KeyboardInterrupt
        if code or not job.done:
            self.failed[job.name] = f"it failed with exit code {code}"

    def _start(self, job: Job) -> Running:
        log = self.runs / "logs" / f"{slug(job.name)}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        arguments = self._arguments(job)
        with log.open("ab") as said, log.with_suffix(".lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f'"{job.name}" is still at work in a process that an earlier call has begun; '
                    "wanted one at a time; wait for it, or end it, and run the same command again"
                ) from error
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=said,
                stderr=said,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C comes to us, and we stop it
                pass_fds=[lock.fileno()],  # it holds the lock as long as it lives
            )
        return Running(job=job, process=process, log=log)

    def _ended(self, one: Running, *, block: bool = False) -> bool:
        """Whether the process is over; keeps its peak memory, or why it failed."""
        pid, status, usage = os.wait4(one.process.pid, 0 if block else os.WNOHANG)
        if not pid:
            return False
        one.process.returncode = os.waitstatus_to_exitcode(status)
        if one.process.returncode or not one.job.done:
            said = one.log.read_text(errors="replace").splitlines()
            errors = [line for line in said if "error" in line.lower()] or said or ["no word"]
            why = errors[-1].removeprefix("showtell: ").removeprefix("error: ")
            self.failed[one.job.name] = f"it failed: {why[:300]}"
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        known = record_of(self.runs, one.job.name)
        most = max(peak, known.get("peak_memory_bytes", 0))
        self._record(one.job, **{**known, "peak_memory_bytes": most})
        return True

    def _spent(self, seconds: float) -> None:
        path = self.runs / "seconds.json"
        write_atomically(path, json.dumps([*seconds_spent(self.runs), round(seconds, 1)]).encode())


def record_of(runs: Path, name: str) -> dict[str, Any]:
    """A job's ``arguments``, ``device`` and ``peak_memory_bytes``; {} for one never begun."""
    path = runs / "jobs" / f"{slug(name)}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def seconds_spent(runs: Path) -> list[float]:
    """How long each call of ``Runner.run`` took."""
    path = runs / "seconds.json"
    return json.loads(path.read_text()) if path.exists() else []


def exit_code_with_jobs(main: Callable[[], int]) -> int:
    """``exit_code_of`` a script that runs jobs: SIGTERM ends it as Ctrl-C does, and its jobs."""

    def stop(*_: object) -> None:
        sys.exit(STOPPED)

    signal.signal(signal.SIGTERM, stop)
    return exit_code_of(main)


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
