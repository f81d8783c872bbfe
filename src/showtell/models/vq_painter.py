"""Divter's image side: an image tokenizer V and a translator F from words to image tokens.

V is a VQ model: a photo is L codes out of a codebook. F is a causal LM over

    words of the caption; SEP; code 1 ... code L

that is trained on the codes and, to paint, writes them one by one; of several photos the one is
kept that an encoder ranks best. Source: Divter (arXiv 2110.08515, section 3.3), as the baseline of
2408.08650. It stands where the latent diffusion painter does: its "text tower" is F's own table of
words, so its conditioning is the caption's embeddings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from showtell.errors import ConfigError
from showtell.models.folders import (
    from_diffusers,
    from_transformers,
    reading,
    to_diffusers,
    to_transformers,
    write_json,
)
from showtell.models.painter import decode_latents, encode_latents, shrinks
from showtell.models.parts import Conditioning, Dice, OnStep, PainterTokens
from showtell.models.ranker import ClipRanker
from showtell.models.text_towers import TokenTower

Rank = Callable[[Tensor, Sequence[str]], Tensor]  # photos (N, 3, H, W), captions -> scores (N,)
ROWS_AT_ONCE = 256  # photos that are written together


class WordTable(TokenTower):
    """The translator's embeddings of words, as a text tower (parts.TextTower).

    U words come first in the translator's vocabulary, SEP is number U, then the codes.
    """

    def __init__(
        self, translator: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, length: int
    ) -> None:
        super().__init__(tokenizer, length=length)
        self._table = [translator.get_input_embeddings()]  # in a list: it is the translator's own

    @property
    def token_table_UC(self) -> Tensor:
        return self._table[0].weight[: len(self.tokenizer)]

    def forward(self, tokens: PainterTokens, embeds_NSC: Tensor | None = None) -> Tensor:
        """The words' embeddings, (N, S, C)."""
        return F.embedding(tokens.ids_NS, self.token_table_UC) if embeds_NSC is None else embeds_NSC


