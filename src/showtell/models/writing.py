"""Writing: B responses under way; rows that were read in parts are put together."""

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


def joined(parts: Sequence[tuple[Sequence[int], Writing]]) -> Writing:
    """The rows of several as one; each comes with the numbers that its rows have in the whole."""
    writings = [part for _, part in parts]
    order = [number for numbers, _ in parts for number in numbers]
    order_B = torch.tensor(order, device=writings[0].hidden_BD.device).argsort()
    none = [part.mask_BT[:, :0] for part in writings]
    slots = [
        p.slots_BS if p.slots_BS is not None else n for p, n in zip(writings, none, strict=True)
    ]
    slots_BS = _stacked(slots)[order_B]
    return Writing(
        cache=_joined([(part.cache, len(part.mask_BT)) for part in writings], order_B),
        mask_BT=_stacked([part.mask_BT for part in writings])[order_B],
        hidden_BD=torch.cat([part.hidden_BD for part in writings])[order_B],
        logits_BV=torch.cat([part.logits_BV for part in writings])[order_B],
        slots_BS=slots_BS if slots_BS.shape[1] else None,
    )


def kept(writing: Writing, rows: Sequence[int]) -> Writing:
    """These rows alone, less what none of them has read.

    Beside photos in cross-attention layers nothing is left out: places in their caches are slots.
    """
    rows_B = torch.tensor(rows, device=writing.hidden_BD.device)
    mask_BT, slots_BS = writing.mask_BT[rows_B], writing.slots_BS
    read_T = mask_BT.any(0) if slots_BS is None else torch.ones_like(mask_BT[0])
    if isinstance(writing.cache, list):
        cache: Cache = [writing.cache[row] for row in rows]
    else:
        cache = DynamicCache()
        for number, (keys, values) in _filled(writing.cache).items():
            whole_T = read_T.new_ones(keys.shape[2])  # a prefix comes before what was read
            if slots_BS is None:
                whole_T[len(whole_T) - len(read_T) :] = read_T
            pair = (each[rows_B][:, :, whole_T] for each in (keys, values))
            cache.update(*pair, number)
    return Writing(
        cache=cache,
        mask_BT=mask_BT[:, read_T],
        hidden_BD=writing.hidden_BD[rows_B],
        logits_BV=writing.logits_BV[rows_B],
        slots_BS=None if slots_BS is None else slots_BS[rows_B],
    )


def _joined(caches: Sequence[tuple[Cache, int]], order_B: Tensor) -> Cache:
    """The rows of caches, each with their number, in this order.

    They are padded with zeros on the right, behind what each has read; a mask hides these columns.
    In a cross-attention layer zeros are the slot "no photo" (``cross_attention.py``).
    """
    alone = [row for cache, _ in caches if isinstance(cache, list) for row in cache]
    if alone:
        return [alone[number] for number in order_B.tolist()]
    layers = [(_filled(cache), count) for cache, count in caches if isinstance(cache, DynamicCache)]
    out = DynamicCache()
    for number in sorted(set().union(*(found for found, _ in layers))):
        like = next(found[number] for found, _ in layers if number in found)
        length = max(found[number][0].shape[2] for found, _ in layers if number in found)
        parts = []
        for found, count in layers:
            shape = (count, like[0].shape[1], 0, like[0].shape[3])
            pair = found.get(number) or tuple(each.new_zeros(shape) for each in like)
            parts.append([F.pad(each, (0, 0, 0, length - each.shape[2])) for each in pair])
        keys, values = (torch.cat(each)[order_B] for each in zip(*parts, strict=True))
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
