"""showtell's own JSONL, as ``showtell data world`` writes it: the inverse of ``dialogue_as_dict``.

One dialogue a line, photos as files below the folder of the JSONL. docs/showtell.schema.json says
what a line is; it is generated from the dataclasses of ``showtell.dialogue``
(``data/schema.py``), and what it allows is what this reader takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from showtell.data.export import FILE_NAME
from showtell.data.photos import PhotoFolder
from showtell.data.records import (
    SKIP,
    OnSkip,
    as_object,
    field,
    kind_of,
    parse_json_lines,
    read_dialogues,
    text_field,
    text_of,
)
from showtell.data.schema import ORIGINS, SPEAKERS
from showtell.dialogue import Dialogue, Element, Photo, Turn
from showtell.errors import DataError

_FORMAT = (
    'Wanted: showtell\'s JSONL, one dialogue a line ({"id": ..., "turns": [...], "labels": {}}); '
    "see docs/showtell.schema.json."
)


def read_showtell(
    path: str | Path, *, skip_bad: bool = False, on_skip: OnSkip | None = None
) -> Iterator[Dialogue]:
    """The dialogues of a file, or of the dialogues.jsonl of a folder, one by one.

    Paths of photos are relative to the file's folder; a photo that is not there has the path None.
    Raises DataError (``read_dialogues``).
    """
    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAME
    yield from read_dialogues(
        path,
        parse=parse_json_lines,
        build=partial(dialogue_of, folder=PhotoFolder(path.parent)),
        wanted=_FORMAT,
        skip_bad=skip_bad,
        on_skip=on_skip,
    )


class Photos(Protocol):
    """Where the photos of a dialogue are looked up (``PhotoFolder``)."""

    def find(self, name: str, where: str) -> str | None: ...


def dialogue_of(value: Any, where: str, folder: Photos) -> Dialogue:
    """The dialogue of a JSON value."""
    record = _exact(value, ("id", "turns", "labels"), where)
    name = text_field(record, "id", where)
    if not name:
        raise DataError(f'{where}: "id" is empty, wanted a name. {SKIP}')
    where = f"{where} (dialogue {name[:40]})"
    turns = []
    for number, item in enumerate(field(record, "turns", (list,), where), start=1):
        at = f"{where}, turn {number}"
        turn = _exact(item, ("speaker", "elements", "labels"), at)
        elements = field(turn, "elements", (list,), at)
        turns.append(
            Turn(
                speaker=_one_of(turn, "speaker", SPEAKERS, at),
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
    name = text_field(record, "id", where)
    if not name:
        raise DataError(f'{where}: the "id" of a photo is empty, wanted a name. {SKIP}')
    path = field(record, "path", (str, type(None)), where)
    if path is not None:
        path = folder.find(text_of(path, "path", where), where)
    return Photo(
        id=name,
        caption=text_field(record, "caption", where),
        path=path,
        origin=_one_of(record, "origin", ORIGINS, where),
        seed=field(record, "seed", (int, type(None)), where),
        labels=field(record, "labels", (dict,), where),
    )


def _one_of(record: dict[str, Any], key: str, choices: tuple[str, ...], where: str) -> Any:
    value = text_field(record, key, where)
    if value not in choices:
        raise DataError(
            f'{where}: "{key}" is "{value[:40]}", wanted {", ".join(choices[:-1])} or '
            f"{choices[-1]}. {SKIP}"
        )
    return value


def _exact(value: Any, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    """The object, if it has exactly these fields: a misspelt one would be lost without a word."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: a JSON {kind_of(value)}, wanted an object. {_FORMAT}")
    for key in value:
        if key not in keys:
            raise DataError(
                f'{where}: an unknown field "{key[:40]}", wanted {", ".join(keys)}. {SKIP}'
            )
    return value
