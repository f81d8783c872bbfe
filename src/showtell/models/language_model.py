"""A causal LM of transformers behind a small surface: embed, run, head, step with a cache."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from showtell.errors import CheckpointError
from showtell.models.painter import MAX_SHARD_SIZE


class LanguageModel(nn.Module):
    """A causal LM and its tokenizer (2408.08650, section 2.2)."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer

    @property
    def width(self) -> int:
        """D"""
        return int(self.model.config.hidden_size)

    def embed(self, ids_BT: Tensor) -> Tensor:
        return self.model.get_input_embeddings()(ids_BT)

    def hidden(
        self, embeds_BTD: Tensor, mask_BT: Tensor | None, positions_BT: Tensor | None = None
    ) -> Tensor:
        """h = LLM(U, r) (Eq. 1 of 2408.08650): the last hidden states, (B, T, D).

        A boolean mask (B, 1, T, T) says instead what each token sees; ``positions_BT`` where it
        stands, if not one after the other.
        """
        base = self.model.base_model
        states = base(inputs_embeds=embeds_BTD, attention_mask=mask_BT, position_ids=positions_BT)
        return states.last_hidden_state  # Eq. 1 (its o = LPL(h) is ``head``)

    def head(self, hidden: Tensor) -> Tensor:
        """o = LPL(h) (Eq. 1): logits over V for states of any leading shape."""
        return self.model.get_output_embeddings()(hidden)

    @torch.no_grad()
    def step(self, embeds_1TD: Tensor, cache: DynamicCache) -> tuple[Tensor, Tensor]:
        """Read T more embeddings; the last state (D,) and its logits (V,). ``cache`` grows."""
        base = self.model.base_model
        hidden = base(inputs_embeds=embeds_1TD, past_key_values=cache, use_cache=True)
        last_D = hidden.last_hidden_state[0, -1]
        return last_D, self.head(last_D).float()

    def save_pretrained(self, folder: Path) -> None:
        self.model.save_pretrained(folder, max_shard_size=MAX_SHARD_SIZE)
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def from_pretrained(cls, folder: Path, *, dtype: torch.dtype = torch.float32) -> LanguageModel:
        """Read a transformers folder from this machine. Raises CheckpointError."""
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f'no language model in "{folder}"; wanted config.json, safetensors and a tokenizer '
                "as save_pretrained writes them; copy or train it again"
            )
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the library raises many kinds for a broken file
            raise CheckpointError(
                f'the language model in "{folder}" cannot be read ({type(error).__name__}: '
                f"{error}); copy or train it again"
            ) from error
        return cls(model, tokenizer)


def new_cache() -> DynamicCache:
    return DynamicCache()
