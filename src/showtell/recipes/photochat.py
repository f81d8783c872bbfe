"""photochat_small: the text side on real dialogues: talk, when to share, what the photo shows.

The photos of PhotoChat are unreachable, so they stand as their descriptions between [IMG] and
[/IMG]. Both speakers are trained, and which of them is called the agent is drawn at each visit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from showtell.config import to_plain
from showtell.data.photochat import read_photochat, split_held_out
from showtell.dialogue import Dialogue
from showtell.errors import ConfigError
from showtell.evaluation.measures_photochat import calibrated, platt, rendered_moments
from showtell.metrics.moment import average_precision, best_threshold
from showtell.models.checkpoint import save_model
from showtell.models.dialogue_model import Decoding, PhotoDialogueModel
from showtell.models.gold import share_chances
from showtell.models.language import LanguageModel
from showtell.papers import Pipeline, PipelineConfig
from showtell.prompt import Rendered, Renderer, RendererConfig
from showtell.recipes import small
from showtell.recipes.photochat_task import (
    PhotochatTask,
    lexical_teacher,
    with_dropout,
)
from showtell.recipes.world_base import StageRunner
from showtell.training.stage import Stage

CARD = {
    "limits": (
        "It chats like the crowd workers of PhotoChat, about everyday things, in few words and "
        "often beside the point. It describes the photo that it would share; it has no painter "
        "for the real world yet."
    ),
    "licence": (
        "MIT; trained on the text of PhotoChat (Zang et al. 2021, google-research/multimodalchat), "
        "CC BY 4.0"
    ),
    "openings": [
        "Hi! How was your weekend?",
        "Hey, what did you have for dinner last night?",
        "I heard you went to your sister's wedding. Do you have a picture?",
    ],
}


@dataclass(frozen=True, kw_only=True)
class PhotochatSmall:
    """One stage on PhotoChat's training text without the held-out thousand.

    ``photochat``: its train.jsonl. ``base``: a model or language model folder to start from; None
    trains tokenizer and LM from scratch, of the size given. ``drop_words`` replaces words of the
    input by the padding token, ``dropout`` acts on what each layer adds: against learning by heart.
    ``text_share``: on which part of the words ``t`` is computed at a visit (the LM's head is dear).
    ``trust``: how much of a share moment's target is the lexical teacher's chance; 0 needs no
    teacher. ``held_out`` dialogues set threshold and calibration.
    """

    photochat: str = "data/photochat/train.jsonl"
    base: str | None = None
    width: int = 160
    layers: int = 4
    heads: int = 2
    held_out: int = 1000
    drop_words: float = 0.15
    dropout: float = 0.1
    text_share: float = 0.25
    trust: float = 0.5
    micro_batch: int = 8
    seed: int = 0
    stage: Stage = field(
        default=Stage(
            name="photochat",
            steps=1740,
            batch_size=32,
            learning_rate=2e-3,
            warmup=80,
            decay="cosine",
            betas=(0.9, 0.98),
            weight_decay=0.1,
            weights={"t": 1.0, "moment": 2.0},
            ema=0.99,
            evaluate_every=290,
        )
    )


def run_photochat_small(config: PhotochatSmall, *, out: Path, resume: bool) -> Path:
    """Train, calibrate on the held-out dialogues and write ``out/model``."""
    rest, held = training_dialogues(config.photochat, held_out=config.held_out)
    torch.manual_seed(config.seed)
    language = _language(config, rest)
    model = new_model(language)
    rows = rendered_moments(model.renderer, rest)
    teacher = None
    if config.trust:  # of a dialogue that is too long, the first moments are not rendered
        taught = zip(lexical_teacher(rest), rows, strict=True)
        teacher = [chances[len(chances) - len(row.moments) :] for chances, row in taught]
    task = PhotochatTask(
        module=model,
        rows=rows,
        held=rendered_moments(model.renderer, held),
        drop_words=config.drop_words,
        text_share=config.text_share,
        micro_batch=config.micro_batch,
        teacher=teacher,
        trust=config.trust,
    )
    if config.dropout:
        with_dropout(language, config.dropout)
    stage = dataclasses.replace(config.stage, seed=config.seed)
    StageRunner(out=out, resume=resume).run(stage, task)
    calibrate(model, task.held)
    recipe = {"name": "photochat_small", "config": to_plain(config)}
    save_model(model, out / "model", recipe=recipe)
    return out / "model"


def training_dialogues(photochat: str, *, held_out: int) -> tuple[list[Dialogue], list[Dialogue]]:
    """PhotoChat's training dialogues and those held out of them. Raises ConfigError, DataError."""
    path = Path(photochat)
    if not path.exists():
        raise ConfigError(
            f'photochat is "{path}", and there is no such file; wanted train.jsonl of PhotoChat; '
            "name it with --set photochat=PATH"
        )
    return split_held_out(read_photochat(path), count=held_out)


def _language(config: PhotochatSmall, dialogues: Sequence[Dialogue]) -> LanguageModel:
    if config.base is None:
        elements = (e for d in dialogues for turn in d.turns for e in turn.elements)
        tokenizer = small.train_dialogue_tokenizer(
            " " + (e if isinstance(e, str) else e.caption) for e in elements
        )
        return new_language(config, tokenizer)
    base = Path(config.base)
    if not base.is_dir():
        raise ConfigError(
            f'base is "{base}", and there is no such folder; train one with "showtell train '
            'world_base", or start from scratch with --set base=none'
        )
    inside = base / "language_model"
    return LanguageModel.from_pretrained(inside if inside.is_dir() else base)


def new_language(config: PhotochatSmall, tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    """An untrained LM of the configured size."""
    settings = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        intermediate_size=config.width * 8 // 3,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LanguageModel(LlamaForCausalLM(settings), tokenizer)


def new_model(language: LanguageModel) -> PhotoDialogueModel:
    """The text side alone: no photo encoder, no painter; photos are read and told in words."""
    renderer = Renderer(
        language.tokenizer,
        RendererConfig(perceive="caption", speakers=("user", "agent"), max_tokens=1024),
    )
    return PhotoDialogueModel(
        language=language,
        photo_encoder=None,
        bridge=Pipeline(PipelineConfig(), tokenizer=language.tokenizer),
        painter=None,
        renderer=renderer,
        name="photochat_small",
        card=CARD,
        decoding=Decoding(temperature=0.7, top_p=0.9),
    )


def calibrate(model: PhotoDialogueModel, held: Sequence[Rendered]) -> None:
    """Set thresholds and calibration from held-out dialogues, in the model's card and decoding.

    The card's ``moment`` is for P(share) with the next speaker unknown; ``share_threshold`` for an
    agent whose turn it is.
    """
    found = share_chances(model, held)
    scale, bias = platt(found.shared_M, found.marginal_M)
    calibrated_M = calibrated(found.marginal_M, scale=scale, bias=bias)
    chosen = best_threshold(found.shared_M, calibrated_M)
    model.card["moment"] = {
        "scale": scale,
        "bias": bias,
        "threshold": chosen.threshold,
        "held_out_f1": chosen.f1,
        "held_out_auprc": average_precision(found.shared_M, found.marginal_M),
        "held_out_perplexity": math.exp(found.token_nll),
        "positions": len(found.shared_M),
    }
    spoken = best_threshold(found.shared_M, found.spoken_M)
    model.decoding = dataclasses.replace(model.decoding, share_threshold=spoken.threshold)
