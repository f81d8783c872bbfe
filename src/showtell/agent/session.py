"""A conversation in progress: what was said, the photos' pixels, and what may be said next.

The session checks what a user brings (text and photo files), asks the model for its answer, and
remembers both. It refuses what it cannot take and never mends it.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from showtell.data.storage import write_atomically
from showtell.dialogue import USER, Photo, Turn
from showtell.errors import StorageError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.models.respond import Reply

MAX_CHARACTERS = 20_000
PHOTO_SIZE = 64
# Machine-readable mark of generated pictures (IPTC); never put on a photo that a user brought.
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/'
    'trainedAlgorithmicMedia"/></rdf:RDF></x:xmpmeta>'
)


class ChatModel(Protocol):
    """What a session needs of what answers it; a Responder is one, tests bring fakes.

    ``card["limits"]`` says what it knows, ``card["openings"]`` how one could begin, and
    ``card["words"]`` which words it was trained on: a list, or "world" for the photo world's.
    """

    name: str
    card: dict[str, Any]

    @property
    def can_paint(self) -> bool: ...

    def respond(
        self,
        turns: tuple[Turn, ...],
        *,
        images: Mapping[str, Image],
        seed: int,
        on_text: Callable[[str], None] | None = None,
        on_photo_step: Callable[[int, int], None] | None = None,
    ) -> Reply: ...


def checked_text(text: str) -> str:
    """``text`` as it is, or UsageError if it is empty, too long or holds control characters."""
    if not text.strip():
        raise UsageError("the text is empty; say something, for example 'Hi! How was your day?'")
    if len(text) > MAX_CHARACTERS:
        raise UsageError(
            f"the text has {len(text):,} characters; at most {MAX_CHARACTERS:,} fit into one turn. "
            "Shorten it, or say it in several turns"
        )
    for position, character in enumerate(text):
        if (ord(character) < 32 and character not in "\n\t") or 127 <= ord(character) < 160:
            raise UsageError(
                f"the text holds the control character U+{ord(character):04X} at position "
                f"{position + 1}; only newlines and tabs may stand beside the words. Remove it"
            )
        if 0xD800 <= ord(character) < 0xE000:
            raise UsageError(
                f"the text holds a byte that is not UTF-8 at position {position + 1}; "
                "send it as UTF-8"
            )
    return text


class Session:
    """Turns and images so far, and the model that answers.

    >>> session = Session(Responder(Decoder(load_model("mini"))))   # doctest: +SKIP
    >>> session.say("Can you send me a photo of your dog?").turns   # doctest: +SKIP
    """

    def __init__(self, model: ChatModel, *, seed: int = 0) -> None:
        self.model = model
        self.seed = seed
        self.turns: tuple[Turn, ...] = ()
        self.images: dict[str, Image] = {}
        self.p_share: list[float | None] = []  # one a turn; None for the user's
        self.notes: list[str] = []  # what the user should know about the last answer
        self._num_answers = 0
        self._limits_said = False

    def say(
        self,
        text: str,
        photos: Sequence[str | Path] = (),
        *,
        on_text: Callable[[str], None] | None = None,
        on_photo_step: Callable[[int, int], None] | None = None,
    ) -> Reply:
        """The model's answer to ``text`` with photo files beside it; both are remembered.

        If anything fails, the session is as it was before.
        """
        from showtell.data.photos import load_photo, square

        # A photo is a turn of its own, as in the dialogues that models are trained on.
        turns = [Turn(speaker=USER, elements=(checked_text(text),))]
        images = {}
        for k, path in enumerate(photos):
            photo = Photo(id=f"user-{len(self.turns)}-{k}", path=str(path), origin="user")
            images[photo.id] = square(load_photo(path), PHOTO_SIZE)
            turns.append(Turn(speaker=USER, elements=(photo,)))
        return self.say_turns(turns, images=images, on_text=on_text, on_photo_step=on_photo_step)

    def say_turns(
        self,
        new: Sequence[Turn],
        *,
        images: Mapping[str, Image],
        on_text: Callable[[str], None] | None = None,
        on_photo_step: Callable[[int, int], None] | None = None,
    ) -> Reply:
        """The same for turns of the user whose photos are at hand as images."""
        turns = (*self.turns, *new)
        reply = self.model.respond(
            turns,
            images={**self.images, **images},
            seed=zlib.crc32(f"{self.seed}/{self._num_answers}".encode()),
            on_text=on_text,
            on_photo_step=on_photo_step,
        )
        self.turns = (*turns, *reply.turns)
        self.images |= {**images, **reply.images}
        self.p_share += [*[None] * len(new), *reply.p_share]
        self.notes = self._notes_on(" ".join(turn.text for turn in new), reply.dropped_turns)
        self._num_answers += 1
        return reply

    def _notes_on(self, text: str, num_dropped: int) -> list[str]:
        notes = []
        if num_dropped:
            notes.append(
                f"the conversation is longer than {self.model.name} can look back: its oldest "
                f"{num_dropped} turn{'s' if num_dropped > 1 else ''} went unread"
            )
        if unknown := unknown_words(text, known_words(self.model)):
            words = ", ".join(f'"{word}"' for word in unknown)
            notes.append(f"{self.model.name} may not know {words}")
            if not self._limits_said and (limits := self.model.card.get("limits")):
                notes[-1] += f". {limits}"
                self._limits_said = True
        return notes


def known_words(model: ChatModel) -> frozenset[str]:
    """The words a model was trained on; empty if its card does not say."""
    words = model.card.get("words", ())
    if words == "world":
        from photoworld.words import world_words

        return world_words()
    return _word_set(tuple(words))


@functools.cache
def _word_set(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(word.lower() for word in words)


def unknown_words(text: str, known: Iterable[str]) -> list[str]:
    """Words of four letters or more that are not known, in order; none if nothing is known."""
    known = frozenset(known)
    if not known:
        return []
    found = []
    for word in re.findall(r"[^\W\d_]{4,}", text.lower()):
        if word not in known and word.removesuffix("s") not in known and word not in found:
            found.append(word)
    return found


def png_bytes(photo: Photo, image: Image) -> bytes:
    """The photo as a PNG file with its caption; a painted one says that it was generated."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("Description", photo.caption)
    if photo.origin == "painted":
        info.add_itxt("XML:com.adobe.xmp", _XMP)
    data = BytesIO()
    image.save(data, format="PNG", pnginfo=info)
    return data.getvalue()


def save_photo(photo: Photo, image: Image, folder: Path) -> Path:
    """Write a shared photo as PNG into ``folder``; a name taken by another one gets a number."""
    data = png_bytes(photo, image)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", photo.id).strip(".-") or "photo"
    for k in range(1, 1_000_000):
        path = folder / (f"{stem}.png" if k == 1 else f"{stem}-{k}.png")
        if not path.exists():
            return write_atomically(path, data)
        if path.read_bytes() == data:
            return path
    raise StorageError(f"{folder} holds a million photos named {stem}; name another folder")
