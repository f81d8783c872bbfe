"""What a request means in a talk that has photos: which of them it is about, and what is to be
otherwise.

    "the second one again but at night"      that one, painted once more with another caption
    "another of the same dog"                its subject, on another photo
    "make mine darker, not yours"            the user's photo itself, darker
    "no, I wanted a blue one"                the last one's caption, blue

``remembered`` reads the last that the user said; where it is about no photo, the wish is as it was.
Where it may be about several, or none, the agent asks which (``Wish.instead``).
English and Spanish, as people write (``heard.plain``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from showtell.agent.changes import Change, changed, changes_in, names, subject, toned, untoned
from showtell.agent.heard import heard, plain
from showtell.agent.honest import CANNOT_SEE, asked_for, cannot_show, in_words_of, is_drawn
from showtell.agent.introduced import known_in, meant_by, told_of
from showtell.agent.prompts import prompts
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.models.reply import Shared, Wish

if TYPE_CHECKING:
    from PIL.Image import Image

STRENGTH = 0.9  # of an edit's noise: with less, the old time and weather stay
ONLY_REFUSES = 10  # words of a text that says nothing else
UNSEEN = "I cannot see that photo. Tell me what is on it, and what should be otherwise."
_NO_CARD: Mapping[str, Any] = MappingProxyType({})
_NUMBERS = {
    **dict.fromkeys(("first", "1st", "primera", "primero", "primer"), 0),
    **dict.fromkeys(("second", "2nd", "segunda", "segundo"), 1),
    **dict.fromkeys(("third", "3rd", "tercera", "tercero", "tercer"), 2),
    **dict.fromkeys(("fourth", "4th", "cuarta", "cuarto"), 3),
    **dict.fromkeys(("fifth", "5th", "quinta", "quinto"), 4),
    **{"sixth": 5, "6th": 5, "seventh": 6, "7th": 6, "eighth": 7, "8th": 7, "ninth": 8, "9th": 8},
    **dict.fromkeys(("last", "latest", "ultima", "ultimo"), -1),
}
_ONE = r"(?:one|photo|pic|picture|image|shot|foto|imagen)s?\b"
_MINE = re.compile(rf"\bmine\b|\bmy (?:own )?{_ONE}|\b(?:la|el|lo) mi[ao]\b|\bmi {_ONE}")
_YOURS = re.compile(rf"\byours\b|\byour (?:own )?{_ONE}|\b(?:la|el|lo) tuy[ao]\b|\btu {_ONE}")
_NOT_THAT = re.compile(
    rf"(?:,|\bbut\b|\band\b|\bpero\b|\by\b)?\s*\b(?:not?|don'?t (?:touch|change))\s+"
    rf"(?:mine\b|yours\b|(?:my|your) {_ONE}|(?:la|el|lo) (?:mi|tuy)[ao]\b)"
)
# how a sentence begins before what it asks for
_BEGINS = re.compile(
    r"\W*(?:(?:no|nope|ok|okay|and|now|then|but|so|please|pls|hey|hi|haha|nice|great|cool|y|ahora|"
    r"por favor|oye|vale|also|pero|hmm|thanks|gracias)\b\W*)*"
)
_GIVE = re.compile(
    r"(?:(?:(?:can|could|would|will|may) (?:you|u|i|we)|let me|puedes|podrias|"
    r"i(?:'d| would)? (?:want|like|love)(?: to)?|i wanna)\W+(?:please\W+)?)?"
    r"(?:(?:show|send|give|share|paint|draw|see|have|get|(?:me\W+)?(?:muestra|manda|envia|ensena|"
    r"pasa|pinta|da)(?:r?me|r|s)?|ver|quiero|quisiera)\W+(?:(?:me|us|ver)\W+)?)?"
)
_AGAIN = r"(?:again|once more|one more time|otra vez|de nuevo|una vez mas)\b"
_THE = r"(?:the|that|el|la|lo|los|las|your|my|tu|mi)"
_NOUN = r"(?P<{}>[a-z][a-z'-]+)\b"
_NTH = rf"(?P<nth>{'|'.join(_NUMBERS)})\b(?:\W+{_ONE})?"
# the second one; the same dog; the one with the cat; that one
_WHICH = re.compile(
    rf"(?P<before>{_AGAIN}\W+)?(?:(?:{_THE}\W+)?{_NTH}(?:\W+of (?:yours|mine))?"
    rf"|{_THE}\W+(?P<same>same|mism[oa])\b(?:\W+(?!but|pero|in\b|at\b|de\b|en\b|{_AGAIN})"
    rf"{_NOUN.format('noun')})?"
    rf"|{_THE}\W+{_ONE}\W+(?:of|with|de|del|con)\W+(?:{_THE}\W+)?{_NOUN.format('noun2')}"
    rf"|(?:it|that {_ONE}|that|this|es[ao](?: {_ONE})?|la))\b(?P<after>\W+{_AGAIN})?"
)
_BUT = re.compile(r"\W*(?:,|but|pero|only|just|solo)")
_ANOTHER = re.compile(
    rf"\b(?:another|one more|more|otr[ao]s?|mas)\b(?:\W+{_ONE})?\W+(?:of|del?)\W+"
    rf"(?:(?:{_THE}\W+)?(?:same|that|this|mism[ao]s?|es[ea])\b(?:\W+{_NOUN.format('noun')})?"
    rf"|(?:him|her|it|them|el|ella)\b)"
)
_EDIT = re.compile(
    r"(?:(?:can|could|would|will) (?:you|u)\W+(?:please\W+)?|puedes\W+|podrias\W+)?"
    r"(?:make|turn|edit|change|haz|hacer|pon|poner|pinta|pintar|cambia|cambiar)(?:l[oae]s?)?\b"
    rf"(?:(?<=l[oae])|(?<=l[oae]s)|\W+(?:(?:{_THE}\W+)?{_NTH}|(?:it|that|this|them|him|her|mine|yours)"
    rf"\b|(?:my|your|tu|mi|esa|este?) {_ONE}|(?:la|el|lo) (?:mi|tuy)[ao]\b"
    rf"|(?:the|el|la)\W+{_NOUN.format('noun')}))"
)
_WANTED = re.compile(
    r"i\W+(?:wanted|meant|asked for|was asking for|said(?! (?:it|that|he|she|i|you|so)\b))\b"
    r"|(?:l[oa]\W+)?(?:queria|pedi|dije)\b"
)
_OTHERS = re.compile(r"\b(?:they|he|she|we)\b")
_NO_NOUN = re.compile(rf"(?:{_ONE}|thing|them|again)\b")
_FILLING = {"a", "bit", "little", "much", "un", "poco", "even", "please", "pls", "por", "favor"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a photo that was shown: to see it "again", "another" of the same, an "edit",
    or what was "wanted" in its place. Which: ``nth``, with ``noun`` on it, by ``speaker`` (None:
    not said); ``changes``: what is to be otherwise."""

    kind: Literal["again", "another", "edit", "wanted"]
    nth: int | None = None
    noun: str | None = None
    speaker: str | None = None
    changes: tuple[Change, ...] = ()


