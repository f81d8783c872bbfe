"""The words of the dialogues: templates of each act, their slots, and which are kept for test.

A template is text with ``{slot}`` (filled from the given values, the scene, or the word lists) and
``[a|b|]`` (one alternative). Its id is its act and the checksum of its text, so that adding a
template never changes which others are kept for test.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from photoworld import load_table
from photoworld.facts import Phrase, action_list, scene_phrase
from photoworld.scenes import ATTRIBUTES, Scene

_Part = str | tuple[str, ...]  # text; or ("slot", name); or ("choice", alternatives...)


class Template(NamedTuple):
    """One carrier sentence of an act; ``kept`` ones are never used for train and dev."""

    id: str
    parts: tuple[_Part, ...]
    kept: bool


_PART = re.compile(r"\{(\w+)\}|\[([^\]]*)\]")


def _parse(text: str) -> tuple[_Part, ...]:
    """Text, slots and choices in order; alternatives hold plain text only."""
    parts: list[_Part] = []
    pieces = [*_PART.split(text), "", ""]  # plain text, slot and alternatives in turn
    for plain, slot, choice in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        parts += [plain] if plain else []
        parts += [("slot", slot)] if slot else []
        parts += [("choice", *choice.split("|"))] if choice else []
    return tuple(parts)


@cache
def templates_of(act: str, *, with_kept: bool = True) -> tuple[Template, ...]:
    """The templates of an act of ``talk.json``."""
    ids = {f"{act}/{zlib.crc32(t.encode()):08x}": t for t in load_table("talk")["acts"][act]}
    found = [Template(k, _parse(t), zlib.crc32(k.encode()) % 5 == 0) for k, t in ids.items()]
    return tuple(template for template in found if with_kept or not template.kept)


@cache
def _entries(name: str) -> tuple[tuple[_Part, ...], ...]:
    """The entries of a word list of ``talk.json``."""
    return tuple(_parse(text) for text in load_table("talk")["words"][name])


_BEFORE_MARK = re.compile(r"\s+([,.!?])")
_MARKS = re.compile(r"([!?])[.,]+")


class Text:
    """Words as they are put together, and what they say.

    ``named`` are the attributes of the scene that they state, ``news`` what they tell that somebody
    did, ``asks`` whether they ask for news, ``templates`` those that they are made of.
    """

    def __init__(self, scene: Scene, rng: random.Random, values: Mapping[str, Phrase]) -> None:
        self.scene, self.rng, self.values = scene, rng, values
        self.pieces: list[str] = []
        self.templates: list[Template] = []
        self.named: set[str] = set()
        self.news: str | None = None
        self.asks = False

    def fill(self, parts: tuple[_Part, ...]) -> None:
        for part in parts:
            if isinstance(part, str):
                self.pieces.append(part)
            elif part[0] == "choice":
                self.pieces.append(self.rng.choice(part[1:]))
            else:
                self.fill_slot(part[1])

    def fill_slot(self, slot: str) -> None:
        """From the values, then the scene, then the word lists."""
        phrase = self.values.get(slot) or scene_phrase(slot, self.scene, self.rng)
        if phrase:
            self.pieces.append(phrase[0])
            self.named.update(phrase[1])
            return
        start = len(self.pieces)
        self.fill(self.rng.choice(_entries(slot if slot != "action" else action_list(self.scene))))
        if slot == "news":
            self.news = "".join(self.pieces[start:])
        self.asks = self.asks or slot == "ask"

    def __str__(self) -> str:
        text = " ".join("".join(self.pieces).split())
        return _MARKS.sub(r"\1", _BEFORE_MARK.sub(r"\1", text))


def write(
    acts: Iterable[str], scene: Scene, *, rng: random.Random, with_kept: bool, **values: Phrase
) -> Text:
    """One text: a template of each act, in order, their slots filled."""
    text = Text(scene, rng, values)
    text.templates = [rng.choice(templates_of(act, with_kept=with_kept)) for act in acts]
    for template in text.templates:
        if text.pieces and text.pieces[-1][-1:] not in ",.!?":
            text.pieces.append(".")  # the act before ends in a slot or without a mark
        text.pieces.append(" ")
        text.fill(template.parts)
    return text


def word(name: str, scene: Scene, *, rng: random.Random, **values: Phrase) -> Phrase:
    """One entry of a word list, its slots filled from ``values`` and ``scene``, with the attributes
    of the scene that it states."""
    text = Text(scene, rng, values)
    text.fill_slot(name)
    return "".join(text.pieces), frozenset(text.named)


_YOURS = {"my": "your", "your": "my"}


def heard(news: str) -> str | None:
    """News about somebody else as the listener says it back; None if the speaker is in it."""
    words = news.split()
    if {"i", "i'm", "we", "me"} & set(words):
        return None
    return " ".join(_YOURS.get(w, w) for w in words)


_SENTENCE = re.compile(r"(^|[.!?]\s+)([a-z])")
_I = re.compile(r"\bi\b")


def sentence_case(text: str) -> str:
    """Capitals where school wants them."""
    text = _SENTENCE.sub(lambda m: m.group(1) + m.group(2).upper(), _I.sub("I", text))
    return text if text[-1:] in ".!?" else text + "."


def draw_casing(rng: random.Random) -> Callable[[str], str]:
    """How somebody writes: as school wants it, or as it is, chat in lower case."""
    return sentence_case if rng.random() < 0.3 else str


_SPOKEN = ("caption", "talk", "nouns", "plurals", "pronouns", "openings", "negated", "starters")


@cache
def world_words() -> frozenset[str]:
    """All words of dialogues and captions, in lower case, slots of templates left out."""
    phrases = load_table("phrases")
    texts = _strings(load_table("talk"))
    texts += [text for part in _SPOKEN for text in _strings(phrases[part])]
    texts += [value for values in ATTRIBUTES.values() for value in values]
    found: set[str] = set()
    for text in texts:
        found.update(re.findall(r"[^\W\d_]+", re.sub(r"\{[^}]*\}", " ", text.lower())))
    return frozenset(found)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value
    return [text for child in children for text in _strings(child)]
