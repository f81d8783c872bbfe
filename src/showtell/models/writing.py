"""Writing: B responses under way, whose rows are taken apart and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

Cache: TypeAlias = DynamicCache | list[DynamicCache]  # a list: one a row, each read alone


@dataclass(kw_only=True)
class Writing:
    """B responses under way: the cache, each row's last state and its logits."""

    cache: Cache
    mask_BT: Tensor  # bool: the real tokens of those read
    hidden_BD: Tensor
    logits_BV: Tensor
    slots_BS: Tensor | None = None  # bool: the photos' slots in cross-attention layers, if any

    @property
    def all_rows_B(self) -> Tensor:
        return self.hidden_BD.new_ones(len(self.hidden_BD), dtype=torch.bool)

    def take(self, rows_N: Tensor) -> Writing:
        """Some of the rows, by number."""
        return Writing(
            cache=_taken(self.cache, rows_N),
            mask_BT=self.mask_BT[rows_N],
            hidden_BD=self.hidden_BD[rows_N],
            logits_BV=self.logits_BV[rows_N],
            slots_BS=None if self.slots_BS is None else self.slots_BS[rows_N],
        )

    def become(self, parts: Sequence[tuple[Sequence[int], Writing]]) -> None:
        """Put the rows of parts together; each comes with the numbers that its rows have here."""
        writings = [part for _, part in parts]
        counts = [len(numbers) for numbers, _ in parts]
        order = [number for numbers, _ in parts for number in numbers]
        order_B = torch.tensor(order, device=self.hidden_BD.device).argsort()
        slots = [part.slots_BS for part in writings]
        if any(each is not None for each in slots):
            none = [self.mask_BT.new_zeros((count, 0)) for count in counts]
            slots_BS = _stacked(
                [a if a is not None else b for a, b in zip(slots, none, strict=True)]
            )
            self.slots_BS = slots_BS[order_B]
        self.cache = _taken(_joined([part.cache for part in writings], counts), order_B)
        self.mask_BT = _stacked([part.mask_BT for part in writings])[order_B]
        self.hidden_BD = torch.cat([part.hidden_BD for part in writings])[order_B]
        self.logits_BV = torch.cat([part.logits_BV for part in writings])[order_B]


def _taken(cache: Cache, rows_N: Tensor) -> Cache:
    """A cache of some rows, by number."""
    if isinstance(cache, list):
        return [cache[number] for number in rows_N.tolist()]
    out = DynamicCache()
    for number, (keys, values) in _filled(cache).items():
        out.update(keys[rows_N], values[rows_N], number)
    return out


def _joined(caches: Sequence[Cache], counts: Sequence[int]) -> Cache:
    """The rows of caches, one after the other; ``counts``: how many rows each has.

    They are padded with zeros on the right, behind what each has read; a mask hides these columns.
    In a cross-attention layer zeros are the slot "no photo" (``cross_attention.py``).
    """
    if isinstance(caches[0], list):
        return [row for cache in caches for row in cache]
    layers = [_filled(cache) for cache in caches]
    out = DynamicCache()
    for number in sorted(set().union(*layers)):
        like = next(found[number] for found in layers if number in found)
        length = max(found[number][0].shape[2] for found in layers if number in found)
        parts = []
        for found, count in zip(layers, counts, strict=True):
            shape = (count, like[0].shape[1], 0, like[0].shape[3])
            pair = found.get(number) or tuple(each.new_zeros(shape) for each in like)
            parts.append([F.pad(each, (0, 0, 0, length - each.shape[2])) for each in pair])
        keys, values = (torch.cat(each) for each in zip(*parts, strict=True))
        out.update(keys, values, number)
    return out


def _filled(cache: DynamicCache) -> dict[int, tuple[Tensor, Tensor]]:
    """Keys and values of the layers that hold some, (B, heads, T, width) each."""
    return {
        number: (layer.keys, layer.values)
        for number, layer in enumerate(cache.layers)
        if layer.is_initialized and layer.keys.numel()
    }


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    """Boolean rows of several lengths, one below the other; False on the right."""
    length = max(each.shape[1] for each in rows)
    return torch.cat([F.pad(each, (0, length - each.shape[1])) for each in rows])
