"""Sequences that begin alike, read at once, have the states that each has alone."""

from __future__ import annotations

import pytest
import torch
from families import language_of

from showtell.models.prefix_tree import PrefixTree, read_trees
from showtell.recipes import small

SEQUENCES = [[5, 6, 7, 8, 9], [5, 6, 7, 11], [5, 6, 12, 8, 9], [13], [5, 6, 7, 8]]


def test_what_is_common_stands_once_and_the_first_sequence_first():
    tree = PrefixTree()
    nodes = [tree.add(ids) for ids in SEQUENCES]
    assert nodes == [[0, 1, 2, 3, 4], [0, 1, 2, 5], [0, 1, 6, 7, 8], [9], [0, 1, 2, 3]]
    depth_N, sees_NN = tree.layout()
    for ids, way in zip(SEQUENCES, nodes, strict=True):
        assert [tree.ids[node] for node in way] == ids
        assert depth_N[way].tolist() == list(range(len(ids)))
        for k, node in enumerate(way):
            assert sees_NN[node].nonzero()[0].tolist() == sorted(way[: k + 1])


@pytest.mark.parametrize("family", ["llama", "windowed", "alibi"])
@torch.no_grad()
def test_states_are_those_of_each_sequence_alone(family):
    tokenizer = small.train_dialogue_tokenizer(["so it is", "and so on"], vocabulary=300)
    language = language_of(tokenizer, family).eval()
    trees = [PrefixTree(), PrefixTree()]
    ways = [[tree.add(ids) for ids in SEQUENCES[: 3 + n]] for n, tree in enumerate(trees)]
    hidden_BND = read_trees(language, trees)
    for b, own in enumerate(ways):
        for ids, way in zip(SEQUENCES, own, strict=False):
            alone = language.hidden(language.embed(torch.tensor([ids])), None)[0]
            torch.testing.assert_close(hidden_BND[b, way], alone, rtol=1e-4, atol=1e-5)
