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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.data.photochat import (
    HELD_OUT,
    MomentPosition,
    counts_of,
    moment_positions,
    read_photochat,
    split_held_out,
)
from showtell.dialogue import Dialogue, Photo
from showtell.errors import MissingDependency
from showtell.evaluation.answer import add_texts, opened, rows_at_once
from showtell.evaluation.answered import Answers
from showtell.evaluation.score import Measured, moment_rows
from showtell.metrics.intervals import Value, mean_value
from showtell.metrics.moment import (
    best_threshold,
    keyword_score,
    tagged_text,
    tfidf_moment_scores,
)
from showtell.metrics.text import distinct_n, text_values
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import share_chances
from showtell.progress import Progress, quiet
from showtell.prompt import Rendered, Renderer

REPLIES, MAX_NEW_TOKENS = 1000, 40
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
    values = moment_report(model, dialogues, seed=seed)
    values |= keyword_baseline(dialogues, seed=seed)
    values |= lexical_baseline(path, dialogues, seed=seed)
    places = [
        (b, k)
        for b, dialogue in enumerate(dialogues)
        for k, turn in enumerate(dialogue.turns)
        if k > 0 and not turn.photos
    ]
    add_texts(
        answers,
        model,
        dialogues,
        places,
        seed=seed,
        most=most,
        max_new_tokens=MAX_NEW_TOKENS,
        told=told,
    )
    values |= reply_report(answers, seed=seed)
    add_descriptions(answers, model, told=told)
    values |= description_report(answers, seed=seed)
    answers.write()
    counts = {**counts_of(dialogues), "replies": len(answers.of("text"))}
    return Measured(values=values, counts=counts)


# ---------------------------------------------------------------------------------- the moment


def moment_report(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], *, seed: int
) -> dict[str, Value]:
    """``moment.*`` with the threshold of the model's card, and ``text.perplexity``."""
    found = share_chances(model, rendered_moments(model.renderer, dialogues))
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
        low=None,
        high=None,
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
        kept = [place for place in row.moments if place.turn in asked]
        rows.append(replace(row, moments=kept))
    return rows


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


def _positions(dialogues: Sequence[Dialogue]) -> list[MomentPosition]:
    return [position for dialogue in dialogues for position in moment_positions(dialogue)]


def _baseline(
    name: str,
    dialogues: Sequence[Dialogue],
    scores_N: Any,
    *,
    threshold: float,
    seed: int,
    wanted: Sequence[str] = ("f1",),
) -> dict[str, Value]:
    """``baseline.<name>.*`` on all positions."""
    prefix = f"baseline.{name}"
    values = moment_rows(
        [int(position.shares) for position in _positions(dialogues)],
        scores_N,
        threshold=threshold,
        seed=seed,
        groups_N=[b for b, dialogue in enumerate(dialogues) for _ in moment_positions(dialogue)],
        prefix=prefix,
        protocol=PHOTOCHAT,
    )
    return {f"{prefix}.{k}": values[f"{prefix}.{k}"] for k in wanted if f"{prefix}.{k}" in values}


def keyword_baseline(dialogues: Sequence[Dialogue], *, seed: int) -> dict[str, Value]:
    """``baseline.keyword.f1``: share when the last turn speaks of photos."""
    scores_N = [keyword_score(position.context) for position in _positions(dialogues)]
    return _baseline("keyword", dialogues, scores_N, threshold=1.0, seed=seed)


def lexical_baseline(
    path: Path | None, dialogues: Sequence[Dialogue], *, seed: int
) -> dict[str, Value]:
    """``baseline.tfidf.*`` on the same positions: TF-IDF + logistic regression.

    It needs train.jsonl beside the evaluated file; without that its row is empty and says so.
    """
    train = path.parent / "train.jsonl" if path is not None else None
    if train is None or not train.is_file() or train == path:
        return _not_run("train.jsonl is not beside the evaluated file")
    known = list(read_photochat(train, skip_bad=True))
    rest, held = split_held_out(known, count=min(HELD_OUT, len(known) // 3))
    learn, tune, test = _positions(rest), _positions(held), _positions(dialogues)
    try:
        scores_N = tfidf_moment_scores(
            [tagged_text(position.context) for position in learn],
            [int(position.shares) for position in learn],
            [tagged_text(position.context) for position in tune + test],
        )
    except MissingDependency as error:
        return _not_run(str(error))
    chosen = best_threshold([int(p.shares) for p in tune], scores_N[: len(tune)])
    return _baseline(
        "tfidf",
        dialogues,
        scores_N[len(tune) :],
        threshold=chosen.threshold,
        seed=seed,
        wanted=("f1", "precision", "recall", "auprc"),
    )


def _not_run(reason: str, name: str = "baseline.tfidf.f1") -> dict[str, Value]:
    return {
        name: Value(
            value=None, low=None, high=None, n=0, protocol=PHOTOCHAT, note=f"not run: {reason}"
        )
    }


# ----------------------------------------------------------------------------------- the words


def reply_report(answers: Answers, *, seed: int) -> dict[str, Value]:
    """``text.psdg.*`` and ``text.standard.*`` of the replies; distinct-2."""
    said = answers.texts("text")
    gold = [answer.wanted["elements"][0] for answer in answers.of("text")]
    values: dict[str, Value] = {}
    for protocol in ("psdg", "standard"):
        try:
            values |= text_values(said, gold, protocol=protocol, seed=seed)
        except MissingDependency as error:
            values |= _not_run(str(error), f"text.{protocol}.bleu1")
    values["text.distinct2"] = Value(
        value=distinct_n(said, 2), low=None, high=None, n=len(said), protocol=PHOTOCHAT
    )
    return values


@torch.no_grad()
def add_descriptions(
    answers: Answers, model: PhotoDialogueModel, *, told: Progress = quiet
) -> None:
    """Kind "description": the words after [IMG] in the place of each gold photo."""
    likeliest = replace(model.decoding, caption_temperature=0.0, max_new_tokens=MAX_NEW_TOKENS)
    decoder = Decoder(model, decoding=likeliest)
    places = [
        (b, k)
        for b, dialogue in enumerate(answers.dialogues)
        for k, turn in enumerate(dialogue.turns)
        if k > 0 and turn.elements and isinstance(turn.elements[0], Photo)
    ]
    size = rows_at_once(model)
    for start in range(0, len(places), size):
        part = places[start : start + size]
        turns = [answers.dialogues[b].turns for b, _ in part]
        contexts = [own[:k] for own, (_, k) in zip(turns, part, strict=True)]
        speakers = [own[k].speaker for own, (_, k) in zip(turns, part, strict=True)]
        writing = opened(decoder, contexts, [{}] * len(part), speakers)
        said = decoder.announce(writing).captions
        for place, text, own in zip(part, said, turns, strict=True):
            gold = {"elements": [own[place[1]].photos[0].caption]}
            answers.add("description", place, {"elements": [text]}, gold)
        told("descriptions", start + len(part), len(places))


def description_report(answers: Answers, *, seed: int) -> dict[str, Value]:
    """``description.object_*``: the objects named at the gold moment against the gold ones."""
    pairs = [
        (objects(answer.text), objects(answer.wanted["elements"][0]))
        for answer in answers.of("description")
    ]
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


def objects(description: str) -> frozenset[str]:
    """``"Objects in the photo: Plate, Salad"`` -> plate, salad."""
    _, mark, listed = description.rpartition("Objects in the photo:")
    if not mark:
        return frozenset()
    return frozenset(name.strip().lower() for name in listed.split(",") if name.strip())
