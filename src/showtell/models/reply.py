"""Reply: one answer of the agent, whatever made it, and what is heard of it meanwhile. Light: no
weights stand behind this file.

Whoever answers tells Events, in order: Words; where a photo is due PhotoDue, before one is painted
Described, perhaps Previews, and PhotoHere, unless there is none. What a listener raises ends the
answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from showtell.dialogue import AGENT, Photo, Turn

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a photo comes next. ``p_share``: what the model says of it (None: not known);
    ``chance``: the same, calibrated; ``threshold``: what that was compared with (where there is no
    ``chance``, ``p_share``); ``reason``: one line for people; ``offer``: what is said after the
    words, where a photo is offered instead; ``note``: what went otherwise than it should."""

    share: bool
    p_share: float | None = None
    chance: float | None = None
    threshold: float | None = None
    reason: str = ""
    offer: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Dial:
    """How freely photos come: when "asked" for alone, as an "offer" in words, or "proactive".

    ``most``: photos that come unasked within ``within`` turns of the agent's; ``cost``: of an
    unwanted photo, where a missed one costs 1, in place of the model's own threshold; ``shift``: of
    the threshold, in logits (votes: a photo that was liked lowers it); ``album``: whose is asked,
    where there are several.
    """

    kind: Literal["asked", "offer", "proactive"] = "proactive"
    most: int | None = None
    within: int = 10
    cost: float | None = None
    shift: float = 0.0
    album: str = ""


Hits = tuple[tuple[str, float], ...]  # photos of an album that were considered, by id, best first
_AGAIN = re.compile(r"\b(?:again|once more|one more time|otra vez|de nuevo)\b", re.IGNORECASE)


@dataclass(kw_only=True)
class Reply:
    """One answer of the agent: its turns in order, the decision at the start of each, its photos.
    ``hits``: what an album had for a photo that was due, by that photo's id, or, where there was
    none, by the id of PhotoDue; ``num_read``: tokens of the context that were read, photos' places
    included (0: not known); ``notes``: what went otherwise than it should, each a line for the
    user."""

    turns: list[Turn] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    images: dict[str, Image] = field(default_factory=dict)
    hits: dict[str, Hits] = field(default_factory=dict)
    seconds_to_first_word: float | None = None
    seconds_to_photo: float | None = None
    dropped_turns: int = 0
    num_read: int = 0
    notes: list[str] = field(default_factory=list)

    def decided(self, decision: Decision) -> None:
        """What was decided at the start of the next turn; its note is the user's, once."""
        self.decisions.append(decision)
        if decision.note and decision.note not in self.notes:
            self.notes.append(decision.note)

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
class Described:
    """What the photo shows that is painted next: told before it is, so that one may object."""

    id: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A step of ``of`` of painting; ``image``: what it looks like so far, where that is known."""

    id: str
    step: int
    of: int
    image: Image | None = None


@dataclass(frozen=True, kw_only=True)
class PhotoHere:
    """The photo; ``due``: the id that PhotoDue had; ``hits``: what an album had for it."""

    due: str
    photo: Photo
    image: Image
    hits: Hits = ()


Event = Words | PhotoDue | Described | Preview | PhotoHere
Tell = Callable[[Event], None]


def silence(event: Event) -> None:
    """Tells nobody."""


def heard_reply(events: Sequence[Event], *, reason: str = "stopped") -> Reply:
    """What was heard of an answer, as its turns."""
    reply, text, due = Reply(), "", Decision(share=False)

    def tell() -> None:
        nonlocal text
        if text.strip():
            reply.turns.append(Turn(speaker=AGENT, elements=(text.strip(),)))
            reply.decisions.append(Decision(share=False, reason=reason))
        text = ""

    for event in events:
        if isinstance(event, Words):
            *ended, rest = event.text.split("\n")
            for piece in ended:
                text += piece
                tell()
            text += rest
        elif isinstance(event, PhotoDue):
            due = event.decision
        elif isinstance(event, PhotoHere):
            tell()
            reply.turns.append(Turn(speaker=AGENT, elements=(event.photo,)))
            reply.decisions.append(due)
            reply.images[event.photo.id] = event.image
    tell()
    return reply


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What became of a photo that was due: here (``photo`` and ``image``), late (no image), or
    none, and what is said ``instead``; ``hits``: what an album had."""

    photo: Photo | None = None
    image: Image | None = None
    instead: str = ""
    hits: Hits = ()


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Whether the user wants a photo now (None: said nothing of it), the words of a request, and
    whether ``only`` the photo is wanted, without a word. ``caption``: what the photo shows, said in
    the model's stead; ``start``: an edit: painting starts from this photo, under noise of a
    ``strength`` (1: painted anew; 0: nothing new); ``count``: how many photos are asked for.
    ``seed``: of the noise it is painted from; ``same``: a photo that was shown, which is shown once
    more; ``instead``: there can be no such photo, and this is the answer; ``amend``: puts what a
    model says of the photo right, by what is ``known`` of those whom the talk has introduced;
    ``beyond``: said where no album has it, for the model's own painter knows no such thing;
    ``album``: whose is asked (``Dial.album``)."""

    share: bool | None = None
    words: str = ""
    only: bool = False
    count: int = 1
    caption: str = ""
    start: Image | None = None
    strength: float = 0.7
    seed: int | None = None
    same: Shared | None = None
    instead: str = ""
    amend: Callable[[str], str] | None = None
    known: str = ""
    album: str = ""
    beyond: str = ""

    @property
    def again(self) -> bool:
        """Whether a photo that was shown is wanted once more."""
        return _AGAIN.search(self.words) is not None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One of the answers under way."""

    context: tuple[Turn, ...]
    seed: int
    reply: Reply
    wish: Wish
    tell: Tell = silence
    dial: Dial = Dial()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All that has been said."""
        return (*self.context, *self.reply.turns)

    @property
    def shown(self) -> tuple[str, ...]:
        """The photos of it, the latest last."""
        said = (photo.id for turn in self.turns for photo in turn.photos)
        return tuple(dict.fromkeys((*said, *self.reply.images)))

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return getattr(self.tell, "tell", self.tell) is not silence

    @property
    def unwanted(self) -> tuple[str, ...]:
        """The photos that must not come once more."""
        return () if self.wish.again else self.shown

    def is_full(self, max_turns: int) -> bool:
        """Whether nothing more belongs to the answer."""
        more = self.wish.count - 1
        return (self.wish.only and not self.lacks) or len(self.reply.turns) >= max_turns + more

    @property
    def lacks(self) -> bool:
        """Whether a photo that may come has not come."""
        return sum(len(turn.photos) for turn in self.reply.turns) < self.wish.count

    @property
    def photo_id(self) -> str:
        """Of a photo that is painted now."""
        return f"painted-{self.seed}-{len(self.turns) + len(self.reply.images)}"

    @property
    def photo_seed(self) -> int:
        """Of its noise; each photo of an answer has its own."""
        first = self.seed if self.wish.seed is None else self.wish.seed
        return first + len(self.reply.images)

    def stepped(self, step: int, of: int) -> None:
        """A painter of others' is at this step."""
        self.tell(Preview(id=self.photo_id, step=step, of=of))

    def show(self, photo: Photo, image: Image | None, hits: Hits = ()) -> None:
        """Its photo turn, told if the photo is here."""
        if image is not None:
            self.tell(PhotoHere(due=self.photo_id, photo=photo, image=image, hits=hits))
            self.reply.images[photo.id] = image
        if hits:
            self.reply.hits[photo.id] = hits
        self.reply.turns.append(Turn(speaker=AGENT, elements=(photo,)))

    def say(self, words: str, *, reason: str) -> None:
        """A turn of its own, whatever a model would say."""
        self.tell(Words(text=words + "\n"))
        self.reply.turns.append(Turn(speaker=AGENT, elements=(words,)))
        self.reply.decisions.append(Decision(share=False, reason=reason))

    def say_wished(self) -> None:
        """What the wish alone has in a photo's place."""
        refused = self.wish.share is False
        why = "you asked for no photos" if refused else "there is no such photo"
        self.say(self.wish.instead, reason=why)

    def say_instead(self, came: Shared) -> None:
        """There is no photo: to whom asked for one, that is said."""
        if came.hits:
            self.reply.hits[self.photo_id] = came.hits
        if self.wish.share:
            self.reply.turns.append(Turn(speaker=AGENT, elements=(came.instead,)))


