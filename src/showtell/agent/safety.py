"""Checks of what is said and painted: of the user's text, of the words that a photo is painted
from, of what the agent says. A refusal is words of the agent's; nothing is painted.

A check is a function, named by its dotted path, as ``word_list`` here: it is given a text and whose
it is, and gives back a refusal, or None. Several are asked in turn. A check that fails refuses:
what cannot be looked at is not let pass. Which check refused is logged, and nothing of the text is.
"""

from __future__ import annotations

import importlib
import logging
import re
import tomllib
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from showtell.dialogue import AGENT, Turn
from showtell.errors import UsageError
from showtell.models.reply import Decision, Described, Event, Reply, Tell, Words, heard_reply

Of = Literal["user", "prompt", "output"]
Check = Callable[[str, Of], str | None]
OFF = "off"
WORD_LIST = "showtell.agent.safety.word_list"
UNSURE = "I cannot check that just now, and would rather leave it."
REASON = "a safety check refused"
_END = re.compile(r"[.!?…]\s|\n")
log = logging.getLogger("showtell.safety")


def word_list(text: str, of: Of) -> str | None:
    """The check that is on unless others are named: a short list of words (safety.toml).

    It is an example, and a fence one can step over: a list knows no meaning. It lets pass what is
    said in other words, in other languages, or in a photo, and refuses some who meant no harm. Who
    serves strangers names a classifier of their own.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(c for c in plain if unicodedata.category(c) != "Cf")  # what is not seen
    for whose, patterns, says in _rules():
        if of in whose and all(pattern.search(plain) for pattern in patterns):
            return says
    return None


@cache
def _rules() -> list[tuple[tuple[str, ...], list[re.Pattern[str]], str]]:
    told = tomllib.loads((Path(__file__).with_suffix(".toml")).read_text(encoding="utf-8"))
    any_of = {
        name: "|".join(re.escape(w).replace(r"\-", r"[\s-]+") for w in words.split())
        for name, words in told["lists"].items()
    }
    return [
        (
            tuple(rule["of"]),
            [re.compile(rf"\b(?:{any_of[name]})\b") for name in rule["all"]],
            rule["says"],
        )
        for rule in told["rules"]
    ]


class Safety:
    """The checks of a session. ``names``: dotted paths; none: checks are off, which is logged."""

    def __init__(self, names: Sequence[str] = (WORD_LIST,)) -> None:
        """Raises UsageError for a name of no check."""
        self.checks = {name: _named(name) for name in names if name != OFF}
        self.by_sentence = any(name != WORD_LIST for name in self.checks)
        if not self.checks:
            log.warning("safety checks are off")

    def refusal(self, text: str, of: Of) -> str | None:
        """What is said instead of an answer, or None."""
        for name, check in self.checks.items():
            try:
                said = check(text, of)
            except Exception as error:
                log.error("the check %s failed (%s)", name, type(error).__name__)
                said = UNSURE
            if said is not None:
                log.warning("%s refused a text (%s)", name, of)
                return said
        return None

    def answer(self, text: str, tell: Tell, answered: Callable[[Tell], Reply]) -> Reply:
        """The reply to a user's text that ``answered`` makes, unless a check refuses the text, what
        a photo is painted from, or what is said: then what was said until there, and words of
        refusal. Checks of your own are given whole sentences, and hold back what is told so long;
        the word list is asked at each piece, and holds back nothing."""
        if (said := self.refusal(text, "user")) is not None:
            return _refused([], said, tell)
        if not self.checks:
            return answered(tell)
        heard = _Heard(self, tell)
        try:
            reply = answered(heard)
            heard.flush()
        except _Refused as refused:
            return _refused(heard.events, refused.said, tell)
        return reply


class _Refused(Exception):
    def __init__(self, said: str) -> None:
        super().__init__(REASON)
        self.said = said


class _Heard:
    """``tell`` that looks at what it tells."""

    def __init__(self, safety: Safety, tell: Tell) -> None:
        self.safety, self.tell = safety, tell
        self.events: list[Event] = []
        self._held = self._turn = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Words):
            self._held += event.text
            if not self.safety.by_sentence or _END.search(self._held):
                self.flush()
            return
        self.flush()
        if isinstance(event, Described):
            self._look(event.words, "prompt")
        self._pass(event)

    def flush(self) -> None:
        """Look at what is held back, in its turn's whole text, and tell it."""
        if not self._held:
            return
        self._turn += self._held
        self._look(self._turn, "output")
        told, self._held = Words(text=self._held), ""
        self._turn = self._turn.rpartition("\n")[2]
        self._pass(told)

    def _look(self, text: str, of: Of) -> None:
        if text.strip() and (said := self.safety.refusal(text, of)) is not None:
            raise _Refused(said)

    def _pass(self, event: Event) -> None:
        self.tell(event)
        self.events.append(event)


def _refused(heard: Sequence[Event], said: str, tell: Tell) -> Reply:
    """What was said so far, and a turn that refuses."""
    reply = heard_reply(heard, reason=REASON)
    tell(Words(text=("\n" if reply.turns else "") + said + "\n"))
    reply.turns.append(Turn(speaker=AGENT, elements=(said,)))
    reply.decisions.append(Decision(share=False, reason=REASON))
    return reply


def _named(name: str) -> Check:
    module, _, function = name.rpartition(".")
    try:
        check = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f'there is no safety check "{name:.100}" ({error}); wanted the dotted path of a '
            f'function, as {WORD_LIST}, or "{OFF}"'
        ) from error
    if not callable(check):
        raise UsageError(f'"{name:.100}" is no function, wanted a check: (text, of) -> str or None')
    found: Check = check
    return found
