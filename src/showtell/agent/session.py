"""A conversation in progress: what was said, the photos' pixels, and what may be said next.

The session checks what a user brings (text and photos), asks the model for its answer, remembers
both, and can be saved and opened again. It refuses what it cannot take and never mends it.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import unicodedata
import zlib
from collections import ChainMap
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from showtell.agent.known_words import known_words, unknown_words
from showtell.agent.provenance import photo_file
from showtell.agent.safety import Safety
from showtell.data.storage import locked, write_atomically
from showtell.dialogue import USER, Dialogue, Photo, Turn
from showtell.errors import DataError, StorageError, UsageError
from showtell.models.reply import Dial, Hits, Reply, Tell, silence
from showtell.progress import terminal_progress

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.agent.engines import WordPainter
    from showtell.models.dialogue_model import PhotoDialogueModel

    PathLike = str | os.PathLike[str]
    PhotoLike = PathLike | bytes | Image

MAX_CHARACTERS = 20_000
_USUAL = Dial()


class Answering(Protocol):
    """What answers a session: a model's Responder, or an LLM that is asked (ZeroShot).

    ``sees``: whether photos reach it; ``card``: see Session.
    """

    @property
    def name(self) -> str: ...
    @property
    def card(self) -> Mapping[str, Any]: ...
    @property
    def sees(self) -> bool: ...

    def respond(
        self,
        turns: tuple[Turn, ...],
        *,
        images: Mapping[str, Image],
        seed: int,
        tell: Tell = silence,
        dial: Dial = _USUAL,
    ) -> Reply: ...


def checked_text(text: str) -> str:
    """``text`` as it is, or UsageError if it is empty, too long or holds control characters."""
    if not isinstance(text, str):
        raise UsageError(f"the text is of type {type(text).__name__}, wanted str: say(str(text))")
    if not text.strip():
        raise UsageError("the text is empty; say something, for example 'Hi! How was your day?'")
    if len(text) > MAX_CHARACTERS:
        raise UsageError(
            f"the text has {len(text):,} characters; at most {MAX_CHARACTERS:,} fit into one turn. "
            "Shorten it, or say it in several turns"
        )
    for position, character in enumerate(text, start=1):
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t":
            raise UsageError(
                f"the text holds U+{ord(character):04X} at position {position}, a control "
                "character or a byte that is not UTF-8; remove it (newlines and tabs may stay)"
            )
    return text


def checked_photo(photo: PhotoLike, *, name: str) -> Image:
    """The photo of a path, of a file's bytes, or of Pillow, as upright RGB without metadata.

    Raises PhotoError for what holds no photo, UsageError for what is none of the three.
    """
    from PIL import Image

    from showtell.data.photos import load_photo
    from showtell.data.pixels import photo_from_bytes, photo_from_image

    if isinstance(photo, str | os.PathLike):
        return load_photo(os.fspath(photo))
    if isinstance(photo, bytes):
        return photo_from_bytes(photo, name=name)
    if isinstance(photo, Image.Image):
        return photo_from_image(photo, name=name)
    raise UsageError(
        f"{name} is of type {type(photo).__name__}, wanted a path, the bytes of a file, or an "
        "image of Pillow; of an array make one with PIL.Image.fromarray"
    )


class Session:
    """Turns and images so far, and the model that answers.

    >>> session = Session(load_model("mini"), seed=0)             # doctest: +SKIP
    >>> session.say("Can you send me a photo of your dog?").turns   # doctest: +SKIP

    ``model`` is a model, or what answers already (Answering); its card says what it knows
    ("limits"), how one could begin ("openings") and which words it was trained on ("words": a list,
    or "world" for the photo world's). ``album``: a folder of photos that it may find and share in
    this session, and in no other. Several threads may ``say`` something: each waits for its turn.
    """

    def __init__(
        self, model: PhotoDialogueModel | Answering, *, seed: int = 0, album: PathLike | None = None
    ) -> None:
        self.model = responder(model, album=album)
        self.seed = seed
        self.turns: tuple[Turn, ...] = ()
        # as they were brought, by the ids of the photos
        self.images: MutableMapping[str, Image] = {}
        self.p_share: list[float | None] = []  # one a turn; None for the user's
        self.hits: dict[str, Hits] = {}  # what an album had for a photo, by its id (``Reply.hits``)
        self.dial = Dial()  # how freely photos come
        self.safety = Safety()  # what refuses
        self.notes: list[str] = []  # what the user should know about the last answer
        self._known = known_words(self.model.card)
        self.num_answers = 0
        self._limits_said = False
        self._lock = threading.Lock()

    def say(
        self,
        text: str,
        photos: Sequence[PhotoLike] = (),
        *,
        tell: Tell = silence,
    ) -> Reply:
        """The model's answer to ``text`` and photos; both are remembered. ``tell`` hears of it
        while it is made.

        A photo is a path, the bytes of a file, or an image of Pillow. If anything fails, the
        session is as it was before.
        """
        checked_text(text)
        if not isinstance(photos, list | tuple):
            raise UsageError(
                f"photos is of type {type(photos).__name__}, wanted a list of photos: [photo]"
            )
        brought = [checked_photo(p, name=f"photo {k}") for k, p in enumerate(photos, start=1)]
        with self._lock:
            new, images = self._brought(text, photos, brought)
            turns, seen = (*self.turns, *new), ChainMap(images, self.images)

            def answered(heard: Tell) -> Reply:
                return self.model.respond(
                    turns,
                    images=seen,
                    seed=zlib.crc32(f"{self.seed}/{self.num_answers}".encode()),
                    tell=heard,
                    dial=self.dial,
                )

            reply = self.safety.answer(text, tell, answered)
            self._remember(new, images, reply)
            self.notes = [*reply.notes, *self._notes_on(text, len(photos), reply.dropped_turns)]
            return reply

    def take(self, text: str, photos: Sequence[PhotoLike], reply: Reply) -> None:
        """Remember ``text`` and photos, and an answer that was made elsewhere, or stopped."""
        checked_text(text)
        images = [checked_photo(p, name=f"photo {k}") for k, p in enumerate(photos, start=1)]
        with self._lock:
            self._remember(*self._brought(text, photos, images), reply)

    def _remember(self, new: Sequence[Turn], images: Mapping[str, Image], reply: Reply) -> None:
        self.turns = (*self.turns, *new, *reply.turns)
        self.images.update({**images, **reply.images})
        self.hits |= reply.hits
        self.p_share += [*[None] * len(new), *reply.p_share]
        self.num_answers += 1

    def _brought(
        self, text: str, photos: Sequence[PhotoLike], images: Sequence[Image]
    ) -> tuple[list[Turn], dict[str, Image]]:
        """The user's turns, and the pixels of their photos. A photo is a turn of its own, as in the
        dialogues that models are trained on."""
        new, own = [Turn(speaker=USER, elements=(text,))], {}
        for k, (image, photo) in enumerate(zip(images, photos, strict=True)):
            path = os.fspath(photo) if isinstance(photo, str | os.PathLike) else None
            shown = Photo(id=f"user-{len(self.turns)}-{k}", path=path, origin="user")
            own[shown.id] = image
            new.append(Turn(speaker=USER, elements=(shown,)))
        return new, own

    @classmethod
    def again(
        cls,
        model: PhotoDialogueModel | Answering,
        *,
        seed: int,
        num_answers: int,
        turns: tuple[Turn, ...],
        images: MutableMapping[str, Image],
        p_share: Sequence[float | None],
        hits: Mapping[str, Sequence[tuple[str, float]]] | None = None,
    ) -> Session:
        """One that somebody has kept, to go on with."""
        session = cls(model, seed=seed)
        session.num_answers = num_answers
        session.turns, session.images, session.p_share = turns, images, list(p_share)
        told = (hits or {}).items()  # as JSON has them, too
        session.hits = {name: tuple((id, score) for id, score in own) for name, own in told}
        return session

    def _notes_on(self, text: str, num_photos: int, num_dropped: int) -> list[str]:
        notes = []
        if num_photos and not self.model.sees:
            notes.append(f"{self.model.name} cannot see photos; tell it what is on yours")
        if num_dropped:
            notes.append(
                f"the conversation is longer than {self.model.name} can look back: its oldest "
                f"{num_dropped} turn{'s' if num_dropped > 1 else ''} went unread"
            )
        if unknown := unknown_words(text, self._known):
            words = ", ".join(f'"{word}"' for word in unknown)
            notes.append(f"{self.model.name} may not know {words}")
            if not self._limits_said and (limits := self.model.card.get("limits")):
                notes[-1] += f". {limits}"
                self._limits_said = True
        return notes

    # ---------------------------------------------------------------------------------- on disk

    def save(self, folder: PathLike) -> Path:
        """Write the conversation into a folder, new or of an earlier ``save``; the folder.

        It is data as well (``showtell data show showtell:FOLDER``): one dialogue in showtell's
        JSONL with its photos beside it. A reader sees the old conversation or the new one, never
        a half. Raises StorageError.
        """
        from showtell.data.showtell_jsonl import FILE_NAME, dialogue_as_dict

        folder = Path(folder)
        with self._lock, locked(folder):
            if any(folder.iterdir()):
                try:
                    _saved_dialogue(folder)
                except DataError as error:
                    raise StorageError(
                        f"{folder} holds other files than a conversation; name a new folder"
                    ) from error
            kept = {}
            for photo in (photo for turn in self.turns for photo in turn.photos):
                if photo.id in self.images:
                    data = photo_file(photo, self.images[photo.id])
                    kept[photo.id] = f"photos/{hashlib.sha256(data).hexdigest()[:16]}.png"
                    if not (folder / kept[photo.id]).exists():
                        write_atomically(folder / kept[photo.id], data)
            turns = tuple(
                Turn(
                    speaker=turn.speaker,
                    elements=tuple(
                        e if isinstance(e, str) else replace(e, path=kept.get(e.id))
                        for e in turn.elements
                    ),
                    labels={} if p_share is None else {"p_share": p_share},
                )
                for turn, p_share in zip(self.turns, self.p_share, strict=True)
            )
            about = {"model": self.model.name, "seed": self.seed, "answers": self.num_answers}
            labels = {"session": {**about, "photos": len(kept), "hits": self.hits}}
            dialogue = Dialogue(id="session", turns=turns, labels=labels)
            line = json.dumps(dialogue_as_dict(dialogue), ensure_ascii=False) + "\n"
            write_atomically(folder / FILE_NAME, line.encode())
            for path in folder.glob(f"photos/{'[0-9a-f]' * 16}.png"):  # of what stood here
                if f"photos/{path.name}" not in kept.values():
                    path.unlink()
        return folder

    @classmethod
    def open(cls, model: PhotoDialogueModel | Answering, folder: PathLike) -> Session:
        """The conversation that ``save`` wrote, to go on with. Raises DataError, PhotoError."""
        from showtell.data.photos import load_photo

        dialogue = _saved_dialogue(Path(folder))
        about = dialogue.labels["session"]
        session = cls.again(
            model,
            seed=about["seed"],
            num_answers=about["answers"],
            turns=tuple(replace(turn, labels={}) for turn in dialogue.turns),
            images={p.id: load_photo(p.path) for p in dialogue.photos if p.path is not None},
            p_share=[turn.labels.get("p_share") for turn in dialogue.turns],
            hits=about.get("hits"),
        )
        if len(session.images) != about["photos"]:
            raise DataError(
                f"{folder} lacks {about['photos'] - len(session.images)} of its "
                f"{about['photos']} photos; put them back into {Path(folder) / 'photos'}"
            )
        if about["model"] != session.model.name:
            session.notes = [f"until here {about['model']} answered, now {session.model.name}"]
        return session


def responder(
    model: PhotoDialogueModel | Answering,
    *,
    album: PathLike | None = None,
    painter: WordPainter | None = None,
) -> Answering:
    """A model that answers sessions. ``album``: one that the model's own queries ask, or words,
    where it makes none; ``painter``: what paints its words, where it has none itself. A model whose
    card says by which part of an index it "looks" is told the user's photos in words by that.

    What answers already is given back. Raises what ``open_album``, ``open_finder`` raise;
    UsageError for an album or a painter beside its own.
    """
    if hasattr(model, "respond"):
        if album is not None or painter is not None:
            raise UsageError(
                "what answers already (a Responder) has its own album and painter; give it those"
            )
        return cast("Answering", model)
    from showtell.agent.looks import Looks
    from showtell.agent.memory import remembered
    from showtell.agent.when import Reading, When
    from showtell.agent.which import Which
    from showtell.models.decoder import Decoder
    from showtell.models.open_album import open_album
    from showtell.models.respond import Responder

    model = cast("PhotoDialogueModel", model)
    if model.painter is not None and painter is not None:
        raise UsageError(f'"{model.name}" paints by itself; leave the other painter out')
    opened = found = None
    if album is not None and model.bridge.query_width is not None:
        opened = open_album(model, os.fspath(album))
    elif album is not None:
        from showtell.agent.album_words import open_photos

        found = open_photos(os.fspath(album), told=terminal_progress)
    looks = Looks(str(model.card["looks"])) if "looks" in model.card else None
    sources = Which(album=found, painter=painter)
    when = When(threshold=model.decoding.share_threshold, reading=Reading.of(model.card))
    return Responder(
        Decoder(model),
        album=opened,
        photos=sources,
        looks=looks,
        when=when,
        memory=partial(remembered, card=model.card),
    )


def _saved_dialogue(folder: Path) -> Dialogue:
    """The one dialogue in the folder, if ``Session.save`` wrote it. Raises DataError."""
    from showtell.data.sources import open_data

    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; wanted one that a conversation was saved in")
    dialogue, *more = open_data(f"showtell:{folder}")
    about = dialogue.labels.get("session")
    kinds = {"model": str, "seed": int, "answers": int, "photos": int}
    if (
        more
        or not isinstance(about, dict)
        or any(type(about.get(key)) is not kind for key, kind in kinds.items())
        or any(about[key] < 0 for key in ("seed", "answers", "photos"))
        or not all(_is_chance(turn.labels.get("p_share")) for turn in dialogue.turns)
        or not _are_hits(about.get("hits", {}))
    ):
        raise DataError(
            f"{folder} holds dialogues, but no conversation as a session saves it; name the "
            'folder of one, or look at it with "showtell data show"'
        )
    return dialogue


def _is_chance(value: object) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= 1)  # type: ignore[operator]


def _are_hits(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(own, list)
        and all(isinstance(hit, list) and [*map(type, hit)] == [str, float] for hit in own)
        for own in value.values()
    )
