"""One command in several processes (ranks), as torchrun starts them.

    torchrun --nproc-per-node 2 -m showtell score said.jsonl gold.jsonl --inception FILE

Without torchrun there is one rank, which does everything, and nothing here sends anything. What is
sent between ranks must be called by all of them, in one order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")
R = TypeVar("R")


def processes() -> tuple[int, int]:
    """(rank, number of ranks); starts torch.distributed under torchrun."""
    if not dist.is_available():
        return 0, 1
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            local = int(os.environ.get("LOCAL_RANK", "0"))
            torch.cuda.set_device(local % torch.cuda.device_count())
            # objects and tensors of the CPU travel by gloo
            dist.init_process_group("cpu:gloo,cuda:nccl")
        else:
            dist.init_process_group("gloo")
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def share_of(length: int) -> range:
    """The numbers of ``length`` things that are this rank's; perhaps none."""
    rank, count = processes()
    return range(length * rank // count, length * (rank + 1) // count)


def gathered(value: T) -> list[T]:
    """What every rank has, in the order of the ranks, on all of them. It is pickled."""
    _, count = processes()
    if count == 1:
        return [value]
    found: list[T] = [value] * count
    dist.all_gather_object(found, value)
    return found


def told_by(rank: int, value: T) -> T:
    """What ``rank`` has, on all of them. It is pickled."""
    _, count = processes()
    if count == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told, src=rank)
    return told[0]


def dealt(items: Sequence[T], measure: Callable[[Sequence[T]], Sequence[R]], chunk: int) -> list[R]:
    """``measure`` of each item, ``chunk`` of them at once, by one rank each; in order, on all."""
    mine = share_of(len(items))
    found: list[R] = []
    for start in range(mine.start, mine.stop, chunk):
        found += measure(items[start : min(start + chunk, mine.stop)])
    return [result for part in gathered(found) for result in part]


def mean_of_ranks(values: Mapping[str, float]) -> dict[str, float]:
    """The mean over ranks of each named number; one that a rank does not name counts 0 there."""
    of_ranks = gathered(dict(values))
    names = dict.fromkeys(name for one in of_ranks for name in one)
    return {name: sum(one.get(name, 0.0) for one in of_ranks) / len(of_ranks) for name in names}


def take_from_first(parameters: Iterable[nn.Parameter]) -> None:
    """Give every rank the first one's values, whatever chance or rounding made of its own."""
    _, count = processes()
    if count > 1:
        for parameter in parameters:
            dist.broadcast(parameter.detach(), src=0)


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """The mean over ranks; a parameter that no rank used keeps no gradient, as in one process."""
    _, count = processes()
    if count == 1 or not parameters:
        return
    used_P = torch.tensor([float(parameter.grad is not None) for parameter in parameters])
    used_P = used_P.to(parameters[0].device)
    dist.all_reduce(used_P)
    for parameter, used in zip(parameters, used_P.tolist(), strict=True):
        if used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= count
