"""People, pets and places that a talk has introduced, and what they look like from then on.

    "my robot is green"           the user's robot: green
    "Rex is my dog, he is blue"   Rex, the user's dog: blue
    "show me your cat"            and a photo of a black one: the agent's cat is black
    "mi perro Rex es azul"        the same in Spanish

``meant_by`` says which of them a request is about. What a photo of it is to show is then put right
(``Known.amended``), and an LLM is told (``told_of``). Light patterns in English and Spanish; what
they do not find is not known, and the model is left to itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from showtell.agent.changes import Change, changed, changes_in, in_english, names, subject
from showtell.agent.heard import plain
from showtell.dialogue import AGENT, USER, Turn

_LOOKS = ("colour", "place")
_WORD = r"[a-z][a-z'-]+"
_MINE = r"\b(?:my|mi)\s+"
_KIND = rf"(?P<kind>{_WORD}(?: {_WORD})?)"
_NAMED = rf"(?:,? (?:called|named|llamad[oa]|que se llama) (?P<name>{_WORD}),?)?"
_FACTS = (
    # my robot is green; my dog rex is blue; mi perro es azul
    re.compile(rf"{_MINE}{_KIND}{_NAMED}(?:\s+(?:is|are|was|es|esta|son)|'s)\s+(?P<what>[^.!?;]+)"),
    # i have a blue dog named rex; tengo un perro azul
    re.compile(
        r"\b(?:i have|i've got|i got|tengo)\s+(?:an?|un[ao]?)\s+(?P<what>[^.!?;,]+?)"
        rf"{_NAMED}(?=[.!?;,]|$)"
    ),
    # rex is my dog, and is blue
    re.compile(
        rf"\b(?P<name>{_WORD})\s+(?:is|es)\s+(?:my|mi)\s+(?P<kind>{_WORD})(?P<what>[^.!?;]*)"
    ),
    re.compile(
        rf"{_MINE}{_KIND}(?:'s name)?\s+(?:is (?:called|named)|se llama)\s+(?P<name>{_WORD})"
    ),
)
_OF = re.compile(rf"\b(?P<whose>my|your|mi|tu)\s+(?P<kind>{_WORD}(?: {_WORD})?)")
_WHOSE = {"my": USER, "mi": USER, "your": AGENT, "tu": AGENT}
_OTHER = {USER: AGENT, AGENT: USER}
_PAIRS = {"teddy bear", "ice cream", "guinea pig", "hot dog"}  # that are one thing
_PRONOUN = re.compile(r"\b(?:him|her|it|them)\b")
_NO_KIND = {"photo", "picture", "pic", "name", "favorite", "favourite", "turn", "way", "own", "new"}


@dataclass(kw_only=True)
class Known:
    """Somebody or something of the talk: whose (USER, AGENT), of what ``kind``, perhaps its
    ``name``, and its ``looks`` by group of change."""

    whose: str
    kind: str
    name: str = ""
    looks: dict[str, Change] = field(default_factory=dict)

    @property
    def phrase(self) -> str:
        """As in "a blue dog"."""
        return changed(f"a {self.kind}", [c for c in self.looks.values() if c.group == "colour"])

    def is_in(self, text: str, *, speaker: str) -> bool:
        """Whether a plain text of the speaker's mentions it."""
        if self.name and re.search(rf"\b{re.escape(self.name)}\b", text):
            return True
        for found in _OF.finditer(text):
            whose = _WHOSE[found["whose"]]
            owner = whose if speaker == USER else _OTHER[whose]
            if owner == self.whose and self.kind in map(
                in_english, (found["kind"], *found["kind"].split())
            ):
                return True
        return False

    def shows(self, caption: str) -> bool:
        """Whether a caption is of such a one."""
        words = (*self.kind.split(), *([self.name] if self.name else []))
        return any(names(caption, word) for word in words)

    def amended(self, caption: str, asked: Sequence[Change]) -> str:
        """The caption with its looks, but for what is ``asked`` to be otherwise."""
        if caption and not self.shows(caption) and "colour" in self.looks:
            caption = self.phrase + caption[len(subject(caption)) :]
        looks = self.looks | {each.group: each for each in asked if each.group != "tone"}
        return changed(caption, list(looks.values())) if caption else ""


