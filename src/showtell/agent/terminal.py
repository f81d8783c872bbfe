"""A conversation in a terminal: wrapped text, P(share) as a bar, photos as half blocks.

Two pixels fit into one character cell: the upper one is the colour of "▀", the lower one the
colour behind it. Where that cannot work (NO_COLOR, not a terminal, fewer than 256 colours, a narrow
window, a character set without blocks) a photo is described in words instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TextIO

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from showtell.dialogue import USER, Turn
from showtell.errors import printable

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_COLUMNS = 80  # text wider than this is hard to read, and logs are 80 columns wide
MIN_COLUMNS = 60  # for two things beside each other, and for photos
PHOTO_COLUMNS = 44  # 22 lines: a photo and the talk around it fit into one window
HEAD = 10  # columns of "showtell: "
ASIDE = "dim"


def console_of(stream: TextIO) -> Console:
    """The screen behind a stream: colours and width as rich finds them, no mark-up in any text."""
    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)


def width_of(console: Console) -> int:
    """Columns for text."""
    return max(30, min(MAX_COLUMNS, console.width))


def draws_photos(console: Console) -> bool:
    return (
        console.color_system in ("256", "truecolor")
        and not console.no_color
        and not console.options.ascii_only
        and console.width >= MIN_COLUMNS
    )


def half_blocks(image: Image, *, columns: int = PHOTO_COLUMNS) -> list[Text]:
    """Lines of ``columns`` characters; a square image takes half as many lines as columns."""
    from PIL.Image import Resampling

    rows = min(2 * columns, max(2, round(image.height * columns / image.width / 2) * 2))
    pixels = image.convert("RGB").resize((columns, rows), Resampling.LANCZOS).tobytes()
    rgb = [Color.from_rgb(*pixels[k : k + 3]) for k in range(0, len(pixels), 3)]
    lines = []
    for row in range(0, len(rgb), 2 * columns):
        upper, lower = rgb[row : row + columns], rgb[row + columns : row + 2 * columns]
        line = Text()
        for (above, below), run in groupby(zip(upper, lower, strict=True)):
            line.append("▀" * len(list(run)), Style(color=above, bgcolor=below))
        lines.append(line)
    return lines


def share_bar(p_share: float, console: Console, *, cells: int = 10) -> str:
    """``P(share) ████······ 0.41``."""
    full = round(max(0.0, min(1.0, p_share)) * cells)
    on, off = "#." if console.options.ascii_only else "█·"
    return f"P(share) {on * full}{off * (cells - full)} {p_share:.2f}"


def text_lines(
    text: str,
    console: Console,
    *,
    head: str = "",
    head_style: str = "",
    indent: int = 0,
    style: str = "",
    p_share: float | None = None,
) -> list[Text]:
    """Wrapped at the window's width, 80 columns at most; ``head`` and blanks up to ``indent``
    stand in front, P(share) beside the first line, or below where the window is narrow."""
    width = width_of(console)
    bar = Text(share_bar(p_share, console), ASIDE) if p_share is not None else Text()
    beside = bool(bar) and width >= MIN_COLUMNS
    room = width - indent - (len(bar) + 2 if beside else 0)
    wrapped = Text(printable(text), style).wrap(console, room, tab_size=4) or [Text()]
    lines = []
    for number, line in enumerate(wrapped):
        line.rstrip()
        front = Text(head.rjust(indent), head_style) if number == 0 else Text(" " * indent)
        lines.append(Text.assemble(front, line))
    if beside:
        lines[0].append(" " * (width - len(bar) - lines[0].cell_len))
        lines[0].append_text(bar)
    elif bar:
        lines.append(Text(" " * (width - len(bar))).append_text(bar))
    return lines


def turn_lines(
    turn: Turn,
    images: Mapping[str, Image],
    console: Console,
    *,
    files: Mapping[str, Path] = MappingProxyType({}),
    p_share: float | None = None,
) -> list[Text]:
    """A turn for the screen, its speaker in front and P(share) beside its end: photos drawn where
    they can be, with their caption, else described; ``files`` says where they lie."""
    name, style = ("you: ", "cyan") if turn.speaker == USER else ("showtell: ", "magenta")
    lines = []
    for number, element in enumerate(turn.elements, start=1):
        if isinstance(element, str):
            words, tone = element, ""
        else:
            words, tone = element.caption or "a photo without a caption", ASIDE
            if element.origin == "user" and not element.caption:
                words = "a photo of yours"
            if (image := images.get(element.id)) is not None and draws_photos(console):
                lines += [Text(" " * HEAD).append_text(line) for line in half_blocks(image)]
            else:
                words = f"[photo: {words}]"
            if element.id in files:
                words += f" -> {files[element.id]}"
        lines += text_lines(
            words,
            console,
            head=name if number == 1 else "",
            head_style=style,
            indent=HEAD,
            style=tone,
            p_share=p_share if number == len(turn.elements) else None,
        )
    return lines
