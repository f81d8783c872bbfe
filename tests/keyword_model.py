"""What answers a session without weights, with the real interface."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from showtell.dialogue import AGENT, Photo, Turn
from showtell.models.reply import Decision, PhotoDue, PhotoHere, Preview, Reply, Words, silence

_ASKED = r"\b(show|send|see|share|snap|photos?|pics?|pictures?)\b"


@dataclass(kw_only=True)
class KeywordModel:
    """Says one sentence, and shares a plain square when asked for a photo and not told otherwise.

    ``requests`` keeps what it was asked with, so tests can look.
    """

    name: str = "keyword"
    card: dict[str, Any] = field(
        default_factory=lambda: {
            "limits": "It knows the words of its card and nothing else.",
            "openings": ["Hi! Send me a photo!", "How was your day?", "Look at this!", "Bye!"],
            "words": ["send", "photo", "please", "look", "this", "that", "nice", "your", "day"],
        }
    )
    max_turns: int = 20
    sees: bool = True
    requests: list[dict[str, Any]] = field(default_factory=list)

    def respond(self, turns, *, images, seed, tell=silence, dial=None):
        from PIL import Image

        self.requests.append({"turns": turns, "images": dict(images), "seed": seed})
        text = next((turn.text for turn in reversed(turns) if turn.text), "").lower()
        asked = re.search(_ASKED, text) is not None
        wanted = asked and re.search(rf"\b(no|not|don't)\b( \w+)*? ({_ASKED})", text) is None
        words = "Sure, here you go!" if wanted else "That is nice to hear."
        for word in words.split(" "):
            tell(Words(text=word + " "))
        tell(Words(text="\n"))
        answer = [Turn(speaker=AGENT, elements=(words,))]
        decisions = [Decision(share=False, p_share=0.05 if not asked else 0.2)]
        painted = {}
        if wanted:
            decisions.append(Decision(share=True, p_share=0.9, reason="you asked for a photo"))
            due = f"painted-{len(turns)}"
            tell(PhotoDue(id=due, decision=decisions[-1]))
            for step in range(1, 4):
                tell(Preview(id=due, step=step, of=3))
            photo = Photo(id=due, caption="a <red> square", origin="painted", seed=seed)
            painted[photo.id] = Image.new("RGB", (64, 64), (200, seed % 256, 40))
            answer.append(Turn(speaker=AGENT, elements=(photo,)))
            tell(PhotoHere(due=due, photo=photo, image=painted[photo.id]))
        return Reply(
            turns=answer,
            decisions=decisions,
            images=painted,
            seconds_to_first_word=0.01,
            seconds_to_photo=0.1 if painted else None,
            dropped_turns=max(0, len(turns) - self.max_turns),
        )


def words_to(pieces: list[str]):
    """``tell`` that keeps the text alone, piece by piece."""
    return lambda event: pieces.append(event.text) if isinstance(event, Words) else None
