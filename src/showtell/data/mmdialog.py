"""MMDialog (Feng et al. 2022, arXiv 2211.05719): a million open-domain dialogues with photos.

A split is a folder with ``conversations.json`` (``test_conversations.txt`` in the copies that
MiniGPT-5 was trained on; the same text) and the photos as ``MEDIA_KEY.jpg``. One JSON a line:

    {"conversation_id": ..., "conversation": [{"turn": [{"__TEXT__": "..."}, {"__MEDIA__": key}]}]}

What becomes of it:

- Turns alternate: even ones are ``user``, odd ones ``agent``. Elements keep their order.
- Emoji stay spelled, ":smiling_face:".
- Photos are looked for beside the file, then in ``images``; they have no captions.
- The negatives of valid and test, 999 a dialogue, are not read: nothing needs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from showtell.data.jsonl import SKIP
from showtell.data.photos import PhotoFolder
from showtell.data.readers import Fields, Name, Reader, checked
from showtell.dialogue import AGENT, USER, Dialogue, Element, Photo, Turn
from showtell.errors import DataError

LICENCE = "on application to its owners, academic use only"
_FORMAT = (
    "Wanted: MMDialog, one JSON a line "
    '({"conversation_id": ..., "conversation": [{"turn": [{"__TEXT__": ...}]}]}).'
)
_FILES = ("conversations.json", "*_conversations.txt")
_Part = Annotated[dict[Literal["__TEXT__", "__MEDIA__"], str], Field(min_length=1, max_length=1)]


class _Turn(Fields):
    turn: list[_Part]


class _Record(Fields):
    conversation_id: Name
    conversation: Annotated[list[_Turn], Field(min_length=1)]


def _dialogue(value: Any, where: str, folder: PhotoFolder) -> Dialogue:
    record = checked(_Record, value, where, wanted=_FORMAT)
    return Dialogue(
        id=record.conversation_id,
        turns=tuple(
            Turn(
                speaker=AGENT if number % 2 else USER,
                elements=tuple(_element(part, where, folder) for part in turn.turn),
            )
            for number, turn in enumerate(record.conversation)
        ),
        labels={"licence": LICENCE},
    )


def _element(part: Mapping[Any, str], where: str, folder: PhotoFolder) -> Element:
    ((kind, text),) = part.items()
    if kind == "__TEXT__":
        return text
    if not text:
        raise DataError(f"{where}: an empty __MEDIA__, wanted a photo's key. {SKIP}")
    return Photo(id=text, path=folder.find(f"{text}.jpg", where))


read_mmdialog = Reader(
    title="MMDialog",
    licence=LICENCE,
    wanted=_FORMAT,
    build=_dialogue,
    places=("", "images"),
    files=(*_FILES, *(f"*/{name}" for name in _FILES)),
    parts=False,
    symmetric=True,
)
