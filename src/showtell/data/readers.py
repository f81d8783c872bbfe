"""What the readers of all data sets share: files -> records -> fields -> dialogues.

A reader says how a file is taken apart (``parse``) and what a record becomes (``build``); what is
bad, doubled or missing is dealt with here, the same for all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from showtell.data.jsonl import SKIP, Parsed, opened, parse_json_records, short_name
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


class Skipped:
    """The records that were left out: ``len()`` counts all, the first hundred are kept."""

    KEPT = 100

    def __init__(self) -> None:
        self.first: list[DataError] = []
        self.count = 0

    def append(self, error: DataError) -> None:
        self.count += 1
        if len(self.first) < self.KEPT:
            self.first.append(error)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: slice) -> list[DataError]:
        return self.first[index]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A kind of data in files: called with a path, it yields the dialogues there, one by one.

    ``parse`` takes a file apart into records, ``build`` makes a dialogue of a record's value. Both
    report with DataError: what ``parse`` yields and ``build`` raises concerns one record and may be
    skipped, what ``parse`` raises concerns the rest of the file and may not. ``files`` are the glob
    patterns of its files in a folder; ``parts``: a split may have several. Photos are looked up
    beside the file, in ``places``, where {split} stands for the first part of its name.
    ``symmetric``: neither speaker is the agent, so that both are trained and measured.
    """

    title: str
    licence: str
    wanted: str
    build: Callable[[Any, str, PhotoFolder], Dialogue]
    parse: Callable[[BinaryIO, str], Parsed] = parse_json_records
    places: tuple[str, ...] = ("images",)
    files: tuple[str, ...] = ()
    parts: bool = True
    symmetric: bool = False

    def __call__(
        self, path: str | Path, *, skipped: Skipped | list[DataError] | None = None
    ) -> Iterator[Dialogue]:
        """The dialogues of a file, in bounded memory.

        A bad record raises DataError, which names file and record; where there is a list for what
        is ``skipped`` it goes there, and reading goes on. A dialogue whose id was there already is
        bad; a file of which nothing is left is an error all the same.
        """
        path = Path(path)
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
                    if skipped is None:
                        raise
                    num_bad += 1
                    first_bad = first_bad or error
                    skipped.append(error)
        if num_bad and not ids:
            raise DataError(
                f"{name}: none of its {num_bad:,} records can be used. The first: {first_bad}"
            )
        if not ids:
            raise DataError(f"{name} is empty. {self.wanted}")

    def splits(self, folder: Path) -> dict[str, list[Path]]:
        """The files of each split in the folder; "" is the split of a name that tells none.

        Raises DataError where there are none, or too many.
        """
        found: dict[str, list[Path]] = {}
        for pattern in self.files:
            for file in sorted(folder.glob(pattern)):
                if file.is_file():
                    found.setdefault(split_of_name(str(file.relative_to(folder))), []).append(file)
        met = "" if found else f"no file of {self.title}"
        for files in found.values():
            if len(files) > 1 and not self.parts:
                met = f"{' and '.join(file.name for file in files)}, and a split is one file"
        if met:
            wanted = " or ".join(self.files)
            raise DataError(
                f"the folder {folder} holds {met}; wanted {wanted}. Name the file itself."
            )
        return dict(sorted(found.items()))


# ----------------------------------------------------------------------------------- JSON -> fields


class Fields(BaseModel):
    """The fields of a record that are read; nothing is turned into another kind of value."""

    model_config = ConfigDict(strict=True)


def _name(value: Any) -> str:
    if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
        return str(value)
    raise ValueError("Input should be a name: a text that is not blank, or a whole number")


Name = Annotated[str, BeforeValidator(_name)]  # of a dialogue, speaker or photo
Checked = TypeVar("Checked", bound=Fields)


def checked(model: type[Checked], value: Any, where: str, *, wanted: str = "") -> Checked:
    """The record's fields; DataError, with ``wanted``, for the first that is not as it must be."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        first, place = errors[0], _place(value, errors[0])
        at = f'{where}: "{place[:80]}"' if place else where
        # where a field has several types pydantic has an error for each
        said = " or ".join(
            dict.fromkeys(each["msg"] for each in errors if _place(value, each) == place)
        ).replace(" or Input should be ", " or ")
        says = re.sub("^Value error, | or (an )?instance of .*", "", said)
        met = f": {says}, met {_shown(first['input'])}"
        if first["type"] == "missing":
            met = " is missing"
        raise DataError(f"{at}{met}. {SKIP if place else wanted or SKIP}") from error


def _place(value: Any, error: Any) -> str:
    """The field that an error is of, without pydantic's names for the types that it may have."""
    parts, here = [], value
    for part in error["loc"]:
        if isinstance(here, Mapping) or isinstance(here, list) and isinstance(part, int):
            parts.append(str(part))
            here = here[part] if isinstance(here, list) else here.get(part)
    return ".".join(parts)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:40]}..."
