"""A conversation in a terminal: wrapped text, P(share) as a bar, photos as truecolour half blocks.

Two pixels fit into one character cell: the upper one is the colour of "▀", the lower one the
colour behind it. Where that cannot work (NO_COLOR, not a terminal, fewer than 24-bit colours, a
narrow window, a character set without blocks) a photo is described in words instead.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from showtell.dialogue import USER, Photo

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_COLUMNS = 80  # text wider than this is hard to read, and logs are 80 columns wide
MIN_DRAWING_COLUMNS = 60
PHOTO_COLUMNS = 44  # 22 lines: a photo and the talk around it fit into one window

_RESET = "\x1b[0m"
_STYLES = {"bold": "\x1b[1m", "dim": "\x1b[2m", "user": "\x1b[36m", "agent": "\x1b[35m"}
_STYLES["trained"] = "\x1b[32m"


@dataclass(frozen=True, kw_only=True)
class Screen:
    """What the place that we print to can show."""

    columns: int
    colour: bool  # styles of text
    truecolour: bool  # 24-bit colours, and so photos
    blocks: bool  # its character set has block elements

    @property
    def draws_photos(self) -> bool:
        return self.truecolour and self.blocks and self.columns >= MIN_DRAWING_COLUMNS

    def style(self, text: str, style: str) -> str:
        """``text`` in one of the styles bold, dim, user, agent, trained; plain without colour."""
        return f"{_STYLES[style]}{text}{_RESET}" if self.colour and text else text


def screen_of(stream: TextIO, environment: Mapping[str, str] | None = None) -> Screen:
    """The screen behind a stream, by the customs NO_COLOR, TERM, COLORTERM and COLUMNS."""
    environment = os.environ if environment is None else environment
    is_terminal = stream.isatty()
    colour = (
        is_terminal
        and not environment.get("NO_COLOR")
        and environment.get("TERM", "dumb") not in ("dumb", "")
    )
    truecolour = colour and environment.get("COLORTERM", "").lower() in ("truecolor", "24bit")
    columns = environment.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        width = int(columns)
    else:
        width = shutil.get_terminal_size((MAX_COLUMNS, 24)).columns if is_terminal else MAX_COLUMNS
    try:
        "▀█·".encode(getattr(stream, "encoding", None) or "ascii")
        blocks = True
    except (UnicodeEncodeError, LookupError):
        blocks = False
    return Screen(columns=width, colour=colour, truecolour=truecolour, blocks=blocks)


def half_blocks(image: Image, *, columns: int) -> list[str]:
    """Lines of ``columns`` characters; a square image takes half as many lines as columns."""
    from PIL.Image import Resampling

    rows = max(2, round(image.height * columns / image.width / 2) * 2)
    small = image.convert("RGB").resize((columns, rows), Resampling.LANCZOS)
    pixels = small.tobytes()

    def rgb(x: int, y: int) -> str:
        start = 3 * (y * columns + x)
        return ";".join(str(value) for value in pixels[start : start + 3])

    lines = []
    for y in range(0, rows, 2):
        cells, before = [], ""
        for x in range(columns):
            colours = f"\x1b[38;2;{rgb(x, y)}m\x1b[48;2;{rgb(x, y + 1)}m"
            cells.append("▀" if colours == before else colours + "▀")
            before = colours
        lines.append("".join(cells) + _RESET)
    return lines


def photo_lines(
    photo: Photo, image: Image | None, screen: Screen, *, indent: int = 2, where: str | None = None
) -> list[str]:
    """A photo for the screen: drawn where it can be, with its caption; else described."""
    pad = " " * indent
    lines = []
    unnamed = "a photo of yours" if photo.origin == "user" else "a photo without a caption"
    if image is not None and screen.draws_photos:
        lines += [
            pad + line for line in half_blocks(image, columns=min(PHOTO_COLUMNS, screen.columns))
        ]
        words = photo.caption or unnamed
    else:
        words = f"[photo: {photo.caption or unnamed}]"
    if where:
        words += f" -> {where}"
    return lines + [screen.style(line, "dim") for line in wrapped(words, screen, indent=indent)]


def wrapped(
    text: str, screen: Screen, *, indent: int = 0, first: str = "", gutter: int = 0
) -> list[str]:
    """Lines of at most 80 columns (or the window's width), ``first`` in front of the first."""
    width = max(20, min(MAX_COLUMNS, screen.columns) - gutter)
    return textwrap.wrap(
        text,
        width,
        initial_indent=first or " " * indent,
        subsequent_indent=" " * (len(first) or indent),
    ) or [first or " " * indent]


def share_bar(p_share: float, screen: Screen, *, cells: int = 10) -> str:
    """``P(share) ████······ 0.41``."""
    full = round(max(0.0, min(1.0, p_share)) * cells)
    on, off = ("█", "·") if screen.blocks else ("#", ".")
    return f"P(share) {on * full}{off * (cells - full)} {p_share:.2f}"


def text_lines(
    speaker: str, text: str, screen: Screen, *, p_share: float | None = None
) -> list[str]:
    """What a speaker says, name in front, P(share) beside the first line (below, if narrow)."""
    name = "you" if speaker == USER else "showtell"
    width = min(MAX_COLUMNS, screen.columns)
    bar = share_bar(p_share, screen) if p_share is not None else ""
    beside = bar and width >= MIN_DRAWING_COLUMNS
    lines = wrapped(text, screen, first=f"{name:>8}: ", gutter=len(bar) + 2 if beside else 0)
    if bar and beside:
        lines[0] = lines[0].ljust(width - len(bar))
    if screen.colour:
        head, rest = lines[0][:9], lines[0][9:]
        lines[0] = screen.style(head, "user" if speaker == USER else "agent") + rest
    if bar and beside:
        lines[0] += screen.style(bar, "dim")
    elif bar:
        lines.append(screen.style(bar.rjust(width), "dim"))
    return lines
