"""A run in its folder: its stages, its settings, and what keeps others out of it.

out/run.json         what was asked for: --resume goes on with the same, or says what differs
out/STAGE/state      what a stage goes on from; history.json when it has ended
out/model            the finished model
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from showtell.config import MOST, check_ranges, described, override
from showtell.data.storage import locked, write_atomically
from showtell.errors import CheckpointError, ConfigError, ShowtellError
from showtell.runtime import gathered, processes, the_device, told_by
from showtell.training.loop import run_stage
from showtell.training.stage import Stage
from showtell.training.task import Task

RUN = "run.json"
History = list[dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Runs stages in their own folders; one that has ended is taken as it ended on --resume."""

    out: Path
    resume: bool
    seed: int = 0

    def train(self, stage: Stage, task: Task) -> History:
        """Train the stage; its history."""
        if stage.steps == 0:
            task.module.to(the_device())
            return []
        folder = self.out / stage.name
        folder.mkdir(parents=True, exist_ok=True)
        stage = replace(stage, seed=stage.seed + self.seed)
        history = run_stage(stage, task, out=folder, resume=self.resume)
        (folder / "history.json").write_text(json.dumps(history))
        return history


@contextmanager
def run_folder(
    out: Path, config: Any, *, recipe: str, settings: Sequence[str], resume: bool
) -> Iterator[tuple[Path, Any]]:
    """(the folder to work in, the configuration of the run), the folder held for this block.

    Of several processes the first works in ``out``, a further one in a copy that is thrown away.
    Raises ConfigError for a folder that holds a run, if it is not to be resumed, and for settings
    that are not its own; StorageError where nothing can be written, or another process is at work.
    """
    rank, _ = processes()
    with locked(out) if rank == 0 else nullcontext():
        problem: ShowtellError | None = None
        if rank == 0:
            try:
                config = _begun(out, config, recipe=recipe, settings=settings, resume=resume)
            except ShowtellError as error:
                problem = error
        if (problem := told_by(0, problem)) is not None:
            raise problem
        config = told_by(0, config)
        if rank == 0:
            gathered(None)  # the others have their copies
            yield out, config
            return
        scratch = out / f".rank{rank}"
        shutil.rmtree(scratch, ignore_errors=True)
        if resume:
            # run_stage has its state from the first process
            spared = shutil.ignore_patterns(".rank*", "state*", "best.safetensors")
            shutil.copytree(out, scratch, ignore=spared)
        gathered(None)
        yield scratch, config
        shutil.rmtree(scratch)


def _begun(out: Path, config: Any, *, recipe: str, settings: Sequence[str], resume: bool) -> Any:
    """The configuration of the run in ``out``, which is noted there if it is a new one."""
    if not resume and any(out.iterdir()):
        raise ConfigError(
            f'"{out}" already holds files; wanted an empty folder, so that no run is overwritten; '
            "go on with --resume, or choose another --out"
        )
    if not (out / RUN).exists():
        note = json.dumps({"recipe": recipe, "settings": list(settings)}, indent=2) + "\n"
        write_atomically(out / RUN, note.encode())
        return override(config, settings)
    try:
        known: Mapping[str, Any] = json.loads((out / RUN).read_text())
        begun, asked = known["recipe"], known["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f'"{out / RUN}" cannot be read ({error}); wanted what the run was begun with; choose '
            "another --out"
        ) from error
    if begun != recipe:
        raise ConfigError(
            f'"{out}" holds a run of {begun}, and {recipe} is wanted; choose another --out'
        )
    stored = override(config, asked)
    wanted = {key: value for key, value, _ in described(override(stored, settings))}
    for key, value, _ in described(stored):
        if wanted.get(key, value) != value:
            raise ConfigError(
                f'"{out}" was begun with {key}={value}, and {wanted[key]} is wanted; leave out '
                f"--set {key} to go on with it, or choose another --out"
            )
    return stored


def check_counts(recipe: Any) -> None:
    """Refuse a recipe's counts below zero; of what is trained on there is one, or none: all."""
    one = ("num_dialogues", "num_photos", "num_samples")
    values = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    counts = {name: (int(name in one), MOST) for name in values if isinstance(values[name], int)}
    check_ranges(recipe, "the run", counts)
