"""What a stage trains, and which examples a step of it sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Losses = dict[str, Tensor]


class Task:
    """What a stage trains: a module, numbered examples, and their losses, each a mean."""

    module: Any
    data: str = "the data"  # their name, for errors
    blocks: Sequence[range] | None = None  # runs of numbers that an epoch takes one by one (shards)

    def __len__(self) -> int:
        raise NotImplementedError

    def losses(self, indices: Sequence[int], *, generator: torch.Generator) -> Losses:
        """The losses of some examples, by name."""
        raise NotImplementedError

    def parts(
        self, indices: Sequence[int], *, count: int | None, generator: torch.Generator
    ) -> Iterator[tuple[Losses, Mapping[str, float]]]:
        """The losses of up to ``count`` parts of a batch, and the share that each has in the
        batch's own, which is a mean: here by the number of examples."""
        size = -(-len(indices) // (count or 1))
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            found = self.losses(part, generator=generator)
            yield found, dict.fromkeys(found, len(part) / len(indices))

    def prefetch(self, indices: Sequence[int]) -> None:
        """Told of the next batch before the losses of this one."""

    def advance(self, epoch: float, *, of: float) -> None:
        """Told before each step how many epochs have passed, of how many that the stage lasts."""

    def validate(self) -> dict[str, float]:
        """What the module is worth on held-out data."""
        return {}


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
