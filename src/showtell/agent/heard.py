"""What one text says about photos: asked for, not wanted, or neither; in English and Spanish, as
people write it.

    heard("can you shwo me a pic?")     True
    heard("no me mandes más fotos")     False
    heard("I took a photo of it")       None
    how_many("send me two, please")     2

The words are read without case and accents, and those about photos also with a slip of the fingers:
two letters changed places, one left out or doubled. A clause that comes later counts more.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_PHOTO = (
    r"\b(?:photo(?:graph)?s?|pictures?|pics?|images?|snaps?|snapshots?|selfies?|fotos?|"
    r"fotografias?|imagen(?:es)?)\b"
)
_GIVE = r"\b(?:show|send|share|post|text|drop)(?:ing)?\b"
_GIVE_ES = r"\b(?:manda|envia|muestra|ensena|comparte|pasa)(?:r)?(?:me|nos)?\b"
_NOT = (
    r"\b(?:not|never|without|stop|quit|don'?t|won'?t|didn'?t|needn'?t|enough|spare me|"
    r"tired of|sick of|prefer no|rather no)\b"
)
_BETWEEN = r"(?:\W+\w+){0,4}?\W+"
_REFUSES = re.compile(
    rf"{_NOT}{_BETWEEN}(?:{_GIVE}{_BETWEEN})?{_PHOTO}"
    rf"|\bno(?:\W+more|\W+need)?(?:\W+\w+)?\W+{_PHOTO}"
    rf"|\bno need\b.*{_PHOTO}"
    rf"|\b(?:stop|quit|don'?t|do not|never)\W+(?:\w+\W+)?{_GIVE}"
    r"|\b(?:don'?t|do not)\W+(?:need|want|wish|like)\W+to\W+see\b"
    r"|\b(?:words|text)\W+only\b|\b(?:just|only|keep it to|stick to)\W+(?:text|words)\b"
    # Spanish
    r"|\b(?:no|ni|nunca|tampoco)\W+(?:me\W+|nos\W+)?"
    r"(?:mandes|envies|muestres|ensenes|compartas|pases)\b"
    rf"|\b(?:no|sin|ninguna|nada de|basta de|ya no)\b(?:\W+\w+){{0,3}}?\W+{_PHOTO}"
    rf"|\b(?:deja|para|parar|dejar)\W+de\W+{_GIVE_ES}"
    r"|\bsolo\W+(?:texto|palabras)\b"
)
_ASKS = re.compile(
    # send me a picture; a picture, please; do you have a photo of it? can I see?
    rf"{_GIVE}\W+(?:me|us)\b"
    rf"|{_GIVE}(?:\W+\w+){{0,6}}?\W+{_PHOTO}"
    rf"|{_PHOTO}[^.?!]*(?:\bplease\b|\bpls\b|\bplz\b|\bpor favor\b|\?)"
    rf"|(?:\bplease\b|\bpls\b|\bplz\b|\bpor favor\b)[^.?!]*{_PHOTO}"
    r"|\b(?:can|could|may|might|let)\W+(?:i|we|me|us)\W+(?:\w+\W+){0,2}(?:see|have a look)\b"
    r"|\blet'?s\W+see\b"
    rf"|\b(?:can|could|may)\W+(?:i|we)\W+(?:get|have)\b(?:\W+\w+){{0,3}}?\W+{_PHOTO}"
    r"|\b(?:love|like|want|dying)\W+to\W+see\b|\bwanna\W+see\b|\bcurious\b.*\blooks? like\b"
    r"|\b(?:want|need|love|have you|do (?:you|u) have|(?:you|u)\W+got|got)\b"
    rf"(?:\W+\w+){{0,3}}?\W+{_PHOTO}"
    rf"|{_PHOTO}\W+(?:would|will)\W+be\b|{_PHOTO}\W+or\W+it\b"
    rf"|\bsend\W+(?:\w+\W+){{0,2}}{_PHOTO}"
    # Spanish
    rf"|{_GIVE_ES}(?:\W+\w+){{0,6}}?\W+{_PHOTO}|\b(?:manda|envia|muestra|ensena|pasa)(?:me|nos)\b"
    r"|\b(?:me|nos)\W+(?:mandas|envias|muestras|ensenas|pasas)\b"
    r"|\b(?:puedo|podria|quiero|quisiera|dejame|me gustaria)\W+ver\b"
    rf"|\b(?:tienes|tiene|hay)\b(?:\W+\w+){{0,3}}?\W+{_PHOTO}"
    rf"|\b(?:otra|a ver)\W+(?:\w+\W+)?{_PHOTO}"
)
_OF_MINE = re.compile(
    # I sent you a photo; do you want to see a photo of my cat? did you like the picture?
    rf"\b(?:i|we)\W+(?:\w+\W+){{0,2}}?(?:sent|shared|took|showed|have|got|lost)\b(?:\W+\w+){{0,5}}?\W+{_PHOTO}"
    r"|\b(?:i|i'?ll|we|let me)\W+(?:will\W+|can\W+|have to\W+)?(?:show|send|share)\b"
    r"|\b(?:want|wanna|like)\W+to\W+see\b(?:\W+\w+){0,3}?\W+my\b"
    rf"|{_PHOTO}\W+(?:i|we|he|she|they)\W+(?:sent|took|made|shared)\b"
    rf"|\b(?:take|taking|takes|took|saco|saque|sacar)\W+(?:\w+\W+)?{_PHOTO}"
)
_COUNTS = {
    "both": 2,
    "two": 2,
    "couple of": 2,
    "pair of": 2,
    "three": 3,
    "few": 3,
    "four": 4,
    "five": 5,
    "dos": 2,
    "par de": 2,
    "tres": 3,
    "cuatro": 4,
    "cinco": 5,
    "deux": 2,
    "trois": 3,
    "zwei": 2,
    "drei": 3,
}
MOST = 9  # photos that one can ask for at once
_COUNT = rf"(?P<n>\b(?:{'|'.join(_COUNTS)}|\d{{1,3}})\b)"
# two photos; two more nice photos; send me two; not: a photo of two dogs, show me two dogs
_COUNTED = re.compile(
    rf"{_COUNT}(?:\W+(?!of\b|de\b)\w+){{0,2}}?\W+{_PHOTO}"
    rf"|(?:{_GIVE}(?:\W+(?:me|us))?|{_GIVE_ES})\W+{_COUNT.replace('<n>', '<m>')}"
    r"(?:\W+(?:more|others?|of (?:them|those)|please|pls|mas|por favor))*\W*(?:$|[.,;!?])"
)
# what a slip of the fingers may have been meant for
_KNOWN = [
    "photo",
    "photos",
    "picture",
    "pictures",
    "image",
    "images",
    "selfie",
    "send",
    "show",
    "share",
    "please",
    "more",
    "stop",
    "sending",
]
_WORDS = frozenset(
    [
        "post",
        "spot",
        "pots",
        "shot",
        "shoe",
        "shop",
        "phone",
        "ends",
        "sed",
        "sow",
        "how",
        "hows",
        "mope",
    ]
)


def heard(text: str) -> bool | None:
    """True: asks for a photo; False: wants none; None: says nothing of it."""
    found = None
    for clause in re.split(r"[.!;\n]|(?<=\?)|,\W*but\b|,\W*pero\b", plain(text)):
        if _REFUSES.search(clause):
            found = False
        elif _ASKS.search(clause) and not _OF_MINE.search(clause):
            found = True
    return found


def how_many(text: str) -> int:
    """How many photos a request asks for: from 1 to MOST."""
    found = _COUNTED.search(plain(text))
    if found is None:
        return 1
    said = found["n"] or found["m"]
    return min(max(_COUNTS.get(said) or int(said), 1), MOST)


def plain(text: str) -> str:
    """Without case and accents, and without slips in the words about photos."""
    folded = unicodedata.normalize("NFKD", text.replace("’", "'").casefold())
    folded = "".join(c for c in folded if not unicodedata.combining(c))
    return re.sub(r"[a-z]{3,}", lambda found: _meant(found[0]), folded)


@cache
def _slips() -> dict[str, str]:
    """Each slip, and the one word that it may have been meant for."""
    found: dict[str, set[str]] = {}
    for word in sorted(_KNOWN):
        for k in range(len(word)):
            swapped = word[:k] + word[k + 1 : k + 2] + word[k] + word[k + 2 :]
            doubled = word[: k + 1] + word[k:]
            left_out = word[:k] + word[k + 1 :] if k else word
            for slip in (swapped, doubled, left_out):
                found.setdefault(slip, set()).add(word)
    known = {*_KNOWN, *_WORDS}
    return {slip: min(of) for slip, of in found.items() if slip not in known and len(slip) > 2}


def _meant(word: str) -> str:
    return _slips().get(word, word)
