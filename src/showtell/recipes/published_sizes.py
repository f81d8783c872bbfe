"""The sizes of published parts, by their ids: built on the meta device, without weights or files.

What ``showtell train --dry-run`` counts where a part is not here. Each function fills in
the library's configuration as the part's own config.json has it, and nothing else. The tokenizers
are stand-ins of the same number of tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    Blip2QFormerConfig,
    Blip2QFormerModel,
    Blip2VisionConfig,
    Blip2VisionModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    MllamaForCausalLM,
    MllamaTextConfig,
    MllamaVisionConfig,
    MllamaVisionModel,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
)

from showtell.errors import CheckpointError, did_you_mean
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.hub_photos import NUM_TOKENS
from showtell.models.language import LanguageModel
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.photo_encoder import (
    AnyPhotoEncoder,
    LinearPhotoEncoder,
    LlamaVision,
    QFormerPhotoEncoder,
)
from showtell.models.text_towers import ClipTextTower
from showtell.prompt import RendererConfig
from showtell.recipes.assemble import words_first
from showtell.recipes.hub_parts import Parts, with_marks
from showtell.recipes.small import build_scheduler


def _llama2() -> Any:
    return LlamaForCausalLM(LlamaConfig(max_position_embeddings=4096))


def _opt67() -> Any:
    config = OPTConfig(
        hidden_size=4096, num_hidden_layers=32, ffn_dim=16384, num_attention_heads=32
    )
    return OPTForCausalLM(config)


def _blip2(width: int, parts: Parts) -> AnyPhotoEncoder:
    vision = Blip2VisionModel(Blip2VisionConfig())  # EVA-CLIP ViT-g
    qformer = Blip2QFormerModel(Blip2QFormerConfig())
    settings: dict[str, Any] = {"vision": vision, "language_width": width}
    return QFormerPhotoEncoder(qformer=qformer, num_tokens=NUM_TOKENS, **settings)


def _clip_l14(width: int, parts: Parts) -> AnyPhotoEncoder:
    config = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        patch_size=14,
    )
    return LinearPhotoEncoder(
        vision=CLIPVisionModel(config),
        num_tokens=parts.num_photo_tokens or NUM_TOKENS,
        language_width=width,
    )


def _llama_vision(width: int, parts: Parts) -> AnyPhotoEncoder:
    vision = MllamaVisionModel(MllamaVisionConfig(image_size=560))
    return LlamaVision(vision=vision, language_width=width)


def _stable_diffusion(*, two: bool) -> LatentDiffusionPainter:
    """Stable Diffusion 1.5, or 2.1 base: 512 pixels a side."""
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=1024 if two else 768,
        intermediate_size=4096 if two else 3072,
        num_hidden_layers=23 if two else 12,
        num_attention_heads=16 if two else 12,
        max_position_embeddings=77,
    )
    unet = UNet2DConditionModel(
        sample_size=64,
        cross_attention_dim=text.hidden_size,
        attention_head_dim=(5, 10, 20, 20) if two else 8,
        use_linear_projection=two,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
    )
    tower = ClipTextTower(CLIPTextModel(text), stand_in_tokenizer(text.vocab_size))
    return LatentDiffusionPainter(text=tower, vae=vae, unet=unet, scheduler=build_scheduler())


LANGUAGES: dict[str, Callable[[], Any]] = {
    "meta-llama/Llama-2-7b-chat-hf": _llama2,
    "lmsys/vicuna-7b-v1.5": _llama2,
    "facebook/opt-6.7b": _opt67,
    "meta-llama/Llama-3.2-11B-Vision-Instruct": lambda: MllamaForCausalLM(MllamaTextConfig()),
}
VISIONS: dict[str, Callable[[int, Parts], AnyPhotoEncoder]] = {
    "Salesforce/blip2-flan-t5-xxl": _blip2,
    "openai/clip-vit-large-patch14": _clip_l14,
    "meta-llama/Llama-3.2-11B-Vision-Instruct": _llama_vision,
}
PAINTERS: dict[str, Callable[[], LatentDiffusionPainter]] = {
    "stabilityai/stable-diffusion-2-1-base": lambda: _stable_diffusion(two=True),
    "stable-diffusion-v1-5/stable-diffusion-v1-5": lambda: _stable_diffusion(two=False),
}


def stand_in_tokenizer(count: int) -> PreTrainedTokenizerFast:
    """Of ``count`` tokens, none of which means anything."""
    tokens = {f"w{number}": number for number in range(count)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(tokens, unk_token="w0")),
        **{f"{key}_token": f"w{n}" for n, key in enumerate(("unk", "bos", "eos"))},
    )


def on_meta(parts: Parts) -> PhotoDialogueModel:
    """The base that ``showtell train parts`` makes of these, on the meta device.

    Raises CheckpointError for a part whose size is not known.
    """
    with torch.device("meta"):
        model = _known(LANGUAGES, parts.language, "language")()
        language = LanguageModel(model, stand_in_tokenizer(model.config.vocab_size))
        eyes = None
        if parts.vision is not None:
            eyes = _known(VISIONS, parts.vision, "vision")(language.width, parts)
        painter = None
        if parts.painter is not None:
            painter = _known(PAINTERS, parts.painter, "painter")()
        photo = "<|photo|>" if eyes is None else eyes.photo_token
        with_marks(language, seed=0, photo=photo)
        settings = RendererConfig(
            num_photo_tokens=NUM_TOKENS if eyes is None else eyes.num_tokens,
            max_tokens=parts.max_tokens,
            perceive="caption" if eyes is None else "pixels",
            photo_token=photo,
        )
        return words_first(language, settings, photo_encoder=eyes, painter=painter)


def _known(table: dict[str, Any], name: str, what: str) -> Any:
    if name not in table:
        raise CheckpointError(
            f'the size of the {what} "{name}" is not known{did_you_mean(name, table)}; wanted one '
            f"of {', '.join(table)}, or a base that is here (showtell train parts)"
        )
    return table[name]
