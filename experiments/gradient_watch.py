"""How large the photo loss's gradient is in the LLM, written down while a row is trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from showtell.config import override
from showtell.data.storage import write_atomically
from showtell.recipes import run_recipe
from showtell.recipes.registry import RECIPES
from showtell.training.dialogue_task import DialogueTask

RECORDS, NORMS = "gradients.json", ("logits", "states", "whole")


@dataclass
class WatchedTask(DialogueTask):
    """A task whose backward pass leaves norms in ``file``, every ``every`` steps.

    ``logits``: of the photo loss's gradient (times its weight) at the logits of the captions, which
    nothing else reads; ``states``: at the states that these are made of; ``whole``: of all losses'
    gradient at all states. Hooks add nothing to the graph, so the training is what it would be.
    """

    file: Path = Path(RECORDS)
    every: int = 10
    squares: dict[str, float] = field(default_factory=dict)
    step: int | None = None  # the one that is being watched
    epoch: float = 0.0

    def __post_init__(self) -> None:
        self.module.bridge.register_forward_pre_hook(self._watch_spans)
        self.module.language.base.register_forward_hook(self._watch_states)

    def parts(self, indices: Sequence[int], **options: Any) -> Iterator[Any]:
        self.write()
        step = round(self.epoch * max(1, len(self) / len(indices)))
        if step % self.every == 0:
            self.step, self.squares = step, dict.fromkeys(NORMS, 0.0)
        yield from super().parts(indices, **options)

    def advance(self, epoch: float, *, of: float) -> None:
        self.epoch = epoch
        super().advance(epoch, of=of)

    def write(self) -> None:
        """Keep what the last backward pass left; a step that is done again replaces its record."""
        if self.step is not None:
            norms = {name: square**0.5 for name, square in self.squares.items()}
            old = [one for one in records_in(self.file.parent) if one["step"] < self.step]
            plain = json.dumps([*old, {"step": self.step, **norms}])
            write_atomically(self.file, plain.encode())
            self.step = None

    def _watch_spans(self, bridge: Any, inputs: tuple[Any, ...]) -> None:
        if self.step is not None and inputs[0].logits_NKV.requires_grad:
            self._add("logits", inputs[0].logits_NKV)
            self._add("states", inputs[0].before_NKD)

    def _watch_states(self, base: Any, inputs: Any, output: Any) -> None:
        if self.step is not None and output.last_hidden_state.requires_grad:
            self._add("whole", output.last_hidden_state)

    def _add(self, name: str, tensor: Tensor) -> None:
        def add(gradient: Tensor) -> None:
            self.squares[name] += float(gradient.float().square().sum())

        tensor.register_hook(add)


def records_in(run: Path) -> list[dict[str, float]]:
    """The norms of a run, step by step."""
    file = run / RECORDS
    return json.loads(file.read_text()) if file.is_file() else []


def watched_run(recipe: str, *, overrides: list[str], out: Path, **options: Any) -> Path:
    """``run_recipe``, watched some 200 times."""
    tasks: list[WatchedTask] = []

    def watch(task: DialogueTask) -> DialogueTask:
        every = max(1, override(RECIPES[recipe].config, overrides).stage.steps // 200)
        tasks.append(WatchedTask(**vars(task), file=out / RECORDS, every=every))
        return tasks[-1]

    path = run_recipe(recipe, overrides=overrides, out=out, watch=watch, **options)
    tasks[-1].write()
    return path
