"""What is true of dialogues of the photo world, and what reads photos: the one place from which
measures reach the world. Places are (number of a dialogue, turn), and the same for all systems.

The oracle reads photos; it never trains, ranks or filters them.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from photoworld.oracle import AttributeReader
from photoworld.scenes import ATTRIBUTES, split_of
from photoworld.words import named_attributes
from showtell.batch import to_image, to_pixels
from showtell.data.photos import photo_image
from showtell.data.sources import open_data
from showtell.data.world import load_oracle
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.evaluation.answer import gold_answer, starts
from showtell.evaluation.answered import Place
from showtell.metrics.encoders import ClipEncoder
from showtell.metrics.moment import best_threshold

SCENE = ATTRIBUTES  # each attribute of a scene with its values

# ------------------------------------------------------------------------------------- places


def agent_turns(dialogues: Sequence[Dialogue]) -> Iterator[tuple[Place, Turn]]:
    for b, dialogue in enumerate(dialogues):
        for k, turn in enumerate(dialogue.turns):
            if turn.speaker == AGENT:
                yield (b, k), turn


def text_places(dialogues: Sequence[Dialogue], *, seed: int, most: int = 400) -> list[Place]:
    """At most ``most`` of the agent's text turns after the first, drawn by ``seed``."""
    places = [place for place, turn in agent_turns(dialogues) if place[1] and turn.text]
    random.Random(seed).shuffle(places)
    return places[:most]


def photo_places(dialogues: Sequence[Dialogue]) -> list[Place]:
    """The agent's photos."""
    return [place for place, turn in agent_turns(dialogues) if turn.photos]


def seeing_places(dialogues: Sequence[Dialogue]) -> dict[Place, Photo]:
    """The agent's turns that name something visible in the user's last photo, and that photo."""
    found = {}
    for (b, k), turn in agent_turns(dialogues):
        before = dialogues[b].turns[:k]
        seen = [photo for t in before if t.speaker == USER for photo in t.photos]
        named = turn.labels.get("named") and seen
        if named and turn.labels.get("about", seen[-1].id) == seen[-1].id:
            found[b, k] = seen[-1]
    return found


def answer_places(dialogues: Sequence[Dialogue], *, seed: int, most: int) -> list[Place]:
    """Where the agent begins to answer, one for each of the first ``most`` dialogues: the first
    answer that holds a photo, else one drawn by ``seed``."""
    places = []
    for b, dialogue in enumerate(dialogues[:most]):
        begun = starts(dialogue.turns)
        photos = [k for k in begun if any(isinstance(e, Photo) for e in gold_answer(dialogue, k))]
        if begun:
            drawn = random.Random(f"{seed}/{b}").choice(begun)
            places.append((b, photos[0] if photos else drawn))
    return places


def photos_at(dialogues: Sequence[Dialogue], places: Sequence[Place]) -> list[Photo]:
    return [dialogues[b].turns[k].photos[0] for b, k in places]


def drawn(photos: Sequence[Photo]) -> Tensor:
    """The photos' own pixels, (N, 3, H, W)."""
    return torch.stack([to_pixels(photo_image(photo)) for photo in photos])


# ------------------------------------------------------------------------------- readers, truth


@cache
def shipped_reader(name: str) -> AttributeReader:
    """ "oracle", or "encoder": a second reader, which was trained apart."""
    return load_oracle(name)


@dataclass(frozen=True, kw_only=True)
class Readers:
    """What reads photos and texts for measurement; none of them trained, ranked or filtered what
    it measures. ``clip`` None: nothing of similarity and relevance."""

    oracle: Any = field(default_factory=lambda: shipped_reader("oracle"))
    encoder: Any = field(default_factory=lambda: shipped_reader("encoder"))
    clip: ClipEncoder | None = None

    @torch.no_grad()
    def features(self, photos_N3HW: Tensor) -> dict[str, Tensor]:
        """Of both readers, by the ending of their measures' names."""
        return {
            ending: torch.cat([by.features(part).cpu() for part in photos_N3HW.split(128)]).double()
            for ending, by in (("", self.oracle), ("_encoder", self.encoder))
        }


class Gold:
    """The dialogues and what is true of them, read once for all systems. ``drawn_as``: the unit
    that intervals draw (the number of a dialogue, unless tasks of one story belong together)."""

    def __init__(
        self, dialogues: Sequence[Dialogue], readers: Readers, *, tasks_each: int = 1
    ) -> None:
        self.dialogues, self.readers = dialogues, readers
        self.places = photo_places(dialogues)
        self.photos = photos_at(dialogues, self.places)
        self.drawn_as = [b // tasks_each for b, _ in self.places]
        self.seen = seeing_places(dialogues)
        self.seen_scenes = [photo.labels["scene"] for photo in self.seen.values()]
        self.splits = sorted({split_of(d.labels["seed"]) for d in dialogues if "seed" in d.labels})

    @cached_property
    def pixels_N3HW(self) -> Tensor:
        return drawn(self.photos)

    @cached_property
    def clip_NE(self) -> Tensor:
        assert self.readers.clip is not None
        return self.readers.clip.photos([to_image(photo) for photo in self.pixels_N3HW])

    @cached_property
    def features_NF(self) -> dict[str, Tensor]:
        return self.readers.features(self.pixels_N3HW)


def names_something(text: str) -> bool:
    return bool(named_attributes(text))


def is_right(text: str, scene: Mapping[str, str]) -> bool:
    """Whether a reply names at least one attribute and all that it names are true."""
    named = named_attributes(text)
    return bool(named) and all(values <= {scene[name]} for name, values in named.items())


def right_and_counted(
    read: Sequence[Mapping[str, str]], photos: Sequence[Photo], counts: Sequence[Collection[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """(right, counted), each (N, A): which of the attributes that ``counts`` names for each photo
    were ``read`` as its scene has them, and which it names."""
    counted_NA = np.array([[name in names for name in SCENE] for names in counts])
    scenes = [photo.labels["scene"] for photo in photos]
    right_NA = np.array(
        [[found[a] == scene[a] for a in SCENE] for found, scene in zip(read, scenes, strict=True)]
    )
    return right_NA & counted_NA, counted_NA


@cache
def bayes_threshold(count: int = 1000) -> float:
    """The threshold on p* with the best F1 on dev dialogues."""
    turns = [turn for d in islice(open_data("world:dev"), count) for turn in d.turns]
    asked = [turn for turn in turns if turn.speaker == AGENT]
    shared = [bool(turn.photos) for turn in asked]
    return best_threshold(shared, [turn.labels["p_share"] for turn in asked]).threshold
