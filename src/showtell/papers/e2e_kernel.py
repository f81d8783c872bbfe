"""What 2408.08650 needs of a vocabulary without a tensor of its size squared, or a softmax kept.

The sentence, word and aligned forms of the vocabulary transformation read only the columns of
p_GS that belong to the caption's own tokens; the rest of the vocabulary enters through the
normaliser alone. With z the scaled logits of a row, p = softmax(z) and G_j = dL/dp_j at the
listed columns j,

    dL/dz = -p (sum_j G_j p_j) + scatter(G_j p_j)

so the only vocabulary-wide tensor that is ever allocated is the gradient itself. Rows are walked
in blocks that stay in the processor's cache: that, not the arithmetic, is what takes the time.

The matrix M itself (Eq. 10: 1 where a token of T_LLM meets one of T_SD) is a sum of blocks a b^T,
outer products of two indicators, of which only the indices are kept.

Letters as in ``models/parts.py``, and R rows (any flattening of the positions), J columns listed
for a row or tokens read in a caption, B blocks of M.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK_NUMBERS = {"cpu": 1 << 18}  # 1 MB of fp32: half of a small L2 cache
_BLOCK_NUMBERS_ELSEWHERE = 1 << 26  # an accelerator wants few, large kernels


def token_probabilities(logits_RV: Tensor, ids_RJ: Tensor, *, temperature: float = 1.0) -> Tensor:
    """softmax(logits / temperature) at the listed columns: ``(R, J)``, in at least fp32.

    Gumbel noise, where wanted, is added to the logits beforehand. It cannot be had more cheaply:
    the normaliser at a temperature other than 0 depends on the noise of every token.
    """
    columns_RJ: Tensor = _TokenProbabilities.apply(logits_RV, ids_RJ, temperature)  # type: ignore[no-untyped-call]
    return columns_RJ


class _TokenProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_RV: Tensor, ids_RJ: Tensor, temperature: float) -> Tensor:
        shift_R = _normalisers(logits_RV, temperature)
        probs_RJ = _columns(logits_RV, ids_RJ, shift_R, temperature)
        ctx.temperature = temperature
        ctx.save_for_backward(logits_RV, ids_RJ, shift_R, probs_RJ)
        return probs_RJ

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        logits_RV, ids_RJ, shift_R, probs_RJ = ctx.saved_tensors
        pull_RJ = grads[0] * probs_RJ / ctx.temperature
        grad_RV = _scaled_softmax(logits_RV, shift_R, -pull_RJ.sum(-1), ctx.temperature)
        grad_RV.scatter_add_(1, ids_RJ, pull_RJ.type_as(grad_RV))
        return grad_RV, None, None


def _rows_at_once(logits_RV: Tensor) -> int:
    numbers = _BLOCK_NUMBERS.get(logits_RV.device.type, _BLOCK_NUMBERS_ELSEWHERE)
    return max(1, numbers // logits_RV.shape[1])


def _working_dtype(logits_RV: Tensor) -> torch.dtype:
    return torch.promote_types(logits_RV.dtype, torch.float32)


def _normalisers(logits_RV: Tensor, temperature: float) -> Tensor:
    """shift with p = exp((logits - shift) / temperature)."""
    step = _rows_at_once(logits_RV)
    scratch = logits_RV.new_empty(
        (min(step, len(logits_RV)), logits_RV.shape[1]), dtype=_working_dtype(logits_RV)
    )
    shift_R = scratch.new_empty(len(logits_RV))
    for start in range(0, len(logits_RV), step):
        block = logits_RV[start : start + step]
        top = block.amax(-1, keepdim=True).type_as(scratch)
        exps = torch.sub(block, top, out=scratch[: len(block)])
        if temperature != 1.0:
            exps.mul_(1.0 / temperature)
        logs = exps.exp_().sum(-1).log_()
        shift_R[start : start + step] = top[:, 0] + temperature * logs
    return shift_R


def _columns(logits_RV: Tensor, ids_RJ: Tensor, shift_R: Tensor, temperature: float) -> Tensor:
    return ((logits_RV.gather(1, ids_RJ) - shift_R[:, None]) / temperature).exp()


def _scaled_softmax(
    logits_RV: Tensor, shift_R: Tensor, scale_R: Tensor, temperature: float
) -> Tensor:
    """scale * softmax(logits / temperature), in the logits' dtype, computed in at least fp32."""
    step = _rows_at_once(logits_RV)
    result_RV = torch.empty_like(logits_RV, memory_format=torch.contiguous_format)
    wide = shift_R.dtype == logits_RV.dtype
    scratch = shift_R.new_empty(0 if wide else step, logits_RV.shape[1])
    for start in range(0, len(logits_RV), step):
        block = logits_RV[start : start + step]
        into = result_RV[start : start + step]
        work = into if wide else scratch[: len(block)]
        torch.sub(block, shift_R[start : start + step, None], out=work)
        if temperature != 1.0:
            work.mul_(1.0 / temperature)
        work.exp_().mul_(scale_R[start : start + step, None])
        if not wide:
            into.copy_(work)
    return result_RV


# ---------------------------------------------------------------------- M


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block a b^T of M: a the indicator of ``llm_ids``, b that of ``pieces``.

    It reads the LLM's rows ``positions`` and feeds the painter's rows ``rows``.
    """

    llm_ids: frozenset[int]
    pieces: frozenset[int]
    positions: Sequence[int]
    rows: Sequence[int]


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
