"""Perplexity: exp of the mean negative log-likelihood of a token.

    PPL = exp( sum of -log p(token | what stands before) / number of tokens )

over all tokens of all texts, not a mean of the texts' own perplexities. It depends on the
tokenizer: compare only models that share one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from showtell.errors import CheckpointError, DataError
from showtell.metrics.report import Value, percentiles, resample_counts
from showtell.runtime import the_device


class Perplexity:
    """Sums over texts; two ranks are put together by ``merge``."""

    def __init__(self) -> None:
        self.nll = 0.0
        self.tokens = 0

    def update(self, nll: float, tokens: int) -> None:
        self.nll += nll
        self.tokens += tokens

    def merge(self, other: Perplexity) -> None:
        self.update(other.nll, other.tokens)

    def compute(self) -> float:
        if self.tokens < 1:
            raise DataError("the perplexity of no tokens; wanted at least one")
        return math.exp(self.nll / self.tokens)


def perplexity_value(
    nll_N: Sequence[float],
    tokens_N: Sequence[int],
    *,
    seed: int,
    groups: Sequence[str] | None = None,
    protocol: str = "",
    note: str = "",
) -> Value:
    """The perplexity of N texts with its bootstrap interval over texts, or over groups."""
    pairs_N2 = np.stack([np.asarray(nll_N, float), np.asarray(tokens_N, float)], axis=1)
    if not len(pairs_N2) or not (pairs_N2[:, 1] >= 1).all() or not (pairs_N2[:, 0] >= 0).all():
        raise DataError(
            "negative log-likelihoods below 0 (or none), or texts without tokens; wanted the sum "
            "of -log p in nats and the number of tokens of each text."
        )
    if groups is not None:
        _, index = np.unique(np.asarray(groups), return_inverse=True)
        sums_G2 = np.stack([np.bincount(index, weights=c) for c in pairs_N2.T], axis=1)
    else:
        sums_G2 = pairs_N2
    draws = []
    for counts_RG in resample_counts(len(sums_G2), seed=seed):
        nll_R, tokens_R = (counts_RG @ sums_G2).T
        draws.append(np.exp(nll_R / tokens_R))
    low, high = percentiles(draws)
    nll, tokens = pairs_N2.sum(0)
    return Value(
        value=math.exp(nll / tokens),
        low=low,
        high=high,
        n=len(pairs_N2),
        higher_is_better=False,
        protocol=protocol,
        note=f"{int(tokens):,} tokens" + (f"; {note}" if note else ""),
        unit="",
    )


@torch.no_grad()
def text_nll(text: str, model: Any, tokenizer: Any) -> tuple[float, int]:
    """(sum of -log p in nats, tokens) of a text under a transformers causal LM.

    The first token is predicted only where the tokenizer begins with a mark of its own (BOS).
    """
    ids_1T = tokenizer(text, return_tensors="pt")["input_ids"].to(model.device)
    if ids_1T.shape[1] < 2:
        return 0.0, 0
    logs_TV = model(input_ids=ids_1T).logits[0, :-1].double().log_softmax(-1)
    wanted_T = ids_1T[0, 1:]
    return float(-logs_TV.gather(1, wanted_T[:, None]).sum()), len(wanted_T)


def load_language_model(path: str) -> tuple[Any, Any]:
    """(model, tokenizer) of a transformers folder or hub id, safetensors only."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True).eval()
        return model.to(the_device()), AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(
            f"{path} is no causal language model ({reason}); wanted a folder with config.json, "
            "model.safetensors and the tokenizer's files. Name such a folder."
        ) from error
