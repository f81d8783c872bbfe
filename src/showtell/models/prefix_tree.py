"""Sequences that begin alike, read at once: what they have in common is read once.

    tree = PrefixTree()
    whole, other = tree.add(ids), tree.add([*ids[:7], 3, 4])    # the nodes of each
    hidden_BND, = read_trees(language, [tree])                   # hidden_BND[0, other[-1]]

A node sees its own way down from the beginning, and stands as deep as it is. Letters: N nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from showtell.models.language import LanguageModel


class PrefixTree:
    """Token sequences; nodes are numbered as they came, so the first sequence's are 0, 1, 2, ..."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._parents: list[int] = []
        self._children: dict[tuple[int, int], int] = {}

    def add(self, ids: Sequence[int]) -> list[int]:
        """The nodes of a sequence of at least one token."""
        nodes, at = [], -1
        for token in ids:
            if (node := self._children.get((at, token))) is None:
                node = self._children[at, token] = len(self.ids)
                self.ids.append(token)
                self._parents.append(at)
            nodes.append(at := node)
        return nodes

    def layout(self) -> tuple[np.ndarray, np.ndarray]:
        """(depth_N, sees_NN): which node each sees, itself included."""
        sees_NN = np.eye(len(self.ids), dtype=bool)
        for node, parent in enumerate(self._parents):
            if parent >= 0:
                sees_NN[node] |= sees_NN[parent]
        return sees_NN.sum(1) - 1, sees_NN


@torch.no_grad()
def read_trees(language: LanguageModel, trees: Sequence[PrefixTree]) -> Tensor:
    """The state of each node, (B, N, D), padded: from one pass, or from one for each sequence where
    the LLM cannot be told what a token sees."""
    size = max(len(tree.ids) for tree in trees)
    pad = language.tokenizer.pad_token_id
    ids_BN = language.column([tree.ids + [pad] * (size - len(tree.ids)) for tree in trees])
    positions_BN = np.zeros((len(trees), size), dtype=np.int64)
    sees_BNN = np.repeat(np.eye(size, dtype=bool)[None], len(trees), axis=0)
    for b, tree in enumerate(trees):
        num = len(tree.ids)
        positions_BN[b, :num], sees_BNN[b, :num, :num] = tree.layout()
    embeds_BND = language.embed(ids_BN)
    if language.takes_any_mask:
        sees_B1NN = torch.from_numpy(sees_BNN[:, None]).to(language.device)
        return language.hidden(
            embeds_BND, sees_B1NN, torch.from_numpy(positions_BN).to(language.device)
        )
    hidden_BND = torch.zeros_like(embeds_BND)
    for b, (tree, sees_NN) in enumerate(zip(trees, sees_BNN, strict=True)):
        seen_N = sees_NN[: len(tree.ids), : len(tree.ids)].sum(0)
        for leaf in np.flatnonzero(seen_N == 1):
            way = torch.from_numpy(np.flatnonzero(sees_NN[leaf])).to(language.device)
            hidden_BND[b, way] = language.hidden(embeds_BND[b : b + 1, way], None)[0]
    return hidden_BND
