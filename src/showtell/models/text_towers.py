"""The text encoders of painters, which accept soft tokens (parts.TextTower).

    ClipTextTower     Stable Diffusion 1 and 2: CLIP, its last states
    ThreeTextTowers   Stable Diffusion 3: two CLIPs side by side, then T5's; the pooled vector first
    ChatTextTower     FLUX.2 klein: layers of an LLM that reads a caption as a user's turn

As the pipelines of diffusers have them. Gradients flow into ``embeds_NSC``; the ids still say where
the sequence ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from showtell.errors import CheckpointError
from showtell.models.parts import PainterTokens

T5_LENGTH = 256  # as StableDiffusion3Pipeline has it
CHAT_LENGTH = 512  # as Flux2KleinPipeline has it
CHAT_LAYERS = (9, 18, 27)


class TokenTower(nn.Module):
    """A text tower less what it makes of the tokens; ``length`` is how many it reads."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, length: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.length = length

    @property
    def token_table_UC(self) -> Tensor:
        raise NotImplementedError

    @property
    def sizes(self) -> tuple[int, int]:
        """(C, S) of what it gives."""
        return int(self.token_table_UC.shape[1]), self.length

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Captions -> conditioning (N, S, C), by the ordinary path."""
        return self(self.tokenize(captions))

    def tokenize(self, captions: Sequence[str]) -> PainterTokens:
        """Captions -> padded ids with character offsets; longer ones are cut."""
        encoded = self.tokenizer(
            list(captions),
            padding="max_length",
            max_length=self.length,
            truncation=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_tensors="pt",
        ).to(self.token_table_UC.device)
        return PainterTokens(
            captions=captions,
            ids_NS=encoded["input_ids"],
            content_NS=encoded["special_tokens_mask"] == 0,
            offsets_NS2=encoded["offset_mapping"],
        )


@contextmanager
def _embedded(encoder: Any, embeds_NSC: Tensor | None) -> Iterator[None]:
    """The library's forward takes ids only: these stand in for the rows of its token table."""
    if embeds_NSC is None:
        yield
        return
    handle = encoder.get_input_embeddings().register_forward_hook(
        lambda module, args, output: embeds_NSC.to(output.dtype)
    )
    try:
        yield
    finally:
        handle.remove()


