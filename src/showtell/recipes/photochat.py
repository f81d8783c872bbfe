"""photochat_small: the text side on real dialogues: talk, the moment to share, what the photo shows.

The photos of PhotoChat are unreachable, so they stand as their descriptions between [IMG] and
[/IMG]. Both speakers are trained, and which of them is called the agent is drawn anew at each visit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from showtell.batch import collate
from showtell.bridges import Pipeline, PipelineConfig
from showtell.config import to_plain
from showtell.data.photochat import moment_positions, read_photochat, split_held_out
from showtell.dialogue import Dialogue
from showtell.errors import ConfigError
from showtell.metrics.moment import (
    average_precision,
    best_threshold,
    tagged_text,
    tfidf_moment_scores,
)
from showtell.models.checkpoint import save_model
from showtell.models.dialogue_model import Decoding, PhotoDialogueModel
from showtell.models.language_model import LanguageModel
from showtell.prompt import IGNORED, Rendered, Renderer, RendererConfig
from showtell.recipes import small
from showtell.recipes.world_base import StageRunner
from showtell.sharing.moment import exchanged, share_chances
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
    width: int = 192
    layers: int = 6
    heads: int = 3
    held_out: int = 1000
    drop_words: float = 0.1
    dropout: float = 0.1
    text_share: float = 0.5
    trust: float = 0.5
    micro_batch: int = 8
    seed: int = 0
    stage: Stage = field(
        default=Stage(
            name="photochat",
            steps=2900,
            batch_size=32,
            learning_rate=1.5e-3,
            warmup=150,
            decay="cosine",
            betas=(0.9, 0.98),
            weight_decay=0.1,
            weights={"t": 1.0, "moment": 1.0},
            ema=0.995,
            evaluate_every=580,
        )
    )


def run_photochat_small(config: PhotochatSmall, *, out: Path, resume: bool) -> Path:
    """Train, calibrate on the held-out dialogues and write ``out/model``."""
    path = Path(config.photochat)
    if not path.exists():
        raise ConfigError(
            f'photochat is "{path}", and there is no such file; wanted train.jsonl of PhotoChat; '
            "name it with --set photochat=PATH"
        )
    torch.manual_seed(config.seed)
    rest, held = split_held_out(read_photochat(path), count=config.held_out)
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
    """The text side alone: no perceptron, no painter; photos are read and told in words."""
    renderer = Renderer(
        language.tokenizer,
        RendererConfig(perceive="caption", speakers=("user", "agent"), max_tokens=1024),
    )
    return PhotoDialogueModel(
        language=language,
        perceptron=None,
        bridge=Pipeline(PipelineConfig(), tokenizer=language.tokenizer),
        painter=None,
        renderer=renderer,
        name="photochat_small",
        card=CARD,
        decoding=Decoding(temperature=0.7, top_p=0.9),
    )


def rendered_moments(renderer: Renderer, dialogues: Sequence[Dialogue]) -> list[Rendered]:
    """The dialogues whole, with the share moments of the protocol: from the second turn to the share."""
    rows = []
    for dialogue in dialogues:
        row = renderer.render(dialogue)
        asked = {position.turn for position in moment_positions(dialogue)}
        kept = [place for place in row.moments if place.turn in asked]
        rows.append(dataclasses.replace(row, moments=kept))
    return rows


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


def with_dropout(language: LanguageModel, rate: float) -> None:
    """Dropout on what attention and MLP add to the stream, while training. Llama itself has none."""

    def attended(module: nn.Module, inputs: Any, output: tuple) -> tuple:
        return (F.dropout(output[0], rate, module.training), *output[1:])

    def thought(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return F.dropout(output, rate, module.training)

    for layer in language.model.base_model.layers:
        layer.self_attn.register_forward_hook(attended)
        layer.mlp.register_forward_hook(thought)


@dataclass
class PhotochatTask:
    """Rendered dialogues through the LM: ``t`` on every word, ``moment`` at the protocol's positions."""

    module: PhotoDialogueModel
    rows: Sequence[Rendered]
    held: Sequence[Rendered]
    drop_words: float
    text_share: float
    micro_batch: int
    teacher: Sequence[np.ndarray] | None = None  # P(share) at each row's moments
    trust: float = 0.5

    def __len__(self) -> int:
        return len(self.rows)

    def losses(
        self, indices: Sequence[int], *, generator: torch.Generator, epoch: float
    ) -> dict[str, Tensor]:
        # Dropout draws from the global generator: set it from ours, so that --resume is exact.
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        swap = (torch.rand(len(indices), generator=generator) < 0.5).tolist()
        chosen = sorted(
            zip(indices, swap, strict=True), key=lambda pair: len(self.rows[pair[0]].ids)
        )
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        # Neighbours in length are padded together. The means are over their own tokens and
        # moments, and are put together by how many these are.
        for start in range(0, len(chosen), self.micro_batch):
            part = chosen[start : start + self.micro_batch]
            for name, (loss, count) in self._part(part, generator).items():
                sums[name] = sums.get(name, loss.new_zeros(())) + loss * count
                counts[name] = counts.get(name, 0) + count
        return {name: total / counts[name] for name, total in sums.items()}

    def _part(
        self, part: Sequence[tuple[int, bool]], generator: torch.Generator
    ) -> dict[str, tuple[Tensor, int]]:
        """The losses of a few dialogues with their counts."""
        model = self.module
        rows = [self.rows[index] for index, _ in part]
        batch = collate(
            [exchanged(model, r) if swap else r for r, (_, swap) in zip(rows, part, strict=True)],
            pad_id=model.language.tokenizer.pad_token_id,
            pixels_of=None,
            paint=False,
        )
        batch = dataclasses.replace(batch, ids_BT=self._dropped(batch.ids_BT, generator))
        states = model.states(batch)
        # State k-1 predicts token k. A random part of the words stands for all of them.
        trained_BT = batch.labels_BT[:, 1:] != IGNORED
        trained_BT &= torch.rand(trained_BT.shape, generator=generator) < self.text_share
        at_row, at_column = trained_BT.nonzero(as_tuple=True)
        logits_NV = model.language.head(states.hidden_BTD[at_row, at_column]).float()
        gold_N = batch.labels_BT[at_row, at_column + 1]
        losses = {"t": (F.cross_entropy(logits_NV, gold_N), len(gold_N))}
        if len(batch.moment_row_M):
            wanted_M = batch.moment_shared_M.float()
            if self.teacher is not None:
                taught_M = torch.cat([torch.from_numpy(self.teacher[index]) for index, _ in part])
                wanted_M = torch.lerp(wanted_M, taught_M.float(), self.trust)
            moment = F.binary_cross_entropy_with_logits(model.share_logits(states, batch), wanted_M)
            losses["moment"] = (moment, len(wanted_M))
        return losses

    def _dropped(self, ids_BT: Tensor, generator: torch.Generator) -> Tensor:
        """The input with some of its words unreadable; the marks of turns and photos stay."""
        marks = torch.tensor(sorted(self.module.renderer.special))
        chosen_BT = torch.rand(ids_BT.shape, generator=generator) < self.drop_words
        chosen_BT &= ~torch.isin(ids_BT, marks)
        return ids_BT.masked_fill(chosen_BT, self.module.language.tokenizer.pad_token_id)

    def validate(self) -> dict[str, float]:
        found = share_chances(self.module, self.held)
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
        "held_out_f1": chosen.f1,
        "held_out_auprc": average_precision(found.shared_M, found.marginal_M),
        "held_out_perplexity": math.exp(found.token_nll),
        "positions": len(found.shared_M),
    }
    spoken = best_threshold(found.shared_M, found.spoken_M)
    model.decoding = dataclasses.replace(model.decoding, share_threshold=spoken.threshold)


def platt(shared_M: np.ndarray, chances_M: np.ndarray) -> tuple[float, float]:
    """(scale, bias) of Platt (1999): sigma(scale * logit(p) + bias) of the highest likelihood."""
    logits_M = torch.logit(torch.from_numpy(chances_M), eps=1e-9)
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    target_M = torch.from_numpy(shared_M).double()
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(weights[0] * logits_M + weights[1], target_M)
        loss.backward()
        return loss

    optimizer.step(closure)
    scale, bias = weights.detach().tolist()
    return scale, bias


def calibrated(chances_M: np.ndarray, *, scale: float, bias: float) -> np.ndarray:
    """sigma(scale * logit(p) + bias)"""
    logits_M = torch.logit(torch.from_numpy(chances_M), eps=1e-9)
    return (scale * logits_M + bias).sigmoid().numpy()
