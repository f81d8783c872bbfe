"""When a photo comes: what the user has said of photos (heard.py) counts before what a model thinks
of the moment.

    wish_of(turns)                        share: True, False, or None where nothing was said of it
    When(threshold, reading)              decides by that, else by P(share), as the dial allows
    dial_of("offer", "1/10", "3:1")       a dial, in people's words
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, get_args, get_type_hints

from showtell.agent.heard import (
    after_photo,
    heard,
    how_many,
    only_photo,
    takes_back,
    to_offer,
)
from showtell.agent.prompts import prompts
from showtell.dialogue import USER, Turn
from showtell.errors import UsageError, did_you_mean
from showtell.models.reply import Decision, Dial, Wish

KINDS: tuple[str, ...] = get_args(get_type_hints(Dial)["kind"])


# ------------------------------------------------------------------------------- what is wished


def wish_of(turns: Sequence[Turn]) -> Wish:
    """What the user wishes now. A request counts for the answer to it, a refusal until a request,
    or a word of the user's, takes it back; a no to an offer is for once."""
    last = deque(_wishes(turns), maxlen=1)
    return last[0][1] if last else Wish()


def _wishes(turns: Sequence[Turn]) -> Iterator[tuple[list[Turn], Wish]]:
    """What was said in a row by one side, and what the user wishes after it; from an answer on,
    of the next one."""
    answer: list[Turn] = []
    refused = False
    for by_user, run in groupby(turns, key=lambda turn: turn.speaker == USER):
        said = list(run)
        if not by_user:
            answer = said
            yield said, Wish(share=False if refused else None)
            continue
        now, words = None, ""
        for turn in said:
            wants = heard(turn.text)
            if wants is None and any(each.photos for each in answer):
                wants = after_photo(turn.text)
            if wants is not None:
                refused = not wants
            elif takes_back(turn.text):
                refused, now = False, None
            elif (wants := to_offer(turn.text, " ".join(each.text for each in answer))) is True:
                refused = False
            if wants is not None:
                now, words = wants, turn.text
        if now is None and refused:
            now = False
        if now:
            only, count = only_photo(words), how_many(words)
            yield said, Wish(share=True, words=words, only=only, count=count)
        else:
            yield said, Wish(share=now)


# ----------------------------------------------------------------------------------- the chance


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How P(share) is read: sigma(scale logit(p) + bias), scale above 0."""

    scale: float = 1.0
    bias: float = 0.0

    def __call__(self, chance: float) -> float:
        return chance if self._as_said else sigma(self.scale * logit(chance) + self.bias)

    def back(self, chance: float) -> float:
        """The P(share) that is read so."""
        return chance if self._as_said else sigma((logit(chance) - self.bias) / self.scale)

    @property
    def _as_said(self) -> bool:
        return (self.scale, self.bias) == (1.0, 0.0)

    @classmethod
    def of(cls, card: Mapping[str, Any]) -> Reading | None:
        """What a model's card says of an agent whose turn it is; None where it says nothing."""
        told = card.get("moment", {}).get("spoken")
        return None if told is None else cls(scale=told["scale"], bias=told["bias"])


@dataclass(frozen=True, kw_only=True)
class When:
    """Decides by the user's words; where there are none by P(share), as the dial allows.

    ``threshold``: of P(share) as the model says it; a dial with a ``cost`` has its own in its
    place, of the chance as ``reading`` has it.
    """

    threshold: float
    reading: Reading | None = None

    def wish(self, turns: Sequence[Turn]) -> Wish:
        return wish_of(turns)

    def decide(
        self, p_share: float | None, *, turns: Sequence[Turn], wish: Wish, dial: Dial
    ) -> Decision:
        read = self.reading or Reading()
        threshold = self.threshold
        if dial.cost is not None:
            threshold = read.back(threshold_of(dial.cost))
        if dial.shift:
            threshold = sigma(logit(threshold) + dial.shift)
        enough = p_share is not None and p_share >= threshold
        chance = None if p_share is None else read(p_share)
        wanted = read(threshold)
        share, offer = False, ""
        told = "is not known" if chance is None else f"is {chance:.0%}"
        told = f"the chance of a photo {told}; wanted {wanted:.0%}"
        if dial.cost is not None:
            told += f", as an unwanted photo costs {dial.cost:g} times a missed one"
        if wish.share is not None:
            share = wish.share
            reason = "you asked for a photo" if share else "you want no photos"
        elif not enough:
            reason = told
        elif dial.kind == "asked":
            reason = "photos come only when you ask for them"
        elif dial.most is not None and _unasked(turns, dial.within) >= dial.most:
            reason = f"at most {dial.most} photos come unasked in {dial.within} turns"
        elif dial.kind == "offer":
            offer = "" if _offered(turns) else prompts()["itself"]["offer"]
            reason = "a photo would fit here; it is offered first"
        else:
            share, reason = True, told
        return Decision(
            share=share,
            p_share=p_share,
            chance=None if self.reading is None else chance,
            threshold=wanted,
            reason=reason,
            offer=offer,
        )


