"""PhotoChat's own measures: protocol ``photochat``. Every context is the gold one, photos standing
as their descriptions, since the pixels are unreachable.

- replies: every text turn from the second on (without --limit a fixed sample of 1,000 of them), the
  most likely words, at most 40 tokens, written by whoever spoke in the gold dialogue;
- the share moment: P(share) before every turn from the second to the share, the next speaker
  unknown, calibration and threshold from the model's card;
- descriptions: the objects named after [IMG] at the gold moment against those of the gold photo.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from showtell.data.photochat import (
    HELD_OUT,
    OBJECTS,
    MomentPosition,
    counts_of,
    moment_positions,
    read_photochat,
    split_held_out,
)
from showtell.dialogue import Dialogue, Photo
from showtell.errors import MissingDependency, import_extra
from showtell.evaluation.answer import add_texts, in_parts, likeliest, opened
from showtell.evaluation.answered import Answers
from showtell.evaluation.score import Measured, moment_rows, not_run, reply_values
from showtell.metrics.intervals import Value, mean_value
from showtell.metrics.moment import (
    best_threshold,
    keyword_score,
    tagged_text,
    tfidf_moment_scores,
)
from showtell.metrics.retrieval import terms_of
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import large_products, share_chances
from showtell.progress import Progress, quiet
from showtell.prompt import Rendered, Renderer

MAX_NEW_TOKENS = 40
PHOTOCHAT = "photochat"  # the protocol


def measure_photochat(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    folder: Path,
    path: Path | None,
    seed: int,
    most: int | None,
    told: Progress = quiet,
) -> Measured:
    """All measures; the model's replies, at most ``most``, go to ``folder``. ``path``: the file
    that is evaluated, beside which the lexical baseline looks for train.jsonl."""
    answers = Answers(dialogues=dialogues, folder=folder)
    values = moment_report(model, dialogues, seed=seed, told=told)
    keyword = [keyword_score(position.context) for position in positions_of(dialogues)]
    values |= _baseline("keyword", dialogues, keyword, threshold=1.0, seed=seed, wanted=("f1",))
    values |= lexical_baseline(path, dialogues, seed=seed)
    places = [
        (b, k)
        for b, dialogue in enumerate(dialogues)
        for k, turn in enumerate(dialogue.turns)
        if k > 0 and not turn.photos
    ]
    length = MAX_NEW_TOKENS
    add_texts(
        answers, model, dialogues, places, seed=seed, most=most, max_new_tokens=length, told=told
    )
    values |= reply_values(answers, seed=seed, distinct=2, protocol=PHOTOCHAT)
    add_descriptions(answers, model, told=told)
    values |= description_report(answers, seed=seed)
    answers.write()
    counts = {**counts_of(dialogues), "replies": len(answers.of("text"))}
    return Measured(values=values, counts=counts)


# ---------------------------------------------------------------------------------- the moment


def positions_of(dialogues: Sequence[Dialogue]) -> list[MomentPosition]:
    return [position for dialogue in dialogues for position in moment_positions(dialogue)]


def moment_report(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    seed: int,
    told: Progress = quiet,
) -> dict[str, Value]:
    """``moment.*`` with the threshold of the model's card, and ``text.perplexity``."""
    found = share_chances(model, rendered_moments(model.renderer, dialogues), told=told)
    settings = model.card.get("moment", {})
    scores_M = calibrated(
        found.marginal_M, scale=settings.get("scale", 1.0), bias=settings.get("bias", 0.0)
    )
    values = moment_rows(
        found.shared_M,
        scores_M,
        threshold=settings.get("threshold", model.decoding.share_threshold),
        seed=seed,
        groups_N=found.row_M.tolist(),
        protocol=PHOTOCHAT,
    )
    values["text.perplexity"] = Value(
        value=math.exp(found.token_nll),
        n=found.num_tokens,
        higher_is_better=False,
        unit="per token",
        protocol=PHOTOCHAT,
        note="all words, marks and descriptions; both namings of the speakers",
    )
    return values


def rendered_moments(renderer: Renderer, dialogues: Sequence[Dialogue]) -> list[Rendered]:
    """The dialogues whole, with the protocol's share moments: from the second turn to the share."""
    rows = []
    for dialogue in dialogues:
        row = renderer.render(dialogue)
        asked = {position.turn for position in moment_positions(dialogue)}
        rows.append(replace(row, moments=[place for place in row.moments if place.turn in asked]))
    return rows


def platt(shared_M: np.ndarray, chances_M: np.ndarray) -> tuple[float, float]:
    """(scale, bias) of Platt (1999): sigma(scale * logit(p) + bias) of the highest likelihood.
    Raises MissingDependency without scikit-learn."""
    linear = import_extra("sklearn.linear_model", what="Platt's calibration (scikit-learn)")
    fitted = linear.LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    fitted.fit(_logits(chances_M)[:, None].numpy(), shared_M)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def calibrated(chances_M: np.ndarray, *, scale: float, bias: float) -> np.ndarray:
    """sigma(scale * logit(p) + bias)"""
    return (scale * _logits(chances_M) + bias).sigmoid().numpy()


