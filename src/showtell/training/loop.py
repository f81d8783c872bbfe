"""One loop for every stage: resumable to the bit on a CPU, alone or under torchrun.

torchrun --nproc-per-node 2 -m showtell train RECIPE      averages gradients over the processes
    --set 'stage.shard=["language.model.model.layers"]'    shares the weights out over them

Each process computes its part of every batch; the first alone writes, and all go on from its state.
Ctrl-C and SIGTERM end a step, save the state and say how to go on.
"""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import get_ema_multi_avg_fn

from showtell.data.storage import write_atomically
from showtell.errors import ConfigError
from showtell.progress import StepBar
from showtell.runtime import (
    gathered,
    mean_of_ranks,
    mixed_precision,
    processes,
    take_from_first,
    the_device,
    told_by,
)
from showtell.training.faults import not_a_number, not_enough, out_of_memory, require_same_data
from showtell.training.features import features_kept
from showtell.training.footprint import keep_less
from showtell.training.log import records_kept
from showtell.training.sharded import Sharded, Whole, full, moving_of, put
from showtell.training.stage import Stage
from showtell.training.state import load_state, plain, recovered, save_state
from showtell.training.task import Task, batch_indices

BEST = "best.safetensors"


class ExponentialAverage:
    """A moving average of the moving parameters; young averages forget faster."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in parameters.items()}

    def update(self, parameters: Mapping[str, nn.Parameter], step: int) -> None:
        blend = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        blend(list(self.values.values()), [parameters[n].detach() for n in self.values], step)


def set_modes(module: nn.Module) -> None:
    """Training mode where a parameter moves; what stands still wholly is in evaluation mode, so
    that no dropout disturbs it. Modules without parameters do as what holds them does."""
    module.train(any(p.requires_grad for p in module.parameters()))
    for child in module.children():
        if any(True for _ in child.parameters()):
            set_modes(child)
        else:
            child.train(module.training)


@dataclass
class Progress:
    """How far a stage is: progress.json of its state.

    ``best`` is keyed as ``patience_metrics``; ``stale`` counts measurements since one was better;
    ``sums`` are of the losses of the ``counted`` steps since the last record; ``examples`` counts
    those of the data, on which the order of an epoch depends.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    stale: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counted: int = 0
    seconds: float = 0.0
    plateau: dict[str, Any] | None = None
    examples: int | None = None