def threshold_of(cost: float) -> float:
    """The chance from which a photo costs less than none: c / (c + 1), where an unwanted one costs
    c and a missed one 1."""
    return cost / (cost + 1)


def shift_of(votes: Sequence[int]) -> float:
    """``Dial.shift`` of votes for photos, the latest last: +1 lowers the threshold by a tenth of a
    logit, -1 raises it; the last twenty count."""
    return -0.1 * sum(votes[-20:])


def _unasked(turns: Sequence[Turn], within: int) -> int:
    """Photos in the agent's last turns that nobody had asked for."""
    asked, own = False, []
    for said, wish in _wishes(turns):
        if said[0].speaker != USER:
            own += [0 if asked else len(turn.photos) for turn in said]
        asked = wish.share is True
    return sum(own[-within:])


def _offered(turns: Sequence[Turn]) -> bool:
    """Whether the agent has offered a photo just now."""
    own = [turn.text for turn in turns if turn.speaker != USER][-4:]
    return prompts()["itself"]["offer"] in own


def sigma(logit: float) -> float:
    return 1 / (1 + math.exp(-min(max(logit, -50.0), 50.0)))


def logit(chance: float) -> float:
    clipped = min(max(chance, 1e-9), 1 - 1e-9)
    return math.log(clipped / (1 - clipped))


# ------------------------------------------------------------------------- a dial, in words


def dial_of(kind: str | None, budget: str | None, cost: str | None, *, usual: Dial) -> Dial:
    """The ``usual`` dial, set otherwise: its kind, "N/TURNS" for photos unasked, "3:1" for an
    unwanted one against a missed one; None leaves what is. Raises UsageError."""
    dial = usual
    if kind is not None:
        if kind not in KINDS:
            meant = did_you_mean(kind, KINDS)
            meant = meant if "mean" in meant else ""
            raise UsageError(f'the dial is "{kind:.40}"; wanted {", ".join(KINDS)}{meant}')
        dial = replace(dial, kind=kind)  # type: ignore[arg-type]
    if budget is not None:
        found = re.fullmatch(r"(\d{1,3})/(\d{1,4})", budget)
        if found is None or int(found[2]) == 0:
            raise UsageError(
                f'the budget is "{budget:.40}"; wanted N/TURNS, as 1/10: at most one photo unasked '
                "in ten turns"
            )
        dial = replace(dial, most=int(found[1]), within=int(found[2]))
    if cost is not None:
        found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?):(\d{1,6}(?:\.\d+)?)", cost)
        if found is None or not (float(found[1]) and float(found[2])):
            raise UsageError(
                f'the cost is "{cost:.40}"; wanted UNWANTED:MISSED, as 3:1: an unwanted photo is '
                "three times as bad as a missed one"
            )
        dial = replace(dial, cost=float(found[1]) / float(found[2]))
    return dial


def dial_in_words(dial: Dial) -> str:
    """How freely photos come, in one line."""
    told = {
        "asked": "photos come only when you ask for them",
        "offer": "photos are offered first, and come when you say yes",
        "proactive": "photos come when they fit",
    }[dial.kind]
    if dial.kind == "asked":
        return told
    if dial.most is not None:
        told += f", at most {dial.most} unasked in {dial.within} turns"
    if dial.cost is not None:
        told += f", when their chance is {threshold_of(dial.cost):.0%} (cost {dial.cost:g}:1)"
    return told