def _logits(chances_M: np.ndarray) -> torch.Tensor:
    return torch.logit(torch.from_numpy(chances_M), eps=1e-9)


def _baseline(
    name: str,
    dialogues: Sequence[Dialogue],
    scores_N: Any,
    *,
    threshold: float,
    seed: int,
    wanted: Sequence[str],
) -> dict[str, Value]:
    """``baseline.<name>.*`` on all positions."""
    prefix = f"baseline.{name}"
    values = moment_rows(
        [int(position.shares) for position in positions_of(dialogues)],
        scores_N,
        threshold=threshold,
        seed=seed,
        groups_N=[b for b, dialogue in enumerate(dialogues) for _ in moment_positions(dialogue)],
        prefix=prefix,
        protocol=PHOTOCHAT,
    )
    return {f"{prefix}.{k}": values[f"{prefix}.{k}"] for k in wanted if f"{prefix}.{k}" in values}


def lexical_baseline(
    path: Path | None, dialogues: Sequence[Dialogue], *, seed: int
) -> dict[str, Value]:
    """``baseline.tfidf.*`` on the same positions: TF-IDF + logistic regression.

    It needs train.jsonl beside the evaluated file; without that its row is empty and says so.
    """
    row = "baseline.tfidf.f1"
    train = path.parent / "train.jsonl" if path is not None else None
    if train is None or not train.is_file() or train == path:
        reason = "train.jsonl is not beside the evaluated file"
        return not_run(row, reason, protocol=PHOTOCHAT)
    known = list(read_photochat(train, skipped=[]))
    rest, held = split_held_out(known, count=min(HELD_OUT, len(known) // 3))
    learn, tune, test = positions_of(rest), positions_of(held), positions_of(dialogues)
    try:
        scores_N = tfidf_moment_scores(
            [tagged_text(position.context) for position in learn],
            [int(position.shares) for position in learn],
            [tagged_text(position.context) for position in tune + test],
        )
    except MissingDependency as error:
        return not_run(row, error, protocol=PHOTOCHAT)
    chosen = best_threshold([int(p.shares) for p in tune], scores_N[: len(tune)])
    return _baseline(
        "tfidf",
        dialogues,
        scores_N[len(tune) :],
        threshold=chosen.threshold,
        seed=seed,
        wanted=("f1", "precision", "recall", "auprc"),
    )


# ------------------------------------------------------------------------------ the descriptions


@torch.no_grad()
def add_descriptions(
    answers: Answers, model: PhotoDialogueModel, *, told: Progress = quiet
) -> None:
    """Kind "description": the words after [IMG] in the place of each gold photo."""
    greedy = replace(likeliest(model, MAX_NEW_TOKENS), caption_temperature=0.0)
    decoder = Decoder(model, decoding=greedy)
    cases = [
        ((b, k), dialogue.turns[:k], turn)
        for b, dialogue in enumerate(answers.dialogues)
        for k, turn in enumerate(dialogue.turns)
        if k > 0 and turn.elements and isinstance(turn.elements[0], Photo)
    ]
    for _, part in in_parts(model, cases, what="descriptions", told=told):
        contexts, speakers = [context for _, context, _ in part], [t.speaker for _, _, t in part]
        with large_products(model):
            writing = opened(decoder, contexts, [{}] * len(part), speakers)
            own = model.renderer.span_ids  # tokens without words
            said = [""] * len(part) if own else decoder.write_captions(writing)
        for (place, _, turn), text in zip(part, said, strict=True):
            gold = {"elements": [turn.photos[0].caption]}
            answers.add("description", place, {"elements": [text]}, gold)


def description_report(answers: Answers, *, seed: int) -> dict[str, Value]:
    """``description.object_*``: the objects named at the gold moment against the gold ones."""
    pairs = [(objects(answer.text), objects(answer.gold)) for answer in answers.of("description")]
    pairs = [(named, shown) for named, shown in pairs if shown]
    scores = {
        "precision": [len(named & shown) / max(1, len(named)) for named, shown in pairs],
        "recall": [len(named & shown) / len(shown) for named, shown in pairs],
        "f1": [2 * len(named & shown) / (len(named) + len(shown)) for named, shown in pairs],
    }
    return {
        f"description.object_{name}": mean_value(
            found, seed=seed, protocol=PHOTOCHAT, note="greedy, at gold moments, mean over photos"
        )
        for name, found in scores.items()
    }


def objects(description: str, known: Collection[str] = ()) -> frozenset[str]:
    """``"Objects in the photo: Plate, Salad"`` -> plate, salad. Of a text without such a list, the
    ``known`` names that stand in it, in the singular or the plural."""
    _, mark, listed = description.rpartition(OBJECTS)
    if mark:
        return frozenset(name.strip().lower() for name in listed.split(",") if name.strip())
    said = f" {' '.join(terms_of(description))} "
    return frozenset(name for name in known if f" {' '.join(terms_of(name))} " in said)
