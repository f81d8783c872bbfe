"""What a user says about photos in so many words: asked for, or not wanted. It counts before what a
model thinks of the moment.

    wish_of(turns)      share: True, False, or None where nothing was said of it
    When(threshold)     decides by that, else by P(share)
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from showtell.agent.prompts import prompts
from showtell.dialogue import USER, Turn
from showtell.models.reply import Decision, Dial, Wish

_PHOTO = r"\b(?:photo(?:graph)?|picture|pic|image|snap(?:shot)?|selfie)s?\b"
_GIVE = r"\b(?:show|send|share|post|text)(?:ing)?\b"
_NOT = r"\b(?:not|never|without|stop|don'?t|do not|won'?t|didn'?t|needn'?t|enough)\b"
_REFUSES = re.compile(
    rf"{_NOT}(?:\W+\w+){{0,4}}?\W+(?:{_GIVE}(?:\W+\w+){{0,4}}?\W+)?{_PHOTO}"
    rf"|\bno(?:\W+more)?(?:\W+\w+)?\W+{_PHOTO}"
    rf"|\b(?:stop|don'?t|do not)\W+(?:\w+\W+)?{_GIVE}",
    re.IGNORECASE,
)
_ASKS = re.compile(
    # send me a picture; a picture, please; do you have a photo of it? can I see?
    rf"{_GIVE}\W+(?:me|us)\b"
    rf"|{_GIVE}(?:\W+\w+){{0,6}}?\W+{_PHOTO}"
    rf"|{_PHOTO}[^.?!]*(?:\bplease\b|\?)"
    rf"|\b(?:can|could|may|might|let)\W+(?:I|we|me|us)\W+(?:\w+\W+){{0,2}}see\b"
    rf"|\b(?:love|like|want|wanna|dying)\W+(?:to\W+)?see\b(?:\W+\w+){{0,6}}?\W+{_PHOTO}",
    re.IGNORECASE,
)
_OF_MINE = re.compile(
    # I sent you a photo; do you want to see a photo of my cat? did you like the picture?
    rf"\b(?:I|we)\W+(?:\w+\W+){{0,2}}?(?:sent|shared|took|showed|have|got)\b(?:\W+\w+){{0,5}}?\W+{_PHOTO}"
    rf"|\b(?:I|I'?ll|we|let me)\W+(?:will\W+|can\W+)?(?:show|send|share)\b"
    rf"|\b(?:want|wanna|like)\W+(?:to\W+)?see\b(?:\W+\w+){{0,3}}?\W+my\b",
    re.IGNORECASE,
)

_YES = re.compile(
    r"(?:oh\W+)?(?:yes|yeah|yep|yup|sure|ok(?:ay)?|please|of course|why not|go ahead|i would|"
    r"i'?d (?:love|like)|s[ií]|claro|vale|por favor)\b",
    re.IGNORECASE,
)


def wish_of(turns: Sequence[Turn]) -> Wish:
    """What the user wishes now. A request counts for the answer to it, a refusal until a request
    takes it back."""
    now, words = None, ""
    refused = False
    answered = max((k for k, turn in enumerate(turns) if turn.speaker != USER), default=-1)
    for k, turn in enumerate(turns):
        if turn.speaker != USER or (said := _said(turn.text)) is None:
            continue
        refused = not said
        if k > answered:
            now, words = said, turn.text
    if now is None and answered >= 0 and turns[answered].text == prompts()["itself"]["offer"]:
        after = " ".join(turn.text for turn in turns[answered + 1 :])
        if _YES.match(after.strip()):
            now = True
    if now is None and refused:
        now = False
    return Wish(share=now, words=words if now else "")


def _said(text: str) -> bool | None:
    """Of one text: asks, refuses, or neither; a clause that comes later counts more."""
    found = None
    for clause in re.split(r"[.!;\n]|(?<=\?)|,\W*but\b", text):
        if _REFUSES.search(clause):
            found = False
        elif _ASKS.search(clause) and not _OF_MINE.search(clause):
            found = True
    return found


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
