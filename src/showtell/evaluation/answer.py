"""A model answers at gold contexts: answer -> records on disk -> score -> report or table.

It reads each dialogue and speaks at places in it, (number of the dialogue, turn). Kinds of answers:

    moment      P(share) where the agent's turn starts
    text        the model's own words in the place of a text turn, the most likely one each time
    photo       its own photo in the place of a photo, after its own description or tokens
    answer      a whole answer, by ``respond``, beside the gold turns until the user speaks again

Measures may add kinds of their own (``world_answers.py``). All are kept as ``answered.py`` says.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from showtell.batch import to_image, to_pixels
from showtell.data.photos import has_pixels
from showtell.dialogue import AGENT, Dialogue, Photo, Turn
from showtell.evaluation.answered import Answers, Place
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import Decoding, PhotoDialogueModel
from showtell.models.gold import described, is_large, large_products, read_gold, seen_images
from showtell.models.respond import Responder
from showtell.models.writing import Writing
from showtell.progress import Progress, quiet

BATCH, BATCH_OF_LARGE, BATCH_ON_GPU = 16, 48, 128  # dialogues that are answered at once
DROPPED = "turns dropped, the oldest of dialogues too long"
LOST = "photos to compare with that are missing"
Images = Mapping[str, Image.Image]  # of photos, by id
T = TypeVar("T")


# ------------------------------------------------------------------------------------- speaking


def rows_at_once(model: PhotoDialogueModel, *, on_cpu: int = BATCH) -> int:
    """How many dialogues to run at once: a GPU's time goes into the number of calls, and a CPU's
    into reading a large LLM's weights."""
    if model.device.type == "cpu":
        return max(on_cpu, BATCH_OF_LARGE) if is_large(model) else on_cpu
    return BATCH_ON_GPU


def in_parts(
    model: PhotoDialogueModel, cases: Sequence[T], *, what: str, told: Progress, on_cpu: int = BATCH
) -> Iterator[tuple[range, Sequence[T]]]:
    """(their numbers, the cases) of each part that is run at once."""
    size = rows_at_once(model, on_cpu=on_cpu)
    for start in range(0, len(cases), size):
        part = cases[start : start + size]
        yield range(start, start + len(part)), part
        told(what, start + len(part), len(cases))


def likeliest(model: PhotoDialogueModel, max_new_tokens: int | None = None) -> Decoding:
    """The most likely words, in answers and in descriptions."""
    length = max_new_tokens or model.decoding.max_new_tokens
    return replace(model.decoding, temperature=0.0, max_new_tokens=length)


def opened(
    decoder: Decoder,
    contexts: Sequence[tuple[Turn, ...]],
    images: Sequence[Images] | None = None,
    speakers: Sequence[str] | None = None,
) -> Writing:
    """The contexts read (``images``: what is seen of them, None: their photos), and the next turn
    begun by the agent, or by these ``speakers``."""
    if images is None:
        images = [seen_images(decoder.model, turns) for turns in contexts]
    writing, _ = decoder.read_all(contexts, images)
    decoder.open_turn(writing, speakers=speakers)
    return writing


@torch.no_grad()
def write_texts(
    decoder: Decoder,
    contexts: Sequence[tuple[Turn, ...]],
    *,
    seed: int,
    images: Sequence[Images] | None = None,
    speakers: Sequence[str] | None = None,
    what: str = "replies",
    told: Progress = quiet,
) -> list[str]:
    """The next text turn in each dialogue, whether or not it would rather be a photo; the n-th by
    ``seed`` + n. ``images``: what is seen (None: the photos); ``speakers``: whose turn it is."""
    said: list[str] = []
    for numbers, part in in_parts(decoder.model, contexts, what=what, told=told):
        rows = slice(numbers.start, numbers.stop)
        with large_products(decoder.model):
            writing = opened(decoder, part, images and images[rows], speakers and speakers[rows])
            dice = [torch.Generator().manual_seed(seed + n) for n in numbers]
            said += decoder.write_texts(writing, generators=dice)
    return said


@dataclass(frozen=True, kw_only=True)
class OwnPhotos:
    """A model's own photos: its captions, "" where its bridge has tokens without words. No pixels
    from a model without photos, no query from a bridge without one."""

    captions: list[str]
    pixels_N3HW: Tensor | None
    query_NE: Tensor | None


