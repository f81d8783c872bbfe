"""What the wires have in common: who answers, what is kept, and one answer as it comes."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from showtell.agent.audit import Audit
from showtell.agent.beside import photo_of
from showtell.agent.provenance import Signing, photo_file
from showtell.agent.safety import Safety
from showtell.agent.session import Session, checked_text
from showtell.agent.when import shift_of
from showtell.dialogue import Photo
from showtell.errors import UsageError, did_you_mean
from showtell.models.reply import (
    Decision,
    Described,
    Dial,
    Event,
    Hits,
    PhotoDue,
    PhotoHere,
    Preview,
    Reply,
    Words,
)
from showtell.serve.albums import Albums
from showtell.serve.dialects import PhotoOut
from showtell.serve.kept import Stopped, Talk, talk_of
from showtell.serve.outside import Outside
from showtell.serve.store import Kept, Store, new_id
from showtell.serve.wire import Asked, Said, fingerprint, turns_of
from showtell.serve.worker import Worker

if TYPE_CHECKING:
    from PIL.Image import Image

HEARTBEAT_S = 15.0
TITLE = 60  # characters
_SPARE = 16  # threads
_NOTHING = Outside()
_USUAL = Dial()


class NotFound(UsageError):
    """Nothing of that name is the asker's."""


