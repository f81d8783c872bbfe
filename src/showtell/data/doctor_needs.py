"""What training would leave out of data, and why: one rule for each thing that recipes train on.

An *example* is what a stage counts: a turn to say, a moment to decide, a photo to paint. A rule
yields, for each example of a dialogue, why it would be dropped, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from showtell.data.photos import has_pixels
from showtell.dialogue import Dialogue

Need = Callable[[Dialogue], Iterator[str | None]]
MINIGPT5_WORDS = 50


def to_say(dialogue: Dialogue) -> Iterator[str | None]:
    """Text turns after the first: language models, photochat_small's ``t``."""
    for number, turn in enumerate(dialogue.turns):
        if turn.photos and not turn.text.strip():
            continue
        if number == 0:
            yield "first turn: nothing was said before"
        else:
            yield None if turn.text.strip() else "empty turn"


def to_decide(dialogue: Dialogue) -> Iterator[str | None]:
    """Share moments under the protocol ``photochat``: from the second turn to the share."""
    share = next((k for k, turn in enumerate(dialogue.turns) if turn.photos), None)
    for number in range(len(dialogue.turns)):
        if number == 0:
            yield "first turn: nothing was said before"
        else:
            yield "after the share" if share is not None and number > share else None


def to_paint(dialogue: Dialogue) -> Iterator[str | None]:
    """Photos to learn from with their captions: photo_encoder, painter, retrieval."""
    for photo in dialogue.photos:
        if not has_pixels(photo):
            yield "the photo is missing"
        else:
            yield None if photo.caption.strip() else "no caption"


def end_to_end(dialogue: Dialogue) -> Iterator[str | None]:
    """Turns after the first, text and photos, each with all before it: dvtm, pipeline."""
    lacking = False
    for number, turn in enumerate(dialogue.turns):
        missing = any(not has_pixels(photo) for photo in turn.photos)
        if number == 0:
            yield "first turn: nothing was said before"
        elif missing:
            yield "the photo to share is missing"
        elif any(not photo.caption.strip() for photo in turn.photos):
            yield "the photo to share has no caption"
        elif lacking:
            yield "a photo in the context is missing"
        else:
            yield None if turn.elements and (turn.photos or turn.text.strip()) else "empty turn"
        lacking = lacking or missing


def minigpt5(dialogue: Dialogue) -> Iterator[str | None]:
    """MiniGPT-5's rule for MMDialog: a long or empty turn or a missing photo ends the dialogue.

    Its limit of 50 tokens is counted in words here, which lets a little more pass.
    """
    over = ""
    for number, turn in enumerate(dialogue.turns):
        if not over:
            if not turn.text.strip():
                over = "a turn without text"
            elif len(turn.text.split()) > MINIGPT5_WORDS:
                over = f"a turn of more than {MINIGPT5_WORDS} words"
            elif any(not has_pixels(photo) for photo in turn.photos):
                over = "a missing photo"
        if over:
            yield f"from {over} on"
        else:
            yield "first turn: nothing was said before" if number == 0 else None


NEEDS: dict[str, Need] = {
    "text (language model, photochat_small)": to_say,
    "share moments (photochat_small)": to_decide,
    "captioned photos (photo_encoder, painter, retrieval)": to_paint,
    "end to end (dvtm, pipeline)": end_to_end,
    "MiniGPT-5's rule (vokens on MMDialog)": minigpt5,
}
