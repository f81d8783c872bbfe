"""A sentence encoder of word counts: each word has a direction of its own."""

from __future__ import annotations

import zlib

import torch


def word_vectors(texts, *, width):
    rows = torch.full((len(texts), width), 1e-3)
    for row, text in zip(rows, texts, strict=True):
        for word in text.lower().split():
            rng = torch.Generator().manual_seed(zlib.crc32(word.encode()))
            row += torch.randn(width, generator=rng)
    return rows
