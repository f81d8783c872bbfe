"""What a model is asked on dialogues of the photo world, whose turns and photos say what they hold.

Places are (number of a dialogue, turn), and the same for all systems.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from showtell.batch import to_image, to_pixels
from showtell.data.photos import photo_image
from showtell.dialogue import AGENT, USER, Dialogue, Photo
from showtell.evaluation.answer import (
    add_answers,
    add_moments,
    add_photos,
    add_texts,
    gold_answer,
    rows_at_once,
    write_texts,
)
from showtell.evaluation.answered import Answers, Place
from showtell.metrics.retrieval import ranks
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described, seen_images
from showtell.models.respond import OpenAlbum, Responder
from showtell.progress import Progress, quiet
from showtell.prompt import Renderer


def text_places(dialogues: Sequence[Dialogue], *, seed: int, most: int = 400) -> list[Place]:
    """At most ``most`` of the agent's text turns after the first, drawn by ``seed``."""
    places = [
        (b, k)
        for b, dialogue in enumerate(dialogues)
        for k, turn in enumerate(dialogue.turns)
        if k and turn.speaker == AGENT and turn.text
    ]
    random.Random(seed).shuffle(places)
    return places[:most]


def photo_places(dialogues: Sequence[Dialogue]) -> list[Place]:
    """The agent's photos."""
    return [
        (b, k)
        for b, dialogue in enumerate(dialogues)
        for k, turn in enumerate(dialogue.turns)
        if turn.speaker == AGENT and turn.photos
    ]


def seeing_places(dialogues: Sequence[Dialogue]) -> dict[Place, Photo]:
    """The agent's turns that name something visible in the user's last photo, and that photo."""
    found = {}
    for b, dialogue in enumerate(dialogues):
        for k, turn in enumerate(dialogue.turns):
            if turn.speaker != AGENT or not turn.labels.get("named"):
                continue
            seen = [p for t in dialogue.turns[:k] if t.speaker == USER for p in t.photos]
            if seen and turn.labels.get("about", seen[-1].id) == seen[-1].id:
                found[b, k] = seen[-1]
    return found


def answer_places(dialogues: Sequence[Dialogue], *, seed: int, most: int) -> list[Place]:
    """Where the agent begins to answer, one for each of the first ``most`` dialogues: the first
    answer that holds a photo, else one drawn by ``seed``."""
    places = []
    for b, dialogue in enumerate(dialogues[:most]):
        starts = [
            k
            for k, turn in enumerate(dialogue.turns)
            if k and turn.speaker == AGENT and dialogue.turns[k - 1].speaker != AGENT
        ]
        photos = [k for k in starts if any(isinstance(e, Photo) for e in gold_answer(dialogue, k))]
        if starts:
            drawn = random.Random(f"{seed}/{b}").choice(starts)
            places.append((b, photos[0] if photos else drawn))
    return places


def photos_at(dialogues: Sequence[Dialogue], places: Sequence[Place]) -> list[Photo]:
    return [dialogues[b].turns[k].photos[0] for b, k in places]


def drawn(photos: Sequence[Photo]) -> Tensor:
    """The photos' own pixels, (N, 3, H, W)."""
    return torch.stack([to_pixels(photo_image(photo)) for photo in photos])


# -------------------------------------------------------------------------------------- answers


