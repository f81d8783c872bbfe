"""One loop for every stage: resumable to the bit on a CPU, alone or under torchrun.

torchrun --nproc-per-node 2 -m showtell train RECIPE      averages gradients over the processes

Each process computes its part of every batch; the first alone writes, and all go on from its state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from showtell.errors import ConfigError, GenerationError
from showtell.runtime import (
    StepBar,
    average_gradients,
    gathered,
    mean_of_ranks,
    mixed_precision,
    processes,
    take_from_first,
    the_device,
    told_by,
)
from showtell.training.stage import Stage
from showtell.training.state import load_state, recovered, save_state, save_tensors


class Task(Protocol):
    """What a stage trains: a module, numbered examples, and their losses.

    It may have ``blocks``, runs of numbers that an epoch goes through one after the other (shards),
    and ``prefetch(indices)``, which is told of the next batch before the losses of this one.
    """

    module: nn.Module

    def __len__(self) -> int: ...
    def losses(
        self, indices: Sequence[int], *, generator: torch.Generator, epoch: float
    ) -> dict[str, Tensor]: ...
    def validate(self) -> dict[str, float]: ...


BEST = "best.safetensors"


def batch_indices(
    length: int, batch_size: int, step: int, seed: int, *, blocks: Sequence[range] | None = None
) -> list[int]:
    """The examples of a step: a fresh permutation each epoch, a function of (seed, step) only.

    So a resumed run, or one with more processes, sees the same examples in the same order. With
    ``blocks`` these are permuted, and the numbers within each.
    """
    indices: list[int] = []
    position = step * batch_size
    while len(indices) < batch_size:
        epoch, offset = divmod(position, length)
        order = _permutation(length, seed * 1_000_003 + epoch, blocks)
        chunk = order[offset : offset + batch_size - len(indices)].tolist()
        indices += chunk
        position += len(chunk)
    return indices


_permutations: dict[tuple[int, int, tuple[int, ...]], Tensor] = {}


def _permutation(length: int, seed: int, blocks: Sequence[range] | None) -> Tensor:
    key = (length, seed, tuple(map(len, blocks or ())))
    if key not in _permutations:
        if len(_permutations) > 3:
            _permutations.clear()
        generator = torch.Generator().manual_seed(seed)

        def permuted(count: int) -> Tensor:
            return torch.randperm(count, generator=generator)

        if blocks is None:
            _permutations[key] = permuted(length)
        else:
            chosen = [blocks[k] for k in permuted(len(blocks)).tolist()]
            parts = [block.start + permuted(len(block)) for block in chosen]
            _permutations[key] = torch.cat(parts)
    return _permutations[key]


class ExponentialAverage:
    """A moving average of the moving parameters; young averages forget faster."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Mapping[str, nn.Parameter], step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        names = list(self.values)
        torch._foreach_lerp_(
            [self.values[n] for n in names], [parameters[n].detach() for n in names], 1 - decay
        )

    @torch.no_grad()
    def put_into(self, parameters: Mapping[str, nn.Parameter]) -> None:
        for name, value in self.values.items():
            parameters[name].copy_(value)


