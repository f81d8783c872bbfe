"""What a model reads of every photo of a talk: its pixels, words for it, or nothing.

Exactly what it is given: of a model, by the tokens of its renderer; of an LLM, by its messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from showtell.dialogue import USER, Photo, Turn

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.agent.session import Answering


@dataclass(frozen=True, kw_only=True)
class InContext:
    """One photo: its number in the talk, who showed it, what it is, and what is read of it.
    ``read``: the words that stand for it (None: the turn does not fit any more); ``embeddings``:
    how many of its pixels stand there besides."""

    number: int
    speaker: str
    id: str
    origin: str
    caption: str
    read: str | None
    embeddings: int = 0

    @property
    def line(self) -> str:
        pixels = f" and {self.embeddings} embeddings of its pixels" if self.embeddings else ""
        told = "nothing: its turn does not fit" if self.read is None else f"{self.read}{pixels}"
        caption = f'"{self.caption}"' if self.caption else "no caption"
        whose = "yours" if self.speaker == USER else "its own"
        return f"{self.number}. {whose}, {self.id}, {self.origin}, {caption}\n   reads {told}"

    @property
    def plain(self) -> dict[str, Any]:
        return asdict(self)


def photos_in_context(
    agent: Answering, turns: Sequence[Turn], images: Mapping[str, Image]
) -> list[InContext]:
    """Every photo of the talk, as the agent would read it now."""
    decoder = getattr(agent, "decoder", None)
    if decoder is None:
        return _of_words(agent, turns)
    (told,) = agent.describe_all([turns], [images])  # type: ignore[attr-defined]
    reads = {} if agent.model.photo_encoder is None else images  # type: ignore[attr-defined]
    renderer = decoder.renderer
    whole = renderer.render_turns(told, has_pixels=lambda photo: photo.id in reads)
    found = []
    for number, (turn, photo) in enumerate(_photos(told), start=1):
        words, embeddings = None, 0
        if turn not in whole.dropped:
            alone = renderer.render_turns(
                (Turn(speaker=told[turn].speaker, elements=(photo,)),),
                has_pixels=lambda photo: photo.id in reads,
            )
            embeddings = len(alone.seen) * renderer.config.num_photo_tokens
            ids = alone.ids[len(renderer.start) :]
            words = renderer.tokenizer.decode([each for each in ids if each != renderer.photo])
        found.append(_in_context(number, told[turn].speaker, photo, words, embeddings))
    return found


def _of_words(agent: Any, turns: Sequence[Turn]) -> list[InContext]:
    from showtell.agent.zero_shot import line_of

    kept = len(turns) - len(agent.kept(tuple(turns)))
    return [
        _in_context(
            number, turns[turn].speaker, photo, line_of(turns[turn]) if turn >= kept else None
        )
        for number, (turn, photo) in enumerate(_photos(turns), start=1)
    ]


def _photos(turns: Sequence[Turn]) -> list[tuple[int, Photo]]:
    return [(number, photo) for number, turn in enumerate(turns) for photo in turn.photos]


def _in_context(
    number: int, speaker: str, photo: Photo, read: str | None, embeddings: int = 0
) -> InContext:
    return InContext(
        number=number,
        speaker=speaker,
        id=photo.id,
        origin=photo.origin,
        caption=photo.caption,
        read=read,
        embeddings=embeddings,
    )
