"""Photos that an LLM attends to instead of reading them as tokens (2408.08650 v2: Llama-Vision).

The layers are transformers' Mllama text layers; they look at the states of a ViT, projected to the
LLM's width (``CrossAttentionPhotoEncoder``). In the text a photo is one token, <|photo|>;
that token and those after it see the photo, with all photos before it, or, by Llama-Vision's own
rule (``latest``), up to the next photo that does not stand right behind it. Nothing tells a photo's
number but the token from which on it is seen.

    language = with_cross_attention(language, layers=(1, 4))   # weights kept, new layers gated shut

Letters beside those of ``models/parts.py``: S slots. A slot is a state of a
photo; the first of a row is "no photo", zeros, seen by tokens that see no photo. The library would
let these see every photo of the row, those to come and padding included. Any other slot of zeros is
a tile that a photo lacks, and seen by none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, MllamaForCausalLM, MllamaTextConfig

from showtell.errors import ConfigError

if TYPE_CHECKING:
    from showtell.models.language import LanguageModel


@dataclass(frozen=True, kw_only=True)
class AttendedPhotos:
    """What cross-attention layers look at while T tokens are read.

    ``states_BSD``: the slots that are new; None: only those that the cache holds already.
    ``sees_BTS``: bool, over all slots, those of the cache first. ``latest``: a token that sees a
    new photo sees none of the cache.
    """

    states_BSD: Tensor | None
    sees_BTS: Tensor
    latest: bool = False

    def arguments(self, embeds_BTD: Tensor) -> dict[str, Any]:
        """As the library's text model takes them."""
        shut = torch.finfo(embeds_BTD.dtype).min
        mask_B1TS = torch.zeros_like(self.sees_BTS, dtype=embeds_BTD.dtype)[:, None]
        any_photo_BT = self.sees_BTS[..., 1:].any(-1)
        return {
            "cross_attention_states": self.states_BSD,
            "cross_attention_mask": mask_B1TS.masked_fill(~self.sees_BTS[:, None], shut),
            # the layers' own MLPs leave a token alone that sees no photo
            "full_text_row_masked_out_mask": any_photo_BT[:, None, :, None].to(embeds_BTD.dtype),
        }


def attended_photos(
    seen_PQD: Tensor,
    *,
    row_P: Tensor,
    start_P: Tensor,
    shape: tuple[int, int],
    latest: bool = False,
) -> AttendedPhotos:
    """P photos in their rows' slots, each seen from the token ``start`` of its row on.

    ``shape``: (B, T). Photos come in the order of their rows. ``latest``: Llama-Vision's own rule.
    """
    num_rows, length = shape
    num_states, width = seen_PQD.shape[1:]
    row_P, start_P = row_P.to(seen_PQD.device), start_P.to(seen_PQD.device)
    count_B = torch.bincount(row_P, minlength=num_rows)
    first_B = count_B.cumsum(0) - count_B
    photo_P = torch.arange(len(row_P), device=row_P.device) - first_B[row_P]  # which of its row's
    most = int(count_B.max())
    photos_BJQD = seen_PQD.new_zeros(num_rows, most, num_states, width)
    photos_BJQD = photos_BJQD.index_put((row_P, photo_P), seen_PQD)
    start_BJ = torch.full((num_rows, most), length, device=row_P.device)
    start_BJ[row_P, photo_P] = start_P
    tokens_T = torch.arange(length, device=row_P.device)
    sees_BTJ = tokens_T[None, :, None] >= start_BJ[:, None]
    if latest:
        stop_BJ = torch.full_like(start_BJ, length)
        for j in range(most - 2, -1, -1):
            next_B = start_BJ[:, j + 1]
            joined_B = next_B == start_BJ[:, j] + 1
            stop_BJ[:, j] = torch.where(joined_B, stop_BJ[:, j + 1], next_B)
        sees_BTJ &= tokens_T[None, :, None] < stop_BJ[:, None]
    there_BS = photos_BJQD.detach().ne(0).any(-1).flatten(1)
    none_B1D = seen_PQD.new_zeros(num_rows, 1, width)
    return AttendedPhotos(
        states_BSD=torch.cat([none_B1D, photos_BJQD.flatten(1, 2)], dim=1),
        sees_BTS=_or_none(sees_BTJ.repeat_interleave(num_states, dim=2) & there_BS[:, None]),
        latest=latest,
    )


