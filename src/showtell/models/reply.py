"""Reply: one answer of the agent, whatever made it. Light: no weights stand behind this file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from showtell.dialogue import Photo, Turn

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(kw_only=True)
class Reply:
    """One answer of the agent: its turns in order, P(share) at the start of each (None: not known),
    its photos. ``notes``: what went otherwise than it should, each a line for the user."""

    turns: list[Turn] = field(default_factory=list)
    p_share: list[float | None] = field(default_factory=list)
    images: dict[str, Image] = field(default_factory=dict)
    seconds_to_first_word: float | None = None
    seconds_to_photo: float | None = None
    dropped_turns: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What became of a photo that was due: here (``photo`` and ``image``), late (no image), or
    none, and what is said ``instead``."""

    photo: Photo | None = None
    image: Image | None = None
    instead: str = ""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Whether the user wants a photo now (None: said nothing of it), and the words of a request."""

    share: bool | None = None
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One of the answers under way."""

    context: tuple[Turn, ...]
    seed: int
    reply: Reply
    wish: Wish

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All that has been said."""
        return (*self.context, *self.reply.turns)

    @property
    def shown(self) -> set[str]:
        """The photos of it."""
        return {photo.id for turn in self.turns for photo in turn.photos}


class PhotoSource(Protocol):
    """Where a photo of some words comes from (``agent/shares.py``)."""

    def share(
        self,
        description: str,
        *,
        photo_id: str,
        seed: int,
        without: Collection[str],
        notes: list[str],
        on_step: Callable[[int, int], None] | None = None,
    ) -> Shared: ...

    def look_up(self, request: str, *, without: Collection[str]) -> Shared | None: ...