class Deciding(Protocol):
    """When a photo comes (``agent/when.py``)."""

    def wish(self, turns: Sequence[Turn]) -> Wish:
        """What the user wants of the next answer."""

    def decide(
        self, p_share: float | None, *, turns: Sequence[Turn], wish: Wish, dial: Dial
    ) -> Decision:
        """At the start of a turn of the agent's; ``turns``: all that has been said."""


@dataclass(frozen=True, kw_only=True)
class ByThreshold:
    """P(share) against a threshold, whatever anybody wishes."""

    threshold: float

    def wish(self, turns: Sequence[Turn]) -> Wish:
        return Wish()

    def decide(
        self, p_share: float | None, *, turns: Sequence[Turn], wish: Wish, dial: Dial
    ) -> Decision:
        share = p_share is not None and p_share >= self.threshold
        return Decision(share=share, p_share=p_share, threshold=self.threshold)


class Remembering(Protocol):
    """What a wish means in a talk that has photos (``agent/memory.py``)."""

    def __call__(
        self,
        wish: Wish,
        turns: Sequence[Turn],
        images: Mapping[str, Image],
        look: Callable[[Image], str],
    ) -> Wish:
        """``images``: the pixels of the talk's photos; ``look`` tells one in words, or ""."""


class PhotoSource(Protocol):
    """Where a photo of some words comes from (``agent/which.py``). ``shown``: ids of photos that
    were shown, the latest last, and are not to come once more, unless the ``wish`` is that."""

    @property
    def paints(self) -> bool: ...

    def look_up(self, words: str, *, wish: Wish, shown: Sequence[str]) -> Shared | None:
        """The album's photo for these words, or that it has none; None where the words name nothing
        or there is no album."""

    def share(
        self,
        description: str,
        *,
        wish: Wish,
        photo_id: str,
        seed: int,
        shown: Sequence[str],
        notes: list[str],
        looked: Shared | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Shared:
        """A photo of the description; ``looked``: what ``look_up`` has said of it already."""
