"""What a model says on PhotoChat: replies and descriptions, greedy, after the gold context."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

import torch
from transformers import GenerationConfig

from showtell.dialogue import Dialogue, Photo, Turn
from showtell.errors import MissingDependency
from showtell.metrics.intervals import Value, mean_value
from showtell.metrics.text import distinct_n, text_values
from showtell.models.dialogue_model import PhotoDialogueModel

MAX_NEW_TOKENS = 40
Told = Callable[[str, int, int], None]


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


def reply_report(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    seed: int,
    count: int | None,
    told: Told = quiet,
) -> dict[str, Value]:
    """``text.psdg.*`` and ``text.standard.*`` of ``count`` text turns (None: of all)."""
    turns = [
        (dialogue.turns[:k], turn)
        for dialogue in dialogues
        for k, turn in enumerate(dialogue.turns)
        if k > 0 and turn.text.strip() and not turn.photos
    ]
    if count is not None and count < len(turns):
        turns = random.Random(0).sample(turns, count)  # the same for every model and seed
    said = replies(model, turns, told=told)
    gold = [turn.text for _, turn in turns]
    values: dict[str, Value] = {}
    for protocol in ("psdg", "standard"):
        try:
            values |= text_values(said, gold, protocol=protocol, seed=seed)
        except MissingDependency as error:
            values[f"text.{protocol}.bleu1"] = Value(
                value=None, low=None, high=None, n=0, protocol=protocol, note=f"not run: {error}"
            )
    values["text.distinct2"] = Value(
        value=distinct_n(said, 2), low=None, high=None, n=len(said), protocol="photochat"
    )
    return values


def replies(
    model: PhotoDialogueModel,
    turns: Sequence[tuple[tuple[Turn, ...], Turn]],
    *,
    told: Told = quiet,
) -> list[str]:
    """A greedy text reply to each context, by the speaker of the gold turn."""
    renderer = model.renderer
    prompts = [[*_context(model, context), renderer.roles[turn.speaker]] for context, turn in turns]
    return _greedy(model, prompts, stop=renderer.end, told=told, what="replies")


def description_report(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    seed: int,
    told: Told = quiet,
) -> dict[str, Value]:
    """``description.object_*``: the objects named at the gold moment against the gold ones."""
    renderer = model.renderer
    prompts, photos = [], []
    for dialogue in dialogues:
        for k, turn in enumerate(dialogue.turns):
            if k > 0 and turn.elements and isinstance(turn.elements[0], Photo):
                context = _context(model, dialogue.turns[:k])
                prompts.append([*context, renderer.roles[turn.speaker], renderer.img])
                photos.append(turn.elements[0])
    said = _greedy(model, prompts, stop=renderer.close, told=told, what="descriptions")
    pairs = [
        (objects(text), objects(photo.caption)) for text, photo in zip(said, photos, strict=True)
    ]
    pairs = [(named, shown) for named, shown in pairs if shown]
    scores = {
        "precision": [len(named & shown) / max(1, len(named)) for named, shown in pairs],
        "recall": [len(named & shown) / len(shown) for named, shown in pairs],
        "f1": [2 * len(named & shown) / (len(named) + len(shown)) for named, shown in pairs],
    }
    return {
        f"description.object_{name}": mean_value(
            found, seed=seed, protocol="photochat", note="greedy, at gold moments, mean over photos"
        )
        for name, found in scores.items()
    }


def objects(description: str) -> frozenset[str]:
    """``"Objects in the photo: Plate, Salad"`` -> plate, salad."""
    _, mark, listed = description.rpartition("Objects in the photo:")
    if not mark:
        return frozenset()
    return frozenset(name.strip().lower() for name in listed.split(",") if name.strip())


def _context(model: PhotoDialogueModel, turns: Sequence[Turn]) -> list[int]:
    """The ids of a context, its oldest turns left out if an answer would not fit behind it."""
    ids = model.renderer.render_turns(turns).ids
    room = int(model.language.model.config.max_position_embeddings) - MAX_NEW_TOKENS - 2
    return ids[-room:]


@torch.no_grad()
def _greedy(
    model: PhotoDialogueModel,
    prompts: Sequence[Sequence[int]],
    *,
    stop: int,
    told: Told,
    what: str,
    batch_size: int = 50,
) -> list[str]:
    """The most likely words after each prompt up to ``stop``; never one of our marks."""
    tokenizer = model.language.tokenizer
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=MAX_NEW_TOKENS,
        eos_token_id=stop,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=sorted((model.renderer.special | {tokenizer.pad_token_id}) - {stop}),
        begin_suppress_tokens=[stop],
    )
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    out = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        length = max(len(prompts[index]) for index in chosen)
        ids_BT = torch.full((len(chosen), length), tokenizer.pad_token_id)
        mask_BT = torch.zeros_like(ids_BT)
        for row, index in enumerate(chosen):
            ids_BT[row, length - len(prompts[index]) :] = torch.tensor(list(prompts[index]))
            mask_BT[row, length - len(prompts[index]) :] = 1
        said_BT = model.language.model.generate(
            input_ids=ids_BT.to(model.device),
            attention_mask=mask_BT.to(model.device),
            generation_config=settings,
        )[:, length:]
        for row, index in enumerate(chosen):
            words = list(itertools.takewhile(lambda token: token != stop, said_BT[row].tolist()))
            out[index] = tokenizer.decode(words, skip_special_tokens=True).strip()
        told(what, start + len(chosen), len(order))
    return out
