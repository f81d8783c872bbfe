"""What a model is asked on dialogues of the photo world, whose turns and photos say what they hold:
all of ``answer.py``, and

    seeing      the reply where the gold one names something of a photo just seen, as in a chat
    blind       the same to a grey photo; "captioned": to its short gold caption (controls)
    painted     the agent's photos from their gold captions (control)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from showtell.batch import to_image
from showtell.dialogue import Dialogue
from showtell.evaluation.answer import (
    add_answers,
    add_moments,
    add_photos,
    add_texts,
    paint_captions,
    rows_at_once,
    write_texts,
)
from showtell.evaluation.answered import Answers
from showtell.evaluation.world_gold import (
    answer_places,
    drawn,
    photo_places,
    photos_at,
    seeing_places,
    text_places,
)
from showtell.metrics.retrieval import ranks
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described, seen_images
from showtell.models.open_album import OpenAlbum
from showtell.models.respond import Responder
from showtell.progress import Progress, quiet
from showtell.prompt import Renderer


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
    """Moments, texts, photos, what was seen, and ``most_answers`` whole answers, written to
    ``folder``."""
    responder = Responder(Decoder(model), album=album)
    answers = Answers(dialogues=dialogues, folder=folder)
    told("moments", 0, 1)
    read = described(model, dialogues)  # once: a captioner takes its time
    add_moments(answers, model, read, batch_size=rows_at_once(model, on_cpu=32))
    _add_seeing(answers, responder.decoder, read, seed=seed, controls=controls, told=told)
    places = text_places(dialogues, seed=seed, most=most_texts)
    add_texts(answers, model, read, places, seed=seed, told=told)
    places = photo_places(dialogues)
    photos = photos_at(dialogues, places)
    if controls and model.painter is not None and places:
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
        keys_NE = torch.cat([model.bridge.photo_keys(part) for part in drawn(photos).split(64)])
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
            wanted = {"elements": [answers.dialogues[b].turns[k].text]}
            answers.add(kind, (b, k), {"elements": [text]}, wanted)


@torch.no_grad()
def through_vae(model: PhotoDialogueModel, photos_N3HW: Tensor) -> Tensor | None:
    """Photos encoded and decoded again; None without a painter."""
    painter: Any = model.painter
    if painter is None:
        return None
    parts = photos_N3HW.split(64)
    return torch.cat([painter.decode_photos(painter.encode_photos(part)) for part in parts])
