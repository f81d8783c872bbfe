"""Retrieve a photo or generate one: the decision module of GILL (2305.17216).

A linear classifier on the LLM's state at [IMG1], trained apart on people's votes over
PartiPrompts (``data/parti.py``). As released: dropout 0.5, two outputs (generate, retrieve), AdamW
without decay, 2,000 steps of all examples at once. An album that holds nothing near enough, or no
album, decides by itself: that is the album's cut-off, not this module's business.

Beside the letters of ``models/parts.py``: N prompts, D width of a state or of any other feature.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from showtell.errors import DataError

GENERATE, RETRIEVE = 0, 1  # columns of the logits, in the released order


@dataclass(frozen=True, kw_only=True)
class DecisionTraining:
    """How the head is trained; the defaults are the released ones."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    steps: int = 2000
    dropout: float = 0.5
    seed: int = 0


class DecisionHead(nn.Module):
    """State -> (generate, retrieve)."""

    def __init__(self, width: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, 2)

    def forward(self, states_ND: Tensor) -> Tensor:
        """Logits (N, 2), where the head is; with dropout while training."""
        return self.linear(self.dropout(states_ND.to(self.linear.weight.device)))

    def p_retrieve(self, states_ND: Tensor) -> Tensor:
        """The probability that retrieving beats generating, (N,); never with dropout."""
        return self.linear(states_ND.to(self.linear.weight.device)).softmax(-1)[:, RETRIEVE]


def train_decision(
    states_ND: Tensor, retrieve_N: Tensor, config: DecisionTraining | None = None
) -> DecisionHead:
    """A head from states and whether people retrieved (bool). The same seed gives the same head.

    Raises DataError for examples of one kind only, or states that are not numbers.
    """
    config = config or DecisionTraining()
    retrieve_N = retrieve_N.bool()
    if not (retrieve_N.any() and (~retrieve_N).any()):
        raise DataError(
            f"all {len(retrieve_N)} examples say the same; wanted some to retrieve and some to "
            "generate. Train on more prompts."
        )
    if not bool(torch.isfinite(states_ND).all()):
        raise DataError(
            "some states hold NaN or infinity; the model they come from is damaged: use another"
        )
    with torch.random.fork_rng(devices=[]):  # dropout knows no generator of its own
        torch.manual_seed(config.seed)
        head = DecisionHead(states_ND.shape[1], dropout=config.dropout).train()
        optimizer = torch.optim.AdamW(
            head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        for _ in range(config.steps):
            loss = F.cross_entropy(head(states_ND), retrieve_N.long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.eval().requires_grad_(False)
