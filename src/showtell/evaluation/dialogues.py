"""How a model does on any data: what it says and paints at gold contexts, scored by protocols.

The model reads each dialogue and answers it; the answers are predictions as ``showtell score``
takes them, and are scored by the same code (``metrics/rows.py``). With ``out`` they stay on
disk (``predictions.py``).

At every turn of the agent after the first, the context being gold:

    P(share), and -log p of the gold words, from one pass over the dialogue
    a text turn: the model's own words, the most likely one each time
    a photo turn: the model's own photo, after its own description or tokens

Protocols that score whole answers (minigpt5, mmdialog) get ``respond``'s answer to what the user
said last, beside the agent's gold turns up to the user's next. Where a form leaves one turn to say
(``papers/forms.py``), that is the answer.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from showtell.batch import to_image
from showtell.data.photos import has_pixels, save_photo
from showtell.dialogue import AGENT, Dialogue, Turn
from showtell.errors import DataError
from showtell.evaluation.predictions import Answers, gold_path
from showtell.metrics.answers import Record, read_records
from showtell.metrics.intervals import Value
from showtell.metrics.photo_rows import put_photos, put_relevance
from showtell.metrics.protocols import protocol_named
from showtell.metrics.rows import Encoders, Rows
from showtell.metrics.text import perplexity_value
from showtell.metrics.text_rows import put_decisions, put_texts
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described, read_gold, seen_images
from showtell.models.respond import Responder
from showtell.runtime import Progress as Told

REPLIES = 1000
BATCH = 16  # contexts that are answered at once
WHOLE = ("minigpt5", "mmdialog")  # protocols of whole answers
PROTOCOLS = ("psdg", "standard")


# ------------------------------------------------------------------------------------ the answers


@torch.no_grad()
def answer_dialogues(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    folder: Path,
    seed: int,
    turns: bool,
    whole: bool,
    most: int | None,
    told: Told,
) -> Answers:
    """Everything that the protocols score; texts and photos are the first ``most`` of each kind in
    an order that is the same for every model (None: all)."""
    answers = Answers(folder=folder)
    responder = Responder(Decoder(model, decoding=replace(model.decoding, temperature=0.0)))
    if turns:
        _answer_turns(responder, dialogues, answers, seed=seed, most=most, told=told)
    if whole:
        _answer_whole(responder, dialogues, answers, seed=seed, most=most, told=told)
    return answers


def _answer_turns(
    responder: Responder,
    dialogues: Sequence[Dialogue],
    answers: Answers,
    *,
    seed: int,
    most: int | None,
    told: Told,
) -> None:
    model = responder.model
    read = read_gold(model, described(model, dialogues))
    answers.counts["turns dropped, the oldest of dialogues too long"] = read.dropped_turns
    later = read.later_M
    places = list(zip(read.dialogue_M[later].tolist(), read.turn_M[later].tolist(), strict=True))
    shared, p_share = read.shared_M[later].tolist(), read.p_share_M[later].tolist()
    for (b, k), share, chance in zip(places, shared, p_share, strict=True):
        chances, gold = {"elements": [], "p_share": chance}, {"elements": [], "share": share}
        answers.moments.append(answers.pair(dialogues[b], k, chances, gold))
    nll_of = {place: nll for place, nll in read.turn_nll().items() if place[1]}
    answers.nll = [(dialogues[b].id, nll) for (b, _), nll in nll_of.items()]
    cases = [(b, k) for b, k in places if dialogues[b].turns[k].text.strip()]
    sampled = _sampled(cases, most)
    texts = _texts(responder, [dialogues[b].turns[:k] for b, k in sampled], seed=seed)
    for number, ((b, k), text) in enumerate(zip(sampled, texts, strict=True)):
        nll, tokens = nll_of.get((b, k), (None, None))
        said: dict[str, Any] = {"elements": [text]} | (
            {"nll": nll, "tokens": tokens} if tokens else {}
        )
        answers.texts.append(
            answers.pair(dialogues[b], k, said, {"elements": [dialogues[b].turns[k].text]})
        )
        told("replies", number + 1, len(sampled))
    if model.painter is None:
        return
    found = [(b, k) for b, k in places if dialogues[b].turns[k].photos]
    cases = [(b, k) for b, k in found if has_pixels(dialogues[b].turns[k].photos[0])]
    answers.counts["photos to compare with that are missing"] = len(found) - len(cases)
    for number, (b, k) in enumerate(_sampled(cases, most)):
        photo = dialogues[b].turns[k].photos[0]
        painted = _own_photo(responder, dialogues[b].turns[:k], seed=seed + number)
        path = save_photo(painted, answers.folder / "photos" / f"{number:06}.png")
        true = gold_path(photo, answers.folder / "references" / f"{number:06}.png")
        elements: list[Any] = [photo.caption] if photo.caption.strip() else []
        elements.append({"photo": true})
        answers.photos.append(
            answers.pair(
                dialogues[b], k, {"elements": [{"photo": str(path)}]}, {"elements": elements}
            )
        )
        told("own photos", number + 1, min(len(cases), most or len(cases)))


def _answer_whole(
    responder: Responder,
    dialogues: Sequence[Dialogue],
    answers: Answers,
    *,
    seed: int,
    most: int | None,
    told: Told,
) -> None:
    cases = [
        (b, start, stop)
        for b, dialogue in enumerate(dialogues)
        for start, stop in _runs(dialogue.turns)
    ]
    for number, (b, start, stop) in enumerate(_sampled(cases, most)):
        turns = dialogues[b].turns
        name = f"{number:06}"
        wanted: list[Any] = []
        for element in (element for turn in turns[start:stop] for element in turn.elements):
            if isinstance(element, str):
                wanted.append(element)
            elif has_pixels(element):
                place = answers.folder / "references" / f"answer-{name}-{len(wanted)}.png"
                wanted.append({"photo": gold_path(element, place)})
            else:
                answers.counts["photos to compare with that are missing"] += 1
        context = turns[:start]
        images = seen_images(responder.model, context)
        reply = responder.respond(context, images=images, seed=seed + number)
        answers.counts["turns dropped, the oldest of dialogues too long"] += reply.dropped_turns
        said: list[Any] = []
        for element in (element for turn in reply.turns for element in turn.elements):
            if isinstance(element, str):
                said.append(element)
            elif element.id in reply.images:
                place = answers.folder / "photos" / f"answer-{name}-{len(said)}.png"
                said.append({"photo": str(save_photo(reply.images[element.id], place))})
        answers.whole.append(
            answers.pair(
                dialogues[b], start, {"elements": said}, {"elements": wanted}, kind="answer"
            )
        )
        told("answers", number + 1, min(len(cases), most or len(cases)))


def _runs(turns: Sequence[Turn]) -> list[tuple[int, int]]:
    """[start, stop) of the agent's neighbouring turns, after the first of a dialogue."""
    runs, start = [], 0
    for speaker, group in itertools.groupby(turns, key=lambda turn: turn.speaker):
        stop = start + sum(1 for _ in group)
        if speaker == AGENT and start > 0:
            runs.append((start, stop))
        start = stop
    return runs