def run_stage(
    stage: Stage,
    task: Task,
    *,
    out: Path,
    resume: bool,
    stop_after: int | None = None,
) -> list[dict[str, float]]:
    """Train; returns the history (one record every few steps) and leaves the module trained.

    The module is moved to ``the_device()`` and stays there; ``generator`` is the CPU's.
    With ``stage.patience_metrics`` the module ends with the weights that were best by the first of
    them (kept in ``out``/best.safetensors), else with ``stage.ema`` with the averaged weights.
    ``stop_after`` ends the process's
    share early, as a kill would, with the state saved (for tests of --resume).
    Raises GenerationError when a loss or gradient is not finite (what was saved is unharmed),
    ConfigError for a loss without a weight.
    """
    rank, world = processes()
    if stage.batch_size % world:
        raise ConfigError(
            f'stage "{stage.name}" has a batch of {stage.batch_size} for {world} processes; wanted '
            "as many examples for each; change batch_size with --set, or --nproc-per-node"
        )
    out = told_by(0, out)
    task.module.to(the_device())
    moving = {}
    for name, parameter in task.module.named_parameters():
        parameter.requires_grad_(stage.multiplier(name) > 0)
        if parameter.requires_grad:
            moving[name] = parameter
    take_from_first(moving.values())
    for name in stage.compile:
        task.module.get_submodule(name).compile()
    names = {parameter: name for name, parameter in moving.items()}
    optimizer = _optimizer(stage, moving)
    ema = ExponentialAverage(moving, stage.ema) if stage.ema else None
    generator = torch.Generator().manual_seed(stage.seed * 7919 + rank)
    history: list[dict[str, float]] = []
    best: dict[str, float] = {}
    stale, step, spent = 0, 0, 0.0
    sums: dict[str, float] = {}  # since the last record
    counted = 0
    if not resume and rank == 0:
        (out / BEST).unlink(missing_ok=True)
    state = out / "state"
    if resume and told_by(0, rank == 0 and recovered(state)):
        progress, averages = load_state(
            state,
            module=task.module,
            optimizer=optimizer,
            names=names,
            generator=generator,
            rank=rank,
        )
        step, history, best = progress["step"], progress["history"], progress["best"]
        stale, spent = progress["stale"], progress["seconds"]
        sums, counted = progress["sums"], progress["counted"]
        if ema:
            ema.values = averages

    def save() -> None:
        chances = gathered(generator.get_state())
        summed = mean_of_ranks(sums)
        if rank:
            return
        save_state(
            state,
            module=task.module,
            optimizer=optimizer,
            names=names,
            ema=ema.values if ema else None,
            generators=chances,
            progress={
                "step": step,
                "history": history,
                "best": best,
                "stale": stale,
                "sums": summed,
                "counted": counted,
                "seconds": spent + time.monotonic() - began,
                "stage": asdict(stage),
            },
        )

    began = saved = time.monotonic()
    epoch_steps = max(1, len(task) / stage.batch_size)
    blocks, prefetch = getattr(task, "blocks", None), getattr(task, "prefetch", None)

    def indices_of(step: int) -> list[int]:
        return batch_indices(len(task), stage.batch_size, step, stage.seed, blocks=blocks)[
            rank::world
        ]

    batch, total = stage.batch_size, stage.steps
    with StepBar(stage.name, done=step, total=total, batch=batch, quiet=rank > 0) as bar:
        task.module.train()
        while step < stage.steps:
            indices = indices_of(step)
            if prefetch and step + 1 < stage.steps:
                prefetch(indices_of(step + 1))
            losses = _step(
                stage,
                task,
                indices,
                optimizer=optimizer,
                moving=moving,
                generator=generator,
                step=step,
                epoch=step / epoch_steps,
            )
            step += 1
            if ema:
                ema.update(moving, step)
            for key, value in losses.items():
                sums[key] = sums.get(key, 0.0) + value
            counted += 1
            if counted == 20 or step == stage.steps:
                means = mean_of_ranks(sums)
                record = {key: value / counted for key, value in means.items()}
                seconds = spent + time.monotonic() - began
                history.append({"step": step, "seconds": round(seconds, 1), **record})
                sums, counted = {}, 0
                bar.tick(step, record)
            if stage.evaluate_every and step % stage.evaluate_every == 0:
                task.module.eval()
                measured = told_by(0, task.validate())
                task.module.train()
                history.append({"step": step, **measured})
                better = improved(stage.patience_metrics, measured, best)
                best |= {k: measured[k.removeprefix("-")] for k in better}
                stale = 0 if better else stale + 1
                if rank == 0 and better and stage.patience_metrics[0] in better:
                    save_tensors({n: p.detach() for n, p in moving.items()}, out / BEST)
                if stage.patience and stale >= stage.patience:
                    break
            if told_by(0, time.monotonic() - saved > stage.save_minutes * 60):
                save()
                saved = time.monotonic()
            if stop_after is not None and step >= stop_after:
                save()
                return history
        save()
    if stage.patience_metrics and (out / BEST).exists():
        with torch.no_grad():
            for name, kept in load_file(out / BEST).items():
                moving[name].copy_(kept)
    elif ema:
        ema.put_into(moving)
    task.module.eval()
    return history


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
    *,
    optimizer: torch.optim.Optimizer,
    moving: Mapping[str, nn.Parameter],
    generator: torch.Generator,
    step: int,
    epoch: float,
) -> dict[str, float]:
    rate = stage.rate(step)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiplier"]
    device = next(task.module.parameters()).device
    with mixed_precision(device, wanted=stage.autocast):
        losses = task.losses(indices, generator=generator, epoch=epoch)
    total: Tensor | None = None
    for name, loss in losses.items():
        if name not in stage.weights:
            raise ConfigError(
                f'stage "{stage.name}" has no weight for the loss "{name}"; it has '
                f"{', '.join(stage.weights) or 'none'}; add one with --set"
            )
        total = stage.weights[name] * loss if total is None else total + stage.weights[name] * loss
    assert total is not None
    if not bool(torch.isfinite(total)):
        parts = ", ".join(f"{name} {float(loss.detach()):.4g}" for name, loss in losses.items())
        raise _not_a_number(stage, step, indices, f"loss is {float(total.detach())} ({parts})")
    total.backward()
    average_gradients(list(moving.values()))
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    clip = float("inf") if stage.clip is None else stage.clip
    norm = float(nn.utils.clip_grad_norm_(moving.values(), clip))
    if not math.isfinite(norm):  # before the weights, and then the saved state, are spoilt
        raise _not_a_number(stage, step, indices, f"gradient's norm is {norm}")
    if stage.clip is not None:
        values["gradient_norm"] = norm
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return values


def _not_a_number(stage: Stage, step: int, indices: Sequence[int], met: str) -> GenerationError:
    few = ", ".join(map(str, indices[:8])) + (" ..." if len(indices) > 8 else "")
    return GenerationError(
        f'stage "{stage.name}", step {step}, examples {few}: the {met}; wanted a number; the last '
        "saved state is unharmed: lower the learning rate with --set and go on from it with "
        "--resume, or look at these examples"
    )


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


def parameter_count(module: nn.Module, *, only: Iterable[str] = ("",)) -> int:
    """How many numbers a module holds under the given prefixes."""
    return sum(
        p.numel() for n, p in module.named_parameters() if any(n.startswith(x) for x in only)
    )
