"""Photos with captions: CC3M-style tables, and an image folder with a captions JSONL.

``read_cc3m``: a TSV of two columns, caption and photo, with or without a head line:

    caption <TAB> https://...      the owners' files: addresses; pixels, if any, in images/ID.jpg
    caption <TAB> photo/name.jpg   GILL's and MiniGPT-5's: a path below the table's folder

``read_folder``: one JSON a line in captions.jsonl or metadata.jsonl, beside the photos:

    {"file": "images/a.jpg", "captions": ["...", "..."], "split": "train", "licence": "...", ...}
    {"file_name": "a.jpg", "text": "..."}

What becomes of a pair: a dialogue of two turns. The user says the caption and the agent shares the
photo, as MiniGPT-5 has it; without a caption, the photo alone. All captions are in the photo's
``labels["captions"]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from showtell.data.dialogcc import photo_id
from showtell.data.photos import PhotoFolder
from showtell.data.records import (
    SKIP,
    OnSkip,
    Parsed,
    Record,
    as_object,
    field,
    parse_json_lines,
    parse_lines,
    read_dialogues,
    text_field,
    text_of,
)
from showtell.dialogue import AGENT, USER, Dialogue, Photo, Turn
from showtell.errors import DataError

CC3M_LICENCE = "see its owners' page; photos: addresses on the web, each under its own licence"
FOLDER_FILES = ("captions.jsonl", "metadata.jsonl")
_TABLE = "Wanted: lines of CAPTION<TAB>PHOTO, a path or an address (CC3M, GILL, MiniGPT-5)."
_LINES = 'Wanted: one JSON a line, {"file": "images/a.jpg", "captions": ["..."]}.'
_HEADS = {"caption", "title", "text"}
_SCHEMES = ("http://", "https://")
_KNOWN = {"file", "file_name", "captions", "caption", "text", "split", "licence", "license"}


def read_cc3m(
    path: str | Path, *, skip_bad: bool = False, on_skip: OnSkip | None = None
) -> Iterator[Dialogue]:
    """The pairs of a table, in order, one by one; a dialogue's id is the number of its line.

    Raises DataError (``read_dialogues``).
    """
    path = Path(path)
    folder = PhotoFolder(path.parent)
    fetched = PhotoFolder(path.parent, ("images",))

    def build(value: Any, where: str) -> Dialogue:
        number, caption, photo = value
        if photo.startswith(_SCHEMES):
            name, labels = photo_id(photo), {"url": photo}
            found = fetched.find(name, where, endings=(".jpg", ".png"))
        else:
            name, found, labels = photo, folder.find(photo, where), {}
        return _pair(
            Photo(id=name, caption=caption, path=found, labels=labels),
            name=number,
            labels={"licence": CC3M_LICENCE},
        )

    yield from read_dialogues(
        path, parse=_rows, build=build, wanted=_TABLE, skip_bad=skip_bad, on_skip=on_skip
    )


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


def read_folder(
    path: str | Path, *, skip_bad: bool = False, on_skip: OnSkip | None = None
) -> Iterator[Dialogue]:
    """The photos of a folder that its captions.jsonl (or metadata.jsonl) names, one by one.

    ``path`` is the folder or the JSONL. A dialogue's id is the photo's file name, which may come
    once. Other fields of a record become labels of the photo. Raises DataError
    (``read_dialogues``).
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in FOLDER_FILES if (path / name).is_file()]
        if not found:
            raise DataError(
                f"{path} is a folder without {' or '.join(FOLDER_FILES)}. {_LINES} "
                "Write one, or name the file itself."
            )
        path = found[0]
    folder = PhotoFolder(path.parent)

    def build(value: Any, where: str) -> Dialogue:
        record = as_object(value, where, _LINES)
        key = "file" if "file" in record else "file_name"
        name = text_field(record, key, where)
        captions = _captions(record, where)
        licence = text_field(record, "licence", where, optional=True)
        licence = licence or text_field(record, "license", where, optional=True)
        labels = {"licence": licence or "not stated"}
        if split := text_field(record, "split", where, optional=True):
            labels["split"] = split
        rest = {key: value for key, value in record.items() if key not in _KNOWN}
        photo = Photo(
            id=name,
            caption=captions[0] if captions else "",
            path=folder.find(name, where),
            labels={**rest, "captions": tuple(captions), "licence": labels["licence"]},
        )
        return _pair(photo, name=name, labels=labels)

    yield from read_dialogues(
        path, parse=parse_json_lines, build=build, wanted=_LINES, skip_bad=skip_bad, on_skip=on_skip
    )


def _captions(record: dict[str, Any], where: str) -> list[str]:
    if "captions" in record:
        captions = field(record, "captions", (list,), where)
        if not all(isinstance(caption, str) for caption in captions):
            raise DataError(f'{where}: "captions" wants texts. {SKIP}')
        return [text_of(caption, "captions", where) for caption in captions]
    key = "caption" if "caption" in record else "text"
    return [text_field(record, key, where)]


def _pair(photo: Photo, *, name: str, labels: dict[str, Any]) -> Dialogue:
    shared = Turn(speaker=AGENT, elements=(photo,))
    if not photo.caption.strip():
        return Dialogue(id=name, turns=(shared,), labels=labels)
    return Dialogue(
        id=name, turns=(Turn(speaker=USER, elements=(photo.caption,)), shared), labels=labels
    )