def request_in(text: str) -> Request | None:
    """What a text asks of a photo that was shown; None: nothing."""
    whole = " ".join(plain(text).split())
    for sentence in re.split(r"(?<=[.!?;])\s+", whole):
        for begin in (0, *(comma.end() for comma in re.finditer(r",\s", sentence))):
            if (found := _request_of(sentence[begin:])) is not None:
                return found
    return None


def _request_of(sentence: str) -> Request | None:
    said = _NOT_THAT.sub(" ", sentence)
    said = said[_end(_BEGINS, said) :]
    changes = changes_in(said)
    tones = [change for change in changes if change.group == "tone"]
    kind: Literal["again", "another", "edit", "wanted"] | None = None
    which = _ANOTHER.search(said)
    if which is not None:
        kind = "another"
    elif changes and _WANTED.match(said) and not _OTHERS.search(said):
        kind = "wanted"
    elif changes and (which := _EDIT.match(said)) is not None:
        kind = "edit"
    elif tones and not {*re.findall(r"[a-z]+", said)} - _FILLING - {*tones[0].said.split()}:
        kind = "edit"  # a bit darker, please
    elif (which := _WHICH.match(said, _end(_GIVE, said))) is not None:
        named = which["nth"] or which["same"] or which["noun2"]
        again = (which["before"] or which["after"]) and (named or which.start())
        but = which["nth"] and _BUT.match(said[which.end() :])
        if again or (changes and (which["same"] or but)):
            kind = "again"
    if kind is None:
        return None
    named = which.groupdict() if which is not None else {}
    noun = named.get("noun") or named.get("noun2")
    mine, yours = _MINE.search(said), _YOURS.search(said)
    return Request(
        kind=kind,
        nth=_NUMBERS[named["nth"]] if named.get("nth") else None,
        noun=noun if noun and not _NO_NOUN.match(noun) and not changes_in(noun) else None,
        speaker=USER if mine and not yours else AGENT if yours and not mine else None,
        changes=changes,
    )


