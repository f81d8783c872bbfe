"""The text side on real dialogues: talk, when to share, what the photo shows.

    showtell train photochat_small                      a small LLM of its own, from nothing
    showtell train home                                 LoRA on an LLM that can talk already

The photos of PhotoChat are unreachable, so they stand as their descriptions between [IMG] and
[/IMG]. Both speakers are trained, and which of them is called the agent is drawn at each visit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from showtell.batch import Batch
from showtell.config import to_plain
from showtell.data.photochat import moment_positions, split_held_out
from showtell.data.sources import open_data
from showtell.dialogue import Dialogue
from showtell.errors import ConfigError
from showtell.evaluation.measures_photochat import calibrated, platt, rendered_moments
from showtell.metrics.moment import (
    average_precision,
    best_threshold,
    tagged_text,
    tfidf_moment_scores,
)
from showtell.models.adapters import LoraConfig, add_lora
from showtell.models.checkpoint import save_model
from showtell.models.dialogue_model import Decoding, PhotoDialogueModel
from showtell.models.gold import ShareChances, exchanged, share_chances
from showtell.models.language import LanguageModel
from showtell.prompt import IGNORED, Rendered, RendererConfig
from showtell.recipes import small
from showtell.recipes.assemble import adapted, words_first
from showtell.recipes.hub_parts import part_folder, with_marks
from showtell.recipes.runs import Run, check_counts
from showtell.training.dialogue_task import DialogueTask, words_dropped
from showtell.training.stage import Stage

_LICENCE = (
    "{}; trained on the text of PhotoChat (Zang et al. 2021, google-research/multimodalchat), "
    "CC BY 4.0"
)
_OPENINGS = [
    "Hi! How was your weekend?",
    "Hey, what did you have for dinner last night?",
    "I heard you went to your sister's wedding. Do you have a picture?",
]
SMALL_CARD = {
    "limits": (
        "It chats like the crowd workers of PhotoChat, about everyday things, in few words and "
        "often beside the point. It describes the photo that it would share; it has no painter "
        "for the real world yet."
    ),
    "licence": _LICENCE.format("MIT"),
    "openings": _OPENINGS,
}
HOME_CARD = {
    "limits": (
        "A small model that chats about everyday things in few words, knows few facts and makes "
        "some up. It finds the photo that it would share in an album, and paints one only where a "
        "painter is named. English only."
    ),
    "looks": "efficientnet-lite0",
    "licence": _LICENCE.format("the LLM's own: SmolLM2-135M-Instruct is Apache-2.0"),
    "openings": _OPENINGS,
}


_LAYERS, _WIDTH, _HEADS, _INNER = 4, 160, 2, 426  # of the small LM


@dataclass(frozen=True, kw_only=True)
class Talking:
    """Words alone, on dialogues whose photos stand as their descriptions.

    dialogues: DATA, of PhotoChat
    num_held: dialogues that set thresholds and calibration, and are not trained on
    language: a folder of transformers, or a part that "showtell parts" lists, which gets a LoRA
        adapter and stands still itself; none: a small one, new
    template: its turns, as our "marks" or as its own "chat" template has them
    lora: of the adapter
    dropout: of what each layer of a new one adds, against learning by heart
    trust: how much of a share moment's target is the lexical teacher's chance
    text_share: on which part of the words the text loss is computed at a visit: a head is dear
    seed: starts every die of the run
    stages: their drop_words are dropped of all words, also of those that are learnt
    """

    dialogues: str = "photochat:train"
    num_held: int = 1000
    language: str | None = None
    template: Literal["marks", "chat"] = "marks"
    lora: LoraConfig = field(default=LoraConfig(dropout=0.0))
    dropout: float = 0.0
    trust: float = 0.5
    text_share: float = 1.0
    seed: int = 0
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        check_counts(self)

    def train(self, *, name: str, out: Path, resume: bool) -> Path:
        """Train, calibrate on the held-out dialogues and write ``out/model``. Raises
        CheckpointError for a ``language`` that is none, ConfigError, DataError,
        MissingDependency."""
        source = open_data(self.dialogues)
        if source.kind != "photochat":
            raise ConfigError(
                f'dialogues is "{self.dialogues}"; wanted PhotoChat, which this model is of: '
                "photochat:train or photochat:FILE"
            )
        run = Run(out=out, resume=resume, seed=self.seed)
        rest, held_dialogues = split_held_out(source, count=self.num_held)
        torch.manual_seed(self.seed)
        language = _language(self, rest)
        card = SMALL_CARD if self.language is None else HOME_CARD
        model = text_model(language, name=name, template=self.template, card=card)
        rows = rendered_moments(model.renderer, rest)
        held = rendered_moments(model.renderer, held_dialogues)
        taught = zip(rows, lexical_teacher(rest), strict=True) if self.trust else ()
        rows = [softened(*each, trust=self.trust) for each in taught] or rows
        for stage in self.stages:
            task = PhotochatTask(
                model,
                dialogue=rest.__getitem__,
                length=len(rows),
                drop_any=stage.drop_words,
                text_share=self.text_share,
                validate_with=lambda model: held_measures(share_chances(model, held)),
                rows=rows,
            )
            run.train(stage if self.language is None else adapted(stage, language), task)
        calibrate(model, held)
        save_model(model, run.out / "model", recipe={"name": name, "config": to_plain(self)})
        return run.out / "model"


PHOTOCHAT_SMALL = Talking(
    dropout=0.1,
    text_share=0.25,
    stages=(
        Stage(
            name="talking",
            steps=1740,
            batch_size=32,
            learning_rate=2e-3,
            warmup=80,
            decay="cosine",
            betas=(0.9, 0.98),
            weight_decay=0.1,
            weights={"t": 1.0, "moment": 2.0, "caption": 0.0},
            ema=0.99,
            evaluate_every=290,
            drop_words=0.15,
        ),
    ),
)
HOME = Talking(
    language="smollm2-135m-instruct",
    template="chat",
    lora=LoraConfig(
        rank=16,
        alpha=32,
        dropout=0.0,
        targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ),
    text_share=0.5,
    stages=(
        Stage(
            name="talking",
            steps=900,
            batch_size=8,
            learning_rate=6e-4,
            warmup=50,
            decay="cosine",
            betas=(0.9, 0.98),
            weight_decay=0.0,
            weights={"t": 1.0, "moment": 2.0, "caption": 0.0},
        ),
        Stage(  # in another order
            name="talking_on",
            steps=700,
            batch_size=8,
            learning_rate=3e-4,
            warmup=30,
            decay="cosine",
            betas=(0.9, 0.98),
            weight_decay=0.0,
            weights={"t": 1.0, "moment": 4.0, "caption": 0.0},
            seed=1,
        ),
    ),
)


def _language(config: Talking, dialogues: Sequence[Dialogue]) -> LanguageModel:
    """The LLM: a new one whole, or one that is there with an adapter."""
    if config.language is None:
        tokenizer = small.train_dialogue_tokenizer(small.words_of(dialogues))
        sizes = {"layers": _LAYERS, "width": _WIDTH, "heads": _HEADS, "inner": _INNER}
        language = LanguageModel(small.build_language_model(tokenizer, **sizes), tokenizer)
        if config.dropout:
            with_dropout(language, config.dropout)
        return language
    language = LanguageModel.from_pretrained(part_folder(config.language, "language"))
    language.check()
    with_marks(language, seed=config.seed, template=config.template)
    add_lora(language, config.lora)
    return language


def text_model(
    language: LanguageModel,
    *,
    name: str = "photochat_small",
    template: Literal["marks", "chat"] = "marks",
    card: Mapping[str, Any] = SMALL_CARD,
) -> PhotoDialogueModel:
    """The text side alone: no photo encoder, no painter; photos are read and told in words."""
    settings = RendererConfig(
        perceive="caption", speakers=("user", "agent"), max_tokens=1024, template=template
    )
    decoding = Decoding(temperature=0.7, top_p=0.9)
    return words_first(language, settings, name=name, card=card, decoding=decoding)


def with_dropout(language: LanguageModel, rate: float) -> None:
    """Dropout on what attention and MLP add to the stream, in training. Llama itself has none."""

    def attended(module: nn.Module, inputs: Any, output: tuple) -> tuple:
        return (F.dropout(output[0], rate, module.training), *output[1:])

    def thought(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return F.dropout(output, rate, module.training)

    for layer in language.model.base_model.layers:
        layer.self_attn.register_forward_hook(attended)
        layer.mlp.register_forward_hook(thought)


@dataclass
class PhotochatTask(DialogueTask):
    """Rendered dialogues through the LM: ``t`` on a part of the words, ``moment`` where the
    protocol asks. Which of the speakers is called the agent is drawn."""

    rows: Sequence[Rendered] = ()
    drop_any: float = 0.0  # of all words, also of those that are learnt
    text_share: float = 1.0  # of the words, on which ``t`` is

    def row(self, index: int, *, generator: torch.Generator) -> Rendered:
        swap = bool(torch.rand(1, generator=generator) < 0.5)
        return exchanged(self.module, self.rows[index]) if swap else self.rows[index]

    def batch(self, rows: Sequence[Rendered], *, generator: torch.Generator) -> Batch:
        batch = super().batch(rows, generator=generator)
        rate = self.drop_any
        ids_BT = words_dropped(batch.ids_BT, model=self.module, rate=rate, generator=generator)
        kept_BT = torch.rand(batch.labels_BT.shape, generator=generator) < self.text_share
        labels_BT = batch.labels_BT.masked_fill(~kept_BT.to(batch.labels_BT.device), IGNORED)
        shared_M = torch.tensor([place.shared for row in rows for place in row.moments])
        return replace(batch, ids_BT=ids_BT, labels_BT=labels_BT, moment_shared_M=shared_M)


def softened(row: Rendered, chances: np.ndarray, *, trust: float) -> Rendered:
    """The row with share moments between their labels and a teacher's chances; ``trust`` is how
    much of these."""
    # of a dialogue that is too long, the first moments are not rendered
    given = zip(row.moments, chances[len(chances) - len(row.moments) :].tolist(), strict=True)
    moments = [
        replace(place, shared=(1 - trust) * place.shared + trust * chance)
        for place, chance in given
    ]
    return replace(row, moments=moments)


def lexical_teacher(dialogues: Sequence[Dialogue], *, folds: int = 3) -> list[np.ndarray]:
    """P(share) at each dialogue's positions by TF-IDF + logistic regression on the *other* folds.

    A photo was shared or not, but the chance of it was neither 0 nor 1; a teacher who has not seen
    the answer says more about the chance than the answer does. All dialogues of a photo are in one
    fold. Raises MissingDependency without scikit-learn.
    """
    fold_D = np.array([_fold(dialogue, folds) for dialogue in dialogues])
    positions = [moment_positions(dialogue) for dialogue in dialogues]
    texts = [[tagged_text(position.context) for position in some] for some in positions]
    labels = [[int(position.shares) for position in some] for some in positions]
    sizes = [len(some) for some in texts]
    fold_M = np.repeat(fold_D, sizes)
    text_M = [text for some in texts for text in some]
    label_M = np.array([label for some in labels for label in some])
    score_M = np.zeros(len(label_M))
    for fold in range(folds):
        inside_M = fold_M == fold
        score_M[inside_M] = tfidf_moment_scores(
            [text for text, inside in zip(text_M, inside_M, strict=True) if not inside],
            label_M[~inside_M],
            [text for text, inside in zip(text_M, inside_M, strict=True) if inside],
        )
    scale, bias = platt(label_M, score_M)  # the classes were balanced for it
    return np.split(calibrated(score_M, scale=scale, bias=bias), np.cumsum(sizes)[:-1])


def _fold(dialogue: Dialogue, folds: int) -> int:
    photo = dialogue.photos[0]
    address = photo.labels.get("photo_url") or photo.id
    return hashlib.sha256(address.encode()).digest()[0] % folds


def held_measures(found: ShareChances) -> dict[str, float]:
    """What the held-out dialogues say of the moment and of the words."""
    return {
        "held_out_auprc": average_precision(found.shared_M, found.marginal_M),
        "held_out_f1": best_threshold(found.shared_M, found.marginal_M).f1,
        "held_out_perplexity": math.exp(found.token_nll),
    }


def calibrate(model: PhotoDialogueModel, held: Sequence[Rendered]) -> None:
    """Set thresholds and calibration from held-out dialogues, in the model's card and decoding.

    The card's ``moment`` is for P(share) with the next speaker unknown; its ``spoken`` and
    ``share_threshold`` for an agent whose turn it is.
    """
    found = share_chances(model, held)
    scale, bias = platt(found.shared_M, found.marginal_M)
    calibrated_M = calibrated(found.marginal_M, scale=scale, bias=bias)
    chosen = best_threshold(found.shared_M, calibrated_M)
    spoken = platt(found.shared_M, found.spoken_M)
    model.card["moment"] = {
        "scale": scale,
        "bias": bias,
        "threshold": chosen.threshold,
        **held_measures(found),
        "held_out_f1": chosen.f1,
        "positions": len(found.shared_M),
        "spoken": dict(zip(("scale", "bias"), spoken, strict=True)),
    }
    enough = best_threshold(found.shared_M, found.spoken_M).threshold
    model.decoding = replace(model.decoding, share_threshold=enough)
