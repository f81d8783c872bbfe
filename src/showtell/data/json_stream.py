"""A JSON text larger than memory, element by element, over the standard json module.

    {"images": [a, b, ...], "info": {...}, "data": {"dialogs": [c, ...]}}

gives ("images", 1, a), ("images", 2, b), ..., ("info", None, {...}), ("data.dialogs", 1, c). Only
one element is in memory at a time, and a window of a megabyte.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from showtell.data.records import BOM, JSON, MAX_LINE_BYTES, not_utf8
from showtell.errors import DataError

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
    """The elements of a top-level array (path ""), or of the arrays of a top-level object.

    Raises DataError, with the line, where the text is no JSON, ends too early, or has an element of
    more than 10 MB: where the next element of a broken array begins is anyone's guess.
    """
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
    if text.peek() == "]":
        text.take("]")
        return
    number = 0
    while True:
        number += 1
        yield Item(path, number, text.value())
        if text.take(",]") == "]":
            return


def _members(text: _Text, prefix: str) -> Iterator[Item]:
    text.take("{")
    if text.peek() == "}":
        text.take("}")
        return
    while True:
        if text.peek() != '"':
            raise text.broken("wanted a name in quotes")
        key = text.value()
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


class _Text:
    """A window on the text of a file; ``at`` is where we are in it."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.window, self.at = "", 0
        self.lines_before = self.bytes_before = 0
        self.ended = False

    def more(self, size: int = WINDOW) -> None:
        """Let go of what was read and take in the next ``size`` bytes."""
        data = self.file.read(size)
        if not self.bytes_before and data.startswith(BOM):
            raise DataError(
                f"{self.name}, line 1: a byte order mark stands before the JSON; wanted plain "
                "UTF-8. Remove it: sed -i '1s/^\\xEF\\xBB\\xBF//' FILE."
            )
        self.lines_before += self.window.count("\n", 0, self.at)
        try:
            read = self.decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise not_utf8(error, f"{self.name}, after {self.bytes_before:,} bytes") from error
        self.window = self.window[self.at :] + read
        self.at = 0
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
            self.more()

    def take(self, wanted: str) -> str:
        """Step over one of the characters."""
        found = self.peek()
        if not found or found not in wanted:
            raise self.broken(f"wanted {' or '.join(wanted)}")
        self.at += 1
        return found

    def value(self) -> Any:
        """The next whole value."""
        self.peek()
        size = WINDOW
        while True:
            try:
                value, end = JSON.raw_decode(self.window, self.at)
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
                    self.at = end
                    return value
            self.more(size)
            size *= 2  # so that a long record is parsed a few times, not a hundred

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
