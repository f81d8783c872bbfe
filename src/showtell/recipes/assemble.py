"""The parts of a base with another bridge, another way to see photos, or an adapter: where every
comparison of systems starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, ViTModel

from showtell.batch import collate
from showtell.dialogue import Dialogue, Photo, with_photos
from showtell.errors import ConfigError
from showtell.models.adapters import adapter_rates
from showtell.models.cross_attention import with_cross_attention
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.language import LanguageModel
from showtell.models.parts import BridgeConfig, Painter, PhotoSpans
from showtell.models.photo_encoder import (
    AnyPhotoEncoder,
    CrossAttentionPhotoEncoder,
    LinearPhotoEncoder,
)
from showtell.models.vq_painter import VqPainter, WordTable
from showtell.papers import build_bridge
from showtell.papers.pipeline import Pipeline, PipelineConfig
from showtell.prompt import Renderer, RendererConfig
from showtell.training.stage import Stage

_AT_ONCE = 64  # examples that start a bridge


def words_first(
    language: LanguageModel,
    settings: RendererConfig,
    *,
    photo_encoder: AnyPhotoEncoder | None = None,
    painter: Painter | None = None,
    **parts: Any,
) -> PhotoDialogueModel:
    """A model that announces photos in words (the pipeline), as others begin."""
    return PhotoDialogueModel(
        language=language,
        photo_encoder=photo_encoder,
        bridge=Pipeline(PipelineConfig(), tokenizer=language.tokenizer),
        painter=painter,
        renderer=Renderer(language.tokenizer, settings),
        **parts,
    )


def with_bridge(base: PhotoDialogueModel, config: BridgeConfig, *, seed: int) -> PhotoDialogueModel:
    """The parts of ``base`` with the bridge that the type of ``config`` names.

    A bridge with weights gets the sizes of these parts, and its tokens new rows: the vocabulary
    of ``base.language`` grows in place. ``seed`` starts rows and weights. One that ``base`` has
    already, trained before, stays as it is. Raises ConfigError where a part that the bridge needs
    is missing, or the trained bridge is of other settings.
    """
    language, seer = base.language, base.seer
    config = config.fitted(base.sizes)
    if config.tokens:
        if type(base.bridge.config) is type(config):
            _require_equal(base.bridge.config, config, base=base.name)
            if seer is not None:  # what sees may be another one now
                base.bridge.see_by(seer)
            return base
        language.grow_vocabulary(config.tokens, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        bridge = build_bridge(config, language)
    renderer = {"span_tokens": bridge.span_tokens, "span_trained": bridge.span_trained}
    return rebuilt(base, renderer, bridge=bridge)


def _require_equal(trained: BridgeConfig, wanted: BridgeConfig, *, base: str) -> None:
    """Raises ConfigError that names a setting in which the trained bridge differs."""
    for key in (field.name for field in fields(wanted)):
        if (known := getattr(trained, key)) != (value := getattr(wanted, key)):
            raise ConfigError(
                f'"{base}" has a trained bridge with {key} {known!r}, and {value!r} is wanted; '
                f"set bridge.{key}={known}, or start from a base without this bridge"
            )


@torch.no_grad()
def start_bridge(
    model: PhotoDialogueModel,
    examples: Sequence[Dialogue],
    *,
    pixels_of: Callable[[Photo], Tensor] | None,
    seed: int,
) -> None:
    """Start a bridge that has tokens of its own by what the LLM's states at these, where the agent
    shares photos, and the painter's text encoder make of their captions (``Bridge.start``).

    ``pixels_of``: of the photos that the LLM sees before; None: it sees none. The pixels of an
    example's last photo are not asked for: its states come before them."""
    if model.painter is None or model.bridge.span_tokens is None:
        return
    parts = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for first in range(0, len(examples), _AT_ONCE):
            batch = collate(
                [model.renderer.render(_blind_end(e)) for e in examples[first : first + _AT_ONCE]],
                pad_id=model.language.tokenizer.pad_token_id,
                pixels_of=pixels_of,
                paint=False,
            )
            spans = model.gather_spans(model.states(batch), batch)
            parts.append(replace(spans, logits_NKV=spans.logits_NKV[..., :0]))
        text, told = model.painter.text, [caption for part in parts for caption in part.captions]
        joined = {
            field.name: torch.cat([getattr(part, field.name) for part in parts])
            for field in fields(PhotoSpans)
            if field.name != "captions"
        }
        cond = [text.encode(told[n : n + _AT_ONCE]) for n in range(0, len(told), _AT_ONCE)]
        model.bridge.start(
            PhotoSpans(captions=told, **joined), torch.cat(cond), empty_SC=text.encode([""])[0]
        )


