"""When a photo comes: what the user has said of photos (heard.py) counts before what a model thinks
of the moment.

    wish_of(turns)      share: True, False, or None where nothing was said of it
    When(threshold)     decides by that, else by P(share)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

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
from showtell.models.reply import Decision, Dial, Wish


def wish_of(turns: Sequence[Turn]) -> Wish:
    """What the user wishes now. A request counts for the answer to it, a refusal until a request
    takes it back; a no to an offer is for once."""
    now, words, refused = None, "", False
    answer: list[Turn] = []
    for by_user, run in groupby(turns, key=lambda turn: turn.speaker == USER):
        if not by_user:
            answer = list(run)
            now = None
            continue
        for turn in run:
            said = heard(turn.text)
            if said is None and any(one.photos for one in answer):
                said = after_photo(turn.text)
            if said is not None:
                refused = not said
            elif takes_back(turn.text):
                refused, now = False, None
            elif (said := to_offer(turn.text, " ".join(one.text for one in answer))) is True:
                refused = False
            if said is not None:
                now, words = said, turn.text
    if now is None and refused:
        now = False
    if not now:
        return Wish(share=now)
    return Wish(share=True, words=words, only=only_photo(words), count=how_many(words))


@dataclass(frozen=True, kw_only=True)
class When:
    """Decides by the user's words; where there are none by P(share), as the dial allows."""

    threshold: float

    def wish(self, turns: Sequence[Turn]) -> Wish:
        return wish_of(turns)

    def decide(
        self, p_share: float | None, *, turns: Sequence[Turn], wish: Wish, dial: Dial
    ) -> Decision:
        threshold = self.threshold
        if dial.shift:
            threshold = _sigma(_logit(threshold) + dial.shift)
        enough = p_share is not None and p_share >= threshold
        share, offer = False, ""
        told = "is not known" if p_share is None else f"is {p_share:.0%}"
        if wish.share is not None:
            share = wish.share
            reason = "you asked for a photo" if share else "you want no photos"
        elif not enough:
            reason = f"the chance of a photo {told}; wanted {threshold:.0%}"
        elif dial.kind == "asked":
            reason = "photos come only when you ask for them"
        elif dial.most is not None and _unasked(turns, dial.within) >= dial.most:
            reason = f"at most {dial.most} photos come unasked in {dial.within} turns"
        elif dial.kind == "offer":
            offer = "" if _offered(turns) else prompts()["itself"]["offer"]
            reason = "a photo would fit here; it is offered first"
        else:
            share, reason = True, f"the chance of a photo {told}; wanted {threshold:.0%}"
        return Decision(
            share=share, p_share=p_share, threshold=threshold, reason=reason, offer=offer
        )


def shift_of(votes: Sequence[int]) -> float:
    """``Dial.shift`` of votes for photos, the latest last: +1 lowers the threshold by a tenth of a
    logit, -1 raises it; the last twenty count."""
    return -0.1 * sum(votes[-20:])


def _unasked(turns: Sequence[Turn], within: int) -> int:
    """Photos in the agent's last turns."""
    own = [turn for turn in turns if turn.speaker != USER][-within:]
    return sum(len(turn.photos) for turn in own)


def _offered(turns: Sequence[Turn]) -> bool:
    """Whether the agent has offered a photo just now."""
    own = [turn.text for turn in turns if turn.speaker != USER][-4:]
    return prompts()["itself"]["offer"] in own


def _sigma(logit: float) -> float:
    return 1 / (1 + math.exp(-min(max(logit, -50.0), 50.0)))


def _logit(chance: float) -> float:
    clipped = min(max(chance, 1e-9), 1 - 1e-9)
    return math.log(clipped / (1 - clipped))
