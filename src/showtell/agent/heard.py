"""What one text says about photos: asked for, not wanted, or neither; in English and Spanish, and
the plain ways of French and German, as people write them.

    heard("can you shwo me a pic?")              True
    heard("no me mandes más fotos")              False
    heard("I took a photo of it")                None
    only_photo("just the photo, no words")       True
    how_many("send me two, please")              2

The patterns stand in heard.toml. The words are read without case and accents, and those about
photos also with a slip of the fingers: two letters changed places, one left out or doubled, or in
long words a key beside the right one. A clause that comes later counts more.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

MOST = 9  # photos that one can ask for at once
_AT_ONCE = 300  # characters
_ENDS = re.compile(r"[.!;\n]|(?<=\?)|,\W*(?:but|pero|mais|aber|sondern)\b")


@lru_cache(maxsize=4096)  # the texts of a talk are read at each answer
def heard(text: str) -> bool | None:
    """True: asks for a photo; False: wants none; None: says nothing of it."""
    says, found = _says(), None
    for clause in _clauses(text):
        clause = says["lifts"].sub(" ", says["quiet"].sub(" ", clause))
        if says["refuses"].search(clause) and not says["excused"].search(clause):
            found = False
        elif says["asks"].search(clause) and not says["of_mine"].search(clause):
            found = True
        elif found and says["retracts"].search(clause):
            found = None
    return found


def takes_back(text: str) -> bool:
    """Whether it says that photos may come again."""
    return _finds("lifts", text) is not None


def after_photo(text: str) -> bool | None:
    """The same of an answer to a photo, which need not name it: one more, or enough."""
    return True if _finds("more", text) else False if _finds("stop", text) else None


def to_offer(text: str, offer: str) -> bool | None:
    """Yes or no, where ``offer`` is a text that offers a photo; else None."""
    if not _finds("offered", offer):
        return None
    (answer, *_) = _clauses(text)
    return True if _says()["yes"].match(answer) else False if _says()["no"].match(answer) else None


def only_photo(text: str) -> bool:
    """Whether a request is for the photo alone, without a word."""
    return _finds("quiet", text) is not None or _finds("just", text) is not None


def how_many(text: str) -> int:
    """How many photos a request asks for: from 1 to MOST."""
    if (found := _finds("counted", text)) is None:
        return 1
    said = " ".join(re.findall(r"\w+", found["n"] or found["m"] or found["k"]))
    return min(max(_table()["count"].get(said) or int(said), 1), MOST)


def _finds(name: str, text: str) -> re.Match[str] | None:
    """The first clause's match of a pattern."""
    return next(filter(None, map(_says()[name].search, _clauses(text))), None)


def _clauses(text: str) -> list[str]:
    """What is read at once; an endless sentence in parts, so that time grows with its length."""
    return [
        clause[start : start + _AT_ONCE]
        for clause in _ENDS.split(plain(text))
        for start in range(0, max(len(clause), 1), _AT_ONCE)
    ]


def plain(text: str) -> str:
    """Without case and accents, and without slips in the words about photos."""
    text = re.sub("[📷📸🖼🤳]", " photo ", text.replace("’", "'"))
    folded = unicodedata.normalize("NFKD", text.casefold())
    folded = "".join(c for c in folded if not unicodedata.combining(c))
    folded = re.sub(r"([a-z])\1{2,}", r"\1", folded)  # pleeease
    folded = re.sub(r"\b2 (?=c\b|see\b)", "to ", re.sub(r"\b(?<=[2io] )c\b", "see", folded))
    return re.sub(r"[a-z]{2,}", lambda found: _meant(found[0]), folded)


# ------------------------------------------------------------------------------- the patterns


@cache
def _table() -> dict[str, Any]:
    """heard.toml."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@cache
def _says() -> dict[str, re.Pattern[str]]:
    told = _table()
    counts = sorted(told["count"], key=len, reverse=True)
    words = {**told["words"], "COUNT": "|".join([*counts, r"\d{1,3}"])}

    def pattern(lines: str) -> re.Pattern[str]:
        """One that finds what any of the lines does."""
        return re.compile(
            "|".join(rf"(?:{_as_re(line, words)})" for line in lines.split("\n") if line)
        )

    def languages(of: dict[str, str]) -> str:
        return "\n".join(lines for name, lines in of.items() if len(name) == 2)

    only, asks, refuses = told["only"], told["asks"], told["refuses"]
    return {
        **{name: pattern(lines) for name, lines in (only | told["after"]).items()},
        "lifts": pattern(told["lifts"]["any"]),
        "refuses": pattern(languages(refuses)),
        "excused": pattern(refuses["excused"]),
        "asks": pattern(only["just"] + languages(asks)),
        **{name: pattern(asks[name]) for name in ("of_mine", "retracts")},
        "counted": pattern(told["counted"]["lines"]),
    }


def _as_re(line: str, words: dict[str, str]) -> str:
    """A pattern of heard.toml in Python's notation, at the bounds of words."""
    names = re.compile(rf"\b({'|'.join(words)})(?P<ending>\([a-z]|)")
    while (
        said := names.sub(
            lambda name: rf"\b({words[name[1]]})" + (name["ending"] or r"(?!\w)"),
            line,
        )
    ) != line:
        line = said
    line = re.sub(r"\((?!\?)", "(?:", line)
    line = line.replace("...", r"(?:\w+ ){0,5}?").replace("~", r"(?:\w+ ){0,2}?")
    line = re.sub(r"(^|\(\?:)\^", r"\1^\\W*", line)
    line = re.sub(r"(?<!\\)\$", r"\\W*$", line)
    line = line.replace("'", r"\W?").replace(" ", r"\W+")
    start = "" if "^" in line[:4] else r"\b"
    return rf"{start}(?:{line})(?!\w)"


# ---------------------------------------------------------------------------------- the slips


@cache
def _slips() -> dict[str, str]:
    """Each slip, and the one word that it may have been meant for."""
    told = _table()["slips"]
    meant, rows = told["meant"].split(), told["keys"].split()
    found: dict[str, set[str]] = {}
    for word in sorted(meant):
        for k, letter in enumerate(word):
            slips = {word[:k] + word[k + 1 : k + 2] + letter + word[k + 2 :]}  # changed places
            slips |= {word[: k + 1] + word[k:]}  # doubled
            slips |= {word[:k] + word[k + 1 :]} if k else set()
            row = next(row for row in rows if letter in row)
            if k and len(word) > 4:  # the key beside
                at = row.index(letter)
                slips |= {word[:k] + key + word[k + 1 :] for key in row[max(at - 1, 0) : at + 2]}
            for slip in slips:
                found.setdefault(slip, set()).add(word)
    known = {*meant, *told["own"].split()}
    meanings = {slip: min(of) for slip, of in found.items() if slip not in known and len(slip) > 2}
    written = iter(told["written"].split())
    return meanings | dict(zip(written, written, strict=True))


def _meant(word: str) -> str:
    return _slips().get(word, word)
