"""Reply: one answer of the agent, whatever made it, and what is heard of it meanwhile. Light: no
weights stand behind this file.

Whoever answers tells Events, in order: Words; where a photo is due PhotoDue, perhaps Previews, and
PhotoHere, unless there is none. What a listener raises ends the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from showtell.dialogue import AGENT, Photo, Turn

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a photo comes next. ``p_share``: what the model says of it (None: not known);
    ``chance``: the same, calibrated; ``threshold``: what it was compared with; ``reason``: one line
    for people."""

    share: bool
    p_share: float | None = None
    chance: float | None = None
    threshold: float | None = None
    reason: str = ""


@dataclass(kw_only=True)
class Reply:
    """One answer of the agent: its turns in order, the decision at the start of each, its photos.
    ``notes``: what went otherwise than it should, each a line for the user."""

    turns: list[Turn] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    images: dict[str, Image] = field(default_factory=dict)
    seconds_to_first_word: float | None = None
    seconds_to_photo: float | None = None
    dropped_turns: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def p_share(self) -> list[float | None]:
        """P(share) at the start of each turn; None where it is not known."""
        return [decision.p_share for decision in self.decisions]


@dataclass(frozen=True, kw_only=True)
class Words:
    """The next piece of the text; a line feed ends a turn."""

    text: str


@dataclass(frozen=True, kw_only=True)
class PhotoDue:
    """It was decided that a photo comes next. ``id``: of the photo, unless an album has another."""

    id: str
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A step of ``of`` of painting; ``image``: what it looks like so far, where that is known."""

    id: str
    step: int
    of: int
    image: Image | None = None


@dataclass(frozen=True, kw_only=True)
class PhotoHere:
    """The photo; ``due``: the id that PhotoDue had."""

    due: str
    photo: Photo
    image: Image


Event = Words | PhotoDue | Preview | PhotoHere
Tell = Callable[[Event], None]


def silence(event: Event) -> None:
    """Tells nobody."""


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
    tell: Tell = silence

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All that has been said."""
        return (*self.context, *self.reply.turns)

    @property
    def shown(self) -> set[str]:
        """The photos of it."""
        return {photo.id for turn in self.turns for photo in turn.photos}

    @property
    def photo_id(self) -> str:
        """Of a photo that is painted now."""
        return f"painted-{self.seed}-{len(self.turns)}"

    def stepped(self, step: int, of: int) -> None:
        """A painter of others' is at this step."""
        self.tell(Preview(id=self.photo_id, step=step, of=of))

    def show(self, photo: Photo, image: Image | None) -> None:
        """Its photo turn, told if the photo is here."""
        if image is not None:
            self.tell(PhotoHere(due=self.photo_id, photo=photo, image=image))
            self.reply.images[photo.id] = image
        self.reply.turns.append(Turn(speaker=AGENT, elements=(photo,)))


class Deciding(Protocol):
    """When a photo comes (``agent/when.py``)."""

    def wish(self, turns: Sequence[Turn]) -> Wish:
        """What the user wants of the next answer."""

    def decide(self, p_share: float | None, *, turns: Sequence[Turn], wish: Wish) -> Decision:
        """At the start of a turn of the agent's; ``turns``: all that has been said."""


@dataclass(frozen=True, kw_only=True)
class ByThreshold:
    """P(share) against a threshold, whatever anybody wishes."""

    threshold: float

    def wish(self, turns: Sequence[Turn]) -> Wish:
        return Wish()

    def decide(self, p_share: float | None, *, turns: Sequence[Turn], wish: Wish) -> Decision:
        share = p_share is not None and p_share >= self.threshold
        return Decision(share=share, p_share=p_share, threshold=self.threshold)


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