def _end(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.match(text)
    return found.end() if found else 0


# ---------------------------------------------------------------------------------- which it is


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A photo of the talk, and whose it is: an edit of the user's is the user's."""

    photo: Photo
    speaker: str


def shown_in(turns: Sequence[Turn]) -> list[Shown]:
    """The photos of a talk, oldest first; one that came again stands where it came first."""
    found: dict[str, Shown] = {}
    for turn in turns:
        for photo in turn.photos:
            whose = USER if USER in (turn.speaker, photo.origin) else AGENT
            found.setdefault(photo.id, Shown(photo=photo, speaker=whose))
    return list(found.values())


def meant(request: Request, shown: Sequence[Shown]) -> Shown | None:
    """The photo that a request is about; None where it may be several, or none.

    An ordinal counts the agent's photos; of an edit, where that would be another one of all photos,
    none is meant.
    """
    own = [each for each in shown if each.speaker == (request.speaker or AGENT)]
    if request.noun is not None:
        for each in reversed(own if request.speaker else shown):
            if names(each.photo.caption, request.noun):
                return each
        return shown[0] if len(shown) == 1 and not shown[0].photo.caption else None
    if request.nth is not None:
        found = _at(own, request.nth)
        if request.kind == "edit" and request.speaker is None and found != _at(shown, request.nth):
            return None
        return found
    if request.speaker is not None or request.kind == "wanted":
        return _at(own, -1)
    return _at(shown if request.kind == "edit" else own, -1)


def _at(shown: Sequence[Shown], nth: int) -> Shown | None:
    return shown[nth] if -1 <= nth < len(shown) and shown else None


# ------------------------------------------------------------------------------ what comes of it


def remembered(
    wish: Wish,
    turns: Sequence[Turn],
    images: Mapping[str, Image],
    look: Callable[[Image], str],
    *,
    card: Mapping[str, Any] = _NO_CARD,
    registry: bool = True,
) -> Wish:
    """The wish, with what the talk's photos make of it, and who is known from it (``registry``).
    ``images``: the photos' pixels, by id; ``look`` tells in words what is on one ("": not known);
    ``card``: of the model that answers, by which it is told what that cannot show or see."""
    if registry:
        wish = _with_known(wish, turns)
    after = next((k for k in range(len(turns), 0, -1) if turns[k - 1].speaker == AGENT), 0)
    text = "\n".join(turn.text for turn in turns[after:] if turn.text)
    if wish.share is False:
        # mini has learnt what one says to that
        return wish if card.get("words") == "world" else _obeyed(wish, text)
    request = request_in(text)
    shown = shown_in(turns)
    if request is not None and request.kind == "wanted" and not _just_shown(turns[:after]):
        request = None
    if request is None or not shown:
        brought = [images.get(photo.id) for turn in turns[after:] for photo in turn.photos]
        return _honest(wish, card, [image for image in brought if image is not None])
    found = meant(request, shown)
    if found is None and request.kind == "edit" and request.noun:  # make the bed
        return wish
    asked = replace(wish, share=True, words=wish.words or text)
    if found is None:
        return replace(asked, instead=_which(shown, request))
    image = images.get(found.photo.id)
    if image is not None and not is_drawn(image, card):
        look = sees_none
    return _fulfilled(asked, request, found, image, look)


def _obeyed(wish: Wish, text: str) -> Wish:
    """The wish; where a text says no more than that no photos are wanted, with a word on that: what
    a small model says to it denies what it does."""
    alone = heard(text) is False and "?" not in text and len(text.split()) <= ONLY_REFUSES
    return replace(wish, instead=prompts()["itself"]["refused"]) if alone else wish


def _honest(wish: Wish, card: Mapping[str, Any], brought: Sequence[Image]) -> Wish:
    """The wish, with what the model cannot do."""
    if wish.share is not True:
        unseen = not all(is_drawn(image, card) for image in brought)
        return replace(wish, instead=CANNOT_SEE) if unseen else wish
    if wish.amend is not None:  # of somebody who was introduced
        return wish
    thing = asked_for(wish.words)
    caption = in_words_of(thing, wish.words, card)
    return replace(wish, beyond=cannot_show(thing, card), caption=caption)


def sees_none(image: Image) -> str:
    """``look`` of what sees no photos."""
    return ""


def _with_known(wish: Wish, turns: Sequence[Turn]) -> Wish:
    known = known_in(turns)
    wish = replace(wish, known=told_of(known))
    if (who := meant_by(turns, known)) is None or not who.looks:
        return wish
    asked = changes_in(next(turn.text for turn in reversed(turns) if turn.text))
    words = wish.words
    if who.name:  # what an album may have heard of
        words = re.sub(rf"\b{re.escape(who.name)}\b", who.phrase, words, flags=re.IGNORECASE)
    return replace(wish, words=words, amend=lambda caption: who.amended(caption, asked))


def _just_shown(turns: Sequence[Turn]) -> bool:
    """Whether a photo was in the agent's last answer."""
    for turn in reversed(turns):
        if turn.speaker != AGENT:
            return False
        if turn.photos:
            return True
    return False


def _fulfilled(
    wish: Wish,
    request: Request,
    found: Shown,
    image: Image | None,
    look: Callable[[Image], str],
) -> Wish:
    photo = found.photo
    tones = [change for change in request.changes if change.group == "tone"]
    changes = [change for change in request.changes if change.group != "tone"]
    told = photo.caption or ("" if image is None else look(image))
    as_it_is = request.kind in ("again", "edit") and not changes
    if as_it_is and image is not None and (tones or found.speaker == AGENT):
        for tone in tones:
            image = toned(image, tone)
            name = f"{photo.id}-{tone.words.replace(' ', '-')}"
            told = f"{told}, {tone.words}" if told else ""
            photo = replace(photo, id=name, caption=told, path=None)
        return replace(wish, same=Shared(photo=photo, image=image))
    told = untoned(told)  # what is painted is not
    if not told:
        return replace(wish, instead=UNSEEN)
    if request.kind == "another":
        return replace(wish, caption=changed(subject(told), changes))
    caption = changed(told, changes)
    if request.kind == "wanted":
        return replace(wish, caption=caption)
    if photo.origin == "painted" and photo.seed is not None:
        return replace(wish, caption=caption, seed=photo.seed)
    return replace(wish, caption=caption, start=image, strength=STRENGTH)


def _which(shown: Sequence[Shown], request: Request) -> str:
    """What the agent asks where it does not know which photo is meant."""
    own = [each for each in shown if each.speaker == (request.speaker or AGENT)]
    whose = "You have" if request.speaker == USER else "I have"
    if not own and request.speaker is not None:
        return f"{whose} not sent a photo in this talk yet. Which one do you mean?"
    listed = [
        f"{k}. {'yours' if each.speaker == USER else 'mine'}"
        + (f" ({each.photo.caption})" if each.photo.caption else "")
        for k, each in enumerate(shown, start=1)
    ]
    return f"Which photo do you mean? There are: {'; '.join(listed[-9:])}."
