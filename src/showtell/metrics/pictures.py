"""Pictures for reports: the contact sheet, and how they are written."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from showtell.data.storage import write_atomically
from showtell.errors import DataError

MOST_BYTES = 300_000  # of a picture of results: many lie in one repository
_CELL, _GAP = 160, 14  # the side of a photo, and what stands between two
_LETTERS, _LINES = 24, 5  # of a caption: so many fit below a photo
_INK, _PALE = (38, 43, 51), (246, 247, 249)


def contact_sheet(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    *,
    columns: int = 6,
    title: str = "",
) -> Image.Image:
    """Photos in rows with their captions below, each in 160 x 160 px and never cropped.

    A line break in a caption is kept; what does not fit into five lines ends in an ellipsis.
    """
    if len(images) != len(captions) or not images:
        raise DataError(
            f"{len(images)} photos and {len(captions)} captions; wanted as many of each, and at "
            "least one."
        )
    columns = min(columns, len(images))
    font, bold = ImageFont.load_default(12), ImageFont.load_default(20)
    top, height = _GAP + (38 if title else 0), _CELL + 16 * _LINES + _GAP
    width = max(_GAP + columns * (_CELL + _GAP), round(bold.getlength(title)) + 2 * _GAP)
    sheet = Image.new("RGB", (width, top + height * math.ceil(len(images) / columns)), "white")
    ImageDraw.Draw(sheet).text((_GAP, _GAP - 2), title, fill=_INK, font=bold)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, columns)
        cell = Image.new("RGB", (_CELL, height), "white")  # what is too wide ends at its edge
        cell.paste(ImageOps.pad(image.convert("RGB"), (_CELL, _CELL), color=_PALE))
        ImageDraw.Draw(cell).text((0, _CELL + 5), _wrapped(caption), fill=_INK, font=font)
        sheet.paste(cell, (_GAP + column * (_CELL + _GAP), top + row * height))
    return sheet


def _wrapped(caption: str) -> str:
    lines = [
        line
        for paragraph in caption[: _LETTERS * 2 * _LINES].splitlines()
        for line in textwrap.wrap(paragraph, _LETTERS) or [""]
    ]
    if len(lines) > _LINES:
        lines[_LINES - 1 :] = [lines[_LINES - 1][: _LETTERS - 1] + "…"]
    return "\n".join(lines)


def save_picture(picture: Image.Image, path: str | Path) -> Path:
    """Write an image as PNG of at most ``MOST_BYTES``.

    One that is larger gets a palette of 256 colours, then of 64; then it is reduced.
    """
    picture = picture.convert("RGB")
    while True:
        for colours in (0, 256, 64):
            file = io.BytesIO()
            shown = picture.quantize(colours) if colours else picture
            shown.save(file, format="PNG", optimize=True)
            if file.tell() <= MOST_BYTES:
                return write_atomically(path, file.getvalue())
        picture = ImageOps.scale(picture, 3 / 4)
