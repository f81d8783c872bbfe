"""showtell's own JSONL: a dialogue as a JSON object, and back.

One dialogue a line, photos as files below the folder of the JSONL; a photo that is not there has
the path None. docs/showtell.schema.json says what a line is: pydantic writes it from these classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from showtell.data.jsonl import parse_json_lines
from showtell.data.readers import Fields, Reader, checked
from showtell.dialogue import Dialogue, Element, Origin, Photo, Speaker, Turn

FILE_NAME = "dialogues.jsonl"
_FORMAT = (
    'Wanted: showtell\'s JSONL, one dialogue a line ({"id": ..., "turns": [...], "labels": {}}); '
    "see docs/showtell.schema.json."
)


class _Exact(Fields):
    """Exactly these fields: a misspelt one would be lost without a word."""

    model_config = ConfigDict(strict=True, extra="forbid")


_Id = Annotated[str, Field(min_length=1)]


class _Text(_Exact):
    type: Literal["text"]
    text: str


class _Photo(_Exact):
    type: Literal["photo"]
    id: _Id
    path: str | None
    origin: Origin
    caption: str
    seed: int | None
    labels: dict[str, Any]


class _Turn(_Exact):
    speaker: Speaker
    elements: list[Annotated[_Text | _Photo, Field(discriminator="type")]]
    labels: dict[str, Any]


class _Dialogue(_Exact):
    id: _Id
    turns: list[_Turn]
    labels: dict[str, Any]


def dialogue_of(value: Any, where: str, find: Callable[[str, str], str | None]) -> Dialogue:
    """The dialogue of a JSON value; ``find`` gives the path of a photo (``PhotoFolder.find``)."""
    record = checked(_Dialogue, value, where, wanted=_FORMAT)
    where = f"{where} (dialogue {record.id[:40]})"

    def element(read: _Text | _Photo) -> Element:
        if isinstance(read, _Text):
            return read.text
        return Photo(
            id=read.id,
            caption=read.caption,
            path=None if read.path is None else find(read.path, where),
            origin=read.origin,
            seed=read.seed,
            labels=read.labels,
        )

    return Dialogue(
        id=record.id,
        turns=tuple(
            Turn(
                speaker=turn.speaker,
                elements=tuple(map(element, turn.elements)),
                labels=turn.labels,
            )
            for turn in record.turns
        ),
        labels=record.labels,
    )


def dialogue_as_dict(dialogue: Dialogue) -> dict[str, Any]:
    """Everything that a dialogue holds, labels included, with ordered elements."""
    turns = [
        {
            "speaker": turn.speaker,
            "elements": [element_as_dict(element) for element in turn.elements],
            "labels": dict(turn.labels),
        }
        for turn in dialogue.turns
    ]
    return {"id": dialogue.id, "turns": turns, "labels": dict(dialogue.labels)}


def element_as_dict(element: Element) -> dict[str, Any]:
    """A text, or a photo with all that is known of it."""
    if isinstance(element, str):
        return {"type": "text", "text": element}
    return {"type": "photo", **vars(element), "labels": dict(element.labels)}


read_showtell = Reader(
    title="showtell's JSONL",
    licence="as the dialogues state",
    wanted=_FORMAT,
    parse=parse_json_lines,
    build=lambda value, where, folder: dialogue_of(value, where, folder.find),
    places=("",),
    files=(FILE_NAME,),
)
