"""What photochat_small trains on: rendered dialogues, their share moments, a lexical teacher."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from showtell.batch import collate
from showtell.data.photochat import moment_positions
from showtell.dialogue import Dialogue
from showtell.evaluation.measures_photochat import calibrated, platt
from showtell.metrics.moment import (
    average_precision,
    best_threshold,
    tagged_text,
    tfidf_moment_scores,
)
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import exchanged, share_chances
from showtell.models.language import LanguageModel
from showtell.prompt import IGNORED, Rendered
from showtell.recipes.tasks import words_dropped


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
    """Dropout on what attention and MLP add to the stream, in training. Llama itself has none."""

    def attended(module: nn.Module, inputs: Any, output: tuple) -> tuple:
        return (F.dropout(output[0], rate, module.training), *output[1:])

    def thought(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return F.dropout(output, rate, module.training)

    for layer in language.model.base_model.layers:
        layer.self_attn.register_forward_hook(attended)
        layer.mlp.register_forward_hook(thought)


@dataclass
class PhotochatTask:
    """Rendered dialogues through the LM: ``t`` on words, ``moment`` where the protocol asks."""

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
        batch = batch.to(model.device)
        states = model.states(batch)
        # State k-1 predicts token k. A random part of the words stands for all of them.
        trained_BT = batch.labels_BT[:, 1:] != IGNORED
        kept_BT = torch.rand(trained_BT.shape, generator=generator) < self.text_share
        trained_BT &= kept_BT.to(model.device)
        at_row, at_column = trained_BT.nonzero(as_tuple=True)
        logits_NV = model.language.head(states.hidden_BTD[at_row, at_column]).float()
        gold_N = batch.labels_BT[at_row, at_column + 1]
        losses = {"t": (F.cross_entropy(logits_NV, gold_N), len(gold_N))}
        if len(batch.moment_row_M):
            wanted_M = batch.moment_shared_M.float()
            if self.teacher is not None:
                taught_M = torch.cat([torch.from_numpy(self.teacher[index]) for index, _ in part])
                wanted_M = torch.lerp(wanted_M, taught_M.float().to(model.device), self.trust)
            moment = F.binary_cross_entropy_with_logits(model.share_logits(states, batch), wanted_M)
            losses["moment"] = (moment, len(wanted_M))
        return losses

    def _dropped(self, ids_BT: Tensor, generator: torch.Generator) -> Tensor:
        return words_dropped(ids_BT, model=self.module, rate=self.drop_words, generator=generator)

    def validate(self) -> dict[str, float]:
        found = share_chances(self.module, self.held)
        return {
            "held_out_auprc": average_precision(found.shared_M, found.marginal_M),
            "held_out_f1": best_threshold(found.shared_M, found.marginal_M).f1,
            "held_out_perplexity": math.exp(found.token_nll),
        }