def run_stage(
    stage: Stage, task: Task, *, out: Path, resume: bool, stop_after: int | None = None
) -> list[dict[str, float]]:
    """Train; returns the history (one record every few steps) and leaves the module trained.

    The module is moved to ``the_device()`` and stays there; ``generator`` is the CPU's, and what a
    library draws without one follows from seed and step. With ``stage.patience_metrics`` the
    module ends with the weights that were best by the first of them (kept in
    ``out``/best.safetensors), else with ``stage.ema`` with the averaged weights. ``stop_after``
    ends the process's share early, as a kill would, with the state saved (for tests of --resume).
    Raises GenerationError when a loss or gradient is not finite (what was saved is unharmed),
    ConfigError for a loss without a weight, KeyboardInterrupt when stopped, its state saved.
    """
    rank, world = processes()
    if stage.batch_size % world:
        raise ConfigError(
            f'stage "{stage.name}" has a batch of {stage.batch_size} for {world} processes; wanted '
            "as many examples for each; change batch_size with --set, or --nproc-per-node"
        )
    out = told_by(0, out)
    task.module.to(the_device())
    for name, parameter in task.module.named_parameters():
        parameter.requires_grad_(stage.multiplier(name) > 0)
    moving = moving_of(task.module)
    take_from_first(moving.values())
    if stage.checkpointing:
        keep_less(task.module)
    for name in stage.compile:
        task.module.get_submodule(name).compile()
    spread = Sharded(task.module, units=stage.shard) if stage.shard and world > 1 else Whole()
    moving = moving_of(task.module)
    optimizer = _optimizer(stage, moving)
    plateau = _plateau(stage) if stage.decay == "plateau" else None
    ema = ExponentialAverage(moving, stage.ema) if stage.ema else None
    generator = torch.Generator().manual_seed(stage.seed * 7919 + rank)
    kept = {
        "module": task.module,
        "optimizer": optimizer,
        "names": {parameter: name for name, parameter in moving.items()},
    }
    now, state = Progress(examples=len(task)), out / "state"
    if not resume and rank == 0:
        (out / BEST).unlink(missing_ok=True)
    if resume and told_by(0, rank == 0 and recovered(state)):
        known, averages = load_state(state, generator=generator, rank=rank, **kept)
        now = Progress(**{key: known[key] for key in asdict(now) if key in known})
        require_same_data(stage, task, begun_with=now.examples)
        if ema:
            ema.values = averages
        if plateau:
            plateau.load_state_dict(now.plateau or {})
            plateau.optimizer.param_groups[0]["lr"] = plateau.get_last_lr()[0]
    spent, began = now.seconds, time.monotonic()

    def save() -> None:
        chances, sums = gathered(generator.get_state()), mean_of_ranks(now.sums)
        now.seconds = spent + time.monotonic() - began
        now.plateau = plateau.state_dict() if plateau else None
        if rank == 0 or spread.shares > 1:
            progress = {**asdict(now), "sums": sums, "stage": asdict(stage)}
            averages = ema.values if ema else None
            save_state(state, ema=averages, generators=chances, progress=progress, **kept)

    def indices_of(step: int) -> list[int]:
        numbers = batch_indices(len(task), stage.batch_size, step, stage.seed, blocks=task.blocks)
        return numbers[rank::world]

    saved, epoch_steps = began, max(1, len(task) / stage.batch_size)
    bar = StepBar(
        stage.name, done=now.step, total=stage.steps, batch=stage.batch_size, quiet=rank > 0
    )
    kind = "none" if rank else stage.log
    with (
        bar,
        features_kept(task.module, stage.features),
        records_kept(kind, out, step=now.step) as noted,
        _stopped_by_signal() as stopped,
    ):
        set_modes(task.module)
        # also of a run that patience had ended, and that is resumed in a later stage
        while now.step < stage.steps and not (stage.patience and now.stale >= stage.patience):
            step = now.step
            indices = indices_of(step)
            if step + 1 < stage.steps:
                task.prefetch(indices_of(step + 1))
            task.advance(step / epoch_steps, of=stage.steps / epoch_steps)
            # for dropout, which knows no generator of its own
            torch.manual_seed((stage.seed * 1_000_003 + step) * world + rank)
            rate = stage.rate(step) * (float(plateau.get_last_lr()[0]) if plateau else 1.0)
            try:
                losses = _step(
                    stage, task, indices, rate, optimizer, moving, generator, step, spread
                )
            except RuntimeError as error:  # OutOfMemoryError is one
                if not out_of_memory(error):
                    raise
                raise not_enough(stage, step, task.module, shares=spread.shares) from error
            now.step = step = step + 1
            if ema:
                ema.update(moving, step)
            for key, value in losses.items():
                now.sums[key] = now.sums.get(key, 0.0) + value
            now.counted += 1
            if now.counted == 20 or step == stage.steps:
                record = {k: value / now.counted for k, value in mean_of_ranks(now.sums).items()}
                seconds = round(spent + time.monotonic() - began, 1)
                now.history.append({"step": step, "seconds": seconds, **record})
                now.sums, now.counted = {}, 0
                noted(now.history[-1])
                bar.tick(step, record)
            if stage.evaluate_every and step % stage.evaluate_every == 0:
                task.module.eval()
                spread.gather()
                measured = told_by(0, task.validate())
                spread.let_go()
                set_modes(task.module)
                now.history.append({"step": step, **measured})
                noted(now.history[-1])
                better = improved(stage.patience_metrics, measured, now.best)
                now.best |= {name: measured[name.removeprefix("-")] for name in better}
                now.stale = 0 if better else now.stale + 1
                if better and stage.patience_metrics[0] in better:
                    weights = plain(moving)  # of shares, by all ranks together
                    if rank == 0:
                        write_atomically(out / BEST, save_safetensors(weights))
                if plateau:
                    plateau.step(measured[stage.patience_metrics[0].removeprefix("-")])
            late = time.monotonic() - saved > stage.save_minutes * 60
            late, stopping = told_by(0, (late, bool(stopped)))
            if late or stopping or step == stop_after:
                save()
                saved = time.monotonic()
            if stopping:
                if rank == 0:
                    print(
                        f"\n{stage.name} stopped after step {step} of {stage.steps}; its state is "
                        f'in "{state}": go on with the same command and --resume',
                        file=sys.stderr,
                    )
                raise KeyboardInterrupt
            if step == stop_after:
                break
        else:
            save()
            stop_after = None
    if stop_after is not None:
        spread.whole()
        return now.history
    best = out / BEST if stage.patience_metrics else None
    ended = load_file(best) if best and best.exists() else ema.values if ema else {}
    for name, weight in ended.items():
        put(moving[name], full(weight))
    spread.whole()
    task.module.eval()
    return now.history