@torch.no_grad()
def world_answers(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    folder: Path,
    seed: int,
    most_texts: int = 400,
    most_answers: int = 0,
    controls: bool = False,
    album: OpenAlbum | None = None,
    told: Progress = quiet,
) -> Answers:
    """What is measured in the world: moments, texts, photos, ``most_answers`` whole answers, and

    seeing      the reply where the gold one names something of a photo just seen, as in a chat
    blind       the same to a grey photo; "captioned": to its short gold caption (``controls``)
    painted     the agent's photos from their gold captions (``controls``)
    """
    responder = Responder(Decoder(model), album=album)
    answers = Answers(dialogues=dialogues, folder=folder)
    told("moments", 0, 1)
    read = described(model, dialogues)  # once: a captioner takes its time
    add_moments(answers, model, read, batch_size=rows_at_once(model, on_cpu=32))
    _add_seeing(answers, responder.decoder, read, seed=seed, controls=controls, told=told)
    places = text_places(dialogues, seed=seed, most=most_texts)
    add_texts(answers, model, read, places, seed=seed, told=told)
    places = photo_places(dialogues)
    if controls and model.painter is not None and places:
        photos = photos_at(dialogues, places)
        painted_N3HW = paint_captions(
            responder, [photo.caption for photo in photos], seed=seed, told=told
        )
        for number, (place, pixels) in enumerate(zip(places, painted_N3HW, strict=True)):
            image = answers.keep_photo(to_image(pixels), "painted", f"{number:06}")
            answers.add("painted", place, {"elements": [image]})
        answers.made["painted"] = painted_N3HW
    own = add_photos(answers, responder, read, places, seed=seed, told=told)
    if own.pixels_N3HW is not None:
        answers.made["photo"] = own.pixels_N3HW
    if own.query_NE is not None:
        gold_N3HW = drawn(photos_at(dialogues, places))
        keys_NE = torch.cat([model.bridge.photo_keys(part) for part in gold_N3HW.split(64)])
        found = ranks((own.query_NE @ keys_NE.mT).cpu(), range(len(keys_NE))).tolist()
        for answer, rank in zip(answers.of("photo"), found, strict=True):
            answer.said["rank"] = rank
    places = answer_places(dialogues, seed=seed, most=most_answers)
    add_answers(answers, responder, places, seed=seed, told=told)
    answers.facts |= {
        "seed": seed,
        "most_texts": most_texts,
        "threshold": model.decoding.share_threshold,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    answers.write()
    return answers


def _add_seeing(
    answers: Answers,
    decoder: Decoder,
    read: Sequence[Dialogue],
    *,
    seed: int,
    controls: bool,
    told: Progress,
) -> None:
    cases, model = seeing_places(answers.dialogues), decoder.model
    contexts = [read[b].turns[:k] for b, k in cases]
    said = {"seeing": write_texts(decoder, contexts, seed=seed, what="comments", told=told)}
    if controls and model.photo_encoder is not None:
        grey = Image.new("RGB", (64, 64), (128, 128, 128))
        images = [
            {**seen_images(model, turns), photo.id: grey}
            for turns, photo in zip(contexts, cases.values(), strict=True)
        ]
        said["blind"] = write_texts(
            decoder, contexts, seed=seed, images=images, what="blind replies", told=told
        )
    if controls:
        config = replace(decoder.renderer.config, perceive="caption")
        told_of = Decoder(model, renderer=Renderer(model.language.tokenizer, config))
        gold = [answers.dialogues[b].turns[:k] for b, k in cases]
        said["captioned"] = write_texts(told_of, gold, seed=seed, what="from captions", told=told)
    for kind, texts in said.items():
        for (b, k), text in zip(cases, texts, strict=True):
            gold_text = {"elements": [answers.dialogues[b].turns[k].text]}
            answers.add(kind, (b, k), {"elements": [text]}, gold_text)


def paint_captions(
    responder: Responder, captions: Sequence[str], *, seed: int, told: Progress = quiet
) -> Tensor:
    """(N, 3, H, W), the n-th from ``seed`` + n."""
    parts, size = [], rows_at_once(responder.model, on_cpu=32)
    for start in range(0, len(captions), size):
        part = list(captions[start : start + size])
        seeds = list(range(seed + start, seed + start + len(part)))
        parts.append(responder.paint_captions(part, seeds=seeds).cpu())
        told("painting", start + len(part), len(captions))
    return torch.cat(parts)


@torch.no_grad()
def through_vae(model: PhotoDialogueModel, photos_N3HW: Tensor) -> Tensor | None:
    """Photos encoded and decoded again; None without a painter."""
    painter: Any = model.painter
    if painter is None:
        return None
    parts = photos_N3HW.split(64)
    return torch.cat([painter.decode_photos(painter.encode_photos(part)) for part in parts])
