"""What is said: words for what a photo shows, templates of dialogues, and the way back.

A template is text with ``{slot}`` (filled from the given values, the scene, or the word lists) and
``[a|b|]`` (one alternative). Its id is its act and the checksum of its text, so that adding a
template never changes which others are kept for test.

What a phrase is said to state is exactly what ``named_attributes`` reads in it (see the tests).
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from photoworld import load_table
from photoworld.scenes import ATTRIBUTES, LOOKS, SUBJECTS, Scene, plural

Phrase = tuple[str, frozenset[str]]  # words, and the attributes that they state


def nouns(subject: str) -> list[str]:
    """What a subject is called, as often as it is; few synonyms: a small model must learn them."""
    found: list[str] = load_table("phrases")["nouns"].get(subject, [subject])
    return found


def things(scene: Scene, rng: random.Random, *, colour: bool, count: bool) -> Phrase:
    """The subject, with colour or count if wanted: ``two red dogs``, ``the red dogs``, ``Mia``."""
    named = {"subject"} | ({"colour"} if colour else set())
    if scene.subject in LOOKS:
        look = " in that {} jacket" if SUBJECTS[scene.subject] == "friend" else " with that {} fur"
        return scene.subject + (look.format(scene.colour) if colour else ""), frozenset(named)
    noun = rng.choice(nouns(scene.subject))
    words = [scene.colour] if colour else []
    words.append(noun if scene.count == "one" else plural(noun))
    if not count:
        return " ".join(["the", *words]), frozenset(named)
    head = ("an" if words[0][0] in "aeiou" else "a") if scene.count == "one" else scene.count
    return " ".join([head, *words]), frozenset(named | {"count"})


def where_to(scene: Scene, rng: random.Random) -> Phrase:
    """``under the bridge``, ``all alone``: relation and anchor."""
    both = frozenset({"relation", "anchor"})
    if scene.relation == "alone":
        return "all alone", both
    relation = rng.choice(("beside", "next to")) if scene.relation == "beside" else scene.relation
    return f"{relation} {rng.choice(('the', 'the', 'a'))} {scene.anchor}", both


def known_things(scene: Scene, rng: random.Random) -> Phrase:
    """As ``things`` in full; what is said of one by name says that there is one."""
    words, named = things(scene, rng, colour=scene.subject not in LOOKS, count=True)
    return words, named | {"count"}


def describe(scene: Scene, rng: random.Random, wanted: Collection[str], *, known: bool) -> Phrase:
    """The subject in full, then those of relation, place, time and weather that are wanted.

    Something ``known`` may be ``the two red dogs``.
    """
    words, named = known_things(scene, rng)
    if known and rng.random() < 0.5 and scene.subject not in LOOKS:
        words = "the " + re.sub(r"^an? ", "", words)
    phrases = [(words, named)]
    if "relation" in wanted:
        phrases.append(where_to(scene, rng))
    phrases += [_told(name, scene, rng) for name in ("place", "time", "weather") if name in wanted]
    return " ".join(p[0] for p in phrases), frozenset().union(*(p[1] for p in phrases))


_SLOTS = {  # which the scene fills, and the attribute that their words state
    **{"place": "place", "time": "time", "weather": "weather", "t_is": "time", "w_is": "weather"},
    **{"the_place": "place", "colour": "colour", "cnt": "count", "it": "", "be": "", "was": ""},
}


def _told(slot: str, scene: Scene, rng: random.Random) -> Phrase:
    name = _SLOTS[slot]
    words = load_table("phrases")["talk"][slot][getattr(scene, name)]
    return rng.choice(words), frozenset({name})


def scene_phrase(slot: str, scene: Scene, rng: random.Random) -> Phrase | None:
    """Words for a slot that the scene fills, and the attributes that they state; else None."""
    if slot == "np_rel":
        return describe(scene, rng, ("relation",) if rng.random() < 0.85 else (), known=False)
    if slot not in _SLOTS:
        return None
    if slot in load_table("phrases")["talk"]:
        return _told(slot, scene, rng)
    one, named = scene.count == "one", _SLOTS[slot]
    words = {
        "the_place": f"the {scene.place}",
        "colour": scene.colour,
        "cnt": "just one" if one else scene.count,
        "it": load_table("phrases")["pronouns"].get(scene.subject, "it" if one else "them"),
        "be": "is" if one else "are",
        "was": "was" if one else "were",
    }
    return words[slot], frozenset({named} if named else ())


def action_list(scene: Scene) -> str:
    """The word list of what such a subject may be doing."""
    lists = {"animal": "act_animal", "pet": "act_animal", "friend": "act_friend"}
    return lists.get(SUBJECTS[scene.subject], "act_thing")


# ------------------------------------------------------------------------------------- templates

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


@cache
def world_words() -> frozenset[str]:
    """All words of dialogues and captions, in lower case, slots of templates left out."""
    tables = load_table("talk") | load_table("phrases") | ATTRIBUTES
    texts = _strings([table for name, table in tables.items() if name not in ("about", "read")])
    plain = [re.sub(r"\{[^}]*\}", " ", text.lower()) for text in texts]
    return frozenset(word for text in plain for word in re.findall(r"[^\W\d_]+", text))


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value
    return [text for child in children for text in _strings(child)]


# ------------------------------------------------------------------------------------- reading


@cache
def _readers() -> list[tuple[str, str, re.Pattern[str]]]:
    """Attribute, value and what finds it in a text, in the order in which they are named."""
    colours = ATTRIBUTES["colour"]
    patterns = {"subject": dict.fromkeys(SUBJECTS, ""), "colour": {c: rf"\b{c}\b" for c in colours}}
    patterns |= load_table("phrases")["read"]
    singles = []
    for subject in SUBJECTS:
        one = {*nouns(subject), *(["pup"] if subject == "dog" else [])}
        single = "|".join(sorted(one, reverse=True))
        several = "|".join(sorted(plural(noun) for noun in one))
        patterns["subject"][subject] = rf"\b(?:{several}|{single})\b"
        singles += [single] if subject not in LOOKS else []
    # a bare plural says nothing of the count; "a dog" says that there is one
    a_thing = rf"\b(?:a|an|one|single) (?:(?:{'|'.join(colours)}) )?(?:{'|'.join(singles)})\b"
    found = [(name, value, p) for name, values in patterns.items() for value, p in values.items()]
    return [
        (name, value, re.compile(pattern, re.IGNORECASE))
        for name, value, pattern in [*found, ("count", "one", a_thing)]
    ]


def named_attributes(text: str) -> dict[str, set[str]]:
    """Which values of which attributes the text names; attributes that it leaves open are absent.

    A bare plural says nothing of the count; ``a dog`` and ``just one`` say that there is one.
    """
    found: dict[str, set[str]] = {}
    for attribute, value, reader in _readers():
        if reader.search(text):
            found.setdefault(attribute, set()).add(value)
    return found
