"""A model's parts with another bridge: where every comparison of systems starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from transformers import ViTModel

from showtell.errors import ConfigError
from showtell.models.adapters import adapter_rates
from showtell.models.cross_attention import with_cross_attention
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.language import LanguageModel
from showtell.models.parts import Bridge, BridgeConfig, PartSizes, PhotoEncoder
from showtell.models.photo_encoder import (
    AnyPhotoEncoder,
    CrossAttentionPhotoEncoder,
    LinearPhotoEncoder,
)
from showtell.papers import BRIDGE_CONFIGS, BRIDGES
from showtell.prompt import Renderer
from showtell.training.stage import Stage


def with_bridge(base: PhotoDialogueModel, config: BridgeConfig, *, seed: int) -> PhotoDialogueModel:
    """The parts of ``base`` with the bridge that the type of ``config`` names.

    A bridge with weights gets the sizes of these parts, and its tokens new rows: the vocabulary
    of ``base.language`` grows in place. ``seed`` starts rows and weights. One that ``base`` has
    already, trained before, stays as it is. Raises ConfigError where a part that the bridge needs
    is missing, or the trained bridge is of other settings.
    """
    language, painter, seer = base.language, base.painter, base.seer
    config = config.fitted(
        PartSizes(
            model=base.name,
            language_width=language.width,
            photo_width=None if seer is None else seer.feature_width,
            tower=painter.text if painter is not None and painter.denoises else None,
        )
    )
    if config.tokens:
        if type(base.bridge.config) is type(config):
            _require_equal(base.bridge.config, config, base=base.name)
            if seer is not None:  # what sees may be another one now
                base.bridge.see_by(seer)
            return base
        language.grow_vocabulary(config.tokens, seed=seed)
    kinds = {BRIDGE_CONFIGS[name]: BRIDGES[name] for name in BRIDGES}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        bridge: Bridge = kinds[type(config)](config, tokenizer=language.tokenizer)  # type: ignore[call-arg]
    return _rebuilt(
        base,
        language=language,
        photo_encoder=base.photo_encoder,
        bridge=bridge,
        span_tokens=bridge.span_tokens,
        span_trained=bridge.span_trained,
    )


@torch.no_grad()
def start_bridge(model: PhotoDialogueModel, captions: Sequence[str], *, seed: int) -> None:
    """Start a bridge that has tokens of its own by what the LLM's states at these and the painter's
    text encoder make of captions (``Bridge.start``)."""
    if model.painter is None or model.bridge.span_tokens is None:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        spans = model.spoken_spans(list(captions))
        tower = model.painter.text
        model.bridge.start(spans, tower(tower.tokenize(list(captions)).ids_NS))


def _require_equal(trained: BridgeConfig, wanted: BridgeConfig, *, base: str) -> None:
    """Raises ConfigError that names a setting in which the trained bridge differs."""
    for key in (field.name for field in fields(wanted)):
        if (known := getattr(trained, key)) != (value := getattr(wanted, key)):
            raise ConfigError(
                f'"{base}" has a trained bridge with {key} {known!r}, and {value!r} is wanted; '
                f"set bridge.{key}={known}, or start from a base without this bridge"
            )


def vision_of(model: PhotoDialogueModel) -> AnyPhotoEncoder:
    """What sees photos for an album: the photo encoder, or the captioner's where captions are read.

    Raises ConfigError if nothing does.
    """
    if model.seer is not None:
        return model.seer  # type: ignore[return-value]
    raise ConfigError(
        f'"{model.name}" has no vision encoder, and GILL compares its query with what one sees; '
        "give a base model with a photo encoder"
    )


def reading_linearly(base: PhotoDialogueModel, *, num_tokens: int) -> PhotoDialogueModel:
    """``base`` with a new linear map, of its vision encoder's feature to ``num_tokens`` tokens.

    GILL's W_cap (2305.17216), of which num_tokens is k. Raises ConfigError where nothing sees.
    """
    photo_encoder = LinearPhotoEncoder(
        vision=vision_of(base).vision,
        num_tokens=num_tokens,
        language_width=base.language.width,
    )
    return _rebuilt(
        base,
        language=base.language,
        photo_encoder=photo_encoder,
        bridge=base.bridge,
        num_photo_tokens=num_tokens,
    )


def attending(base: PhotoDialogueModel, *, layers: Sequence[int]) -> PhotoDialogueModel:
    """``base`` with photos that its LLM attends to (2408.08650 v2), seen by its vision encoder.

    The LLM keeps its weights and gains cross-attention ``layers``, whose gates are 0: photos say
    nothing until these are trained. The projector is new. Raises ConfigError for another LLM than
    Llama.
    """
    language = with_cross_attention(base.language, layers=layers)
    vision = vision_of(base).vision
    if not isinstance(vision, ViTModel):
        raise ConfigError(
            f'the vision encoder of "{base.name}" is a {type(vision).__name__}; wanted a ViT; give '
            "a base model with one"
        )
    return _rebuilt(
        base,
        language=language,
        photo_encoder=CrossAttentionPhotoEncoder(vision=vision, language_width=language.width),
        bridge=base.bridge,
        num_photo_tokens=1,
    )


def _rebuilt(
    base: PhotoDialogueModel,
    *,
    language: LanguageModel,
    photo_encoder: PhotoEncoder | None,
    bridge: Bridge,
    **settings: Any,
) -> PhotoDialogueModel:
    """``base`` with these parts and the renderer's ``settings`` that they need."""
    config = replace(base.renderer.config, **settings)
    model = PhotoDialogueModel(
        language=language,
        photo_encoder=photo_encoder,
        bridge=bridge,
        painter=base.painter,
        renderer=Renderer(language.tokenizer, config, has_pixels=base.renderer.has_pixels),
        name=base.name,
        card=base.card,
        decoding=base.decoding,
        captioner=base.captioner,
    )
    return model.to(base.device)


def adapted(stage: Stage, language: LanguageModel) -> Stage:
    """The stage for an LLM that has its adapter (LoRA or prefix): the adapter moves as well.

    A rate that the stage names itself counts.
    """
    return replace(stage, learning_rates={**adapter_rates(language), **stage.learning_rates})
