"""Photos with captions: CC3M-style tables, and an image folder with a captions JSONL.

``read_cc3m``: a TSV of two columns, caption and photo, with or without a head line:

    caption <TAB> https://...      the owners' files: addresses; pixels, if any, in images/ID.jpg
    caption <TAB> photo/name.jpg   GILL's and MiniGPT-5's: a path below the table's folder

``read_folder``: one JSON a line in captions.jsonl or metadata.jsonl, beside the photos:

    {"file": "images/a.jpg", "captions": ["...", "..."], "split": "train", "licence": "...", ...}
    {"file_name": "a.jpg", "text": "..."}

What becomes of a pair: a dialogue of two turns. The user says the caption and the agent shares the
photo, as MiniGPT-5 has it; without a caption, the photo alone. All captions are in the photo's
``labels["captions"]``. A dialogue's id is the number of its line in a table, and in a folder the
photo's file name, which may come once; other fields of a record become labels of the photo there.
"""

from __future__ import annotations

from typing import Any, BinaryIO

from pydantic import AliasChoices, ConfigDict, Field

from showtell.data.dialogcc import photo_id
from showtell.data.jsonl import SKIP, Parsed, Record, parse_json_lines, parse_lines
from showtell.data.photos import PhotoFolder
from showtell.data.readers import Fields, Reader, checked
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import DataError

CC3M_LICENCE = "see its owners' page; photos: addresses on the web, each under its own licence"
_TABLE = "Wanted: lines of CAPTION<TAB>PHOTO, a path or an address (CC3M, GILL, MiniGPT-5)."
_LINES = 'Wanted: one JSON a line, {"file": "images/a.jpg", "captions": ["..."]}.'
_HEADS = {"caption", "title", "text"}
_SCHEMES = ("http://", "https://")
_KNOWN = {"file", "file_name", "caption", "text", "licence", "license"}  # the ones not taken


def _rows(file: BinaryIO, name: str) -> Parsed:
    """(number of the line, caption, photo)"""
    for line in parse_lines(file, name):
        if isinstance(line, DataError):
            yield line
            continue
        text, where = line
        number = where.rpartition(" ")[2]
        cells = text.rstrip("\r\n").split("\t")
        if len(cells) != 2 or not cells[1].strip():
            yield DataError(f"{where}: {len(cells)} columns, wanted a caption and a photo. {SKIP}")
        elif number != "1" or cells[0].strip().lower() not in _HEADS:
            yield Record((number, cells[0], cells[1].strip()), where)


def _row(value: Any, where: str, folder: PhotoFolder) -> Dialogue:
    number, caption, name = value
    labels = {}
    if name.startswith(_SCHEMES):
        name, labels = photo_id(name), {"url": name}
        found = folder.find(f"images/{name}", where, endings=(".jpg", ".png"))
    else:
        found = folder.find(name, where)
    photo = Photo(id=name, caption=caption, path=found, labels=labels)
    return _pair(photo, name=number, labels={"licence": CC3M_LICENCE})


class _Captioned(Fields):
    model_config = ConfigDict(strict=True, extra="allow")

    file: str = Field(validation_alias=AliasChoices("file", "file_name"))
    captions: list[str] | None = None
    caption: str | None = Field(None, validation_alias=AliasChoices("caption", "text"))
    licence: str | None = Field(None, validation_alias=AliasChoices("licence", "license"))
    split: str | None = None


def _photo(value: Any, where: str, folder: PhotoFolder) -> Dialogue:
    record = checked(_Captioned, value, where, wanted=_LINES)
    captions = record.captions
    if captions is None:
        if record.caption is None:
            raise DataError(f'{where}: "captions" is missing, "caption" and "text" too. {SKIP}')
        captions = [record.caption]
    labels = {"licence": record.licence or "not stated"}
    others = {key: known for key, known in (record.model_extra or {}).items() if key not in _KNOWN}
    photo = Photo(
        id=record.file,
        caption=captions[0] if captions else "",
        path=folder.find(record.file, where),
        labels={**others, "captions": tuple(captions), **labels},
    )
    if record.split:
        labels["split"] = record.split
    return _pair(photo, name=record.file, labels=labels)


def _pair(photo: Photo, *, name: str, labels: dict[str, Any]) -> Dialogue:
    turns = [Turn(speaker=AGENT, elements=(photo,))]
    if photo.caption.strip():
        turns.insert(0, Turn(speaker=USER, elements=(photo.caption,)))
    return Dialogue(id=name, turns=tuple(turns), labels=labels)


read_cc3m = Reader(
    title="CC3M-style captions",
    licence=CC3M_LICENCE,
    wanted=_TABLE,
    parse=_rows,
    build=_row,
    places=("",),
    files=("*.tsv",),
)
read_folder = Reader(
    title="a folder of photos with captions",
    licence="as each record states",
    wanted=_LINES,
    parse=parse_json_lines,
    build=_photo,
    places=("",),
    files=("captions.jsonl", "metadata.jsonl"),
    parts=False,
)