def _blind_end(example: Dialogue) -> Dialogue:
    *before, last = example.turns
    photos = [Photo(id=photo.id, caption=photo.caption) for photo in last.photos]
    return replace(example, turns=(*before, *with_photos([last], photos)))


def reading_linearly(base: PhotoDialogueModel, *, num_tokens: int) -> PhotoDialogueModel:
    """``base`` with a linear map, of its vision encoder's feature to ``num_tokens`` tokens; its own
    where that is one. GILL's W_cap (2305.17216), of which num_tokens is k."""
    own = base.photo_encoder
    if isinstance(own, LinearPhotoEncoder) and own.num_tokens == num_tokens:
        return base
    photo_encoder = LinearPhotoEncoder(
        vision=_vision_of(base), num_tokens=num_tokens, language_width=base.language.width
    )
    return rebuilt(base, {"num_photo_tokens": num_tokens}, photo_encoder=photo_encoder)


def attending(base: PhotoDialogueModel, *, layers: Sequence[int]) -> PhotoDialogueModel:
    """``base`` with photos that its LLM attends to (2408.08650 v2), seen by its vision encoder.

    The LLM keeps its weights and gains cross-attention ``layers``, whose gates are 0: photos say
    nothing until these are trained. The projector is new. One that attends already stays as it
    is. Raises ConfigError for another LLM than Llama.
    """
    if base.photo_encoder is not None and base.photo_encoder.attended:
        return base
    language = with_cross_attention(base.language, layers=layers)
    if not isinstance(vision := _vision_of(base), ViTModel):
        raise ConfigError(
            f'the vision encoder of "{base.name}" is a {type(vision).__name__}; wanted a ViT; give '
            "a base model with one"
        )
    encoder = CrossAttentionPhotoEncoder(vision=vision, language_width=language.width)
    tokens = {"num_photo_tokens": encoder.num_tokens}
    return rebuilt(base, tokens, language=language, photo_encoder=encoder)


def told_in_captions(base: PhotoDialogueModel, captioner: PhotoDialogueModel) -> PhotoDialogueModel:
    """``base`` whose photos of the context are read as what ``captioner`` says of them."""
    captioner.painter = None
    captioner.requires_grad_(False)
    return rebuilt(base, {"perceive": "caption"}, photo_encoder=None, captioner=captioner)


def _vision_of(model: PhotoDialogueModel) -> Any:
    """The encoder that sees photos. Raises ConfigError if nothing does."""
    if not isinstance(model.seer, AnyPhotoEncoder):
        raise ConfigError(
            f'"{model.name}" has no vision encoder; give a base model with a photo encoder'
        )
    return model.seer.vision


def rebuilt(base: PhotoDialogueModel, renderer: dict[str, Any], **parts: Any) -> PhotoDialogueModel:
    """``base`` with other ``parts`` and the ``renderer``'s settings that they need."""
    own = {
        key: getattr(base, key)
        for key in ("language", "photo_encoder", "bridge", "painter", "captioner")
        + ("name", "card", "decoding")
    }
    parts = {**own, **parts}
    config = replace(base.renderer.config, **renderer)
    has_pixels = base.renderer.has_pixels
    tokenizer = parts["language"].tokenizer
    model = PhotoDialogueModel(renderer=Renderer(tokenizer, config, has_pixels=has_pixels), **parts)
    return model.to(base.device)


def adapted(stage: Stage, language: LanguageModel) -> Stage:
    """The stage for an LLM that has an adapter: that moves as well, at the rate of the stage unless
    it names one."""
    rates = {**adapter_rates(language), **stage.learning_rates}
    return replace(stage, learning_rates=rates)


def code_painter(codes: str, *, pretrained: bool, num_samples: int | None, seed: int) -> VqPainter:
    """V, F and the ranker that world_codes or photo_codes trained, F perhaps as before training.

    Raises ConfigError, CheckpointError.
    """
    if not (Path(codes) / "code_painter.json").is_file():
        raise ConfigError(
            f'codes is "{codes}", and there is no code_painter.json; train it first with '
            '"showtell train world_codes" or photo_codes, or name its model with --set codes=PATH'
        )
    painter = VqPainter.from_pretrained(Path(codes))
    if num_samples is not None:
        painter.num_samples = num_samples
    if painter.num_samples > 1 and painter.rank is None:
        raise ConfigError(
            f'num_samples is {painter.num_samples}, and "{codes}" has no ranker to choose by; '
            "set num_samples=1, or train the codes with a ranker"
        )
    if pretrained:
        return painter
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        painter.translator = AutoModelForCausalLM.from_config(painter.translator.config)
    words = painter.text
    painter.text = WordTable(painter.translator, words.tokenizer, length=words.length)
    return painter
