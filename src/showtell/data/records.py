"""Records out of files from outside, one by one: JSON lines, arrays and objects of any size.

What every reader shares: a bad record is a DataError that names file and record; it is raised, or
with ``skip_bad`` handed to ``on_skip`` and counted. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from showtell.dialogue import Dialogue
from showtell.errors import DataError

MAX_LINE_BYTES = 10_000_000  # the longest lines known, MMDialog's with 999 negatives, have 200 kB
SKIP = "Correct it, or pass --skip-bad to go on without it."
BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

OnSkip = Callable[[DataError], None]


class Record(NamedTuple):
    """A parsed value and the words that lead to it: "photochat/dev.jsonl, line 7"."""

    value: Any
    where: str


Parsed = Iterator[Record | DataError]


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


JSON = json.JSONDecoder(parse_constant=_no_constant)


def read_dialogues(
    path: Path,
    *,
    parse: Callable[[BinaryIO, str], Parsed],
    build: Callable[[Any, str], Dialogue],
    wanted: str,
    skip_bad: bool = False,
    on_skip: OnSkip | None = None,
) -> Iterator[Dialogue]:
    """The dialogues of one file, in order.

    ``parse`` takes the file apart into records, ``build`` makes a dialogue of a record's value.
    Both report with DataError: what ``parse`` yields and ``build`` raises concerns one record and
    may be skipped, what ``parse`` raises concerns the rest of the file and may not. A dialogue
    whose id was there already is bad; a file of which nothing is left is an error all the same.
    """
    name = short_name(path)
    num_good = num_bad = 0
    first_bad: DataError | None = None
    ids: set[str] = set()
    try:
        file = open(path, "rb")  # noqa: SIM115 (closed below; a NUL in the name is a ValueError)
    except FileNotFoundError as error:
        raise DataError(f"{name} is not there (looked at {path}). {wanted}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{name!s:.200} cannot be read: {reason}. {wanted}") from error
    try:
        with file:
            if file.read(2) in _UTF16:
                raise DataError(
                    f"{name} is UTF-16 text, wanted UTF-8. Convert it: iconv -f UTF-16 -t UTF-8."
                )
            file.seek(0)
            for record in parse(file, name):
                try:
                    if isinstance(record, DataError):
                        raise record
                    dialogue = build(record.value, record.where)
                    if dialogue.id in ids:
                        raise DataError(
                            f'{record.where}: the dialogue id "{dialogue.id[:60]}" was there '
                            f"already; wanted every id once. {SKIP}"
                        )
                    ids.add(dialogue.id)
                    num_good += 1
                    yield dialogue
                except DataError as error:
                    if not skip_bad:
                        raise
                    num_bad += 1
                    first_bad = first_bad or error
                    if on_skip:
                        on_skip(error)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}. {wanted}") from error
    if num_bad and not num_good:
        raise DataError(
            f"{name}: none of its {num_bad:,} records can be used. The first: {first_bad}"
        )
    if not num_good:
        raise DataError(f"{name} is empty. {wanted}")


def short_name(path: Path) -> str:
    """``photochat/dev.jsonl``: enough to know which file, short enough to read."""
    return "/".join(path.parts[-2:]) if len(path.parts) > 1 else str(path)


# ----------------------------------------------------------------------------------- files -> JSON


def parse_json_records(file: BinaryIO, name: str) -> Parsed:
    """Records of a JSON array, or of JSON lines: whichever the file begins like."""
    from showtell.data.json_stream import parse_json_items

    head = file.read(512).removeprefix(BOM).lstrip()
    file.seek(0)
    if head[:1] != b"[":
        yield from parse_json_lines(file, name)
        return
    for item in parse_json_items(file, name):
        yield Record(item.value, f"{name}, record {item.number}")


def parse_lines(file: BinaryIO, name: str) -> Iterator[tuple[str, str] | DataError]:
    """(text, where) of each line that is not blank; a line over 10 MB is stepped over."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):  # step over its rest, in bounded memory
                line = file.readline(MAX_LINE_BYTES)
            yield DataError(
                f"{name}, line {number}: longer than {MAX_LINE_BYTES // 1_000_000} MB; wanted one "
                f"record a line, which takes a few kB. {SKIP}"
            )
        elif line.startswith(BOM):
            yield DataError(
                f"{name}, line {number}: a byte order mark stands before the text; wanted "
                "plain UTF-8. Remove it: sed -i '1s/^\\xEF\\xBB\\xBF//' FILE."
            )
        elif not line.isspace():
            try:
                yield line.decode("utf-8"), f"{name}, line {number}"
            except UnicodeDecodeError as error:
                yield not_utf8(error, f"{name}, line {number}")


