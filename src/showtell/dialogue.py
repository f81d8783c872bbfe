"""Photo, Turn, Dialogue: plain data, standard library only.

A dialogue is a tuple of turns; a turn is an *ordered* tuple of elements, each text or a Photo
(2408.08650, section 2.1). ``labels`` hold what is known about an element and what only
measurements may read; no model ever sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

USER: Final = "user"
AGENT: Final = "agent"
Speaker = Literal["user", "agent"]
Origin = Literal["user", "painted", "album"]
PAINTED_BY: Final = "painted_by"  # the label of a painted photo that names its painter


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A thing shared in a dialogue: a stable id, where its pixels are, and its caption.

    ``path`` is None while the pixels are missing (or, for the photo world, not yet drawn: then
    ``labels["scene"]`` says what to draw).
    """

    id: str
    caption: str = ""
    path: str | None = None
    origin: Origin = "user"
    seed: int | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)


Element = str | Photo


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one speaker says in one go: an ordered tuple of texts and photos."""

    speaker: Speaker
    elements: tuple[Element, ...]
    labels: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return " ".join(e for e in self.elements if isinstance(e, str))

    @property
    def photos(self) -> tuple[Photo, ...]:
        return tuple(e for e in self.elements if isinstance(e, Photo))


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """Turns in order. Two neighbouring turns may be by the same speaker."""

    id: str
    turns: tuple[Turn, ...]
    labels: Mapping[str, Any] = field(default_factory=dict)

    @property
    def photos(self) -> tuple[Photo, ...]:
        return tuple(p for t in self.turns for p in t.photos)


def with_photos(turns: Iterable[Turn], photos: Iterable[Photo]) -> tuple[Turn, ...]:
    """The turns with these photos, in order, in the place of their own."""
    coming = iter(photos)
    return tuple(
        replace(
            turn, elements=tuple(next(coming) if isinstance(e, Photo) else e for e in turn.elements)
        )
        for turn in turns
    )
