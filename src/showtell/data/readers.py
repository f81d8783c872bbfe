"""What the readers of all data sets share: files -> records -> dialogues, and checks of fields.

A reader says how a file is taken apart (``parse``) and what a record becomes (``build``); what is
bad, doubled or missing is dealt with here, the same for all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from showtell.data.jsonl import SKIP, OnSkip, Parsed, opened, parse_json_records, short_name
from showtell.data.photos import PhotoFolder
from showtell.dialogue import Dialogue
from showtell.errors import DataError

_SPLIT = re.compile(r"train|dev|val(?:id(?:ation)?)?|test")


def split_of_name(name: str) -> str:
    """``visdial_1.0_val.json`` -> ``valid``; "" if the name tells none."""
    told = _SPLIT.search(name.lower())
    if not told:
        return ""
    return "valid" if told[0].startswith("val") else told[0]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A kind of data in files: called with a path, it yields the dialogues there, one by one.

    ``parse`` takes a file apart into records, ``build`` makes a dialogue of a record's value. Both
    report with DataError: what ``parse`` yields and ``build`` raises concerns one record and may be
    skipped, what ``parse`` raises concerns the rest of the file and may not. ``files_of`` gives the
    files of a path that is one split. Photos are looked up beside the file, in ``places``, where
    {split} stands for the first part of its name. ``files`` are the glob patterns of its files in a
    folder of several splits; without any, ``files_of`` alone knows what to do with a folder.
    ``symmetric``: neither speaker is the agent, so that both are trained and measured.
    """

    title: str
    licence: str
    wanted: str
    build: Callable[[Any, str, PhotoFolder], Dialogue]
    parse: Callable[[BinaryIO, str], Parsed] = parse_json_records
    files_of: Callable[[Path], Iterable[Path]] = lambda path: (path,)
    places: tuple[str, ...] = ("images",)
    files: tuple[str, ...] = ()
    symmetric: bool = False

    def __call__(
        self, path: str | Path, *, skip_bad: bool = False, on_skip: OnSkip | None = None
    ) -> Iterator[Dialogue]:
        """The dialogues of a file, or of a folder that holds one split, in bounded memory.

        A bad record raises DataError, which names file and record; with ``skip_bad`` it is handed
        to ``on_skip`` instead and the rest goes on. A dialogue whose id was there already is bad; a
        file of which nothing is left is an error all the same.
        """
        for file in self.files_of(Path(path)):
            yield from self._file(file, skip_bad=skip_bad, on_skip=on_skip)

    def _file(self, path: Path, *, skip_bad: bool, on_skip: OnSkip | None) -> Iterator[Dialogue]:
        split = path.name.partition(".")[0]
        folder = PhotoFolder(path.parent, [place.format(split=split) for place in self.places])
        name = short_name(path)
        num_bad = 0
        first_bad: DataError | None = None
        ids: set[str] = set()
        with opened(path, wanted=self.wanted) as file:
            for record in self.parse(file, name):
                try:
                    if isinstance(record, DataError):
                        raise record
                    dialogue = self.build(record.value, record.where, folder)
                    if dialogue.id in ids:
                        raise DataError(
                            f'{record.where}: the dialogue id "{dialogue.id[:60]}" was there '
                            f"already; wanted every id once. {SKIP}"
                        )
                    ids.add(dialogue.id)
                    yield dialogue
                except DataError as error:
                    if not skip_bad:
                        raise
                    num_bad += 1
                    first_bad = first_bad or error
                    if on_skip:
                        on_skip(error)
        if num_bad and not ids:
            raise DataError(
                f"{name}: none of its {num_bad:,} records can be used. The first: {first_bad}"
            )
        if not ids:
            raise DataError(f"{name} is empty. {self.wanted}")

    def splits(self, folder: Path) -> dict[str, tuple[Path, ...]]:
        """The files of each split in the folder; "" is the split of a name that tells none."""
        found: dict[str, list[Path]] = {}
        for pattern in self.files:
            for file in sorted(folder.glob(pattern)):
                if "_dense_" not in file.name and file.is_file():
                    found.setdefault(split_of_name(str(file.relative_to(folder))), []).append(file)
        return {split: tuple(files) for split, files in sorted(found.items())}


# ----------------------------------------------------------------------------------- JSON -> fields


def as_object(value: Any, where: str, wanted: str = SKIP) -> dict[str, Any]:
    """The value if it is a JSON object; DataError, ending in ``wanted``, if not."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: a JSON {kind_of(value)}, wanted an object. {wanted}")
    return value


def named_object(
    value: Any, key: str, where: str, wanted: str = SKIP
) -> tuple[dict[str, Any], str, str]:
    """(the object, its id by ``key``, ``where`` with that id)"""
    record = as_object(value, where, wanted)
    name = name_field(record, key, where)
    return record, name, f"{where} (dialogue {name[:40]})"


def field(record: dict[str, Any], key: str, kinds: tuple[type, ...], where: str) -> Any:
    """``record[key]``, of one of the kinds; DataError if it is missing or of another."""
    value = record.get(key, _MISSING)
    # bool is an int to Python, not to JSON
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(_KINDS[kind] for kind in kinds)
        met = "missing" if value is _MISSING else f"a {kind_of(value)}"
        raise DataError(f'{where}: "{key}" is {met}, wanted a {wanted}. {SKIP}')
    return value


def filled_list(record: dict[str, Any], key: str, where: str, *, of: str) -> list[Any]:
    """An array that is not empty; ``of`` says what it holds."""
    found = field(record, key, (list,), where)
    if not found:
        raise DataError(f'{where}: "{key}" has no {of}. {SKIP}')
    return found


def text_field(record: dict[str, Any], key: str, where: str, *, optional: bool = False) -> str:
    """A string; with ``optional``, "" where it is absent or null."""
    if optional and record.get(key) is None:
        return ""
    return field(record, key, (str,), where)


def name_field(record: dict[str, Any], key: str, where: str) -> str:
    """An id: a text that is not blank, or a whole number; as text."""
    name = str(field(record, key, (str, int), where))
    if not name.strip():
        raise DataError(f'{where}: "{key}" is empty, wanted a name. {SKIP}')
    return name


def texts_of(values: list[Any], key: str, where: str) -> tuple[str, ...]:
    """An array's values, all of them strings."""
    for value in values:
        if not isinstance(value, str):
            raise DataError(f'{where}: "{key[:40]}" holds a {kind_of(value)}, wanted texts. {SKIP}')
    return tuple(values)


_MISSING = object()
_KINDS: dict[type, str] = {
    str: "string",
    bool: "true/false",
    int: "whole number",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


def kind_of(value: Any) -> str:
    """What JSON calls the value's kind."""
    return _KINDS[type(value)]