def known_in(turns: Sequence[Turn]) -> list[Known]:
    """Whoever a talk has introduced, those mentioned last at the end."""
    known: list[Known] = []
    asked = ""
    for turn in turns:
        text = " ".join(plain(turn.text).split())
        for each in _told(text, turn.speaker):
            _add(known, each)
        if turn.speaker == USER and text:
            asked = text
        for photo in turn.photos if turn.speaker == AGENT else ():
            _learn(known, asked, photo.caption)
    return known


def meant_by(turns: Sequence[Turn], known: Sequence[Known]) -> Known | None:
    """Whom the user's last words are about, by name, as "my dog", or as "him" where the turn before
    speaks of it."""
    said = [turn for turn in turns if turn.text]
    if not said or said[-1].speaker != USER:
        return None
    last = plain(said[-1].text)
    for each in reversed(known):
        if each.is_in(last, speaker=USER):
            return each
    if _PRONOUN.search(last):
        for turn in reversed(said[-3:-1]):
            for each in reversed(known):
                if each.is_in(plain(turn.text), speaker=turn.speaker):
                    return each
    return None


def told_of(known: Sequence[Known]) -> str:
    """One line for a language model; "" where nobody is known."""
    told = []
    for each in known:
        looks = ", ".join(change.words for change in each.looks.values())
        whose = "the friend's" if each.whose == USER else "your"
        told.append(
            f"{whose} {each.kind} {each.name.title()}".strip() + f" ({looks})" * bool(looks)
        )
    return f"You know from this chat: {'; '.join(told)}. " if told else ""


# ------------------------------------------------------------------------------- what is told


def _told(text: str, speaker: str) -> list[Known]:
    """Whom a plain text introduces, or tells something of."""
    found = []
    for fact in _FACTS:
        for match in fact.finditer(text):
            named = match.groupdict()
            what, name = named.get("what") or "", named.get("name") or ""
            looks = {each.group: each for each in changes_in(what) if each.group in _LOOKS}
            kind = named.get("kind")
            if kind is None:  # i have a blue dog
                colour = looks.get("colour")
                words = subject(what.replace(colour.said, " ") if colour else what).split()
                if not words or not (looks or name):
                    continue
                kind, looks = " ".join(words[-2:]), {"colour": colour} if colour else {}
            kind, name = _kind_and_name(kind, name)
            if kind not in _NO_KIND and (looks or name):
                found.append(Known(whose=speaker, kind=kind, name=name, looks=looks))
    return found


def _kind_and_name(kind: str, name: str) -> tuple[str, str]:
    first, _, second = kind.partition(" ")
    if second and kind not in _PAIRS and not name:
        kind, name = first, second  # my dog rex
    elif second and kind not in _PAIRS:
        kind = second  # my little dog, called rex
    return in_english(kind), name


def _add(known: list[Known], told: Known) -> None:
    """What is told last counts."""
    for each in known:
        same = each.whose == told.whose and each.kind == told.kind
        if same and (not told.name or not each.name or told.name == each.name):
            each.name = told.name or each.name
            each.looks |= told.looks
            known.remove(each)
            known.append(each)
            return
    known.append(told)


def _learn(known: list[Known], asked: str, caption: str) -> None:
    """A photo that was asked for of "your dog" is how that looks from then on."""
    colour = [each for each in changes_in(subject(caption)) if each.group == "colour"]
    for found in _OF.finditer(asked):
        words = found["kind"] if found["kind"] in _PAIRS else found["kind"].split()[0]
        kind, whose = in_english(words), _WHOSE[found["whose"]]
        if not colour or not names(caption, kind.split()[0]):
            continue
        if not any(each.whose == whose and each.kind == kind for each in known):
            known.append(Known(whose=whose, kind=kind))
        for each in known:
            if each.whose == whose and each.kind == kind:
                each.looks.setdefault("colour", colour[0])
