"""Pictures for reports and trainings: contact sheet, loss curves; and how they are written."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from showtell.data.storage import write_atomically
from showtell.errors import DataError, import_extra

MOST_BYTES = 300_000  # of a picture of results: many lie in one repository
_PALE = (246, 247, 249)
# colours that stay apart for most kinds of colour vision (Okabe and Ito)
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_LINES, _CAPTION = 5, 12  # of a caption, and its size in pixels
_NOT_CURVES = ("step", "seconds", "epoch")


def contact_sheet(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    *,
    columns: int = 6,
    title: str = "",
) -> Image.Image:
    """Photos in rows with their captions below, each in 160 x 160 px and never cropped.

    A caption is wrapped to its photo's width; a line break in it is kept, and what does not fit
    into five lines ends in an ellipsis.
    """
    if len(images) != len(captions) or not images:
        raise DataError(
            f"{len(images)} photos and {len(captions)} captions; wanted as many of each, and at "
            "least one."
        )
    cell, gap, line = 160, 14, 16
    columns = min(columns, len(images))
    font, bold = ImageFont.load_default(_CAPTION), ImageFont.load_default(20)
    wrapped = [_wrap(caption, font, cell) for caption in captions]
    rows = [range(k, min(k + columns, len(images))) for k in range(0, len(images), columns)]
    heights = [cell + 6 + line * max(len(wrapped[k]) for k in row) + gap for row in rows]
    y = gap + (38 if title else 0)
    width = max(gap + columns * (cell + gap), round(bold.getlength(title)) + 2 * gap)
    sheet = Image.new("RGB", (width, y + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, gap - 2), title, fill=(38, 43, 51), font=bold)
    for row, height in zip(rows, heights, strict=True):
        for column, k in enumerate(row):
            x, photo = gap + column * (cell + gap), images[k].convert("RGB")
            sheet.paste(ImageOps.pad(photo, (cell, cell), color=_PALE), (x, y))
            for number, text in enumerate(wrapped[k]):
                draw.text((x, y + cell + 5 + number * line), text, fill=(38, 43, 51), font=font)
        y += height
    return sheet


def _wrap(text: str, font: Any, width: int) -> list[str]:
    """At most five lines of at most ``width`` pixels; an ellipsis where more was to be said."""
    room = _LINES * width  # a character is a pixel wide at least, so that more never fits
    lines: list[str] = []
    for paragraph in text[:room].splitlines():
        lines.append("")
        for word in paragraph.split():
            if lines[-1] and font.getlength(f"{lines[-1]} {word}") <= width:
                lines[-1] += f" {word}"
                continue
            if lines[-1]:
                lines.append("")
            for character in word:  # a word wider than the photo is broken
                if font.getlength(lines[-1] + character) > width:
                    lines.append("")
                lines[-1] += character
    if len(lines) > _LINES or len(text) > room:
        lines = lines[:_LINES]
        while lines[-1] and font.getlength(lines[-1] + "…") > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] = lines[-1].rstrip() + "…"
    return lines


def loss_curves(
    history: Sequence[Mapping[str, float]], path: str | Path, *, title: str = ""
) -> Path:
    """One panel for each quantity of the history over ``step``; written as PNG.

    A record has ``step`` and any numbers ("loss", "text", "dev.text"); ``dev.x`` is drawn with
    ``x``. The raw points are pale; on top stands a centred mean over a twentieth of them. Raises
    MissingDependency without matplotlib.
    """
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for record in history:
        for key, value in record.items():
            if key not in _NOT_CURVES and math.isfinite(value):
                panel = panels.setdefault(key.removeprefix("dev.").removeprefix("dev_"), {})
                panel.setdefault(key, []).append((record["step"], value))
    if not panels:
        raise DataError(
            "the history holds no numbers to draw; wanted records with step and at least one "
            "loss. Train for more steps first."
        )
    columns = min(len(panels), 2 if len(panels) <= 6 else 3)
    rows = math.ceil(len(panels) / columns)
    # without pyplot's global state and windows
    figure = import_extra("matplotlib.figure", what="a chart").Figure(
        figsize=(4.8 * columns, 2.9 * rows + 0.4), layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.suptitle(title)
    for (name, series), axis in zip(panels.items(), axes.flat, strict=False):
        values = sorted(value for points in series.values() for _, value in points)
        # a loss that falls a hundredfold would else be a flat line with a peak
        if values[0] > 0 and values[-1] / values[len(values) // 20] > 30:
            axis.set_yscale("log")
        for number, (key, points) in enumerate(series.items()):
            steps, raw = zip(*points, strict=True)
            few = len(points) <= 30
            colour, mark = _COLOURS[number % len(_COLOURS)], "." if few else ""
            axis.plot(steps, raw, color=colour, alpha=1 if few else 0.3, marker=mark)
            if not few:
                axis.plot(steps, _smooth(raw), color=colour, label=key)
        axis.set(title=name, xlabel="step")
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    return save_picture(figure, path)


def _smooth(values: Sequence[float]) -> list[float]:
    """Centred mean over about a twentieth of the points: it does not lag behind a falling loss.

    Near the ends the window shrinks on both sides, so that neither end is pulled inwards.
    """
    reaches = [min(k, len(values) - 1 - k, max(2, len(values) // 40)) for k in range(len(values))]
    parts = (values[k - reach : k + reach + 1] for k, reach in enumerate(reaches))
    return [math.fsum(part) / len(part) for part in parts]


def save_picture(picture: Any, path: str | Path) -> Path:
    """Write an image, or a figure of matplotlib, as PNG of at most ``MOST_BYTES``.

    One that is larger gets a palette of 256 colours, then of 64; then it is reduced.
    """
    if not isinstance(picture, Image.Image):
        drawn = io.BytesIO()
        picture.savefig(drawn, format="png")
        picture = Image.open(drawn)
    picture = picture.convert("RGB")
    while True:
        for colours in (0, 256, 64):
            file = io.BytesIO()
            shown = picture.quantize(colours) if colours else picture
            shown.save(file, format="PNG", optimize=True)
            if file.tell() <= MOST_BYTES:
                return write_atomically(path, file.getvalue())
        picture = ImageOps.scale(picture, 3 / 4)
