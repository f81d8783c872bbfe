"""photochat_small: the text side on real dialogues: talk, when to share, what the photo shows.

The photos of PhotoChat are unreachable, so they stand as their descriptions between [IMG] and
[/IMG]. Both speakers are trained, and which of them is called the agent is drawn at each visit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from showtell.models.checkpoint import save_model
from showtell.models.dialogue_model import Decoding, PhotoDialogueModel
from showtell.models.gold import ShareChances, exchanged, share_chances
from showtell.models.language import LanguageModel
from showtell.prompt import IGNORED, Rendered, RendererConfig
from showtell.recipes import small
from showtell.recipes.assemble import words_first
from showtell.recipes.pretrain import Pretraining
from showtell.recipes.runs import Run
from showtell.training.dialogue_task import DialogueTask, words_dropped
from showtell.training.stage import Stage

TRUST = 0.5  # how much of a share moment's target is the lexical teacher's chance
TEXT_SHARE = 0.25  # on which part of the words the text loss is computed at a visit: a head is dear
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


_LAYERS, _WIDTH, _HEADS, _INNER = 4, 160, 2, 426  # of the LM
_DROPOUT = 0.1  # of what each layer of the LM adds, against learning by heart
PHOTOCHAT_SMALL = Pretraining(
    dialogues="photochat:train",
    num_held=1000,
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


def train_talking(config: Pretraining, run: Run, *, name: str) -> Path:
    """Train, calibrate on the held-out dialogues and write ``out/model``. The stage's drop_words
    are dropped of all words, also of those that are learnt. Raises ConfigError,
    DataError, MissingDependency."""
    source = open_data(config.dialogues)
    if source.kind != "photochat":
        raise ConfigError(
            f'dialogues is "{config.dialogues}"; wanted PhotoChat, which this model is of: '
            "photochat:train or photochat:FILE"
        )
    rest, held_dialogues = split_held_out(source, count=config.num_held)
    torch.manual_seed(config.seed)
    tokenizer = small.train_dialogue_tokenizer(small.words_of(rest))
    language = LanguageModel(
        small.build_language_model(
            tokenizer, layers=_LAYERS, width=_WIDTH, heads=_HEADS, inner=_INNER
        ),
        tokenizer,
    )
    model = text_model(language, name=name)
    rows = rendered_moments(model.renderer, rest)
    held = rendered_moments(model.renderer, held_dialogues)
    stage = config.stages[-1]
    task = PhotochatTask(
        model,
        dialogue=rest.__getitem__,
        length=len(rows),
        drop_any=stage.drop_words,
        validate_with=lambda model: held_measures(share_chances(model, held)),
        rows=[softened(*each) for each in zip(rows, lexical_teacher(rest), strict=True)],
    )
    with_dropout(language, _DROPOUT)
    run.train(stage, task)
    calibrate(model, held)
    save_model(model, run.out / "model", recipe={"name": name, "config": to_plain(config)})
    return run.out / "model"


def text_model(language: LanguageModel, *, name: str = "photochat_small") -> PhotoDialogueModel:
    """The text side alone: no photo encoder, no painter; photos are read and told in words."""
    settings = RendererConfig(perceive="caption", speakers=("user", "agent"), max_tokens=1024)
    decoding = Decoding(temperature=0.7, top_p=0.9)
    return words_first(language, settings, name=name, card=CARD, decoding=decoding)


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

    def row(self, index: int, *, generator: torch.Generator) -> Rendered:
        swap = bool(torch.rand(1, generator=generator) < 0.5)
        return exchanged(self.module, self.rows[index]) if swap else self.rows[index]

    def batch(self, rows: Sequence[Rendered], *, generator: torch.Generator) -> Batch:
        batch = super().batch(rows, generator=generator)
        rate = self.drop_any
        ids_BT = words_dropped(batch.ids_BT, model=self.module, rate=rate, generator=generator)
        kept_BT = torch.rand(batch.labels_BT.shape, generator=generator) < TEXT_SHARE
        labels_BT = batch.labels_BT.masked_fill(~kept_BT.to(batch.labels_BT.device), IGNORED)
        shared_M = torch.tensor([place.shared for row in rows for place in row.moments])
        return replace(batch, ids_BT=ids_BT, labels_BT=labels_BT, moment_shared_M=shared_M)


def softened(row: Rendered, chances: np.ndarray) -> Rendered:
    """The row with share moments between their labels and a teacher's chances, half and half."""
    # of a dialogue that is too long, the first moments are not rendered
    given = zip(row.moments, chances[len(chances) - len(row.moments) :].tolist(), strict=True)
    moments = [
        replace(place, shared=(1 - TRUST) * place.shared + TRUST * chance)
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
        **held_measures(found),
        "held_out_f1": chosen.f1,
        "positions": len(found.shared_M),
    }
    spoken = best_threshold(found.shared_M, found.spoken_M)
    model.decoding = replace(model.decoding, share_threshold=spoken.threshold)