class VqPainter(nn.Module):
    """Conditioning -> photo, code by code.

    ``vq`` reads pixels, or with a ``vae`` that one's latents. ``num_samples`` photos are painted
    for one caption, and ``rank`` keeps the best (Divter: 256, by CLIP); one needs no ``rank``.
    Raises ConfigError where the translator's vocabulary is not words, SEP and the codebook.
    """

    denoises = False

    def __init__(
        self,
        *,
        translator: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        vq: VQModel,
        text_length: int,
        vae: AutoencoderKL | None = None,
        num_samples: int = 1,
        rank: Rank | None = None,
    ) -> None:
        super().__init__()
        wanted = len(tokenizer) + 1 + vq.config.num_vq_embeddings
        if (met := translator.config.vocab_size) != wanted:
            raise ConfigError(
                f"the translator has {met} tokens; wanted {wanted}: {len(tokenizer)} words, SEP "
                f"and {vq.config.num_vq_embeddings} codes; build it for this tokenizer and VQ model"
            )
        self.translator = translator
        self.vq = vq
        self.vae = vae
        self.text = WordTable(translator, tokenizer, length=text_length)
        self.num_samples = num_samples
        self.rank = rank

    @property
    def separator(self) -> int:
        """The id of SEP; code j is number ``separator + 1 + j``."""
        return len(self.text.tokenizer)

    @property
    def side(self) -> int:
        """A photo is side x side codes."""
        return self.vq.config.sample_size // shrinks(self.vq)

    @property
    def image_size(self) -> int:
        """H and W of a photo."""
        return self.vq.config.sample_size * (1 if self.vae is None else shrinks(self.vae))

    def encode_photos(self, pixels_N3HW: Tensor) -> Tensor:
        """Pixels in [0, 1] -> (N, L) codes, row by row."""
        # a code in half precision would be its neighbour now and then
        with torch.no_grad(), torch.autocast(self.vq.device.type, enabled=False):
            if self.vae is None:
                return self.vq_codes(pixels_N3HW * 2 - 1)
            return self.vq_codes(encode_latents(self.vae, pixels_N3HW))

    @torch.no_grad()
    def vq_codes(self, inputs: Tensor) -> Tensor:
        """What the VQ model reads (pixels in [-1, 1], or the VAE's latents) -> (N, L) codes."""
        inputs = inputs.to(self.vq.device)
        indices = self.vq.quantize(self.vq.encode(inputs).latents)[2][2]
        return indices.reshape(len(inputs), -1)

    def decode_photos(self, codes_NL: Tensor) -> Tensor:
        """(N, L) codes -> pixels in [0, 1]."""
        width = self.vq.quantize.vq_embed_dim
        shape = (len(codes_NL), self.side, self.side, width)
        with torch.no_grad():
            latents = self.vq.quantize.get_codebook_entry(codes_NL.flatten(), shape)
            outputs = self.vq.decode(latents, force_not_quantize=True).sample
        if self.vae is not None:
            return decode_latents(self.vae, outputs)
        return (outputs.float() / 2 + 0.5).clamp(0, 1)

    def loss(
        self,
        cond_NSC: Tensor,
        pixels_N3HW: Tensor,
        *,
        generator: Dice,
        snr_gamma: float | None = None,
    ) -> Tensor:
        """L_F = - sum_l log p(code_l | caption, codes before it), as a mean over codes.

        Nothing is drawn and there is no noise: the last two arguments are the protocol's.
        """
        return self.codes_loss(cond_NSC, self.encode_photos(pixels_N3HW))

    def codes_loss(self, cond_NSC: Tensor, codes_NL: Tensor) -> Tensor:
        """The same on codes."""
        codes_NL = codes_NL.to(cond_NSC.device)
        return F.cross_entropy(
            self.code_logits(cond_NSC, codes_NL).flatten(0, 1), codes_NL.flatten()
        )

    def code_logits(self, cond_NSC: Tensor, codes_NL: Tensor) -> Tensor:
        """Teacher-forced logits (N, L, codebook) of each code; words cannot be said there."""
        table = self.translator.get_input_embeddings()
        told = torch.cat([codes_NL.new_full((len(codes_NL), 1), -1), codes_NL[:, :-1]], 1)
        inputs = torch.cat([cond_NSC, table(told + self.separator + 1).to(cond_NSC.dtype)], 1)
        states = self.translator.base_model(inputs_embeds=inputs).last_hidden_state
        logits = self.translator.get_output_embeddings()(states[:, cond_NSC.shape[1] :])
        return logits[..., self.separator + 1 :].float()

    @torch.no_grad()
    def paint(
        self,
        conditioning: Conditioning,
        *,
        num_steps: int,
        guidance: float,
        seeds: Sequence[int],
        callback: OnStep | None = None,
    ) -> Tensor:
        """Photos (N, 3, H, W) in [0, 1]; each from the dice of its own seed.

        ``guidance`` belongs to diffusion and changes nothing. A photo takes as many steps as it has
        codes; ``callback`` is told of ``num_steps`` of them, with the codes so far. Raises
        ConfigError for several samples with nothing to rank them by, or no words to rank them for.
        """
        cond_NSC, captions, samples = conditioning.cond_NSC, conditioning.captions, self.num_samples
        if samples > 1 and (self.rank is None or captions is None):
            lacks = "rank them by" if self.rank is None else "rank them for: no words were given"
            raise ConfigError(
                f"{samples} photos a caption and nothing to {lacks}; give the painter a rank "
                "(photos, captions -> scores) and a bridge of captions, or set num_samples to 1"
            )
        dice = [
            torch.Generator().manual_seed(seed + 1_000_003 * sample)
            for seed in seeds
            for sample in range(samples)
        ]
        rows_RSC = cond_NSC.repeat_interleave(samples, 0)
        kept: list[Tensor] = []
        size = max(1, ROWS_AT_ONCE // samples) * samples
        for start in range(0, len(dice), size):
            rows = slice(start, start + size)
            codes = self._write(rows_RSC[rows], dice[rows], num_steps, callback)
            photos_R3HW = self.decode_photos(codes)
            if samples > 1:
                assert self.rank is not None and captions is not None
                told = [captions[row // samples] for row in range(len(dice))[rows]]
                best_N = self.rank(photos_R3HW, told).view(-1, samples).argmax(1)
                photos_R3HW = photos_R3HW.unflatten(0, (-1, samples))[range(len(best_N)), best_N]
            kept.append(photos_R3HW)
        return torch.cat(kept)

    def _write(
        self,
        cond_NSC: Tensor,
        dice: Sequence[torch.Generator],
        num_steps: int,
        callback: OnStep | None,
    ) -> Tensor:
        """Draw (N, L) codes, one after the other."""
        table = self.translator.get_input_embeddings()
        separator = torch.full((len(dice), 1), self.separator, device=cond_NSC.device)
        inputs = torch.cat([cond_NSC, table(separator).to(cond_NSC.dtype)], 1)
        cache = DynamicCache()
        codes: list[Tensor] = []
        length = self.side**2
        for step in range(length):
            states = self.translator.base_model(
                inputs_embeds=inputs, past_key_values=cache, use_cache=True
            ).last_hidden_state[:, -1]
            logits = self.translator.get_output_embeddings()(states)[:, self.separator + 1 :]
            chances = logits.float().softmax(-1).cpu()
            drawn = torch.cat(
                [
                    torch.multinomial(p, 1, generator=die)
                    for p, die in zip(chances, dice, strict=True)
                ]
            ).to(cond_NSC.device)
            codes.append(drawn)
            inputs = table(drawn[:, None] + self.separator + 1).to(cond_NSC.dtype)
            told, now = (k * num_steps // length for k in (step, step + 1))
            if callback is not None and now > told:
                callback(now, torch.stack(codes, 1))
        return torch.stack(codes, 1)

    # ------------------------------------------------------------------------------ on disk

    def save_pretrained(self, folder: Path) -> None:
        """translator/ and tokenizer/ (transformers), vq/ and vae/ (diffusers), ranker/ (a CLIP),
        code_painter.json. A rank that is no ClipRanker is the caller's to keep."""
        to_transformers(self.translator, folder / "translator")
        self.text.tokenizer.save_pretrained(folder / "tokenizer")
        to_diffusers(self.vq, folder / "vq")
        if self.vae is not None:
            to_diffusers(self.vae, folder / "vae")
        if isinstance(self.rank, ClipRanker):
            self.rank.save_pretrained(folder / "ranker")
        settings = {"text_length": self.text.length, "num_samples": self.num_samples}
        write_json(folder / "code_painter.json", settings)

    @classmethod
    def from_pretrained(cls, folder: Path, *, dtype: torch.dtype = torch.float32) -> VqPainter:
        """Read from this machine; only safetensors are read. Raises CheckpointError."""
        wanted = "code_painter.json, translator, tokenizer and vq as save_pretrained writes them"
        with reading("the painter", folder, wanted=wanted):
            settings = json.loads((folder / "code_painter.json").read_text())
            vae, ranker = folder / "vae", folder / "ranker"
            return cls(
                translator=from_transformers(
                    AutoModelForCausalLM, folder / "translator", dtype=dtype
                ),
                tokenizer=AutoTokenizer.from_pretrained(
                    folder / "tokenizer", local_files_only=True
                ),
                vq=from_diffusers(VQModel, folder / "vq", dtype=dtype),
                vae=from_diffusers(AutoencoderKL, vae, dtype=dtype) if vae.is_dir() else None,
                rank=ClipRanker.from_pretrained(ranker, dtype=dtype) if ranker.is_dir() else None,
                text_length=settings["text_length"],
                num_samples=settings["num_samples"],
            )
