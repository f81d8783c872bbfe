"""parts: a model put together from folders of the libraries, as a base that can be trained.

    showtell train parts --set language=DIR --set painter=DIR --set vision=DIR --out runs/parts

``language`` is a transformers folder (Llama, OPT ...), ``painter`` a diffusers one (Stable
Diffusion 1 to 3, FLUX.2 klein), ``vision`` a BLIP-2, ViT, CLIP or SigLIP of transformers, each by
its folder or its id on the hub (``models/named.py``). Its vocabulary gains the marks of turns and
photos. Nothing is trained here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from showtell.config import to_plain
from showtell.errors import ConfigError
from showtell.models.checkpoint import save_model
from showtell.models.cross_attention import has_cross_attention
from showtell.models.dialogue_model import Decoding
from showtell.models.hub_photos import NUM_TOKENS, hub_photo_encoder
from showtell.models.language import LanguageModel
from showtell.models.named import named_folder
from showtell.models.painters import read_painter
from showtell.progress import terminal_line, terminal_progress
from showtell.prompt import RendererConfig
from showtell.recipes.assemble import words_first
from showtell.recipes.small import DIALOGUE_TOKENS
from showtell.runtime import DTYPES

PAINTING = ("num_steps", "guidance")  # of a Decoding, which the painter's kind has its own of


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Folders of the libraries, and what of them makes a model.

    language: a folder of transformers, a .gguf file, an id on the hub, or a part that "showtell
        parts" lists
    painter: a folder of diffusers or an id; none: words only
    vision: a BLIP-2, ViT, CLIP or SigLIP of transformers, or a Llama-Vision, which then is
        language, too; none: photos are read as captions
    photo_encoder: a "qformer" on what it sees (2408.08650), or a "linear" map of its feature
        (GILL); none: BLIP-2's own Q-Former, a new one on a ViT, linear on CLIP and SigLIP
    projection: of BLIP-2's Q-Former to the LLM, a file of MiniGPT-4 (llama_proj), or "new"; none:
        BLIP-2's own, which must fit
    qformer_layers: of a new Q-Former, of the encoder's width
    num_photo_tokens: of a photo, for the LLM; none: as many as BLIP-2's Q-Former has, else 32
    max_tokens: of a dialogue, at most what the LLM has positions for
    template: turns as our "marks", new to the LLM, or as its own "chat" template has them
    dtype: of all parts; "auto": as their files have it
    num_steps: of painting; none: as the painter's kind is used (Stable Diffusion: 50)
    guidance: of painting; none: as the painter's kind is used (Stable Diffusion: 7.5)
    seed: starts what is new
    """

    language: str = "./models/language"
    painter: str | None = "./models/painter"
    vision: str | None = "./models/vision"
    photo_encoder: Literal["qformer", "linear"] | None = None
    projection: str | None = None
    qformer_layers: int = 12
    num_photo_tokens: int | None = None
    max_tokens: int = 1024
    template: Literal["marks", "chat"] = "marks"
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    num_steps: int | None = None
    guidance: float | None = None
    seed: int = 0

    def train(self, *, name: str, out: Path, resume: bool) -> Path:
        """Write ``out/model``. Raises CheckpointError for a folder that is none of its kind."""
        torch.manual_seed(self.seed)
        folder = part_folder(self.language, "language")
        language = LanguageModel.from_pretrained(folder, dtype=DTYPES[self.dtype])
        language.check()
        painter = None
        if self.painter is not None:
            paints = part_folder(self.painter, "painter")
            painter = read_painter(paints, dtype=DTYPES[self.dtype], told=terminal_line)
        photo_encoder = None
        if self.vision is not None:
            photo_encoder = hub_photo_encoder(
                part_folder(self.vision, "vision"),
                language_width=language.width,
                kind=self.photo_encoder,
                num_tokens=self.num_photo_tokens,
                projection=self.projection,
                qformer_layers=self.qformer_layers,
                dtype=DTYPES[self.dtype],
            )
        count, photo_token = NUM_TOKENS, "<|photo|>"
        if photo_encoder is not None:
            count, photo_token = photo_encoder.num_tokens, photo_encoder.photo_token
            if photo_encoder.attended and not has_cross_attention(language):
                raise ConfigError(
                    f'vision is "{self.vision}", a Llama-Vision, and the language model has no '
                    "cross-attention layers to look with; name the same folder as language"
                )
        with_marks(language, seed=self.seed, template=self.template, photo=photo_token)
        usual = {} if painter is None else dict(zip(PAINTING, painter.usual, strict=True))
        chosen = {key: getattr(self, key) for key in PAINTING if getattr(self, key) is not None}
        decoding = replace(Decoding(), **usual | chosen)
        settings = RendererConfig(
            num_photo_tokens=count,
            max_tokens=_most_tokens(self.max_tokens, count, language, decoding),
            perceive="caption" if photo_encoder is None else "pixels",
            template=self.template,
            photo_token=photo_token,
        )
        model = words_first(
            language,
            settings,
            photo_encoder=photo_encoder,
            painter=painter,
            name=name,
            card={"licence": "that of the parts it is made of"},
            decoding=decoding,
        )
        save_model(model, out / "model", recipe={"name": name, "config": to_plain(self)})
        return out / "model"


PARTS = Parts()


def with_marks(
    language: LanguageModel, *, seed: int, template: str = "marks", photo: str = "<|photo|>"
) -> None:
    """Give the vocabulary the marks of turns and photos that it lacks, and a padding token; of
    photos alone where turns stand as the LLM's ``chat`` template has them. ``photo``: the token
    that stands for one."""
    known = language.tokenizer.get_vocab()
    turns = (*(DIALOGUE_TOKENS[:-1] if template == "marks" else ()), photo)
    marks = [mark for mark in (*turns, "[IMG]", "[/IMG]") if mark not in known]
    language.grow_vocabulary(marks, seed=seed)
    if language.tokenizer.pad_token_id is None:  # what is padded is hidden, whatever stands there
        language.tokenizer.pad_token = turns[0]


def part_folder(name: str, key: str) -> Path:
    """The folder of what a setting names (``models/named.py``)."""
    return named_folder(name, flag=f"--set {key}", told=terminal_progress)


def _most_tokens(
    wanted: int, num_photo_tokens: int, language: LanguageModel, decoding: Decoding
) -> int:
    """How many tokens of a dialogue are read: behind them an answer must have places as well, its
    photo among them."""
    context = int(getattr(language.model.config, "max_position_embeddings", 1024))
    answer = decoding.max_turns * (decoding.max_new_tokens + 3) + num_photo_tokens
    return min(wanted, max(context - answer, context // 2))
