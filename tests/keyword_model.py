"""A model without weights behind the real interface: for tests, and for building clients."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from showtell.dialogue import AGENT, Photo, Turn

if TYPE_CHECKING:
    from PIL.Image import Image


_ASKED = r"\b(show|send|see|share|snap|photos?|pics?|pictures?)\b"


@dataclass(frozen=True, kw_only=True)
class FakeReply:
    """The fields of ``models.respond.Reply``."""

    turns: tuple[Turn, ...]
    p_share: tuple[float, ...]
    images: Mapping[str, Image]
    seconds_to_first_word: float | None
    seconds_to_photo: float | None
    dropped_turns: int = 0


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
    can_paint: bool = True
    max_turns: int = 20
    requests: list[dict[str, Any]] = field(default_factory=list)

    def respond(
        self,
        turns: tuple[Turn, ...],
        *,
        images: Mapping[str, Image],
        seed: int,
        on_text: Callable[[str], None] | None = None,
        on_photo_step: Callable[[int, int], None] | None = None,
    ) -> Any:
        from PIL import Image

        self.requests.append({"turns": turns, "images": dict(images), "seed": seed})
        text = next((turn.text for turn in reversed(turns) if turn.text), "").lower()
        asked = re.search(_ASKED, text) is not None
        wanted = asked and re.search(rf"\b(no|not|don't)\b( \w+)*? ({_ASKED})", text) is None
        words = "Sure, here you go!" if wanted else "That is nice to hear."
        for word in words.split(" "):
            if on_text:
                on_text(word + " ")
        if on_text:
            on_text("\n")
        answer = [Turn(speaker=AGENT, elements=(words,))]
        p_share = [0.05 if not asked else 0.2]
        painted = {}
        if wanted:
            for step in range(1, 4):
                if on_photo_step:
                    on_photo_step(step, 3)
            photo = Photo(
                id=f"painted-{len(turns)}", caption="a <red> square", origin="painted", seed=seed
            )
            if self.can_paint:
                painted[photo.id] = Image.new("RGB", (64, 64), (200, seed % 256, 40))
            answer.append(Turn(speaker=AGENT, elements=(photo,)))
            p_share.append(0.9)
        return FakeReply(
            turns=tuple(answer),
            p_share=tuple(p_share),
            images=painted,
            seconds_to_first_word=0.01,
            seconds_to_photo=0.1 if painted else None,
            dropped_turns=max(0, len(turns) - self.max_turns),
        )
