"""JSON out of files from outside: the one reader of JSON lines, and of JSON larger than memory.

What every reader shares: a bad record is a DataError that names file and record. One that concerns
that record alone is yielded in its place, so that it may be skipped; one that concerns the rest of
the file is raised. Nothing is ever unpickled, and no line or record over 10 MB is held.
"""

from __future__ import annotations

import codecs
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from showtell.errors import DataError

MAX_LINE_BYTES = 10_000_000  # the longest lines known, MMDialog's with 999 negatives, have 200 kB
SKIP = "Correct it, or pass --skip-bad to go on without it."
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")


class Record(NamedTuple):
    """A parsed value and the words that lead to it: "photochat/dev.jsonl, line 7"."""

    value: Any
    where: str


Parsed = Iterator[Record | DataError]


def short_name(path: Path) -> str:
    """``photochat/dev.jsonl``: enough to know which file, short enough to read."""
    return "/".join(path.parts[-2:]) if len(path.parts) > 3 else str(path)


@contextmanager
def opened(path: Path, *, wanted: str) -> Iterator[BinaryIO]:
    """The file, for reading. Raises DataError, ending in ``wanted``, for what is no UTF-8 file.

    What fails to be read inside the block is a DataError, too.
    """
    name = short_name(path)

    def unreadable(error: OSError | ValueError) -> DataError:
        reason = getattr(error, "strerror", None) or error
        return DataError(f"{name!s:.200} cannot be read: {reason}. {wanted}")

    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):  # a pipe may keep us waiting for ever
            met = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
            raise DataError(f"{name} is {met}, not a file. {wanted}")
        file = open(path, "rb")  # noqa: SIM115 (closed below)
    except FileNotFoundError as error:
        looked = "" if name == str(path) else f" (looked at {path})"
        raise DataError(f"{name} is not there{looked}. {wanted}") from error
    except (OSError, ValueError) as error:  # no permission; a NUL in the name
        raise unreadable(error) from error
    try:
        with file:
            if file.read(2) in _UTF16:
                raise DataError(
                    f"{name} is UTF-16 text, wanted UTF-8. Convert it: iconv -f UTF-16 -t UTF-8."
                )
            file.seek(0)
            yield file
    except OSError as error:
        raise unreadable(error) from error


# ------------------------------------------------------------------------------------ text -> JSON


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:40]} is beyond all numbers")
    return number


_JSON = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def decode_json(text: str) -> Any:
    """The value; ValueError or RecursionError for NaN, 1e999, half a surrogate pair."""
    value = _JSON.decode(text)
    _check_texts(value, text)
    return value


def _check_texts(value: Any, text: str) -> None:
    if _ESCAPED_HALF.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("half a surrogate pair, which no text can hold") from error


def _not_utf8(error: UnicodeDecodeError, where: str) -> DataError:
    return DataError(
        f"{where}: byte {error.start + 1} is not UTF-8 ({error.object[error.start]:#04x}); wanted "
        f"UTF-8 text. Convert the file (iconv -t UTF-8). {SKIP}"
    )


def _byte_order_mark(where: str) -> DataError:
    return DataError(
        f"{where}: a byte order mark stands before the text; wanted plain UTF-8. Remove it: "
        "sed -i '1s/^\\xEF\\xBB\\xBF//' FILE."
    )


# ------------------------------------------------------------------------------------------- lines