def parse_json_lines(file: BinaryIO, name: str) -> Parsed:
    """A record a line. What is wrong with a line concerns that line only."""
    for line in parse_lines(file, name):
        if isinstance(line, DataError):
            yield line
            continue
        text, where = line
        try:
            yield Record(JSON.decode(text), where)
        except json.JSONDecodeError as error:
            yield DataError(
                f"{where}: broken JSON at column {error.colno} ({error.msg}); wanted one whole "
                f"JSON object. {SKIP}"
            )
        except (ValueError, RecursionError) as error:  # NaN, 5,000 digits, 100,000 brackets
            yield DataError(f"{where}: JSON that cannot be parsed ({str(error)[:120]}). {SKIP}")


def not_utf8(error: UnicodeDecodeError, where: str) -> DataError:
    """The error for bytes that are no UTF-8."""
    return DataError(
        f"{where}: byte {error.start + 1} is not UTF-8 ({error.object[error.start]:#04x}); wanted "
        f"UTF-8 text. Convert the file (iconv -t UTF-8). {SKIP}"
    )


# ----------------------------------------------------------------------------------- JSON -> fields


def as_object(value: Any, where: str, wanted: str) -> dict[str, Any]:
    """The value if it is a JSON object; DataError, ending in ``wanted``, if not."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: a JSON {kind_of(value)}, wanted an object. {wanted}")
    return value


def named_object(value: Any, key: str, where: str, wanted: str) -> tuple[dict[str, Any], str, str]:
    """(the object, its id by ``key``, ``where`` with that id)"""
    record = as_object(value, where, wanted)
    name = name_field(record, key, where)
    return record, name, f"{where} (dialogue {name[:40]})"


def field(record: dict[str, Any], key: str, kinds: tuple[type, ...], where: str) -> Any:
    """``record[key]``, of one of the kinds; DataError if it is missing or of another."""
    if key not in record:
        wanted = " or ".join(_KINDS[kind] for kind in kinds)
        raise DataError(f'{where}: the field "{key}" is missing, wanted a {wanted}. {SKIP}')
    value = record[key]
    # bool is an int to Python, not to JSON
    if not isinstance(value, kinds) or (value is True or value is False) and bool not in kinds:
        wanted = " or ".join(_KINDS[kind] for kind in kinds)
        raise DataError(f'{where}: "{key}" is a {kind_of(value)}, wanted a {wanted}. {SKIP}')
    return value


def filled_list(record: dict[str, Any], key: str, where: str, *, of: str) -> list[Any]:
    """An array that is not empty; ``of`` says what it holds."""
    found = field(record, key, (list,), where)
    if not found:
        raise DataError(f'{where}: "{key}" has no {of}. {SKIP}')
    return found


def text_field(record: dict[str, Any], key: str, where: str, *, optional: bool = False) -> str:
    """A string that UTF-8 can hold; with ``optional``, "" where it is absent or null."""
    if optional and record.get(key) is None:
        return ""
    return text_of(field(record, key, (str,), where), key, where)


def text_of(value: str, key: str, where: str) -> str:
    """The text itself; DataError if it has half a surrogate pair."""
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f'{where}: "{key}" has half a surrogate pair at character {error.start + 1}, which '
                f"no text can hold. {SKIP}"
            ) from error
    return value


def name_field(record: dict[str, Any], key: str, where: str) -> str:
    """An id: a text that is not blank, or a whole number; as text."""
    value = field(record, key, (str, int), where)
    name = text_of(str(value), key, where)
    if not name.strip():
        raise DataError(f'{where}: "{key}" is empty, wanted a name. {SKIP}')
    return name


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
