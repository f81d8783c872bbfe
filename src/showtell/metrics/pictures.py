"""Pictures for reports, drawn with Pillow alone: contact sheet, loss curves, reliability diagram.

Charts are drawn at twice their size and reduced, which smooths lines and letters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from showtell.data.photos import save_photo
from showtell.errors import DataError
from showtell.metrics.moment import Bin

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_INK: Colour = (38, 43, 51)
_FAINT: Colour = (112, 119, 130)
_GRID: Colour = (229, 232, 237)
_PAPER: Colour = (255, 255, 255)
_PALE: Colour = (246, 247, 249)
# colours that stay apart for most kinds of colour vision (Okabe and Ito), darkest first
_LINES: tuple[Colour, ...] = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
_SCALE = 2
_NOT_CURVES = ("step", "seconds", "epoch")


# -------------------------------------------------------------------------------- contact sheet


def contact_sheet(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    *,
    columns: int = 6,
    title: str = "",
    cell: int = 160,
) -> Image.Image:
    """Photos in rows with their captions below, each at least 128 px a side and never cropped.

    A caption is wrapped to its photo's width; a line break in it is kept, and what does not fit
    into five lines ends in an ellipsis.
    """
    if len(images) != len(captions) or not images:
        raise DataError(
            f"{len(images)} photos and {len(captions)} captions; wanted as many of each, and at "
            "least one."
        )
    cell, gap, line = max(cell, 128), 14, 16
    columns = min(columns, len(images))
    font, bold = _font(12), _font(20)
    wrapped = [_wrap(caption, font, cell, 5) for caption in captions]
    rows = [wrapped[k : k + columns] for k in range(0, len(wrapped), columns)]
    heights = [cell + 6 + line * max(map(len, row)) + gap for row in rows]
    top = gap + (38 if title else 0)
    width = max(gap + columns * (cell + gap), round(bold.getlength(title)) + 2 * gap)
    sheet = Image.new("RGB", (width, top + sum(heights)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((gap, gap - 2), title, fill=_INK, font=bold)
    y = top
    for start, row, height in zip(range(0, len(images), columns), rows, heights, strict=True):
        for column, lines in enumerate(row):
            x = gap + column * (cell + gap)
            _place(sheet, images[start + column], (x, y), cell)
            for number, text in enumerate(lines):
                draw.text((x, y + cell + 5 + number * line), text, fill=_INK, font=font)
        y += height
    return sheet


def _place(sheet: Image.Image, image: Image.Image, corner: tuple[int, int], cell: int) -> None:
    scale = cell / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    photo = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    sheet.paste(_PALE, (corner[0], corner[1], corner[0] + cell, corner[1] + cell))
    sheet.paste(photo, (corner[0] + (cell - size[0]) // 2, corner[1] + (cell - size[1]) // 2))


def _wrap(text: str, font: Font, width: int, most: int) -> list[str]:
    """At most ``most`` lines of at most ``width`` pixels; an ellipsis where more was to be said."""
    room = most * width  # a character is a pixel wide at least, so that more never fits
    lines: list[str] = []
    for paragraph in text[:room].splitlines():
        line = ""
        for word in paragraph.split():
            if line and font.getlength(f"{line} {word}") <= width:
                line = f"{line} {word}"
                continue
            lines += [line] if line else []
            line = ""
            for character in word:  # a word wider than the photo is broken
                if line and font.getlength(line + character) > width:
                    lines.append(line)
                    line = ""
                line += character
        lines.append(line)
        if len(lines) > most:
            break
    if len(lines) > most or len(text) > room:
        last = lines[:most][-1]
        while last and font.getlength(last + "…") > width:
            last = last[:-1]
        lines = [*lines[:most][:-1], last.rstrip() + "…"]
    return lines


# --------------------------------------------------------------------------------------- curves


def loss_curves(
    history: Sequence[Mapping[str, float]], path: str | Path, *, title: str = ""
) -> Path:
    """One panel for each quantity of the history over ``step``; written as PNG.

    A record has ``step`` and any numbers ("loss", "text", "dev.text"); ``dev.x`` is drawn with
    ``x``. The raw points are pale; on top stands a centred mean over a twentieth of them.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    for record in history:
        for key, value in record.items():
            if key not in _NOT_CURVES and math.isfinite(value):
                series.setdefault(key, []).append((record["step"], value))
    if not series:
        raise DataError(
            "the history holds no numbers to draw; wanted records with step and at least one "
            "loss. Train for more steps first."
        )
    panels: dict[str, list[str]] = {}
    for key in series:
        panels.setdefault(key.removeprefix("dev.").removeprefix("dev_"), []).append(key)
    columns = 1 if len(panels) == 1 else 2 if len(panels) <= 6 else 3
    width, height, top = (720, 380, 44) if columns == 1 else (480, 290, 44)
    top = top if title else 10
    rows = math.ceil(len(panels) / columns)
    size = (columns * width * _SCALE, (top + rows * height + 8) * _SCALE)
    image = Image.new("RGB", size, _PAPER)
    if title:
        corner = (16 * _SCALE, 12 * _SCALE)
        ImageDraw.Draw(image).text(corner, title, fill=_INK, font=_font(20 * _SCALE))
    for number, (name, keys) in enumerate(panels.items()):
        x, y = number % columns * width * _SCALE, (top + number // columns * height) * _SCALE
        box = (x, y, x + width * _SCALE, y + height * _SCALE)
        _curve_panel(image, box, name, {key: series[key] for key in keys})
    return save_photo(
        image.resize((size[0] // _SCALE, size[1] // _SCALE), Image.Resampling.BOX), path
    )


def _curve_panel(
    image: Image.Image,
    box: tuple[int, int, int, int],
    name: str,
    series: Mapping[str, list[tuple[float, float]]],
) -> None:
    steps = [step for points in series.values() for step, _ in points]
    values = [value for points in series.values() for _, value in points]
    ordered = sorted(values)
    # a loss that falls a hundredfold would else be a flat line with a peak
    logarithmic = ordered[0] > 0 and ordered[-1] / ordered[len(ordered) // 20] > 30
    # single peaks (the first steps, a bad batch) must not flatten the rest
    highest = (
        ordered[-1] if logarithmic else ordered[min(len(ordered) - 1, int(len(ordered) * 0.995))]
    )
    axes = _axes(
        image, box, (min(steps), max(steps)), (ordered[0], highest), name, "step", logarithmic
    )
    draw = ImageDraw.Draw(image)
    for number, points in enumerate(series.values()):
        colour = _LINES[number % len(_LINES)]
        if len(points) > 30:
            draw.line([axes.at(*p) for p in points], fill=_pale(colour), width=_SCALE)
            points = _smooth(points)
        if len(points) == 1:
            _dot(draw, axes.at(*points[0]), colour)
        else:
            draw.line([axes.at(*p) for p in points], fill=colour, width=2 * _SCALE, joint="curve")
        if len(points) <= 30:
            for point in points:
                _dot(draw, axes.at(*point), colour)
    if len(series) > 1:
        _legend(draw, box, {key: _LINES[k % len(_LINES)] for k, key in enumerate(series)})


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Centred mean over about a twentieth of the points: it does not lag behind a falling loss.

    Near the ends the window shrinks on both sides, so that neither end is pulled inwards.
    """
    sums = [0.0, *accumulate(value for _, value in points)]
    smooth = []
    for k, (step, _) in enumerate(points):
        reach = min(k, len(points) - 1 - k, max(2, len(points) // 40))
        mean = (sums[k + reach + 1] - sums[k - reach]) / (2 * reach + 1)
        smooth.append((step, mean))
    return smooth


# -------------------------------------------------------------------------- reliability diagram


def reliability_diagram(bins: Sequence[Bin], path: str | Path, *, title: str = "") -> Path:
    """How often it happened against how probable it was said to be, and how often it was said.

    Dots on the diagonal are calibrated; their area grows with the number of positions, the bars
    below count these (square-root scale).
    """
    if not bins:
        raise DataError("no bins to draw; wanted those of reliability(labels, scores).")
    width, height, below = 480, 440, 110
    image = Image.new("RGB", (width * _SCALE, (height + below) * _SCALE), _PAPER)
    draw = ImageDraw.Draw(image)
    head = title or "reliability"
    box = (0, 8 * _SCALE, width * _SCALE, height * _SCALE)
    axes = _axes(image, box, (0.0, 1.0), (0.0, 1.0), head, "P(share), predicted", False)
    most = max(b.n for b in bins)
    for k in range(0, 50, 2):
        draw.line([axes.at(k / 50, k / 50), axes.at((k + 1) / 50, (k + 1) / 50)], _FAINT, _SCALE)
    points = [(b.mean_score, b.positive) for b in bins]
    if len(points) > 1:
        draw.line([axes.at(*p) for p in points], fill=_pale(_LINES[0]), width=2 * _SCALE)
    for b, point in zip(bins, points, strict=True):
        _dot(draw, axes.at(*point), _LINES[0], radius=3 + 6 * math.sqrt(b.n / most))
    draw.text(axes.at(0.03, 0.97), "share that was positive", fill=_FAINT, font=_font(12 * _SCALE))
    foot = (height + below - 22) * _SCALE
    tallest = (below - 50) * _SCALE
    for b in bins:
        left, right = axes.at(b.low, 0)[0] + _SCALE, axes.at(b.high, 0)[0] - _SCALE
        draw.rectangle(
            (left, foot - max(_SCALE, tallest * math.sqrt(b.n / most)), right, foot),
            fill=_pale(_LINES[0]),
        )
    left, right = axes.at(0, 0)[0], axes.at(1, 0)[0]
    draw.line([(left, foot), (right, foot)], fill=_FAINT, width=_SCALE)
    total = sum(b.n for b in bins)
    draw.text(
        ((left + right) / 2, foot + 4 * _SCALE),
        f"{total:,} positions; the fullest bin holds {most:,}",
        fill=_FAINT,
        font=_font(11 * _SCALE),
        anchor="ma",
    )
    return save_photo(image.resize((width, height + below), Image.Resampling.BOX), path)


# -------------------------------------------------------------------------------- axes and fonts


@dataclass(frozen=True, kw_only=True)
class _Axes:
    at: Callable[[float, float], tuple[float, float]]


def _axes(
    image: Image.Image,
    box: tuple[int, int, int, int],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    title: str,
    x_label: str,
    logarithmic: bool,
) -> _Axes:
    """Draw frame, grid, ticks and names; gives the way from values to pixels (held inside)."""
    draw, font = ImageDraw.Draw(image), _font(11 * _SCALE)
    left, top = box[0] + 58 * _SCALE, box[1] + 30 * _SCALE
    right, bottom = box[2] - 18 * _SCALE, box[3] - 40 * _SCALE
    x_low, x_high = x_range if x_range[1] > x_range[0] else (x_range[0] - 1, x_range[0] + 1)
    y_ticks = _log_ticks(*y_range) if logarithmic else _ticks(*y_range)
    y_low, y_high = min(y_ticks[0], y_range[0]), max(y_ticks[-1], y_range[1])
    lift = math.log if logarithmic else float

    def at(x: float, y: float) -> tuple[float, float]:
        y = min(max(y, y_low), y_high)
        part = (lift(y) - lift(y_low)) / (lift(y_high) - lift(y_low))
        return left + (x - x_low) / (x_high - x_low) * (right - left), bottom - part * (
            bottom - top
        )

    for y in y_ticks:
        height = at(x_low, y)[1]
        draw.line([(left, height), (right, height)], fill=_GRID, width=_SCALE)
        draw.text((left - 6 * _SCALE, height), _number(y), fill=_FAINT, font=font, anchor="rm")
    for x in _ticks(x_low, x_high):
        if x_low <= x <= x_high:
            place = at(x, y_low)[0]
            draw.line([(place, bottom), (place, bottom + 4 * _SCALE)], fill=_FAINT, width=_SCALE)
            draw.text((place, bottom + 6 * _SCALE), _number(x), fill=_FAINT, font=font, anchor="ma")
    draw.line([(left, bottom), (right, bottom)], fill=_FAINT, width=_SCALE)
    scale = " (log scale)" if logarithmic else ""
    draw.text((left, box[1] + 8 * _SCALE), title + scale, fill=_INK, font=_font(14 * _SCALE))
    draw.text((right, bottom + 21 * _SCALE), x_label, fill=_FAINT, font=font, anchor="ra")
    return _Axes(at=at)


def _ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Round numbers that enclose the range: multiples of 1, 2 or 5 times a power of ten."""
    if high <= low:
        low, high = low - (abs(low) or 1) * 0.1, high + (abs(high) or 1) * 0.1
    power = 10 ** math.floor(math.log10((high - low) / about))
    step = next(m * power for m in (1, 2, 5, 10) if (high - low) / (m * power) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    marks = [
        m * 10.0**k
        for k in range(first, last + 1)
        for m in ((1, 2, 5) if last - first < 4 else (1,))
    ]
    inside = [mark for mark in marks if low / 2.5 <= mark <= high * 2.5]
    return inside


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.6g}" if abs(value) >= 1e-4 else f"{value:.0e}"


def _legend(draw: ImageDraw.ImageDraw, box: tuple[int, ...], names: Mapping[str, Colour]) -> None:
    font = _font(11 * _SCALE)
    x, y = box[2] - 18 * _SCALE, box[1] + 10 * _SCALE
    for name, colour in reversed(list(names.items())):
        x -= round(font.getlength(name))
        draw.text((x, y), name, fill=_INK, font=font)
        x -= 20 * _SCALE
        draw.line([(x, y + 7 * _SCALE), (x + 14 * _SCALE, y + 7 * _SCALE)], colour, 3 * _SCALE)
        x -= 12 * _SCALE


def _dot(
    draw: ImageDraw.ImageDraw, centre: tuple[float, float], colour: Colour, *, radius: float = 3
) -> None:
    x, y, r = *centre, radius * _SCALE
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline=_PAPER, width=_SCALE)


def _pale(colour: Colour) -> Colour:
    red, green, blue = (round(255 - 0.35 * (255 - part)) for part in colour)
    return red, green, blue


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
