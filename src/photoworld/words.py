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
from dataclasses import dataclass
from functools import cache
from typing import Any

from photoworld import load_table
from photoworld.facts import Phrase, action_list, scene_phrase
from photoworld.scenes import ATTRIBUTES, SUBJECTS, Scene

_Part = str | tuple[str, ...]  # text; or ("slot", name); or ("choice", alternatives...)


@dataclass(frozen=True, kw_only=True)
class Template:
    """One carrier sentence of an act; ``kept`` ones are never used for train and dev."""

    id: str
    parts: tuple[_Part, ...]
    kept: bool


@dataclass(frozen=True, kw_only=True)
class Written:
    """A text with the ids of its templates and the attributes of its scene that it states."""

    text: str
    template_ids: tuple[str, ...]
    unseen: bool
    named: frozenset[str]
    news: str | None  # what somebody did, told in the text
    asks: bool  # whether the text asks for news


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """All templates by act, once with and once without those kept for test, and the word lists."""

    all: Mapping[str, tuple[Template, ...]]
    seen: Mapping[str, tuple[Template, ...]]
    words: Mapping[str, tuple[tuple[_Part, ...], ...]]

    def templates(self) -> Iterable[Template]:
        return (template for act in self.all.values() for template in act)


_PART = re.compile(r"\{(\w+)\}|\[([^\]]*)\]")


def _parse(text: str) -> tuple[_Part, ...]:
    """Text, slots and choices in order; alternatives hold plain text only."""
    parts: list[_Part] = []
    pieces = [*_PART.split(text), None, None]
    for plain, slot, choice in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        parts += [plain] if plain else []
        if slot or choice:
            parts.append(("slot", slot) if slot else ("choice", *choice.split("|")))
    return tuple(parts)


@cache
def load_grammar() -> Grammar:
    """The grammar of ``talk.json``."""
    source = load_table("talk")
    acts: dict[str, tuple[Template, ...]] = {}
    for act, texts in source["acts"].items():
        templates = []
        for text in texts:
            template_id = f"{act}/{zlib.crc32(text.encode()):08x}"
            kept = zlib.crc32(template_id.encode()) % 5 == 0
            templates.append(Template(id=template_id, parts=_parse(text), kept=kept))
        acts[act] = tuple(templates)
    seen = {act: tuple(t for t in templates if not t.kept) for act, templates in acts.items()}
    words = {name: tuple(_parse(text) for text in texts) for name, texts in source["words"].items()}
    return Grammar(all=acts, seen=seen, words=words)


_SPACES = re.compile(r"\s+")
_BEFORE_MARK = re.compile(r"\s+([,.!?])")
_MARKS = re.compile(r"([!?])[.,]+")


class _Filler:
    """Fills parts with words, and remembers which attributes of the scene they state."""

    def __init__(self, scene: Scene, rng: random.Random, values: Mapping[str, Phrase]) -> None:
        self.scene, self.rng, self.values = scene, rng, values
        self.words = load_grammar().words
        self.out: list[str] = []
        self.named: set[str] = set()
        self.news: str | None = None
        self.asks = False

    def fill(self, parts: tuple[_Part, ...]) -> None:
        for part in parts:
            if isinstance(part, str):
                self.out.append(part)
            elif part[0] == "choice":
                self.out.append(self.rng.choice(part[1:]))
            else:
                self.fill_slot(part[1])

    def fill_slot(self, slot: str) -> None:
        """From the values, then the scene, then the word lists."""
        phrase = self.values.get(slot) or scene_phrase(slot, self.scene, self.rng)
        if phrase:
            self.out.append(phrase[0])
            self.named.update(phrase[1])
        elif slot == "action":
            self.fill_slot(action_list(self.scene))
        else:
            start = len(self.out)
            self.fill(self.rng.choice(self.words[slot]))
            if slot == "news":
                self.news = "".join(self.out[start:])
            self.asks = self.asks or slot == "ask"


def write(
    acts: Iterable[str],
    scene: Scene,
    *,
    rng: random.Random,
    with_kept: bool,
    values: Mapping[str, Phrase] | None = None,
) -> Written:
    """One text: a template of each act, in order, their slots filled."""
    grammar = load_grammar()
    pool = grammar.all if with_kept else grammar.seen
    filler = _Filler(scene, rng, values or {})
    templates = [rng.choice(pool[act]) for act in acts]
    for template in templates:
        if filler.out and filler.out[-1][-1:] not in ",.!?":
            filler.out.append(".")  # the act before ends in a slot or without a mark
        filler.out.append(" ")
        filler.fill(template.parts)
    text = _SPACES.sub(" ", "".join(filler.out)).strip()
    return Written(
        text=_MARKS.sub(r"\1", _BEFORE_MARK.sub(r"\1", text)),
        template_ids=tuple(template.id for template in templates),
        unseen=any(template.kept for template in templates),
        named=frozenset(filler.named),
        news=filler.news,
        asks=filler.asks,
    )


_YOURS = {"my": "your", "your": "my"}


def heard(news: str) -> str | None:
    """News about somebody else as the listener says it back; None if the speaker is in it."""
    words = news.split()
    if {"i", "i'm", "we", "me"} & set(words):
        return None
    return " ".join(_YOURS.get(w, w) for w in words)


def word(name: str, scene: Scene, *, rng: random.Random, **values: Phrase) -> Phrase:
    """One entry of a word list, its slots filled from ``values`` and ``scene``, with the attributes
    of the scene that it states."""
    filler = _Filler(scene, rng, values)
    filler.fill_slot(name)
    return "".join(filler.out), frozenset(filler.named)


_SENTENCE = re.compile(r"(^|[.!?]\s+)([a-z])")
_I = re.compile(r"\bi\b")
Casing = Callable[[str], str]


def lower_case(text: str) -> str:
    """As it is: chat in lower case, names apart."""
    return text


def sentence_case(text: str) -> str:
    """Capitals where school wants them."""
    text = _SENTENCE.sub(lambda m: m.group(1) + m.group(2).upper(), _I.sub("I", text))
    return text if text[-1:] in ".!?" else text + "."


def draw_casing(rng: random.Random) -> Casing:
    """How somebody writes."""
    return sentence_case if rng.random() < 0.3 else lower_case


@cache
def world_words() -> frozenset[str]:
    """All words of dialogues and captions, in lower case, slots of templates left out."""
    plurals = load_table("phrases")["plurals"]
    texts = [*_strings(load_table("talk")), *(plurals[s] for s in SUBJECTS if s in plurals)]
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
