"""A causal LM of transformers behind a small surface: embed, run with a cache or without, head."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import (
    AddedToken,
    AutoModelForCausalLM,
    DynamicCache,
    MllamaForCausalLM,
    MllamaTextConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from showtell.errors import CheckpointError, ConfigError
from showtell.models.adapters import Prefix, base_state, load_adapter, save_adapter
from showtell.models.bases import Base
from showtell.models.cross_attention import AttendedPhotos
from showtell.models.folders import (
    MAX_SHARD_SIZE,
    from_transformers,
    read_tokenizer,
    reading,
)
from showtell.models.parts import ids_of
from showtell.models.vocabulary import NewTokens, grown
from showtell.runtime import small_attention

# The library finds Llama-Vision's language model inside a whole one only, not in its own folder.
AutoModelForCausalLM.register(MllamaTextConfig, MllamaForCausalLM, exist_ok=True)


EYES = ("vision_model.", "multi_modal_projector.")  # of a whole Llama-Vision (photo_encoder.py)


class LanguageModel(nn.Module):
    """A causal LM and its tokenizer (2408.08650, section 2.2).

    ``new_tokens`` are what its vocabulary has gained (``models/vocabulary.py``), ``prefix`` the
    virtual tokens before everything it reads (``models/adapters.py``); None at first. ``origin``
    is the folder of a library that its own weights were read from.
    """

    new_tokens: NewTokens | None
    prefix: Prefix | None
    origin: Base | None = None

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.new_tokens = None
        self.prefix = None

    @property
    def width(self) -> int:
        """D, of what it reads and of its last states (in a few OPTs less than the hidden size)."""
        return int(self.model.get_input_embeddings().weight.shape[1])

    @property
    def hides_padding(self) -> bool:
        """Whether hidden padding leaves a row where it would stand alone. Not where places in the
        cache count: a window or chunks of attention, MPT's ALiBi."""
        config = self.model.config.get_text_config()
        reach = getattr(config, "sliding_window", None) or getattr(
            config, "attention_chunk_size", None
        )
        near = reach is not None and reach < getattr(config, "max_position_embeddings", reach + 1)
        return not near and config.model_type != "mpt"

    @property
    def takes_any_mask(self) -> bool:
        """Whether a mask (B, 1, T, T) may say what each token sees: not with a window or ALiBi."""
        config = self.model.config.get_text_config()
        alibi = config.model_type == "bloom" or getattr(config, "alibi", False)
        return self.hides_padding and not alibi

    @property
    def end_ids(self) -> set[int]:
        """The tokens that end a turn in the LLM's own way."""
        settings = self.model.generation_config
        ends = settings.eos_token_id if settings is not None else None
        found = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        added = self.tokenizer.added_tokens_decoder
        return {end for end in found if end in added and added[end].special}  # never a word

    @property
    def device(self) -> torch.device:
        return self.model.device

    def column(self, values: Sequence[int] | Sequence[list[int]]) -> Tensor:
        """Whole numbers where the LLM is."""
        return torch.tensor(values, dtype=torch.long, device=self.device)

    def rows(self, rows: Iterable[list[int]]) -> tuple[Tensor, Tensor]:
        """Rows of ids, padded on the right, and which of these are real (bool)."""
        told = self.tokenizer.pad(
            {"input_ids": list(rows)}, padding_side="right", return_tensors="pt"
        ).to(self.device)
        return told["input_ids"], told["attention_mask"].bool()

    # ----------------------------------------------------------------------------- vocabulary

    def grow_vocabulary(self, tokens: Sequence[str], *, seed: int) -> list[int]:
        """Give the vocabulary special tokens; their ids in order. Only their rows are new.

        ``seed`` starts these (``vocabulary.first_rows``). Tokens that were gained before keep
        their rows. Raises ConfigError for a token named twice, or one of the LLM's own.
        """
        have = self.new_tokens.tokens if self.new_tokens is not None else ()
        fresh = [token for token in tokens if token not in have]
        vocabulary = self.tokenizer.get_vocab()
        for token in fresh:
            if token in vocabulary or fresh.count(token) > 1:
                what = "in the vocabulary already" if token in vocabulary else "named twice"
                raise ConfigError(
                    f'the new token "{token}" is {what}; wanted names that stand for nothing '
                    "else; choose another name"
                )
        if fresh:
            self.new_tokens = grown(
                self.new_tokens,
                fresh,
                table=self.model.get_input_embeddings(),
                head=self.model.get_output_embeddings(),
                first_id=len(self.tokenizer),
                seed=seed,
            )
            _gain(self.tokenizer, fresh)
            if ids_of(self.new_tokens.tokens, self.tokenizer) != self.new_tokens.ids:
                raise ConfigError(
                    "this tokenizer's ids have gaps, so its new tokens do not stand after the old "
                    "ones; use a tokenizer whose ids are 0 to its size"
                )
        return ids_of(tokens, self.tokenizer)

    # --------------------------------------------------------------------------------- the LM

    def embed(self, ids_BT: Tensor) -> Tensor:
        table = self.model.get_input_embeddings()
        if self.new_tokens is None:
            return table(ids_BT)
        return self.new_tokens.embed(ids_BT, table)

    @property
    def base(self) -> PreTrainedModel:
        """The LLM less its head; Mllama's is not found by the name the library gives it."""
        base = self.model.base_model
        return self.model.model if base is self.model else base

    def hidden(
        self,
        embeds_BTD: Tensor,
        mask_BT: Tensor | None,
        positions_BT: Tensor | None = None,
        *,
        photos: AttendedPhotos | None = None,
        cache: DynamicCache | None = None,
    ) -> Tensor:
        """h = LLM(U, r) (Eq. 1 of 2408.08650): the last hidden states, (B, T, D).

        A boolean mask (B, 1, T, T) says instead what each token sees; ``positions_BT`` where it
        stands, if not one after the other. ``photos``: what cross-attention layers look at.
        ``cache``: what was read before these T (``new_cache``); it grows, and the mask is of all
        that was read, these included.
        """
        keep = None if cache is None else True
        if self.prefix is not None:
            cache = self.prefix.cache(len(embeds_BTD)) if cache is None else cache
            mask_BT, positions_BT = self.prefix.extend(mask_BT, positions_BT)
        with small_attention(embeds_BTD, length=embeds_BTD.shape[1]):
            states = self.base(
                inputs_embeds=embeds_BTD,
                attention_mask=mask_BT,
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=keep,
                **({} if photos is None else photos.arguments(embeds_BTD)),
            )
        return states.last_hidden_state  # Eq. 1 (its o = LPL(h) is ``head``)

    def head(self, hidden: Tensor) -> Tensor:
        """o = LPL(h) (Eq. 1): logits over V for states of any leading shape."""
        logits = self.model.get_output_embeddings()(hidden)
        if self.new_tokens is not None:
            logits = self.new_tokens.logits(hidden, logits)
        config = self.model.config
        if scale := getattr(self.model, "logit_scale", None):  # Cohere
            logits = logits * scale
        if scale := getattr(config, "logits_scaling", None):  # Granite
            logits = logits / scale
        if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2
            logits = (logits / cap).tanh() * cap
        return logits

    @torch.no_grad()
    def check(self) -> None:
        """Raises ConfigError for an LLM whose states or logits are not what its library says."""
        known = self.new_tokens.first_id if self.new_tokens else len(self.tokenizer)
        ids_1T = self.column([list(range(min(8, known)))])
        try:
            # from ids, for some families do more with these than embed them
            said = self.model(input_ids=ids_1T, use_cache=False).logits[..., :known]
            ours = self.head(self.hidden(self.embed(ids_1T), None))[..., : said.shape[-1]]
            equal = torch.allclose(ours.float(), said.float(), rtol=1e-3, atol=1e-3)
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ConfigError(
                f"a {type(self.model).__name__} cannot be used as language model here "
                f"({type(error).__name__}: {error}); wanted a causal one that reads embeddings; "
                "choose another"
            ) from error
        if not equal:
            raise ConfigError(
                f"a {type(self.model).__name__} does something to its logits or embeddings that "
                "is not known here, so that what it says would not be what it means; choose "
                "another language model"
            )

    def new_cache(self, num_rows: int = 1) -> DynamicCache:
        """What answers start from: the prefix, if there is one, and nothing read."""
        return DynamicCache() if self.prefix is None else self.prefix.cache(num_rows)

    def save_pretrained(self, folder: Path) -> None:
        """Write a transformers folder; new tokens and an adapter stand beside the LLM's own
        weights, which stay what they were, or beside a reference to where these lie."""
        state = base_state(self) or self.model.state_dict()
        if self.origin is not None and self.origin.holds(state):
            self.origin.write(folder, pad_token=self.tokenizer.pad_token)
        else:
            self.model.save_pretrained(folder, max_shard_size=MAX_SHARD_SIZE, state_dict=state)
            self.tokenizer.save_pretrained(folder)
        save_adapter(self, folder)
        if self.new_tokens is not None:
            self.new_tokens.save(folder)

    @classmethod
    def from_pretrained(
        cls, folder: Path, *, dtype: torch.dtype | Literal["auto"] = torch.float32
    ) -> LanguageModel:
        """Read a transformers folder from this machine, or what was trained on one; ``dtype``
        "auto": as it lies there. Raises CheckpointError, also for a weight without a place and a
        place without a weight."""
        wanted = "config.json, safetensors and a tokenizer as save_pretrained writes them"
        referred = Base.read(folder)
        origin = Base.of(folder) if referred is None else referred[0]
        own = folder if referred is None else referred[0].folder
        with reading("the language model", own, wanted=wanted):
            model, tokenizer = read_causal(own, dtype=dtype)
        language = cls(model, tokenizer)
        language.origin = origin
        language.new_tokens = new = NewTokens.load(folder)
        if referred is not None:
            _gain(tokenizer, () if new is None else new.tokens)
            tokenizer.pad_token = referred[1].get("pad_token")
        if new is not None and ids_of(new.tokens, tokenizer) != new.ids:
            raise CheckpointError(
                f'the new tokens in "{folder}" have other ids in its tokenizer; these are parts of '
                "two models; copy the model again"
            )
        load_adapter(language, folder)
        return language


def _has_eyes(folder: Path) -> bool:
    """Whether it is a whole Llama-Vision, of which the language model is a part."""
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return told["model_type"] == "mllama"


def read_causal(
    folder: Path, *, dtype: torch.dtype | Literal["auto"]
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A causal LM of transformers and its tokenizer, each weight in its place."""
    how: dict[str, Any] = {"exact": True, "beside": EYES if _has_eyes(folder) else ()}
    model = from_transformers(
        AutoModelForCausalLM, folder, dtype=dtype, trust_remote_code=False, **how
    )
    return model, read_tokenizer(folder, rows=len(model.get_input_embeddings().weight))


def _gain(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[str]) -> None:
    """Give a tokenizer tokens that are no words."""
    tokenizer.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in tokens],
        special_tokens=True,
    )
