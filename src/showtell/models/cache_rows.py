"""Rows of key-value caches: taken apart and put together again.

Joined caches are padded with zeros on the right, behind what each has read; a mask hides these
columns. In a cross-attention layer zeros are the slot "no photo" (``cross_attention.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache


def taken(cache: DynamicCache, rows_N: Tensor) -> DynamicCache:
    """A cache of some rows, by number."""
    out = DynamicCache()
    for number, (keys, values) in _filled(cache).items():
        out.update(keys[rows_N], values[rows_N], number)
    return out


def joined(caches: Sequence[DynamicCache], counts: Sequence[int]) -> DynamicCache:
    """The rows of caches, one after the other; ``counts``: how many rows each has."""
    layers = [_filled(cache) for cache in caches]
    out = DynamicCache()
    for number in sorted(set().union(*layers)):
        length = max(found[number][0].shape[2] for found in layers if number in found)
        like = next(found[number] for found in layers if number in found)
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
