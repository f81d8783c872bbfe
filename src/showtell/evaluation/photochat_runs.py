"""PhotoChat's table: what any system answers at the same places of the same dialogues, scored
dialogue by dialogue so that two systems can be paired (``compare.py``). Contexts are gold, photos
stand as their descriptions; ``measures_photochat.py`` says what is asked where.

A system tells P(share) at every position, writes the text turns and describes the photos, each as
whoever spoke there. Positions and places are those of ``positions_of``, ``text_places`` and
``photo_places``. Letters: M positions, D dialogues, Q photos, C distinct ones, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from torch.nn.functional import normalize

from showtell.data.photochat import OBJECTS, moment_positions
from showtell.dialogue import Dialogue, Turn
from showtell.errors import DataError
from showtell.evaluation.answer import sampled, write_texts
from showtell.evaluation.answered import Answers, Place
from showtell.evaluation.measures_photochat import (
    MAX_NEW_TOKENS,
    add_descriptions,
    calibrated,
    objects,
    platt,
    positions_of,
    rendered_moments,
)
from showtell.metrics.moment import best_threshold
from showtell.metrics.paired import Scores, scores
from showtell.metrics.retrieval import bm25_scores, ranks
from showtell.metrics.rouge import rouge_l_f1
from showtell.metrics.text import psdg_counts
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import Decoding, PhotoDialogueModel
from showtell.models.gold import share_chances
from showtell.progress import Progress, quiet

Texts = Callable[[Sequence[str]], Tensor]
LAST_TURNS = 6  # of a context that a sentence encoder reads
DRAWN = 1000  # replies, a fixed sample of all

# How words are drawn: one for all rows, chosen on held-out dialogues. "at least N": tokens.
_LIKELIEST = Decoding(temperature=0.0, max_new_tokens=MAX_NEW_TOKENS)
DECODINGS: Mapping[str, Decoding] = {
    "most likely": _LIKELIEST,
    "most likely, at least 8": replace(_LIKELIEST, min_new_tokens=8),
    "most likely, at least 12": replace(_LIKELIEST, min_new_tokens=12),
    "temperature 0.5": replace(_LIKELIEST, temperature=0.5),
    "temperature 0.5, at least 8": replace(_LIKELIEST, temperature=0.5, min_new_tokens=8),
    "temperature 1": replace(_LIKELIEST, temperature=1.0),
}


@dataclass(frozen=True, kw_only=True)
class GoldTalk:
    """What a system makes of one gold dialogue: P(share) at each position of the protocol, and
    -log p of the words of text turns, by turn (empty where it was not asked for)."""

    chances: list[float]
    word_nll: Mapping[int, float]


class Talks(Protocol):
    """A system at gold contexts. A case is a context and who speaks next."""

    def read(
        self, dialogues: Sequence[Dialogue], *, words: bool, told: Progress = quiet
    ) -> list[GoldTalk]: ...

    def replies(
        self, cases: Sequence[tuple[tuple[Turn, ...], str]], decoding: Decoding, *, seed: int
    ) -> list[str]: ...

    def descriptions(self, dialogues: Sequence[Dialogue]) -> list[str]: ...


class ModelTalks:
    """One of our models; P(share) with the next speaker unknown, both namings of them read."""

    def __init__(self, model: PhotoDialogueModel) -> None:
        self.model = model

    def read(
        self, dialogues: Sequence[Dialogue], *, words: bool, told: Progress = quiet
    ) -> list[GoldTalk]:
        """Raises DataError for a model that does not tell every position of a dialogue."""
        rows = rendered_moments(self.model.renderer, dialogues)
        found = share_chances(self.model, rows, told=told)
        talks = [GoldTalk(chances=[], word_nll={}) for _ in dialogues]
        for b, chance in zip(found.row_M.tolist(), found.marginal_M.tolist(), strict=True):
            talks[b].chances.append(chance)
        for dialogue, talk in zip(dialogues, talks, strict=True):
            if len(talk.chances) != len(moment_positions(dialogue)):
                raise DataError(
                    f"dialogue {dialogue.id}: {self.model.name} tells {len(talk.chances)} of "
                    f"{len(moment_positions(dialogue))} share moments; wanted all: a model that "
                    "speaks for both sides and reads dialogues of this length"
                )
        nll: list[dict[int, float]] = [{} for _ in dialogues]
        for (b, k), value in found.word_nll.items():
            nll[b][k] = value
        return [
            GoldTalk(chances=talk.chances, word_nll=own if words else {})
            for talk, own in zip(talks, nll, strict=True)
        ]

    def replies(
        self, cases: Sequence[tuple[tuple[Turn, ...], str]], decoding: Decoding, *, seed: int
    ) -> list[str]:
        """The n-th by ``seed`` + n."""
        contexts, speakers = [context for context, _ in cases], [speaker for _, speaker in cases]
        decoder = Decoder(self.model, decoding=decoding)
        return write_texts(decoder, contexts, seed=seed, speakers=speakers)

    def descriptions(self, dialogues: Sequence[Dialogue]) -> list[str]:
        answers = Answers(dialogues=dialogues, folder=Path())
        add_descriptions(answers, self.model)
        return answers.texts("description")


# ------------------------------------------------------------------------------------- the places


def text_places(dialogues: Sequence[Dialogue], *, most: int | None = DRAWN) -> list[Place]:
    """Text turns from the second on, or a fixed sample of them, in the order of the dialogues."""
    places = [
        (b, k)
        for b, dialogue in enumerate(dialogues)
        for k, turn in enumerate(dialogue.turns)
        if k > 0 and not turn.photos and turn.text.strip()
    ]
    return sorted(sampled(places, most))


def photo_places(dialogues: Sequence[Dialogue]) -> list[Place]:
    """The photo turns that are described: those without words before the photo."""
    return [
        (b, k)
        for b, dialogue in enumerate(dialogues)
        for k, turn in enumerate(dialogue.turns)
        if k > 0 and turn.elements and not isinstance(turn.elements[0], str)
    ]


# -------------------------------------------------------------------------------------- the scores


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """sigma(scale * logit(p) + bias), and the threshold of the best F1 after it."""

    scale: float
    bias: float
    threshold: float

    @classmethod
    def of(cls, dialogues: Sequence[Dialogue], chance_M: Sequence[float]) -> Calibration:
        """Platt's, by held-out dialogues."""
        shared_M, chances = _shared(dialogues), np.asarray(chance_M, dtype=np.float64)
        scale, bias = platt(shared_M, chances)
        found_M = calibrated(chances, scale=scale, bias=bias)
        chosen = best_threshold(shared_M, found_M)
        return cls(scale=scale, bias=bias, threshold=chosen.threshold)

    def __call__(self, chance_M: Sequence[float]) -> np.ndarray:
        chances = np.asarray(chance_M, dtype=np.float64)
        return calibrated(chances, scale=self.scale, bias=self.bias)


