"""What a system says and paints on dialogues of the world, kept on disk: everything that a row of
the comparison is scored from (``evaluation/table.py``), so that scoring never runs a model again.

Every place is a gold context, the same for all systems:

    moments    every start of an agent's turn: P(share)
    words      the words of the agent's text turns: -log p
    replies    text turns, free running
    comments   the same where the gold turn names something of a photo just seen
    photos     the agent's photos: the system's own, after its own description
    answers    whole answers, by ``respond``: texts and photos in order, timed
    ranks      of each gold photo among all of them, for a system with a query for an album
"""

from __future__ import annotations

import dataclasses
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from showtell.batch import to_pixels
from showtell.data.storage import write_atomically
from showtell.dialogue import AGENT, Dialogue, Photo
from showtell.errors import DataError
from showtell.evaluation.world import comments, first_texts, share_moments, text_turns
from showtell.evaluation.world_photos import (
    Told,
    gold_photos,
    images_of,
    quiet,
    spoken_photos,
)
from showtell.metrics.retrieval import ranks
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described
from showtell.models.respond import OpenAlbum, Responder
from showtell.training.loop import parameter_count

FORMAT = 1
OUTPUTS, PHOTOS = "outputs.json", "photos.safetensors"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer from turn ``turn`` of a dialogue on: texts, and numbers of ``answer_photos``.

    ``seconds`` until it was complete; ``first_word`` None where nothing was said in words.
    """

    dialogue: int
    turn: int
    elements: tuple[str | int, ...]
    seconds: float
    first_word: float | None


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """All that one run of a system said on ``data``. Letters: M moments, N photos, B dialogues."""

    data: str
    num_dialogues: int
    seed: int
    most_replies: int
    threshold: float
    parameters: int
    shared_M: list[bool]
    p_share_M: list[float]
    moment_dialogue_M: list[int]
    word_nll_B: list[float]
    words_B: list[float]
    replies: list[str]
    comments: list[str]
    captions: list[str]
    answers: list[Answer]
    ranks: list[int] | None
    seconds: float
    photos_N3HW: Tensor | None  # uint8
    answer_photos_N3HW: Tensor | None

    def save(self, folder: Path) -> Path:
        """Write both files, outputs.json last: where it stands, all is there."""
        photos = {
            name: photos_N3HW.contiguous()
            for name in _TENSORS
            if (photos_N3HW := getattr(self, name)) is not None
        }
        write_atomically(folder / PHOTOS, save_tensors(photos))
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in _TENSORS
        }
        plain |= {"format": FORMAT, "answers": [dataclasses.asdict(a) for a in self.answers]}
        return write_atomically(folder / OUTPUTS, (json.dumps(plain) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> Outputs:
        """Raises DataError for a folder that holds none, or broken ones."""
        try:
            plain: dict[str, Any] = json.loads((folder / OUTPUTS).read_text())
            if plain.pop("format") != FORMAT:
                raise ValueError("another format")
            plain["answers"] = [
                Answer(**{**row, "elements": tuple(row["elements"])}) for row in plain["answers"]
            ]
            photos = load_file(folder / PHOTOS)
            return cls(**plain | {name: photos.get(name) for name in _TENSORS})
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise DataError(
                f'the outputs in "{folder}" cannot be read ({type(error).__name__}: {error}); '
                f"wanted {OUTPUTS} and {PHOTOS} of one run. Remove the folder and evaluate again."
            ) from error


_TENSORS = ("photos_N3HW", "answer_photos_N3HW")


@torch.no_grad()
def outputs_of(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    data: str,
    seed: int,
    most_replies: int = 400,
    most_answers: int = 150,
    album: OpenAlbum | None = None,
    told: Told = quiet,
) -> Outputs:
    """Let a model speak and paint at every place (see the top of the file); a model without a
    painter shows the photos of ``album``."""
    responder = Responder(Decoder(model), album=album)
    began = time.perf_counter()
    told("moments", 0, 1)
    read = described(model, dialogues)  # once: a captioner takes its time
    moments = share_moments(model, dialogues, read=read)
    texts = text_turns(dialogues, seed=seed, most=most_replies)
    contexts = [read[n].turns[:k] for n, k in texts]
    images = list(map(images_of, contexts))
    replies = first_texts(Decoder(model), contexts, images, seed=seed, told=told)
    contexts = [read[case.dialogue].turns[: len(case.context)] for case in comments(dialogues)]
    images = list(map(images_of, contexts))
    said_of_photos = first_texts(
        Decoder(model), contexts, images, seed=seed, what="comments", told=told
    )
    own = spoken_photos(model, dialogues, read=read, seed=seed, album=album, told=told)
    answers, shown = answers_to(responder, dialogues, seed=seed, most=most_answers, told=told)
    return Outputs(
        data=data,
        num_dialogues=len(dialogues),
        seed=seed,
        most_replies=most_replies,
        threshold=model.decoding.share_threshold,
        parameters=parameter_count(model),
        shared_M=moments.shared_M.tolist(),
        p_share_M=moments.p_share_M.tolist(),
        moment_dialogue_M=moments.dialogue_M.tolist(),
        word_nll_B=moments.word_nll_B.tolist(),
        words_B=moments.words_B.tolist(),
        replies=replies,
        comments=said_of_photos,
        captions=[order.caption for order in own.orders],
        answers=answers,
        ranks=gold_ranks(model, dialogues, own.query_NE),
        seconds=time.perf_counter() - began,
        photos_N3HW=None if own.pixels_N3HW is None else as_bytes(own.pixels_N3HW),
        answer_photos_N3HW=torch.stack([as_bytes(p) for p in shown]) if shown else None,
    )


def as_bytes(pixels: Tensor) -> Tensor:
    """[0, 1] -> uint8"""
    return (pixels.float().clamp(0, 1) * 255).round().to(torch.uint8)


# ------------------------------------------------------------------------------- whole answers


def answer_places(dialogues: Sequence[Dialogue], *, seed: int, most: int) -> list[tuple[int, int]]:
    """(dialogue, turn) where the agent begins to answer, one for each of the first ``most``
    dialogues: the first answer that holds a photo, else one drawn by ``seed``."""
    places = []
    for number, dialogue in enumerate(dialogues[:most]):
        starts = [
            k
            for k, turn in enumerate(dialogue.turns)
            if k and turn.speaker == AGENT and dialogue.turns[k - 1].speaker != AGENT
        ]
        photos = [k for k in starts if any(isinstance(e, Photo) for e in gold_answer(dialogue, k))]
        if starts:
            drawn = random.Random(f"{seed}/{number}").choice(starts)
            places.append((number, photos[0] if photos else drawn))
    return places


def gold_answer(dialogue: Dialogue, start: int) -> tuple[str | Photo, ...]:
    """The elements of the agent's turns from ``start`` until the user speaks."""
    elements: list[str | Photo] = []
    for turn in dialogue.turns[start:]:
        if turn.speaker != AGENT:
            break
        elements += turn.elements
    return tuple(elements)