def parse_lines(file: BinaryIO, name: str) -> Iterator[tuple[str, str] | DataError]:
    """(text, where) of each line that is not blank; a line over 10 MB is stepped over."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        where = f"{name}, line {number}"
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):  # step over its rest, in bounded memory
                line = file.readline(MAX_LINE_BYTES)
            yield DataError(
                f"{where}: longer than {MAX_LINE_BYTES // 1_000_000} MB; wanted one record a line, "
                f"which takes a few kB. {SKIP}"
            )
        elif line.startswith(_BOM):
            yield _byte_order_mark(where)
        elif not line.isspace():
            try:
                yield line.decode("utf-8"), where
            except UnicodeDecodeError as error:
                yield _not_utf8(error, where)


def parse_json_lines(file: BinaryIO, name: str) -> Parsed:
    """A record a line. What is wrong with a line concerns that line only."""
    for line in parse_lines(file, name):
        if isinstance(line, DataError):
            yield line
            continue
        text, where = line
        try:
            yield Record(decode_json(text), where)
        except json.JSONDecodeError as error:
            yield DataError(
                f"{where}: broken JSON at column {error.colno} ({error.msg}); wanted one whole "
                f"JSON object. {SKIP}"
            )
        except (ValueError, RecursionError) as error:  # NaN, 5,000 digits, 100,000 brackets
            yield DataError(f"{where}: JSON that cannot be parsed ({str(error)[:120]}). {SKIP}")


def parse_json_records(file: BinaryIO, name: str) -> Parsed:
    """Records of a JSON array, or of JSON lines: whichever the file begins like."""
    head = file.read(512).removeprefix(_BOM).lstrip()
    file.seek(0)
    if head[:1] != b"[":
        yield from parse_json_lines(file, name)
        return
    for item in parse_json_items(file, name):
        if isinstance(item.value, DataError):
            yield item.value
        else:
            yield Record(item.value, f"{name}, record {item.number}")


# ------------------------------------------------------------------------------------ larger texts

WINDOW = 1 << 20
NESTED = ("data",)  # the objects whose arrays are taken apart as well: VisDial's
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER_ROOM = 64  # characters after a number that show that it is over


class Item(NamedTuple):
    """An element of the array at ``path``, counted from 1; a plain member has no number."""

    path: str
    number: int | None
    value: Any


def parse_json_items(file: BinaryIO, name: str) -> Iterator[Item]:
    """The elements of a top-level array (path ""), or of the arrays of a top-level object:

        {"images": [a, b], "info": {...}, "data": {"dialogs": [c]}}

    gives ("images", 1, a), ("images", 2, b), ("info", None, {...}), ("data.dialogs", 1, c), one at
    a time, over a window of a megabyte. The value of an element whose texts cannot be is the
    DataError about it. Raises DataError, with the line, where the text is no JSON, ends too early,
    or has an element of more than 10 MB: where the next element of a broken array begins is
    anyone's guess.
    """
    # not by ijson: it names no line, takes "12" for an empty array and needs memory without bound
    # for 100,000 brackets
    text = _Text(file, name)
    first = text.peek()
    if first == "[":
        yield from _elements(text, "")
    elif first == "{":
        yield from _members(text, "")
    elif first:
        raise text.broken("wanted [ or {")
    if text.peek():
        raise text.broken("something stands after the end")


def _elements(text: _Text, path: str) -> Iterator[Item]:
    text.take("[")
    number = 0
    while number or text.peek() != "]":
        number += 1
        yield Item(path, number, text.value())
        if text.take(",]") == "]":
            return
    text.take("]")


def _members(text: _Text, prefix: str) -> Iterator[Item]:
    text.take("{")
    begun = False
    while begun or text.peek() != "}":
        begun = True
        if text.peek() != '"':
            raise text.broken("wanted a name in quotes")
        key = str(text.value())
        text.take(":")
        first = text.peek()
        if first == "[":
            yield from _elements(text, prefix + key)
        elif first == "{" and not prefix and key in NESTED:
            yield from _members(text, f"{key}.")
        else:
            yield Item(prefix + key, None, text.value())
        if text.take(",}") == "}":
            return
    text.take("}")


class _Text:
    """A window on the text of a file; ``at`` is where we are in it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.window, self.at = "", 0
        self.lines_before = self.bytes_before = 0
        self.ended = False

    def more(self, size: int) -> None:
        """Let go of what was read and take in the next ``size`` bytes."""
        data = self.file.read(size)
        if not self.bytes_before and data.startswith(_BOM):
            raise _byte_order_mark(f"{self.name}, line 1")
        self.lines_before += self.window.count("\n", 0, self.at)
        try:
            read = self.decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise _not_utf8(error, f"{self.name}, after {self.bytes_before:,} bytes") from error
        self.window, self.at = self.window[self.at :] + read, 0
        self.bytes_before += len(data)
        self.ended = not data

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            self.at = _SPACE.match(self.window, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.window):
                return self.window[self.at]
            if self.ended:
                return ""
            self.more(WINDOW)

    def take(self, wanted: str) -> str:
        """Step over one of the characters."""
        found = self.peek()
        if not found or found not in wanted:
            raise self.broken(f"wanted {' or '.join(wanted)}")
        self.at += 1
        return found

    def value(self) -> Any:
        """The next whole value; the DataError about it, where its texts cannot be."""
        self.peek()
        size = WINDOW
        while True:
            try:
                value, end = _JSON.raw_decode(self.window, self.at)
            except json.JSONDecodeError as error:
                # either broken or not all here yet: the text alone cannot tell
                if self.ended:
                    raise self.broken(error.msg, at=error.pos) from error
                if len(self.window) - self.at > MAX_LINE_BYTES:
                    raise DataError(
                        f"{self.name}, line {self.line(self.at)}: a record that is broken "
                        f"({error.msg}, line {self.line(error.pos)}) or longer than "
                        f"{MAX_LINE_BYTES // 1_000_000} MB; wanted records of a few kB. Get the "
                        "file again."
                    ) from error
            except (ValueError, RecursionError) as error:  # NaN, 5,000 digits, 100,000 brackets
                raise self.broken(str(error)[:120]) from error
            else:
                is_number = isinstance(value, int | float)
                if not is_number or self.ended or len(self.window) - end >= _NUMBER_ROOM:
                    start, self.at = self.at, end
                    return self._checked(value, start)
            self.more(size)
            size *= 2  # so that a long record is parsed a few times, not a hundred

    def _checked(self, value: Any, start: int) -> Any:
        try:
            _check_texts(value, self.window[start : self.at])
        except ValueError as error:
            return DataError(f"{self.name}, line {self.line(start)}: {error}. {SKIP}")
        return value

    def line(self, at: int) -> int:
        return self.lines_before + self.window.count("\n", 0, at) + 1

    def broken(self, reason: str, *, at: int | None = None) -> DataError:
        place = self.at if at is None else at
        cut = self.ended and (place >= len(self.window.rstrip()) or "Unterminated" in reason)
        met = "the file is cut short inside its JSON" if cut else f"broken JSON ({reason})"
        return DataError(
            f"{self.name}, line {self.line(place)}: {met}; wanted one whole JSON text. "
            "Get the file again; --skip-bad cannot help, since nobody knows where the next record "
            "begins."
        )