def moment_scores(
    dialogues: Sequence[Dialogue], chance_M: Sequence[float], calibration: Calibration
) -> dict[str, Scores]:
    """``moment.*`` of P(share) at ``positions_of(dialogues)``."""
    shared_M, found_M = _shared(dialogues), calibration(chance_M)
    chosen_M = found_M >= calibration.threshold
    of = [b for b, dialogue in enumerate(dialogues) for _ in moment_positions(dialogue)]
    pairs_M2 = np.stack([shared_M, found_M], axis=1)
    f1_M2 = np.stack([2 * (chosen_M & shared_M), chosen_M.astype(int) + shared_M], axis=1)
    return {
        "moment.f1": scores("ratio", of, f1_M2),
        "moment.auprc": scores("auprc", of, pairs_M2),
        "moment.ece": scores("ece", of, pairs_M2),
        "moment.brier": scores("mean", of, (found_M - shared_M) ** 2),
    }


def _shared(dialogues: Sequence[Dialogue]) -> np.ndarray:
    return np.array([position.shares for position in positions_of(dialogues)], dtype=bool)


def reply_scores(
    dialogues: Sequence[Dialogue], places: Sequence[Place], said: Sequence[str]
) -> dict[str, Scores]:
    """``text.psdg.*`` of the replies at ``places``."""
    gold, of = [dialogues[b].turns[k].text for b, k in places], [b for b, _ in places]
    counts = psdg_counts(said, gold)
    return {
        "text.psdg.bleu1": scores("bleu1", of, counts),
        "text.psdg.bleu2": scores("bleu2", of, counts),
        "text.psdg.rouge_l": scores("mean", of, list(map(rouge_l_f1, said, gold))),
    }


