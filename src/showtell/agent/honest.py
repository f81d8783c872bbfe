"""What a model cannot show or see, said instead of something else.

    cannot_show("a giraffe in space", card)     a sentence; "" where it may be able to
    asked_for("please send me a photo of a giraffe!")     "a giraffe"

Only of models whose card says that they know the drawn world alone ("words": "world"); of others
nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

from showtell.agent.changes import changed, changes_in, in_english
from showtell.agent.heard import plain

if TYPE_CHECKING:
    from PIL.Image import Image

CANNOT_SEE = (
    "I cannot see real photos: I know drawings of a small world only. Tell me what is on it, or "
    "ask me for one of mine."
)
_DRAWN = (64, 64)  # pixels of a photo of the drawn world
_PHOTO = r"(?:photo|picture|pic|image|selfie|snap|snapshot|shot|drawing|foto|imagen)(?:e?s)?"
_GIVE = (
    r"(?:show|send|share|see|draw|paint|get|have|muestra|manda|envia|ensena|pinta|dibuja|ver)"
    r"(?:r?me|nos|r)?"
)
_OBJECT = re.compile(
    rf"\b{_PHOTO}\s+(?:of|with|de|del|con)\s+(?P<of>[^.,;!?]+)"
    rf"|(?<!wants to )\b{_GIVE}\s+(?:(?:me|us|you)\s+)?(?P<given>[^.,;!?]+)"
)
_ENDS = re.compile(
    r"\b(?:what|how|where|why|when|if|that|which|who|because|so|and then|please|pls|plz|now|today|"
    r"again|for|instead|before|after|while|as|to|than|from|like|right|pronto|ahora|por favor)\b"
)
_NOTHING = """
a an the some any this those these my your his her its our their of in on at by with and or one two
three more another other others same new nice good great cool cute pretty beautiful big small little
tiny best first second last next all few lot lots me you him it them us i we something anything
everything thing things stuff somebody someone anybody photo photos picture pictures pic pics image
images selfie snap shot drawing alone just only really very un una uno unos unas el la los las de
del con y mi tu su otra otro mas foto fotos imagen algo is are be color colour colored there here
outside inside near under beside over table bridge both either yes no ok too also still yet not kind
sort bit place view sky world day night weather way friend friends pet pets animal animals toy toys
food plant plants building vehicle four five six seven eight nine ten dozen couple several many
"""
_SAYS_NOTHING = frozenset(_NOTHING.split())


def asked_for(text: str) -> str:
    """What a request says that the photo is of; "" where it does not."""
    found = [match for match in _OBJECT.finditer(plain(text))]
    for match in sorted(found, key=lambda match: match["of"] is None):
        said = match["of"] or match["given"]
        inner = re.search(rf"\b{_PHOTO}\s+(?:of|with|de|del|con)\s+(.+)", said)
        said = inner[1] if inner else said
        end = _ENDS.search(said)
        said = " ".join((said[: end.start()] if end else said).split())
        if said:
            return said
    return ""


def cannot_show(words: str, card: Mapping[str, Any]) -> str:
    """What a model says of a photo of these words, by its card, where it knows none of the things
    that they name; else ""."""
    if card.get("words") != "world":
        return ""
    from showtell.data.world import named_attributes

    said = plain(words)
    if "subject" in named_attributes(said):
        return ""
    for change in changes_in(said):
        said = said.replace(change.said, " ")
    unknown = [each for each in re.findall(r"[a-z]{3,}", said) if each not in _SAYS_NOTHING]
    unknown = [each for each in unknown if not named_attributes(each)]
    things = _things()
    if not unknown or any(_is_meant(each, things) for each in unknown):
        return ""
    some = ", ".join(f"{thing}s" for thing in ("dog", "cat", "cake", "robot", "house"))
    none = " and no ".join(unknown[:3])[:80]
    return (
        f"I know no {none}, so I cannot show you that. I know drawings of a small world only, such "
        f"as {some}, Mia and Leo. What shall I show you of it?"
    )


def is_drawn(image: Image, card: Mapping[str, Any]) -> bool:
    """Whether a model can see what is on a photo, as far as one can tell."""
    return card.get("words") != "world" or image.size == _DRAWN


def in_words_of(thing: str, text: str, card: Mapping[str, Any]) -> str:
    """A caption for a ``thing`` that a ``text`` asks for in Spanish, of a model that knows English
    alone; else ""."""
    if card.get("words") != "world":
        return ""
    for word in re.findall(r"[a-z]+", plain(thing)):
        if (noun := in_english(word)) != word and noun in _things():
            return changed(f"a {noun}", [c for c in changes_in(text) if c.group != "tone"])
    return ""


@cache
def _things() -> tuple[str, ...]:
    from showtell.data.world import things_of_the_world

    return things_of_the_world()


def _is_meant(word: str, things: tuple[str, ...]) -> bool:
    """Whether it may be one of the things, in the plural, in Spanish, or with a slip."""
    single = in_english(word)
    swapped = any(sorted(single) == sorted(thing) for thing in things)
    return swapped or bool(get_close_matches(single, things, n=1, cutoff=0.8))