def _sampled(cases: list, most: int | None) -> list:
    return cases if most is None or most >= len(cases) else random.Random(0).sample(cases, most)


def _texts(
    responder: Responder, contexts: Sequence[tuple[Turn, ...]], *, seed: int
) -> Iterator[str]:
    """The model's own text turn after each context, whether or not it would rather share a photo;
    the n-th by seed + n."""
    for start in range(0, len(contexts), BATCH):
        part = contexts[start : start + BATCH]
        images = [seen_images(responder.model, context) for context in part]
        seeds = range(seed + start, seed + start + len(part))
        told = responder.describe_all(part, images)
        yield from responder.decoder.texts_after(told, images, seeds)


def _own_photo(responder: Responder, context: tuple[Turn, ...], *, seed: int) -> Image.Image:
    decoder, images = responder.decoder, [seen_images(responder.model, context)]
    writing, _ = decoder.read_all(responder.describe_all([context], images), images)
    decoder.open_turn(writing)
    return to_image(responder.paint_spans(decoder.announce(writing), seeds=[seed])[0])


# ------------------------------------------------------------------------------------ the whole


def evaluate_dialogues(
    model: PhotoDialogueModel,
    dialogues: Iterable[Dialogue],
    *,
    protocols: Sequence[str] = PROTOCOLS,
    encoders: Encoders = Encoders(),  # noqa: B008 (frozen)
    seed: int,
    most: int | None,
    out: Path | None,
    told: Told,
) -> tuple[dict[str, Value], dict[str, int], tuple[str, ...], dict[str, str]]:
    """(measures, counts, notes, encoders); each dialogue has its photos in turns of their own.

    Raises DataError where there is nothing that the agent says after the first turn.
    """
    dialogues = list(dialogues)
    chosen = [protocol_named(name) for name in protocols]
    single = all(map(_is_task, dialogues))
    whole = [protocol for protocol in chosen if protocol.name in WHOLE and not single]
    said = sum(turn.speaker == AGENT for d in dialogues for turn in d.turns[1:])
    if not said or (len(whole) == len(chosen) and not any(_runs(d.turns) for d in dialogues)):
        raise DataError(
            f"in {len(dialogues):,} dialogues the agent has nothing to answer; wanted turns of the "
            "agent after others'. Choose another --form or --protocol."
        )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if out is None else out.resolve()
        answers = answer_dialogues(
            model,
            dialogues,
            folder=folder,
            seed=seed,
            turns=len(whole) < len(chosen),
            whole=bool(whole),
            most=most,
            told=told,
        )
        if out is not None:
            answers.write()
        values: dict[str, Value] = {}
        notes: list[str] = []
        used: dict[str, str] = {}
        if answers.nll:
            values["text.perplexity"] = perplexity_value(
                *zip(*(nll for _, nll in answers.nll), strict=True),
                seed=seed,
                groups=[name for name, _ in answers.nll],
                note="the agent's text turns, gold history",
            )
        for number, protocol in enumerate(chosen):
            kinds = {"texts": answers.texts, "photos": answers.photos}
            for kind, pairs in ({"whole": answers.whole} if protocol in whole else kinds).items():
                if not pairs:
                    continue
                rows = Rows(protocol, _matched(pairs), encoders=encoders, seed=seed, told=told)
                if kind != "photos":
                    put_texts(rows)
                if kind != "texts":
                    put_photos(rows)
                if kind == "whole":
                    put_relevance(rows)
                values |= rows.values
                notes += rows.notes()
                used |= rows.used
            if number == 0 and len({wanted["share"] for _, wanted in answers.moments}) == 2:
                rows = Rows(protocol, _matched(answers.moments), seed=seed, told=told)
                put_decisions(rows, model.decoding.share_threshold)
                values |= rows.values
            notes.append(f"protocol {protocol.name}: {protocol.source}")
    counts = {
        "dialogues": len({d.id for d in dialogues}),
        "replies": len(answers.texts),
        "own photos": len(answers.photos),
        "answers": len(answers.whole),
        **{name: n for name, n in answers.counts.items() if n},
    }
    notes.append("the model's most likely words; contexts are gold")
    if most is not None:
        notes.append(f"at most {most:,} texts, photos and answers, a fixed sample of them")
    return values, counts, tuple(dict.fromkeys(notes)), used


def _is_task(dialogue: Dialogue) -> bool:
    """Whether one turn is to be said, the last."""
    said = [turn.speaker == AGENT for turn in dialogue.turns]
    return sum(said) == 1 and said[-1]


def _matched(pairs: Sequence[tuple[dict, dict]]) -> list[tuple[Record, Record]]:
    sides = [
        list(read_records([pair[side] for pair in pairs], name=name))
        for side, name in enumerate(("prediction", "reference"))
    ]
    return list(zip(*sides, strict=True))
