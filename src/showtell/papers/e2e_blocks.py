"""The vocabulary transformation matrix M of a caption as a sum of rank-one blocks a b^T.

2408.08650, Eq. 10, gives M a 1 wherever a token of T_LLM meets one of T_SD: the outer product of
two indicators, of which only the indices are kept here. The matrix itself is never built.

Letters as in ``models/parts.py``, and B blocks of M, J tokens read in a caption.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.papers.e2e_tokens import CaptionTokenizer, SpokenCaption, words


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block a b^T of M: a the indicator of ``llm_ids``, b that of ``pieces``.

    It reads the LLM's rows ``positions`` and feeds the painter's rows ``rows``.
    """

    llm_ids: frozenset[int]
    pieces: frozenset[int]
    positions: Sequence[int]
    rows: Sequence[int]


def sentence_blocks(caption: SpokenCaption, tokenizer: CaptionTokenizer) -> list[Block]:
    """The whole caption as one block, a token that occurs twice counted once."""
    block = Block(
        llm_ids=frozenset(caption.llm_ids),
        pieces=frozenset(caption.pieces),
        positions=caption.llm_positions,
        rows=caption.rows,
    )
    return [block] if block.llm_ids and block.pieces else []


def word_blocks(caption: SpokenCaption, tokenizer: CaptionTokenizer) -> list[Block]:
    """A block for each word, read and fed at every position; M stays binary.

    Where two words share a token pair, the sum of their blocks would count it twice and the
    paper's binary M counts it once. Here it counts once: the LLM tokens are grouped by the
    union of the pieces of all words that they occur in, so that no token is in two blocks.
    """
    partners: dict[int, set[int]] = {}
    for tokens, pieces in words(caption, tokenizer):
        for token in tokens:
            partners.setdefault(caption.llm_ids[token], set()).update(
                caption.pieces[piece] for piece in pieces
            )
    groups: dict[frozenset[int], set[int]] = {}
    for llm_id, piece_ids in partners.items():
        groups.setdefault(frozenset(piece_ids), set()).add(llm_id)
    return [
        Block(
            llm_ids=frozenset(llm_ids),
            pieces=pieces,
            positions=caption.llm_positions,
            rows=caption.rows,
        )
        for pieces, llm_ids in groups.items()
        if pieces
    ]


def aligned_blocks(caption: SpokenCaption, tokenizer: CaptionTokenizer) -> list[Block]:
    """A block for each occurrence of a word, read at its own tokens, fed to its own pieces."""
    return [
        Block(
            llm_ids=frozenset(caption.llm_ids[token] for token in tokens),
            pieces=frozenset(caption.pieces[piece] for piece in pieces),
            positions=[caption.llm_positions[token] for token in tokens],
            rows=[caption.piece_rows[piece] for piece in pieces],
        )
        for tokens, pieces in words(caption, tokenizer)
        if tokens and pieces
    ]


BLOCKS: dict[str, Callable[[SpokenCaption, CaptionTokenizer], list[Block]]] = {
    "sentence": sentence_blocks,
    "word": word_blocks,
    "aligned": aligned_blocks,
}


@dataclass(frozen=True, kw_only=True)
class DynamicMatrices:
    """The matrices M of N captions as sums of blocks a b^T, ready for arithmetic."""

    tokens_NJ: Tensor  # the LLM tokens that any block of the caption reads
    member_NBJ: Tensor  # a: 1 where token j belongs to the block
    reads_NBK: Tensor  # 1 where the block reads the LLM's row k
    feeds_NBS: Tensor  # 1 where the block feeds the painter's row s
    sums_NBC: Tensor  # b E: the sum of the block's rows of the painter's token table


def dynamic_matrices(
    blocks: Sequence[Sequence[Block]], *, num_positions: int, num_rows: int, table_UC: Tensor
) -> DynamicMatrices:
    """T_LLM and T_SD of every block of every caption, as indices."""
    tokens = [sorted(set().union(*(b.llm_ids for b in caption))) for caption in blocks]
    widest = max((len(ids) for ids in tokens), default=0)
    most = max(map(len, blocks), default=0)
    member, reads, feeds = [], [], []
    for n, caption in enumerate(blocks):
        place = {token: j for j, token in enumerate(tokens[n])}
        for b, block in enumerate(caption):
            member += [(n, b, place[token]) for token in block.llm_ids]
            reads += [(n, b, k) for k in block.positions]
            feeds += [(n, b, s) for s in block.rows]
    padded = [list(caption) + [None] * (most - len(caption)) for caption in blocks]
    bags = [sorted(block.pieces) if block else [] for caption in padded for block in caption]
    shape = (len(blocks), most)
    return DynamicMatrices(
        tokens_NJ=torch.tensor(
            [ids + [0] * (widest - len(ids)) for ids in tokens],
            dtype=torch.long,
            device=table_UC.device,
        ).view(len(blocks), widest),
        member_NBJ=_indicator(member, (*shape, widest), table_UC),
        reads_NBK=_indicator(reads, (*shape, num_positions), table_UC),
        feeds_NBS=_indicator(feeds, (*shape, num_rows), table_UC),
        sums_NBC=bag_rows(bags, table_UC.detach(), mode="sum").view(*shape, table_UC.shape[1]),
    )


def _indicator(cells: Sequence[tuple[int, ...]], shape: tuple[int, ...], like: Tensor) -> Tensor:
    ones = torch.zeros(shape, dtype=torch.float32, device=like.device)
    if cells:
        ones[torch.tensor(cells, device=like.device).unbind(-1)] = 1.0
    return ones


def bag_rows(bags: Sequence[Sequence[int]], table_UC: Tensor, *, mode: str) -> Tensor:
    """The sum or mean of the table's rows in each bag; zeros for an empty bag."""
    starts = [0]
    for bag in bags:
        starts.append(starts[-1] + len(bag))
    return F.embedding_bag(
        torch.tensor([i for bag in bags for i in bag], dtype=torch.long, device=table_UC.device),
        table_UC,
        torch.tensor(starts, device=table_UC.device),
        mode=mode,
        include_last_offset=True,
    )