def perplexity_scores(
    dialogues: Sequence[Dialogue], word_nll: Sequence[Mapping[int, float]]
) -> dict[str, Scores]:
    """``text.perplexity_per_word``: exp of -log p of the words by their number (between spaces), so
    that tokenizers compare; no mark and no end of a turn counts."""
    sums_D2 = [
        (
            sum(own[k] for _, k in places),
            sum(len(dialogue.turns[k].text.split()) for _, k in places),
        )
        for dialogue, own in zip(dialogues, word_nll, strict=True)
        for places in [text_places([dialogue], most=None)]
    ]
    return {"text.perplexity_per_word": scores("perplexity", range(len(sums_D2)), sums_D2)}


def description_scores(
    dialogues: Sequence[Dialogue], said: Sequence[str], *, known: frozenset[str]
) -> dict[str, Scores]:
    """``description.object_f1``: as in ``description_report``; ``known``: names of objects, which
    are looked for in a description that is no list."""
    found, of = [], []
    for (b, k), text in zip(photo_places(dialogues), said, strict=True):
        if shown := objects(dialogues[b].turns[k].photos[0].caption):
            named = objects(text, known)
            found.append(2 * len(named & shown) / (len(named) + len(shown)))
            of.append(b)
    return {"description.object_f1": scores("mean", of, found)} if of else {}


def search_scores(
    dialogues: Sequence[Dialogue],
    asked: Sequence[str],
    *,
    encoder: Texts | None,
    encoded: Sequence[str] | None = None,
) -> dict[str, Scores]:
    """``description.bm25.r1`` ... and ``description.encoder.r1`` ...: the rank of the gold photo
    where ``asked`` (a text a photo turn) asks the descriptions of all photos of the dialogues.
    ``encoded``: what the sentence encoder is asked, where that is another text."""
    places = photo_places(dialogues)
    photos = [dialogues[b].turns[k].photos[0] for b, k in places]
    captions = {photo.id: photo.caption for photo in photos}
    number = {name: c for c, name in enumerate(captions)}
    gold_Q = np.array([number[photo.id] for photo in photos])
    found: dict[str, Any] = {"bm25": bm25_scores(asked, list(captions.values()))}
    if encoder is not None:
        asked_QE, told_CE = (
            normalize(encoder([listed(text) for text in texts]).float(), dim=1)
            for texts in (asked if encoded is None else encoded, list(captions.values()))
        )
        found["encoder"] = (asked_QE @ told_CE.mT).numpy()
    of = [b for b, _ in places]
    return {
        f"description.{name}.r{k}": scores("mean", of, ranks(scores_QC, gold_Q) <= k)
        for name, scores_QC in found.items()
        for k in (1, 5, 10)
    }


def listed(description: str) -> str:
    """The description without the words that all have."""
    return description.replace(OBJECTS, " ").strip()


def contexts_of(dialogues: Sequence[Dialogue], *, last: int | None = None) -> list[str]:
    """What was said before each photo turn, or in the ``last`` turns of it."""
    texts = []
    for b, k in photo_places(dialogues):
        turns = dialogues[b].turns[:k]
        texts.append(" ".join(turn.text for turn in turns[-last if last else 0 :]))
    return texts


def objects_of(dialogues: Sequence[Dialogue]) -> frozenset[str]:
    """The names of all objects of these dialogues' photos."""
    named = (objects(photo.caption) for dialogue in dialogues for photo in dialogue.photos)
    return frozenset().union(*named)


def merit(found: Mapping[str, Scores]) -> float:
    """What a decoding is chosen by: the mean of BLEU-1, BLEU-2 and ROUGE-L."""
    return float(np.mean([found[f"text.psdg.{k}"].value() for k in ("bleu1", "bleu2", "rouge_l")]))