@torch.no_grad()
def own_photos(
    responder: Responder,
    contexts: Sequence[tuple[Turn, ...]],
    *,
    seed: int,
    told: Progress = quiet,
) -> OwnPhotos:
    """The agent's photo after each (described) context: what the model itself announces and
    paints, or, without a painter, the nearest photo of its album; the n-th from ``seed`` + n."""
    model, decoder = responder.model, responder.decoder
    captions: list[str] = []
    photos, queries = [], []
    for numbers, part in in_parts(model, contexts, what="own photos", told=told):
        spans = decoder.announce(opened(decoder, part))
        captions += spans.captions
        query_NE = model.bridge.query(spans) if model.bridge.query_width else None
        queries += [] if query_NE is None else [query_NE]
        if model.painter is not None:
            seeds = [seed + n for n in numbers]
            photos.append(responder.paint_spans(spans, seeds=seeds).cpu())
        elif (album := responder.album) is not None and query_NE is not None:
            found = [album.nearest(one_E[None], cut_off=-2.0) for one_E in query_NE]
            photos.append(torch.stack([to_pixels(hit.image) for hit in found if hit.image]))
    return OwnPhotos(
        captions=captions,
        pixels_N3HW=torch.cat(photos) if photos else None,
        query_NE=torch.cat(queries) if queries else None,
    )


def paint_captions(
    responder: Responder, captions: Sequence[str], *, seed: int, told: Progress = quiet
) -> Tensor:
    """(N, 3, H, W), the n-th from ``seed`` + n."""
    parts = in_parts(responder.model, captions, what="painting", told=told, on_cpu=32)
    return torch.cat(
        [
            responder.paint_captions(list(part), seeds=[seed + n for n in numbers]).cpu()
            for numbers, part in parts
        ]
    )


# ------------------------------------------------------------------------------------ any data


def answer_dialogues(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    folder: Path,
    seed: int,
    turns: bool,
    whole: bool,
    most: int | None,
    told: Progress = quiet,
) -> Answers:
    """What any data is measured by, at every turn of the agent after the first (``turns``), and
    ``whole`` answers to what the user said last; of each kind the first ``most`` in an order that
    is the same for every model (None: all). P(share) and -log p are of all turns."""
    answers = Answers(dialogues=dialogues, folder=folder, facts={"seed": seed})
    responder = Responder(Decoder(model, decoding=likeliest(model)))
    if turns:
        read = described(model, dialogues)
        add_moments(answers, model, read)
        places = [answer.place for answer in answers.of("moment") if answer.place[1] > 0]
        add_texts(answers, model, read, places, seed=seed, most=most, told=told)
        if model.painter is not None:
            add_photos(answers, responder, read, places, seed=seed, most=most, told=told)
    if whole:
        places = sampled([(b, k) for b, d in enumerate(dialogues) for k in starts(d.turns)], most)
        add_answers(answers, responder, places, seed=seed, told=told)
    return answers


def sampled(places: list[Place], most: int | None) -> list[Place]:
    if most is None or most >= len(places):
        return places
    return random.Random(0).sample(places, most)


def starts(turns: Sequence[Turn]) -> list[int]:
    """The agent's turns in which it begins to answer."""
    pairs = itertools.pairwise(turn.speaker for turn in turns)
    return [k for k, (before, now) in enumerate(pairs, start=1) if now == AGENT != before]


def gold_answer(dialogue: Dialogue, start: int) -> tuple[str | Photo, ...]:
    """The elements of the agent's turns from ``start`` until the user speaks."""
    said = itertools.takewhile(lambda turn: turn.speaker == AGENT, dialogue.turns[start:])
    return tuple(element for turn in said for element in turn.elements)


def add_moments(
    answers: Answers, model: PhotoDialogueModel, read: Sequence[Dialogue], *, batch_size: int = 8
) -> None:
    """P(share) at every start of an agent's turn, and -log p of each text turn with its tokens,
    from one pass over each (described) dialogue; sums over tokens and words among the facts."""
    gold = read_gold(model, read, batch_size=batch_size)
    counted = gold.turn_nll()
    moments = (gold.dialogue_M, gold.turn_M, gold.p_share_M, gold.shared_M)
    for b, k, chance, shared in zip(*(each.tolist() for each in moments), strict=True):
        if read[b].turns[k].speaker != AGENT:
            continue  # of a model that speaks for both
        said = {"p_share": chance}
        if (b, k) in counted:
            said |= dict(zip(("nll", "tokens"), counted[b, k], strict=True))
        answers.add("moment", (b, k), said, {"share": shared})
    nll_B, words_B = gold.word_nll()
    answers.facts |= {
        "token_nll": gold.total_nll / max(1, gold.num_tokens),
        "num_tokens": gold.num_tokens,
        "word_nll_B": nll_B.tolist(),
        "words_B": words_B.tolist(),
        "dropped_turns": {
            dialogue.id: row.dropped_turns
            for dialogue, row in zip(read, gold.rows, strict=True)
            if row.dropped_turns
        },
    }
    answers.counts[DROPPED] = gold.dropped_turns