def seen_on(
    slots_BS: Tensor | None, new: AttendedPhotos | None, *, length: int
) -> tuple[AttendedPhotos, Tensor]:
    """What the next ``length`` tokens see, and the slots (less the first) that are real then.

    ``slots_BS``: those that the cache holds; None: it holds none. ``new``: photos among the tokens.
    """
    if slots_BS is None:
        assert new is not None
        return new, new.sees_BTS[:, -1, 1:]
    sees_BTS, states_BSD = slots_BS[:, None].expand(-1, length, -1), None
    if new is not None:
        if new.latest:
            sees_BTS = sees_BTS & ~new.sees_BTS[..., 1:].any(-1, keepdim=True)
        sees_BTS = torch.cat([sees_BTS, new.sees_BTS[..., 1:]], dim=2)
        states_BSD = None if new.states_BSD is None else new.states_BSD[:, 1:]
    return AttendedPhotos(states_BSD=states_BSD, sees_BTS=_or_none(sees_BTS)), sees_BTS[:, -1]


def _or_none(sees_BTS: Tensor) -> Tensor:
    """The slot "no photo" before the others, for tokens that see none."""
    return torch.cat([~sees_BTS.any(-1, keepdim=True), sees_BTS], dim=2)


# -------------------------------------------------------------------------------------- the LLM


def has_cross_attention(language: LanguageModel) -> bool:
    return bool(getattr(language.model.config, "cross_attention_layers", None))


def with_cross_attention(language: LanguageModel, *, layers: Sequence[int]) -> LanguageModel:
    """The same LLM with cross-attention layers, which ``layers`` numbers among all layers.

    Llama's weights stay what they are; the new layers' gates are 0, so that every logit is as
    before until they are trained. The library's class has a head of its own: a tied one is copied.
    Raises ConfigError for an LLM that is no plain Llama, or numbers that name no places.
    """
    llama, config = language.model, language.model.config
    if not isinstance(llama, LlamaForCausalLM) or language.prefix is not None:
        raise ConfigError(
            f"cross-attention layers go into a Llama without a prefix, this is "
            f"{type(llama).__name__}{' with one' if language.prefix is not None else ''}; start "
            "from a base model of that kind, or use another photo encoder"
        )
    if any("lora_" in name for name, _ in llama.named_parameters()):
        raise ConfigError(
            "cross-attention layers go into an LLM before LoRA does; start from the base model"
        )
    total = config.num_hidden_layers + len(layers)
    if not layers or len(set(layers)) < len(layers) or not all(0 < at < total for at in layers):
        raise ConfigError(
            f"cross_attention_layers is {tuple(layers)}; wanted different numbers from 1 to "
            f"{total - 1}: places among {config.num_hidden_layers} layers and these (the first "
            "layer reads the words)"
        )
    shared = {
        key: getattr(config, key)
        for key in (
            *("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads"),
            *("num_key_value_heads", "hidden_act", "rms_norm_eps", "max_position_embeddings"),
            *("initializer_range", "bos_token_id", "eos_token_id", "pad_token_id"),
            "rope_parameters",
        )
    }
    mllama = MllamaForCausalLM(
        MllamaTextConfig(**shared, num_hidden_layers=total, cross_attention_layers=sorted(layers))
    ).to(device=llama.device, dtype=llama.dtype)
    own = [at for at in range(total) if at not in set(layers)]
    state = {
        re.sub(r"layers\.(\d+)", lambda found: f"layers.{own[int(found[1])]}", name): value
        for name, value in llama.state_dict().items()
    }
    table_VD = state.pop("model.embed_tokens.weight")
    state["lm_head.weight"] = llama.get_output_embeddings().weight
    lacking = mllama.load_state_dict(state, strict=False)
    assert not lacking.unexpected_keys, lacking.unexpected_keys
    with torch.no_grad():
        mllama.get_input_embeddings().weight[: len(table_VD)] = table_VD
    grown = type(language)(mllama.train(llama.training), language.tokenizer)
    grown.new_tokens = language.new_tokens
    return grown
