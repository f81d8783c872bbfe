"""PhotoChat (Zang et al. 2021): two people chat and one of them shares one photo.

Reads JSON lines (one dialogue a line) and the original files (a JSON array of dialogues), with or
without ``photo_id`` (older copies lack it):

    {"dialogue": [{"message": str, "share_photo": bool, "user_id": 0 or 1}, ...],
     "dialogue_id": int, "photo_description": str, "photo_url": str, "photo_id": str}

What becomes of it:

- Whoever speaks first is ``user``, the other ``agent``, whichever of them shares: names that told
  who will share would give away half of the share moment. ``user_id`` 0 and 1 are only two names.
- The share turn is ``Turn(speaker=..., elements=(Photo(...),))``; its caption is the raw
  ``photo_description`` ("Objects in the photo: Plate, Salad").
- Pixels are looked for in ``images`` beside the file, as ID.jpg or ID.png. Without that folder
  ``Photo.path`` is None, and ``counts_of`` counts the photo as missing. Nothing is put in
  its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from showtell.data.jsonl import SKIP
from showtell.data.photos import PhotoFolder
from showtell.data.readers import Fields, Name, Reader, checked
from showtell.dialogue import AGENT, USER, Dialogue, Element, Photo, Turn
from showtell.errors import DataError

HELD_OUT = 1000
OBJECTS = "Objects in the photo:"  # what opens the list in a description
LICENCE = "text CC BY 4.0; photos: Open Images, each under its own licence"
_FORMAT = (
    "Wanted: PhotoChat, either JSON lines or one JSON array of dialogues "
    '({"dialogue": [...], "dialogue_id": ..., "photo_description": ..., "photo_url": ...}).'
)


class _Turn(Fields):
    message: str
    share_photo: bool
    user_id: Annotated[int, Field(ge=0, le=1)]


class _Record(Fields):
    dialogue: list[_Turn]
    dialogue_id: Name
    photo_description: str
    photo_url: str = ""
    photo_id: Name = ""


def _dialogue(value: Any, where: str, folder: PhotoFolder) -> Dialogue:
    record = checked(_Record, value, where, wanted=_FORMAT)
    shares = sum(turn.share_photo for turn in record.dialogue)
    if shares != 1:
        raise DataError(
            f"{where} (dialogue {record.dialogue_id[:40]}): {shares} of its {len(record.dialogue)} "
            f"turns share a photo; wanted exactly one. {SKIP}"
        )
    name = _photo_id(record)
    photo = Photo(
        id=name,
        caption=record.photo_description,
        # without a folder of photos an id may be any text
        path=folder.find(name, where, endings=(".jpg", ".png")) if folder.places else None,
        # "photo_url" is PhotoChat's own name of it, "url" that of all readers
        labels={"photo_url": record.photo_url, "url": record.photo_url},
    )

    def elements(turn: _Turn) -> tuple[Element, ...]:
        if not turn.share_photo:
            return (turn.message,)
        return (turn.message, photo) if turn.message.strip() else (photo,)

    first = record.dialogue[0].user_id
    return Dialogue(
        id=record.dialogue_id,
        turns=tuple(
            Turn(speaker=USER if turn.user_id == first else AGENT, elements=elements(turn))
            for turn in record.dialogue
        ),
        labels={"licence": LICENCE},
    )


def _photo_id(record: _Record) -> str:
    """``photo_id``; else the file name in the address; else a digest of the description."""
    name = record.photo_url.split("?")[0].rstrip("/").rpartition("/")[2].rpartition(".")[0]
    digest = hashlib.sha256(record.photo_description.encode()).hexdigest()
    return record.photo_id.strip() or name or f"sha-{digest[:16]}"


read_photochat = Reader(
    title="PhotoChat",
    licence=LICENCE,
    wanted=_FORMAT,
    build=_dialogue,
    files=("*.json", "train.jsonl", "dev.jsonl", "test.jsonl"),
    symmetric=True,
)


# ------------------------------------------------------------------ counts, moments, held-out


def counts_of(dialogues: Sequence[Dialogue]) -> dict[str, int]:
    """What is there, and how many photos and positions of the share-moment protocol."""
    photos = [photo for dialogue in dialogues for photo in dialogue.photos]
    positions = [position for dialogue in dialogues for position in moment_positions(dialogue)]
    return {
        "dialogues": len(dialogues),
        "turns": sum(len(dialogue.turns) for dialogue in dialogues),
        "photos": len(photos),
        "missing photos": sum(photo.path is None for photo in photos),
        "positions": len(positions),
        "positive positions": sum(position.shares for position in positions),
    }


@dataclass(frozen=True, kw_only=True)
class MomentPosition:
    """A point of a dialogue at which one may ask: is the next turn a photo?"""

    turn: int  # the index of the next turn
    context: tuple[Turn, ...]  # the turns before it; never empty
    shares: bool


def moment_positions(dialogue: Dialogue) -> tuple[MomentPosition, ...]:
    """The share-moment protocol ``photochat``: a position before every turn up to the share.

    The share turn is included, the first turn of the dialogue is not (nothing has been said), and
    nothing after the share is asked. With the share at index k these are the positions 1..k, of
    which k alone is positive. On PhotoChat dev: 10,151 positions, 1,000 positive.
    """
    share = next((k for k, turn in enumerate(dialogue.turns) if turn.photos), None)
    last = len(dialogue.turns) - 1 if share is None else share
    return tuple(
        MomentPosition(turn=k, context=dialogue.turns[:k], shares=k == share)
        for k in range(1, last + 1)
    )


def split_held_out(
    dialogues: Iterable[Dialogue], *, count: int = HELD_OUT
) -> tuple[list[Dialogue], list[Dialogue]]:
    """``(rest, held_out)``: ``count`` training dialogues for stopping, thresholds, calibration.

    The rule depends on the photo's address only: photos in the order of the SHA-256 of their
    address, all dialogues of a photo together (the 10,286 training dialogues share 8,889 photos),
    until ``count`` are held out; a photo with more dialogues than are still wanted is passed over.
    Both lists keep the order of the input.
    """
    dialogues = list(dialogues)
    if not 0 < count < len(dialogues):
        raise DataError(
            f"{count} dialogues are to be held out of {len(dialogues)}; wanted more than that. "
            "Read the whole training file, or hold out fewer."
        )
    by_photo: dict[str, list[int]] = {}
    for index, dialogue in enumerate(dialogues):
        photo = dialogue.photos[0]
        by_photo.setdefault(photo.labels.get("photo_url") or photo.id, []).append(index)
    held: set[int] = set()
    for key in sorted(by_photo, key=lambda key: hashlib.sha256(key.encode()).digest()):
        if len(held) + len(by_photo[key]) <= count:
            held.update(by_photo[key])
    rest = [d for index, d in enumerate(dialogues) if index not in held]
    return rest, [d for index, d in enumerate(dialogues) if index in held]