def answers_to(
    responder: Responder, dialogues: Sequence[Dialogue], *, seed: int, most: int, told: Told
) -> tuple[list[Answer], list[Tensor]]:
    """Whole answers at ``answer_places``, and the photos in them, each (3, H, W)."""
    answers: list[Answer] = []
    shown: list[Tensor] = []
    places = answer_places(dialogues, seed=seed, most=most)
    for number, k in places:
        context = dialogues[number].turns[:k]
        began = time.perf_counter()
        reply = responder.respond(context, images=images_of(context), seed=seed + number)
        seconds = time.perf_counter() - began
        elements: list[str | int] = []
        for element in (e for turn in reply.turns for e in turn.elements):
            if isinstance(element, str):
                elements.append(element)
            elif element.id in reply.images:  # a model without a painter has only words for it
                elements.append(len(shown))
                shown.append(to_pixels(reply.images[element.id]))
        answers.append(
            Answer(
                dialogue=number,
                turn=k,
                elements=tuple(elements),
                seconds=seconds,
                first_word=reply.seconds_to_first_word,
            )
        )
        told("answers", len(answers), len(places))
    return answers, shown


def latency(answers: Sequence[Answer]) -> dict[str, float]:
    """Median seconds: of all answers, to the first word, and of answers with a photo."""
    found = {
        "answer": [a.seconds for a in answers],
        "first_word": [a.first_word for a in answers if a.first_word is not None],
        "photo": [a.seconds for a in answers if any(isinstance(e, int) for e in a.elements)],
    }
    return {name: statistics.median(values) for name, values in found.items() if values}


# ----------------------------------------------------------------------------------- retrieval


def gold_ranks(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], query_NE: Tensor | None
) -> list[int] | None:
    """The rank of each gold photo among all of them, by the query that the model makes at its
    moment; None for a bridge without a query."""
    if query_NE is None:
        return None
    bridge = model.bridge
    keys_NE = torch.cat(
        [bridge.photo_keys(part_N3HW) for part_N3HW in gold_photos(dialogues).split(64)]
    )
    return ranks((query_NE @ keys_NE.mT).cpu(), range(len(keys_NE))).tolist()