@contextlib.contextmanager
def _stopped_by_signal() -> Iterator[list[int]]:
    """The signals (SIGINT, SIGTERM) that came within; a second one ends the process as ever."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        came.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield came
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def improved(
    names: Sequence[str], measured: Mapping[str, float], best: Mapping[str, float]
) -> list[str]:
    """Which of the named measures are better than ever; "-fid" names one of which less is better.

    ``best`` is keyed as ``names`` are. Raises ConfigError for a measure that nothing takes.
    """
    better = []
    for name in names:
        key = name.removeprefix("-")
        if key not in measured:
            raise ConfigError(
                f'patience_metrics names "{name}"; the stage measures '
                f"{', '.join(measured) or 'nothing'}; name some of these with --set"
            )
        sign = -1.0 if name.startswith("-") else 1.0
        if name not in best or sign * measured[key] > sign * best[name]:
            better.append(name)
    return better


def _step(
    stage: Stage,
    task: Task,
    indices: Sequence[int],
    rate: float,
    optimizer: torch.optim.Optimizer,
    moving: Mapping[str, nn.Parameter],
    generator: torch.Generator,
    step: int,
    spread: Whole | Sharded,
) -> dict[str, float]:
    """One step of the optimizer: a backward pass for each part of the batch."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiplier"]
    device = next(task.module.parameters()).device
    values: dict[str, float] = {}
    # around all parts: weights are cast to bfloat16 once a step, and not once a part
    with mixed_precision(device, wanted=stage.autocast):
        parts = task.parts(indices, count=stage.accumulate, generator=generator)
        while (part := spread.run(lambda: next(parts, None))) is not None:
            losses, shares = part
            total: Tensor | None = None
            for name, loss in losses.items():
                if name not in stage.weights:
                    raise ConfigError(
                        f'stage "{stage.name}" has no weight for the loss "{name}"; it has '
                        f"{', '.join(stage.weights) or 'none'}; add one with --set"
                    )
                weighted = stage.weights[name] * shares[name] * loss
                total = weighted if total is None else total + weighted
                values[name] = values.get(name, 0.0) + shares[name] * float(loss.detach())
            assert total is not None
            total = spread.touching(total)
            if not bool(torch.isfinite(total)):
                told = ", ".join(f"{name} {float(x.detach()):.4g}" for name, x in losses.items())
                met = f"loss is {float(total.detach())} ({told})"
                raise not_a_number(stage, step, indices, met)
            if total.requires_grad:  # a part may hold nothing of what moves
                with torch.autocast(device.type, enabled=False):
                    total.backward()
    spread.settle(list(moving.values()))
    clip = float("inf") if stage.clip is None else stage.clip
    norm = float(full(nn.utils.clip_grad_norm_(moving.values(), clip)))
    if not math.isfinite(norm):  # before the weights, and then the saved state, are spoilt
        raise not_a_number(stage, step, indices, f"gradient's norm is {norm}")
    if stage.clip is not None:
        values["gradient_norm"] = norm
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return values


def _optimizer(stage: Stage, moving: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in moving.items():
        groups.setdefault((stage.multiplier(name), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "multiplier": multiplier,
                "lr": stage.learning_rate * multiplier,
                "weight_decay": stage.weight_decay if matrix else 0.0,
            }
            for (multiplier, matrix), parameters in groups.items()
        ],
        betas=stage.betas,
        fused=True,
    )


def _plateau(stage: Stage) -> ReduceLROnPlateau:
    """Torch's own, on a rate of 1 that multiplies the stage's."""
    return ReduceLROnPlateau(
        torch.optim.SGD([torch.zeros(1)], lr=1.0),
        mode="min" if stage.patience_metrics[0].startswith("-") else "max",
        factor=stage.decay_factor,
        patience=stage.decay_patience,
        threshold=0.0,
    )


def parameter_count(module: nn.Module, *, only: Iterable[str] = ("",)) -> int:
    """How many numbers a module holds under the given prefixes."""
    return sum(
        p.numel() for n, p in module.named_parameters() if any(n.startswith(x) for x in only)
    )
