"""A talk as a record that a store keeps, and back; and what stays of an answer that was stopped."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from showtell.agent.provenance import photo_file
from showtell.agent.session import Answering, Session
from showtell.data.showtell_jsonl import dialogue_as_dict, dialogue_of
from showtell.dialogue import AGENT, Dialogue, Photo, Turn
from showtell.errors import DataError
from showtell.models.reply import Decision, Event, Reply, Tell, heard_reply

if TYPE_CHECKING:
    from showtell.agent.session import PhotoLike


@dataclass(kw_only=True)
class Talk:
    """A session, the decision at each turn of the agent's (None at the user's), who answers."""

    session: Session
    model: str
    decisions: list[Decision | None] = field(default_factory=list)

    def say(self, text: str, photos: Sequence[PhotoLike], *, tell: Tell) -> Reply:
        """``Session.say``; what was heard of an answer that was Stopped is kept as well."""
        heard: list[Event] = []

        def told(event: Event) -> None:
            tell(event)
            heard.append(event)

        before = len(self.session.turns)
        try:
            reply = self.session.say(text, photos, tell=told)
        except Stopped:
            reply = heard_reply(heard)
            self.session.take(text, photos, reply)
        num_brought = len(self.session.turns) - before - len(reply.turns)
        self.decisions += [*[None] * num_brought, *reply.decisions]
        return reply

    def add(self, photo: Photo, image: Image.Image) -> None:
        """A photo of the agent's, that was made beside the talk."""
        decision = Decision(share=True, reason="you asked for a photo of these words")
        session = self.session
        session.turns = (*session.turns, Turn(speaker=AGENT, elements=(photo,)))
        session.images[photo.id] = image
        session.p_share = [*session.p_share, None]
        self.decisions.append(decision)

    @property
    def photos(self) -> list[Photo]:
        return [photo for turn in self.session.turns for photo in turn.photos]

    def record(self) -> dict[str, Any]:
        """What ``talk_of`` needs, but for the photos' pixels. Paths are of this machine and stay
        here."""
        turns = []
        for turn, decision in zip(self.session.turns, self.decisions, strict=True):
            elements = [e if isinstance(e, str) else replace(e, path=None) for e in turn.elements]
            labels = {} if decision is None else {"decision": vars(decision)}
            turns.append(Turn(speaker=turn.speaker, elements=tuple(elements), labels=labels))
        return {
            "model": self.model,
            "seed": self.session.seed,
            "answers": self.session.num_answers,
            "hits": self.session.hits,
            "turns": dialogue_as_dict(Dialogue(id="talk", turns=tuple(turns)))["turns"],
        }

    def new_photos(self, known: Mapping[str, str]) -> dict[str, bytes]:
        """The files of the photos that are not kept yet, by name."""
        images = self.session.images
        return {
            photo.id: photo_file(photo, images[photo.id])
            for photo in self.photos
            if photo.id in images and photo.id not in known
        }


class Stopped(Exception):
    """Who asked has gone, or has stopped the answer."""


def talk_of(
    record: Mapping[str, Any],
    agent: Answering,
    *,
    photos: Collection[str],
    read: Callable[[str], bytes | None],
) -> Talk:
    """The talk, to go on with. ``photos``: the names of those that are kept; ``read`` gives the
    file of one."""
    value = {"id": "talk", "turns": record["turns"], "labels": {}}
    dialogue = dialogue_of(value, "the store", lambda path, where: path)
    decisions = [
        None if (told := turn.labels.get("decision")) is None else Decision(**told)
        for turn in dialogue.turns
    ]
    names = [each.id for each in dialogue.photos if each.id in photos]
    session = Session.again(
        agent,
        seed=record["seed"],
        num_answers=record["answers"],
        turns=tuple(replace(turn, labels={}) for turn in dialogue.turns),
        images=_Kept(names, read),
        p_share=[None if each is None else each.p_share for each in decisions],
        hits=record.get("hits"),
    )
    return Talk(session=session, model=record["model"], decisions=decisions)


class _Kept(MutableMapping[str, Image.Image]):
    """Photos by name, each read when it is first looked at: of a long talk few are."""

    def __init__(self, names: Sequence[str], read: Callable[[str], bytes | None]) -> None:
        self._here: dict[str, Image.Image | None] = dict.fromkeys(names)
        self._read = read

    def __getitem__(self, name: str) -> Image.Image:
        if (image := self._here[name]) is None:
            if (data := self._read(name)) is None:
                raise DataError(f'the photo "{name:.80}" of this conversation is not kept any more')
            with Image.open(io.BytesIO(data)) as opened:
                image = self._here[name] = opened.convert("RGB")
        return image

    def __contains__(self, name: object) -> bool:
        return name in self._here

    def __setitem__(self, name: str, image: Image.Image) -> None:
        self._here[name] = image

    def __delitem__(self, name: str) -> None:
        del self._here[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._here)

    def __len__(self) -> int:
        return len(self._here)
