"""Where a training cannot go on: a loss that is no number, memory at an end, other data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from showtell.errors import DataError, GenerationError
from showtell.runtime import processes, the_device
from showtell.training.footprint import GB, memory_of
from showtell.training.stage import Stage
from showtell.training.task import Task


def not_a_number(stage: Stage, step: int, indices: Sequence[int], met: str) -> GenerationError:
    few = ", ".join(map(str, indices[:8])) + (" ..." if len(indices) > 8 else "")
    return GenerationError(
        f'stage "{stage.name}", step {step}, examples {few}: the {met}; wanted a number; the last '
        "saved state is unharmed: lower the learning rate with --set and go on from it with "
        "--resume, or look at these examples"
    )


def require_same_data(stage: Stage, task: Task, *, begun_with: int | None) -> None:
    """Raises DataError where there are more or fewer examples now than when the stage began."""
    if begun_with is not None and len(task) != begun_with:
        raise DataError(
            f'stage "{stage.name}" was begun on {begun_with:,} examples of {task.data}, and '
            f"there are {len(task):,} now; wanted the same ones, since the order depends on how "
            "many there are; bring back what is missing, or begin again with another --out"
        )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether this is what torch says where memory is at an end, of a GPU's or of the machine's."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def not_enough(stage: Stage, step: int, module: nn.Module, *, shares: int) -> GenerationError:
    """The error that names the largest consumers and three remedies."""
    device, batch = the_device(), stage.batch_size // processes()[1]
    parts = memory_of(module.named_parameters(), average=stage.ema is not None, shares=shares)
    kinds = ("weights", "gradients", "optimizer")
    sizes = {f"{name}'s {kind}": getattr(p, kind) for name, p in parts.items() for kind in kinds}
    if device.type == "cuda":
        held = float(torch.cuda.max_memory_allocated(device))
        sizes["what the losses keep for their gradients"] = max(0.0, held - sum(sizes.values()))
    largest = sorted(sizes.items(), key=lambda each: -each[1])[:3]
    told = ", ".join(f"{name} {size / GB:.3g} GB" for name, size in largest)
    return GenerationError(
        f'stage "{stage.name}", step {step}: memory ({device.type}) is at an end with {batch} '
        f"examples a process; the largest: {told}; wanted room for these and for what the losses "
        "keep. Set stage.accumulate to 2 or more (the same batch in smaller parts), or "
        "stage.checkpointing=true (layers are run once more, and less is kept), or share the "
        'weights out over processes (torchrun, stage.shard=["language.model.model.layers"])'
    )