def add_texts(
    answers: Answers,
    model: PhotoDialogueModel,
    read: Sequence[Dialogue],
    places: Sequence[Place],
    *,
    seed: int,
    most: int | None = None,
    max_new_tokens: int | None = None,
    told: Progress = quiet,
) -> None:
    """The most likely words in the places of text turns, by whoever speaks there."""
    dialogues = answers.dialogues
    cases = sampled([(b, k) for b, k in places if dialogues[b].turns[k].text.strip()], most)
    said = write_texts(
        Decoder(model, decoding=likeliest(model, max_new_tokens)),
        [read[b].turns[:k] for b, k in cases],
        seed=seed,
        speakers=[dialogues[b].turns[k].speaker for b, k in cases],
        told=told,
    )
    known = {answer.place: answer.said for answer in answers.of("moment")}
    for (b, k), text in zip(cases, said, strict=True):
        nll = {n: v for n, v in known.get((b, k), {}).items() if n != "p_share"}
        gold = {"elements": [dialogues[b].turns[k].text]}
        answers.add("text", (b, k), {"elements": [text], **nll}, gold)


def add_photos(
    answers: Answers,
    responder: Responder,
    read: Sequence[Dialogue],
    places: Sequence[Place],
    *,
    seed: int,
    most: int | None = None,
    told: Progress = quiet,
) -> OwnPhotos:
    """The model's own photos in the places of the agent's, where there is one to compare with."""
    dialogues = answers.dialogues
    found = [(b, k) for b, k in places if dialogues[b].turns[k].photos]
    cases = [(b, k) for b, k in found if has_pixels(dialogues[b].turns[k].photos[0])]
    answers.counts[LOST] += len(found) - len(cases)
    cases = sampled(cases, most)
    own = own_photos(responder, [read[b].turns[:k] for b, k in cases], seed=seed, told=told)
    for number, (b, k) in enumerate(cases):
        photo = dialogues[b].turns[k].photos[0]
        wanted = {"elements": [answers.keep_gold(photo, f"{number:06}")], "caption": photo.caption}
        shown = []
        if own.pixels_N3HW is not None:
            image = to_image(own.pixels_N3HW[number])
            shown.append(answers.keep_photo(image, "photos", f"{number:06}"))
        said = {"elements": shown, "caption": own.captions[number]}
        answers.add("photo", (b, k), said, wanted)
    return own


def add_answers(
    answers: Answers,
    responder: Responder,
    places: Sequence[Place],
    *,
    seed: int,
    told: Progress = quiet,
) -> None:
    """Whole answers, timed: the model sees the photos itself, or its captioner does."""
    for number, (b, k) in enumerate(places):
        context = answers.dialogues[b].turns[:k]
        name = f"answer-{number:06}"
        wanted: list[Any] = []
        for element in gold_answer(answers.dialogues[b], k):
            if isinstance(element, str):
                wanted.append(element)
            elif has_pixels(element):
                wanted.append(answers.keep_gold(element, f"{name}-{len(wanted)}"))
            else:
                answers.counts[LOST] += 1
        images = seen_images(responder.model, context)
        began = time.perf_counter()
        reply = responder.respond(context, images=images, seed=seed + number)
        seconds = time.perf_counter() - began
        said: list[Any] = []
        for element in (element for turn in reply.turns for element in turn.elements):
            if isinstance(element, str):
                said.append(element)
            elif element.id in reply.images:  # a model without a painter has only words for it
                image = reply.images[element.id]
                said.append(answers.keep_photo(image, "photos", f"{name}-{len(said)}"))
        answers.counts[DROPPED] += reply.dropped_turns
        made = {"elements": said, "seconds": seconds}
        answers.add("answer", (b, k), made, {"elements": wanted})
        told("answers", number + 1, len(places))