class ClipTextTower(TokenTower):
    """A CLIP text encoder with its own vocabulary U."""

    def __init__(self, encoder: CLIPTextModel, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(tokenizer, length=int(encoder.config.max_position_embeddings))
        self.encoder = encoder

    @property
    def token_table_UC(self) -> Tensor:
        return self.encoder.get_input_embeddings().weight

    def forward(self, tokens: PainterTokens, embeds_NSC: Tensor | None = None) -> Tensor:
        """The last hidden states, (N, S, C)."""
        with _embedded(self.encoder, embeds_NSC):
            return self.encoder(input_ids=tokens.ids_NS).last_hidden_state


class ThreeTextTowers(TokenTower):
    """Two CLIPs of one vocabulary, whose tables stand side by side in ``token_table_UC``, and T5,
    which has its own and reads the caption's words (no gradient of soft tokens goes through it).

    Rows of width C = ``width``: the CLIPs' pooled vectors, their states but one layer, those of T5
    (zeros where it was left out, as the pipeline has them); what is narrower is followed by zeros.
    Raises CheckpointError where the parts do not fit one another.
    """

    def __init__(
        self,
        encoders: Sequence[CLIPTextModelWithProjection],
        tokenizers: Sequence[PreTrainedTokenizerFast],
        *,
        t5: nn.Module | None,
        t5_tokenizer: PreTrainedTokenizerFast | None,
        width: int,
    ) -> None:
        super().__init__(tokenizers[0], length=int(encoders[0].config.max_position_embeddings))
        self.encoder, self.encoder_2 = encoders
        self.second_tokenizer = tokenizers[1]
        self.encoder_3, self.third_tokenizer = t5, t5_tokenizer
        self.width = width
        widest = max(sum(part) for part in zip(*map(_widths, encoders), strict=True))
        if len(tokenizers[0]) != len(tokenizers[1]) or widest > width:
            raise CheckpointError(
                f"the text encoders of a Stable Diffusion 3 have {len(tokenizers[0])} and "
                f"{len(tokenizers[1])} tokens and {widest} numbers a row for its transformer's "
                f"{width}; wanted one vocabulary, and no more numbers than it reads; these are "
                "parts of two models: copy the folder again"
            )

    @property
    def token_table_UC(self) -> Tensor:
        tables = (self.encoder, self.encoder_2)
        return torch.cat([one.get_input_embeddings().weight for one in tables], 1)

    @property
    def sizes(self) -> tuple[int, int]:
        return self.width, 1 + self.length + T5_LENGTH

    def forward(self, tokens: PainterTokens, embeds_NSC: Tensor | None = None) -> Tensor:
        """(N, 1 + S_clip + S_t5, C)"""
        first = self.encoder.get_input_embeddings().weight.shape[1]
        ids_NS, embeds = tokens.ids_NS, embeds_NSC
        end, pad = self.tokenizer.eos_token_id, self.second_tokenizer.pad_token_id
        padding_NS = (ids_NS == end).cumsum(1) - (ids_NS == end).long() > 0  # behind the first end
        other_NS = ids_NS.masked_fill(padding_NS, pad)  # the two pad with tokens of their own
        told = [
            self._clip(self.encoder, ids_NS, None if embeds is None else embeds[..., :first]),
            self._clip(self.encoder_2, other_NS, self._padded(embeds, padding_NS, pad, first)),
        ]
        states_NSC = torch.cat([states for states, _ in told], -1)
        pooled_N1C = torch.cat([pooled for _, pooled in told], -1)[:, None]
        t5_NSC = self._t5(tokens.captions, like=states_NSC)
        rows = (pooled_N1C, states_NSC, t5_NSC)
        return torch.cat([F.pad(row, (0, self.width - row.shape[-1])) for row in rows], 1)

    def _padded(
        self, embeds_NSC: Tensor | None, padding_NS: Tensor, pad: int, first: int
    ) -> Tensor | None:
        if embeds_NSC is None:
            return None
        row_C = self.encoder_2.get_input_embeddings().weight[pad]
        return torch.where(padding_NS[..., None], row_C, embeds_NSC[..., first:])

    def _clip(
        self, encoder: CLIPTextModelWithProjection, ids_NS: Tensor, embeds_NSC: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        with _embedded(encoder, embeds_NSC):
            out = encoder(input_ids=ids_NS, output_hidden_states=True)
        return out.hidden_states[-2], out.text_embeds

    def _t5(self, captions: Sequence[str], *, like: Tensor) -> Tensor:
        if self.encoder_3 is None or self.third_tokenizer is None:
            return like.new_zeros(len(captions), T5_LENGTH, self.width)
        ids_NS = self.third_tokenizer(
            list(captions),
            padding="max_length",
            max_length=T5_LENGTH,
            truncation=True,
            return_tensors="pt",
        )["input_ids"].to(like.device)
        return self.encoder_3(input_ids=ids_NS).last_hidden_state.to(like.dtype)


def _widths(encoder: CLIPTextModelWithProjection) -> tuple[int, int]:
    """Of its states, and of its pooled vector."""
    return int(encoder.config.hidden_size), int(encoder.config.projection_dim)


class ChatTextTower(TokenTower):
    """An LLM of transformers, three of whose layers are what the painter reads of a caption.

    Raises CheckpointError for one with too few layers, or a tokenizer without a chat template.
    """

    def __init__(self, encoder: Any, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(tokenizer, length=CHAT_LENGTH)
        self.encoder = encoder  # with its head, which is saved and not asked
        layers = int(encoder.config.num_hidden_layers)
        if layers < CHAT_LAYERS[-1] or not tokenizer.chat_template:
            lacks = "has no chat template" if layers >= CHAT_LAYERS[-1] else f"has {layers} layers"
            raise CheckpointError(
                f"the painter's text encoder {lacks}; wanted an LLM of {CHAT_LAYERS[-1]} layers or "
                "more with its tokenizer's template, as FLUX.2 klein has; copy the folder again"
            )

    @property
    def token_table_UC(self) -> Tensor:
        return self.encoder.get_input_embeddings().weight

    @property
    def sizes(self) -> tuple[int, int]:
        return len(CHAT_LAYERS) * int(self.token_table_UC.shape[1]), self.length

    @cached_property
    def _frame(self) -> tuple[str, str]:
        """What stands before and behind the words of a caption."""
        mark = "caption"
        told = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": mark}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        before, _, behind = told.partition(mark)
        return before, behind

    def tokenize(self, captions: Sequence[str]) -> PainterTokens:
        """The captions as turns of a user. Words that look like its special tokens are blanks."""
        before, behind = self._frame
        told = super().tokenize([before + self._plain(words) + behind for words in captions])
        start_NS, stop_NS = (told.offsets_NS2 - len(before)).unbind(-1)
        last_N1 = torch.tensor([[len(words)] for words in captions], device=start_NS.device)
        content_NS = told.content_NS & (start_NS >= 0) & (stop_NS <= last_N1) & (stop_NS > start_NS)
        offsets_NS2 = torch.stack([start_NS, stop_NS], -1) * content_NS[..., None]
        return PainterTokens(
            captions=captions, ids_NS=told.ids_NS, content_NS=content_NS, offsets_NS2=offsets_NS2
        )

    def _plain(self, words: str) -> str:
        for token in self.tokenizer.added_tokens_decoder.values():
            words = words.replace(token.content, " " * len(token.content))
        return words

    def forward(self, tokens: PainterTokens, embeds_NSC: Tensor | None = None) -> Tensor:
        """(N, S, 3 C)"""
        with _embedded(self.encoder, embeds_NSC):
            states = self.encoder.base_model(
                input_ids=tokens.ids_NS,
                attention_mask=(tokens.ids_NS != self.tokenizer.pad_token_id).long(),
                output_hidden_states=True,
                use_cache=False,
            ).hidden_states
        return torch.cat([states[layer] for layer in CHAT_LAYERS], -1)
