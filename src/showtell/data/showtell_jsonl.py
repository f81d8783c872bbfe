"""showtell's own JSONL, as ``showtell data world`` writes it: the inverse of ``dialogue_as_dict``.

One dialogue a line, photos as files below the folder of the JSONL; a photo that is not there has
the path None. docs/showtell.schema.json says what a line is, and this reader takes what it allows.
"""

from __future__ import annotations

import typing
from typing import Any, Protocol

from showtell.data.export import FILE_NAME
from showtell.data.jsonl import SKIP, parse_json_lines
from showtell.data.readers import Reader, as_object, field, text_field
from showtell.dialogue import Dialogue, Element, Origin, Photo, Speaker, Turn
from showtell.errors import DataError

_FORMAT = (
    'Wanted: showtell\'s JSONL, one dialogue a line ({"id": ..., "turns": [...], "labels": {}}); '
    "see docs/showtell.schema.json."
)


class Photos(Protocol):
    """Where the photos of a dialogue are looked up (``PhotoFolder``)."""

    def find(self, name: str, where: str) -> str | None: ...


def dialogue_of(value: Any, where: str, folder: Photos) -> Dialogue:
    """The dialogue of a JSON value."""
    record = _exact(value, ("id", "turns", "labels"), where)
    name = _id(record, where)
    where = f"{where} (dialogue {name[:40]})"
    turns = []
    for number, item in enumerate(field(record, "turns", (list,), where), start=1):
        at = f"{where}, turn {number}"
        turn = _exact(item, ("speaker", "elements", "labels"), at)
        elements = field(turn, "elements", (list,), at)
        turns.append(
            Turn(
                speaker=_one_of(turn, "speaker", Speaker, at),
                elements=tuple(_element(element, at, folder) for element in elements),
                labels=field(turn, "labels", (dict,), at),
            )
        )
    return Dialogue(id=name, turns=tuple(turns), labels=field(record, "labels", (dict,), where))


def _element(value: Any, where: str, folder: Photos) -> Element:
    kind = as_object(value, where, _FORMAT).get("type")
    if kind == "text":
        return text_field(_exact(value, ("type", "text"), where), "text", where)
    if kind != "photo":
        raise DataError(f'{where}: an element whose "type" is neither text nor photo. {SKIP}')
    keys = ("type", "id", "path", "origin", "caption", "seed", "labels")
    record = _exact(value, keys, where)
    name = _id(record, f"{where}, photo")
    path = field(record, "path", (str, type(None)), where)
    if path is not None:
        path = folder.find(path, where)
    return Photo(
        id=name,
        caption=text_field(record, "caption", where),
        path=path,
        origin=_one_of(record, "origin", Origin, where),
        seed=field(record, "seed", (int, type(None)), where),
        labels=field(record, "labels", (dict,), where),
    )


def _id(record: dict[str, Any], where: str) -> str:
    if not (name := text_field(record, "id", where)):
        raise DataError(f'{where}: "id" is empty, wanted a name. {SKIP}')
    return name


def _one_of(record: dict[str, Any], key: str, kind: Any, where: str) -> Any:
    value, choices = text_field(record, key, where), typing.get_args(kind)
    if value not in choices:
        raise DataError(
            f'{where}: "{key}" is "{value[:40]}", wanted {" or ".join(choices)}. {SKIP}'
        )
    return value


def _exact(value: Any, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    """The object, if it has exactly these fields: a misspelt one would be lost without a word."""
    for key in as_object(value, where, _FORMAT):
        if key not in keys:
            raise DataError(
                f'{where}: an unknown field "{key[:40]}", wanted {", ".join(keys)}. {SKIP}'
            )
    return value


read_showtell = Reader(
    title="showtell's JSONL",
    licence="as the dialogues state",
    wanted=_FORMAT,
    parse=parse_json_lines,
    build=dialogue_of,
    files_of=lambda path: (path / FILE_NAME if path.is_dir() else path,),
    places=("",),
)
