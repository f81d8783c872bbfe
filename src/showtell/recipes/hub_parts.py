"""parts: a model put together from folders of the libraries, as a base that can be trained.

    showtell train parts --set language=DIR --set painter=DIR --set vision=DIR --out runs/parts

``language`` is a transformers folder (Llama, OPT ...), ``painter`` a diffusers one (Stable
Diffusion), ``vision`` a ViT or CLIP of transformers, each by its folder or its id on the hub
(``models/named.py``). Its vocabulary gains the marks of turns and photos. Nothing is trained here:
what sees photos is new, but for its encoder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import Blip2QFormerConfig, Blip2QFormerModel, CLIPVisionModel, ViTModel

from showtell.config import to_plain
from showtell.errors import ConfigError
from showtell.models.checkpoint import save_model
from showtell.models.dialogue_model import Decoding
from showtell.models.folders import from_transformers, reading
from showtell.models.language import LanguageModel
from showtell.models.named import named_folder
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.photo_encoder import (
    AnyPhotoEncoder,
    LinearPhotoEncoder,
    QFormerPhotoEncoder,
    pixel_statistics,
)
from showtell.progress import terminal_progress
from showtell.prompt import RendererConfig
from showtell.recipes.assemble import words_first
from showtell.recipes.small import DIALOGUE_TOKENS

_NO_POOLING = {"add_pooling_layer": False}  # nothing reads it


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Folders of the libraries, and what of them makes a model.

    language: a folder of transformers, a .gguf file, an id on the hub, or a part that "showtell
        parts" lists
    painter: a folder of diffusers or an id; none: words only
    vision: a ViT or CLIP of transformers; none: photos are read as captions
    photo_encoder: a "qformer" of num_photo_tokens queries on a ViT (2408.08650), or "linear" on a
        ViT or CLIP (GILL)
    qformer: a folder with its weights; none: new ones
    qformer_layers: of a new one, of the encoder's width
    num_photo_tokens: of a photo, for the LLM
    max_tokens: of a dialogue, at most what the LLM has positions for
    template: turns as our "marks", new to the LLM, or as its own "chat" template has them
    dtype: of the language model; "auto": as its file has it
    num_steps: of painting, as MiniGPT-5 and GILL have it
    guidance: of painting, as MiniGPT-5 and GILL have it
    seed: starts what is new
    """

    language: str = "./models/language"
    painter: str | None = "./models/painter"
    vision: str | None = "./models/vision"
    photo_encoder: Literal["qformer", "linear"] = "qformer"
    qformer: str | None = None
    qformer_layers: int = 12
    num_photo_tokens: int = 32
    max_tokens: int = 1024
    template: Literal["marks", "chat"] = "marks"
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    num_steps: int = 50
    guidance: float = 7.5
    seed: int = 0

    def train(self, *, name: str, out: Path, resume: bool) -> Path:
        """Write ``out/model``. Raises CheckpointError for a folder that is none of its kind."""
        torch.manual_seed(self.seed)
        dtypes: dict[str, Any] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
        dtype = dtypes.get(self.dtype, "auto")
        folder = part_folder(self.language, "language")
        language = LanguageModel.from_pretrained(folder, dtype=dtype)
        language.check()
        with_marks(language, seed=self.seed, template=self.template)
        painter = None
        if self.painter is not None:
            painter = LatentDiffusionPainter.from_pretrained(part_folder(self.painter, "painter"))
        photo_encoder = None if self.vision is None else _photo_encoder(self, language.width)
        decoding = Decoding(num_steps=self.num_steps, guidance=self.guidance)
        settings = RendererConfig(
            num_photo_tokens=self.num_photo_tokens,
            max_tokens=_most_tokens(self, language, decoding),
            perceive="caption" if photo_encoder is None else "pixels",
            template=self.template,
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


def with_marks(language: LanguageModel, *, seed: int, template: str = "marks") -> None:
    """Give the vocabulary the marks of turns and photos that it lacks, and a padding token; of
    photos alone where turns stand as the LLM's ``chat`` template has them."""
    known = language.tokenizer.get_vocab()
    turns = DIALOGUE_TOKENS if template == "marks" else ("<|photo|>",)
    marks = [mark for mark in (*turns, "[IMG]", "[/IMG]") if mark not in known]
    language.grow_vocabulary(marks, seed=seed)
    if language.tokenizer.pad_token_id is None:  # what is padded is hidden, whatever stands there
        language.tokenizer.pad_token = turns[0]


def _photo_encoder(config: Parts, width: int) -> AnyPhotoEncoder:
    folder = part_folder(config.vision or "", "vision")
    kind, linear = _kind(folder), config.photo_encoder == "linear"
    clip = linear and kind in ("clip", "clip_vision_model")
    if not linear and kind != "vit":
        raise ConfigError(
            f'vision is "{folder}", a {kind}; a Q-Former here reads a ViT: name one, or set '
            "photo_encoder=linear"
        )
    vision = _read(CLIPVisionModel, folder) if clip else _read(ViTModel, folder, **_NO_POOLING)
    settings = {
        "vision": vision,
        "num_tokens": config.num_photo_tokens,
        "language_width": width,
        **pixel_statistics(folder, clip=clip),
    }
    if linear:
        return LinearPhotoEncoder(**settings)
    if config.qformer is not None:
        qformer = _read(Blip2QFormerModel, part_folder(config.qformer, "qformer"))
    else:
        size = int(vision.config.hidden_size)
        qformer = Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=size,
                intermediate_size=4 * size,
                num_hidden_layers=config.qformer_layers,
                num_attention_heads=vision.config.num_attention_heads,
                encoder_hidden_size=size,
                vocab_size=1,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )
    return QFormerPhotoEncoder(qformer=qformer, **settings)


def _read(kind: Any, folder: Path, **settings: Any) -> Any:
    with reading(kind.__name__, folder, wanted="config.json and safetensors of one"):
        return from_transformers(kind, folder, dtype=torch.float32, **settings)


def _kind(folder: Path) -> str:
    with reading("model_type", folder, wanted="a folder of transformers, with a config.json"):
        return str(json.loads((folder / "config.json").read_text())["model_type"])


def part_folder(name: str, key: str) -> Path:
    """The folder of what a setting names (``models/named.py``)."""
    return named_folder(name, flag=f"--set {key}", told=terminal_progress)


def _most_tokens(config: Parts, language: LanguageModel, decoding: Decoding) -> int:
    """How many tokens of a dialogue are read: behind them an answer must have places as well, its
    photo among them."""
    context = int(getattr(language.model.config, "max_position_embeddings", 1024))
    answer = decoding.max_turns * (decoding.max_new_tokens + 3) + config.num_photo_tokens
    return min(config.max_tokens, max(context - answer, context // 2))