@dataclass(kw_only=True)
class Place:
    """A talk, and where it is kept; ``elsewhere``: by its client, and only its photos here."""

    owner: str
    kept: Kept
    talk: Talk
    elsewhere: bool = False
    why: str = "a photo was asked for by its words"  # the last one was shared


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The last that is told of an answer."""

    reply: Reply
    notes: Sequence[str]


Told = Words | PhotoDue | Preview | PhotoOut | Ended | None  # None: nothing new, still at work


class Service:
    """``workers``: who answers, by the names that clients use, the first where none is named;
    ``dial``: how freely photos come to who has not set it."""

    def __init__(
        self,
        workers: Mapping[str, Worker],
        store: Store,
        *,
        outside: Outside = _NOTHING,
        signing: Signing | None = None,
        safety: Safety | None = None,
        audit: Audit | None = None,
        dial: Dial = _USUAL,
        albums: Albums | None = None,
    ) -> None:
        self.workers = dict(workers)
        self.albums = albums or Albums(worker.agent for worker in self.workers.values())
        self.store = store
        self.outside, self.signing, self.safety = outside, signing, safety or Safety()
        self.audit = audit
        self.usual = dial
        # what waits for a model has threads of its own, more than the models take at once: so
        # nobody waits for a thread, and what is too much is told at once
        most = sum(worker.most_at_once for worker in self.workers.values())
        self._answering = ThreadPoolExecutor(most + _SPARE, thread_name_prefix="answer")
        self._threads = ThreadPoolExecutor(_SPARE, thread_name_prefix="kept")

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        for threads in (self._answering, self._threads):
            threads.shutdown(wait=True, cancel_futures=True)
        self.store.close()

    async def do(self, work: Any, *given: Any, **named: Any) -> Any:
        """``work`` in a thread: the store, photos."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *given, **named))

    async def ask(self, work: Any, *given: Any, **named: Any) -> Any:
        """The same for what waits for a model."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._answering, partial(work, *given, **named))

    def named(self, model: str | None) -> tuple[str, Worker]:
        """Raises NotFound."""
        if not model:
            return next(iter(self.workers.items()))
        if model not in self.workers:
            raise NotFound(
                f'there is no model "{model:.80}" here{did_you_mean(model, self.workers)}'
            )
        return model, self.workers[model]

    # ---------------------------------------------------------------------------------- talks

    def begun(self, owner: str, model: str | None, *, before: Sequence[Said] = ()) -> Place:
        """A new talk, which is kept from its first word on; ``before``: what it begins with."""
        name, worker = self.named(model)
        session = Session(worker, seed=secrets.randbits(31))
        if before:
            session.turns, session.images = turns_of(before, {})
            session.p_share = [None] * len(session.turns)
        decisions: list[Decision | None] = [None] * len(session.turns)
        talk = Talk(session=session, model=name, decisions=decisions)
        return Place(owner=owner, kept=Kept(id=new_id("conv")), talk=talk)

    def opened(self, owner: str, id: str, *, model: str | None = None) -> Place:
        """A talk that is kept, to go on with; ``model``: who answers now. Raises NotFound."""
        kept = self.store.conversation(owner, id)
        if kept is None:
            raise NotFound(f'there is no conversation "{id:.80}"; GET /v1/conversations lists them')
        was = kept.record["model"]
        name, worker = self.named(model or (was if was in self.workers else None))
        ids = kept.photos
        talk = talk_of(
            {**kept.record, "model": name},
            worker,
            photos=ids,
            read=lambda name: self.store.photo(owner, ids[name]),
        )
        return Place(owner=owner, kept=kept, talk=talk)

    def elsewhere(self, owner: str, asked: Asked, *, model: str | None, seed: int | None) -> Place:
        """A talk that its client keeps and sends along; photos of ours are found by their texts."""
        name, worker = self.named(model)
        before = asked.before
        prints = [fingerprint(said.text) for said in before if said.speaker == "agent"]
        turns, images = turns_of(before, self._recalled(owner, prints))
        first = next((said.text for said in before if said.speaker == "user"), asked.text)
        told = hashlib.sha256("\0".join(said.text for said in before).encode()).digest()
        session = Session.again(
            worker,
            seed=int.from_bytes(told[:4], "big") if seed is None else seed,
            num_answers=len(prints),
            turns=turns,
            images=images,
            p_share=[None] * len(turns),
        )
        talk = Talk(session=session, model=name, decisions=[None] * len(turns))
        kept = self._kept_elsewhere(owner, name, first)
        return Place(owner=owner, kept=kept, talk=talk, elsewhere=True)

    def _kept_elsewhere(self, owner: str, model: str, first: str) -> Kept:
        """Where the photos of a talk lie that its client keeps, or of none."""
        nothing = Talk(session=Session(self.workers[model]), model=model).record()
        return self.store.talk_elsewhere(owner, f"{model}\0{first}", nothing)

    def _recalled(self, owner: str, prints: Sequence[str]) -> dict[str, list[tuple[Photo, Image]]]:
        from showtell.data.photos import photo_from_bytes

        found: dict[str, list[tuple[Photo, Image]]] = {}
        for each, record in self.store.recall(owner, prints).items():
            photos = []
            for told in record["photos"]:
                data = self.store.photo(owner, told["kept"])
                if data is not None:
                    photo = Photo(
                        id=told["id"],
                        caption=told["caption"],
                        origin=told["origin"],
                        seed=told["seed"],
                    )
                    photos.append((photo, photo_from_bytes(data, name="a photo of ours")))
            found[each] = photos
        return found

    # --------------------------------------------------------------------------------- answers

    async def answer(
        self, place: Place, text: str, photos: Sequence[Image]
    ) -> AsyncGenerator[Told]:
        """The answer as it comes. Where nobody listens any more it stops; what was said is kept."""
        self.workers[place.talk.model].check_free()  # before anything is kept
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Told | BaseException] = asyncio.Queue()
        gone = threading.Event()

        def put(told: Told | BaseException) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, told)

        def tell(event: Event) -> None:
            if gone.is_set():
                raise Stopped
            if isinstance(event, Described):
                return
            if isinstance(event, PhotoDue):
                place.why = event.decision.reason
            put(self._out(place, event) if isinstance(event, PhotoHere) else event)

        def work() -> None:
            try:
                place.talk.session.dial = self.dial(place.owner)
                place.talk.session.safety = self.safety
                self._before(place, text)
                reply = place.talk.say(text, list(photos), tell=tell)
                self._after(place)
                put(Ended(reply=reply, notes=place.talk.session.notes))
            except BaseException as error:
                put(error)

        loop.run_in_executor(self._answering, work)
        try:
            while True:
                try:
                    told = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield None
                    continue
                if isinstance(told, BaseException):
                    raise told
                yield told
                if isinstance(told, Ended):
                    return
        finally:
            gone.set()

    def dial(self, owner: str) -> Dial:
        """As the owner has set it, and as their votes have moved it."""
        told, usual = self.store.settings(owner), self.usual
        return Dial(
            kind=told.get("dial", usual.kind),
            most=told.get("most", usual.most),
            within=told.get("within", usual.within),
            cost=told.get("cost", usual.cost),
            shift=shift_of([vote for _, _, vote in self.store.votes(owner)]),
            album=owner,
        )

    def _before(self, place: Place, text: str) -> None:
        """The user's words are kept before anybody thinks about them."""
        if place.elsewhere:
            return
        title = place.kept.title or " ".join(text.split())[:TITLE]
        record = {**place.talk.record(), "pending": text}
        place.kept = self.store.save(place.owner, replace(place.kept, title=title, record=record))

    def _after(self, place: Place) -> None:
        if place.elsewhere:
            return
        kept = replace(place.kept, record=place.talk.record())
        new = place.talk.new_photos(kept.photos)
        place.kept = self.store.save(place.owner, kept, new_photos=new)

    def _out(self, place: Place, here: PhotoHere) -> PhotoOut:
        """A photo of an answer, kept before it is told."""
        data = photo_file(here.photo, here.image, signing=self.signing)
        id, link = self.store.keep_photo(
            place.owner, conversation=place.kept.id, name=here.photo.id, data=data
        )
        place.kept = replace(place.kept, photos={**place.kept.photos, here.photo.id: id})
        if self.audit is not None:
            self.audit.shared(id, here.photo, conversation=place.kept.id, why=place.why)
        return photo_out(here.photo, id=id, data=data, link=link, hits=here.hits)

    def remember(self, place: Place, text: str, photos: Sequence[PhotoOut]) -> None:
        """For clients that send back the text alone."""
        names = {id: name for name, id in place.kept.photos.items()}
        told = [
            {
                "id": names[photo.id],
                "kept": photo.id,
                "caption": photo.caption,
                "origin": photo.origin,
                "seed": photo.seed,
            }
            for photo in photos
        ]
        if told:
            self.store.remember(
                place.owner,
                fingerprint(text),
                conversation=place.kept.id,
                record={"photos": told},
            )

    def rename(self, owner: str, id: str, title: str) -> None:
        """Raises NotFound, Conflict."""
        if (kept := self.store.conversation(owner, id)) is None:
            raise NotFound(f'there is no conversation "{id:.80}"')
        self.store.save(owner, replace(kept, title=title))

    def picture(
        self, owner: str, words: str, *, model: str | None, seed: int, conversation: str | None
    ) -> PhotoOut:
        """A photo of these words, into the talk if one is named. Raises NotFound, UsageError."""
        if conversation is not None:
            place = self.opened(owner, conversation, model=model)
            name, worker = self.named(place.talk.model)
        else:
            name, worker = self.named(model)
            kept = self._kept_elsewhere(owner, name, "photos of words")
            place = Place(owner=owner, kept=kept, talk=Talk(session=Session(worker), model=name))
        if (said := self.safety.refusal(words, "prompt")) is not None:
            raise UsageError(said)
        checked_text(words)
        paint = partial(photo_of, worker.agent, words, seed=seed, album=owner)
        shared = worker.alone(lambda pause: paint(on_step=pause))
        if shared.photo is None or shared.image is None:
            raise UsageError(
                f'{name} has no photo of "{words:.80}"; say it in other words, or name a model '
                "that paints"
            )
        number = place.talk.session.num_answers
        photo = replace(shared.photo, id=f"asked-{number}-{shared.photo.id}")
        out = self._out(place, PhotoHere(due=photo.id, photo=photo, image=shared.image))
        if conversation is not None:
            place.talk.add(photo, shared.image)
            self._after(place)
        return out

    def conversation(self, owner: str, id: str) -> dict[str, Any]:
        """A conversation as clients see it. Raises NotFound."""
        place = self.opened(owner, id)
        turns = []
        for turn, decision in zip(place.talk.session.turns, place.talk.decisions, strict=True):
            elements = [
                {"type": "text", "text": element}
                if isinstance(element, str)
                else {"type": "photo", **self._told(place, element)}
                for element in turn.elements
            ]
            turns.append(
                {
                    "speaker": turn.speaker,
                    "elements": elements,
                    "decision": None if decision is None else dict(vars(decision)),
                }
            )
        votes = {photo: vote for _, photo, vote in self.store.votes(owner)}
        return {
            "id": id,
            "title": place.kept.title,
            "model": place.talk.model,
            "created": place.kept.created,
            "updated": place.kept.updated,
            "pending": place.kept.record.get("pending"),
            "turns": turns,
            "votes": {id: votes[id] for id in place.kept.photos.values() if id in votes},
            "photos": self.store.photos(owner, id),
        }

    def _told(self, place: Place, photo: Photo) -> dict[str, Any]:
        id = place.kept.photos.get(photo.id)
        told = photo_out(photo, id=id or "", hits=place.talk.session.hits.get(photo.id, ())).told
        return told if id else {**told, "url": None}


def photo_out(
    photo: Photo, *, id: str, data: bytes = b"", link: str = "", hits: Hits = ()
) -> PhotoOut:
    return PhotoOut(
        id=id,
        origin=photo.origin,
        caption=photo.caption,
        seed=photo.seed,
        data=data,
        url=f"/v1/photos/{id}",
        link=link,
        hits=hits,
    )
