"""What is to be otherwise in a photo: read in what people say, and put into its caption.

    changes = changes_in("the same but blue, at night")
    changed("a red dog at the beach", changes)     a blue dog at the beach, at night
    subject("a red dog at the beach")              a red dog

A caption says one thing of a group (changes.toml): what is said anew takes the place of what it
said. What a table does not know is a place where it follows "in the", "on a" and the like.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from showtell.agent.heard import plain

if TYPE_CHECKING:
    from PIL.Image import Image

# of any other place: in a spaceship; beside the table
_PLACE = re.compile(
    r"\b(?P<how>in|at|inside|on|under|beside|next to|near|behind) (?:the|an?) "
    r"(?!photo|pic|image|same|first|second|third|last|way\b|end\b)[a-z]+"
)
_INSIDE = ("in", "at", "inside")
_BEHIND = re.compile(
    r",|\b(?:at|in|on|under|beside|next|by|with|during|near|behind|all alone|alone|inside|downtown|"
    r"up|out|en|de noche|bajo)\b"
)
_NUMBER = re.compile(r"(?:an?|the|one|two|three|four|five|some|un[ao]?|el|la)\b\s*")

_NOUNS = {  # what people say in Spanish of what captions say in English
    **{"perro": "dog", "perra": "dog", "gato": "cat", "gata": "cat", "pato": "duck"},
    **{"conejo": "rabbit", "coche": "car", "carro": "car", "autobus": "bus", "barco": "boat"},
    **{"tarta": "cake", "pastel": "cake", "helado": "ice", "pelota": "ball", "osito": "teddy"},
    **{"flor": "flower", "casa": "house", "faro": "lighthouse", "chica": "girl", "arbol": "tree"},
}
_ALIKE = ({"dog", "puppy"}, {"cat", "kitty", "kitten"}, {"rabbit", "bunny"}, {"teddy", "bear"})


class Change(NamedTuple):
    """What a photo is to show, of which group; ``said``: how a person said it."""

    group: str
    words: str
    said: str = ""


class _Said(NamedTuple):
    start: int
    stop: int
    change: Change


@cache
def _patterns() -> tuple[tuple[Change, re.Pattern[str]], ...]:
    path = Path(__file__).with_suffix(".toml")
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return tuple(
        (Change(group, words), re.compile(rf"\b(?:{'|'.join(said)})(?![\w-])"))
        for group, values in table.items()
        for words, said in values.items()
    )


def _said_in(text: str) -> list[_Said]:
    """All that a text, without case and accents, says of any group, in its order."""
    found: list[_Said] = []
    left = text
    for change, pattern in _patterns():
        for match in pattern.finditer(left):
            found.append(_Said(*match.span(), change._replace(said=match[0])))
        left = pattern.sub(lambda match: "\0" * len(match[0]), left)
    for match in _PLACE.finditer(left):
        group = "place" if match["how"] in _INSIDE else "beside"
        found.append(_Said(*match.span(), Change(group, match[0], match[0])))
    return sorted(found)


def changes_in(text: str) -> tuple[Change, ...]:
    """What a text asks for, one of a group: the last that it says."""
    found = {said.change.group: said.change for said in _said_in(plain(text))}
    return tuple(found.values())


def subject(caption: str) -> str:
    """Who or what is on the photo, with number and looks, less where and when."""
    found = _BEHIND.search(caption)
    return caption[: found.start()].strip() if found and found.start() else caption


def changed(caption: str, changes: Sequence[Change]) -> str:
    """The caption, with these in the place of what it said of the same groups."""
    for change in changes:
        folded = caption.casefold()
        same = len(folded) == len(caption)
        said = [s for s in _said_in(folded if same else caption) if s.change.group == change.group]
        if change.group == "colour":
            caption = _coloured(caption, change.words, said)
            continue
        if said:
            first = said[0]
            caption = caption[: first.start] + change.words + caption[first.stop :]
        else:
            several = "," in caption or any(
                s.change.group in ("time", "weather", "place") for s in _said_in(folded)
            )
            caption = f"{caption}{',' * several} {change.words}".strip()
    return caption


def _coloured(caption: str, colour: str, said: Sequence[_Said]) -> str:
    """The subject in this colour. One with a name has its own looks: "Mia" stays."""
    whole = subject(caption)
    number = _NUMBER.match(whole)
    first = next((each for each in said if each.start < len(whole)), None)
    if first is not None:
        whole = whole[: first.start] + colour + whole[first.stop :]
    elif number is not None:
        whole = whole[: number.end()] + f"{colour} " + whole[number.end() :]
    elif whole[:1].islower():
        whole = f"{colour} {whole}"
    else:
        return caption
    whole = re.sub(r"^an? (?=(\w))", lambda m: "an " if m[1] in "aeiou" else "a ", whole)
    return whole + caption[len(subject(caption)) :]


def toned(image: Image, change: Change) -> Image:
    """The photo itself, darker, brighter, more colorful or in black and white."""
    from PIL import ImageEnhance

    image = image.convert("RGB")
    if change.words == "darker":
        return ImageEnhance.Brightness(image).enhance(0.6)
    if change.words == "brighter":
        return ImageEnhance.Brightness(image).enhance(1.4)
    return ImageEnhance.Color(image).enhance(1.6 if change.words == "more colorful" else 0.0)


def in_english(noun: str) -> str:
    """As captions say it."""
    return _NOUNS.get(noun) or _NOUNS.get(noun.removesuffix("s")) or noun


def names(caption: str, noun: str) -> bool:
    """Whether a caption names such a thing: in the singular or plural, in English or Spanish."""
    words = {_single(word) for word in re.findall(r"[a-z]+", plain(caption))}
    alike = _alike(_single(in_english(noun)))
    return any(all(_single(word) in words for word in each.split()) for each in alike)


def _alike(noun: str) -> set[str]:
    return next((same for same in _ALIKE if noun in same), {noun})


def _single(word: str) -> str:
    return re.sub(r"ies$", "y", word) if word.endswith("ies") else word.removesuffix("s")


def untoned(caption: str) -> str:
    """A caption less what was done to the pixels alone."""
    return re.sub(r", (?:in black and white|darker|brighter|more colorful)\b", "", caption)
