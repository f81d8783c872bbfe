"""A few columns of a vocabulary-wide softmax, and their gradient, without keeping the softmax.

The sentence, word and aligned forms of the vocabulary transformation read only the columns of
p_GS that belong to the caption's own tokens; the rest of the vocabulary enters through the
normaliser alone. With z the scaled logits of a row, p = softmax(z) and G_j = dL/dp_j at the
listed columns j,

    dL/dz = -p (sum_j G_j p_j) + scatter(G_j p_j)

so the only vocabulary-wide tensor that is ever allocated is the gradient itself. Rows are walked
in blocks that stay in the processor's cache: that, not the arithmetic, is what takes the time.

Letters: R rows (any flattening of the positions), J columns listed for a row, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED = -100  # a target that is not trained on, as in torch's cross-entropy

_BLOCK_NUMBERS = {"cpu": 1 << 18}  # 1 MB of fp32: half of a small L2 cache
_BLOCK_NUMBERS_ELSEWHERE = 1 << 26  # an accelerator wants few, large kernels


def token_probabilities(logits_RV: Tensor, ids_RJ: Tensor, *, temperature: float = 1.0) -> Tensor:
    """softmax(logits / temperature) at the listed columns: ``(R, J)``, in at least fp32.

    Gumbel noise, where wanted, is added to the logits beforehand. It cannot be had more cheaply:
    the normaliser at a temperature other than 0 depends on the noise of every token.
    """
    return _TokenProbabilities.apply(logits_RV, ids_RJ, temperature)


def text_loss_and_caption_mass(
    logits_RV: Tensor, targets_R: Tensor, ids_RJ: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the rows and the probability of each listed token, in one pass.

    ``targets_R`` holds ``IGNORED`` where nothing is trained on; ``ids_RJ`` lists for each row the
    tokens of its caption (sum the second result for the caption's mass). The mass is that of the
    plain softmax: with Gumbel noise or a temperature the two read different distributions, and
    ``token_probabilities`` is the way. With w the weight of the cross-entropy in a row, t its
    target and G as above, dL/dz = p (w - sum_j G_j p_j) + scatter(G_j p_j) - scatter(w at t).
    """
    return _TextLossAndMass.apply(logits_RV, targets_R, ids_RJ)


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


class _TextLossAndMass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_RV: Tensor, targets_R: Tensor, ids_RJ: Tensor
    ) -> tuple[Tensor, Tensor]:
        shift_R = _normalisers(logits_RV, 1.0)
        probs_RJ = _columns(logits_RV, ids_RJ, shift_R, 1.0)
        trained_R = (targets_R != IGNORED).type_as(shift_R)
        targets_R1 = targets_R.clamp_min(0)[:, None]
        weight_R = trained_R / trained_R.sum()  # no target at all: nan, as torch's own loss
        loss = ((shift_R - logits_RV.gather(1, targets_R1)[:, 0]) * weight_R).sum()
        ctx.save_for_backward(logits_RV, targets_R1, weight_R, ids_RJ, shift_R, probs_RJ)
        return loss, probs_RJ

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        logits_RV, targets_R1, weight_R, ids_RJ, shift_R, probs_RJ = ctx.saved_tensors
        pull_RJ = grads[1] * probs_RJ
        weight_R = grads[0] * weight_R
        grad_RV = _scaled_softmax(logits_RV, shift_R, weight_R - pull_RJ.sum(-1), 1.0)
        grad_RV.scatter_add_(1, ids_RJ, pull_RJ.type_as(grad_RV))
        grad_RV.scatter_add_(1, targets_R1, -weight_R[:, None].type_as(grad_RV))
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
