"""The twenty subjects in their colours, and the pen that draws them.

``drawings.json`` holds the shapes of all sprites and places, each in its own small coordinate
system: x to the right, y up. The pen moves, scales, mirrors and tilts them onto the canvas.
Silhouettes differ before details do: a photo is 64 pixels wide, and a small painter must learn it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import ImageDraw

from photoworld import load_table

RGB = tuple[int, int, int]

OUTLINE: RGB = (44, 30, 46)
WHITE: RGB = (255, 255, 255)


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """``a`` with ``share`` of ``b``."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def tint(a: RGB, by: tuple[float, float, float]) -> RGB:
    return tuple(min(255, round(x * m)) for x, m in zip(a, by, strict=True))  # type: ignore[return-value]


Shape = tuple[str, RGB, tuple[float, ...], dict[str, Any]]  # a method of Pen and its arguments


def read_shapes(rows: Iterable[Sequence[Any]], paint: Callable[[Any], RGB]) -> list[Shape]:
    """The shapes of rows of ``drawings.json``, ``[kind, colour, numbers..., options]``.

    ``paint`` finds a colour. "flat" shapes have no outline, "both" are drawn mirrored first.
    """
    shapes: list[Shape] = []
    for words, colour, *numbers in rows:
        *manner, kind = words.split()
        options = numbers.pop() if isinstance(numbers[-1], dict) else {}
        if "flat" in manner:
            options = {**options, "flat": True}
        if "both" in manner:
            shapes.append((kind, paint(colour), tuple(numbers), {**options, "side": -1}))
        shapes.append((kind, paint(colour), tuple(numbers), options))
    return shapes


_ANGLES = [2 * math.pi * k / 20 for k in range(20)]
CIRCLE = [(math.cos(angle), math.sin(angle)) for angle in _ANGLES]
_SMILE = ((-1, 0.5), (-0.6, -0.25), (0, -0.5), (0.6, -0.25), (1, 0.5))


@dataclass
class Pen:
    """Draws onto ``canvas`` at (x, y) = the middle of the feet; ``height`` in canvas pixels.

    Each kind of shape is a method. ``flat``: without an outline; ``side=-1``: mirrored.
    """

    canvas: ImageDraw.ImageDraw
    x: float
    y: float
    height: float
    flip: bool = False
    tilt: float = 0.0

    def __post_init__(self) -> None:
        self.scale = self.height / 100
        self.mirror = -1 if self.flip else 1
        self.cos, self.sin = math.cos(self.tilt), math.sin(self.tilt)
        self.line_width = max(4, round(4.6 * self.scale))

    def draw(self, shapes: Iterable[Shape]) -> None:
        for kind, fill, numbers, options in shapes:
            getattr(self, kind)(fill, *numbers, **options)

    def at(self, x: float, y: float) -> tuple[float, float]:
        x *= self.mirror * self.scale
        y *= self.scale
        return (self.x + x * self.cos - y * self.sin, self.y - y * self.cos - x * self.sin)

    def shape(self, fill: RGB, *xy: float, flat: bool = False, side: int = 1) -> None:
        points = [self.at(side * x, y) for x, y in zip(xy[::2], xy[1::2], strict=True)]
        self.canvas.polygon(points, fill=fill)
        if not flat:
            self.canvas.line([*points, *points[:2]], fill=OUTLINE, width=self.line_width)

    def box(self, fill: RGB, *corners: float, flat: bool = False, side: int = 1) -> None:
        """``corners``: x, y, x, y."""
        x0, y0, x1, y1 = corners
        x0, x1 = sorted((side * x0, side * x1))
        self.shape(fill, x0, y0, x1, y0, x1, y1, x0, y1, flat=flat)

    def grid(self, fill: RGB, x: float, y: float, *numbers: float, flat: bool = False) -> None:
        """Boxes: ``numbers`` are the steps right and up, columns and rows, width and height."""
        dx, dy, columns, rows, width, height = numbers
        for row in range(int(rows)):
            for column in range(int(columns)):
                left, foot = x + column * dx, y + row * dy
                self.box(fill, left, foot, left + width, foot + height, flat=flat)

    def oval(
        self, fill: RGB, *numbers: float, turn: float = 0.0, flat: bool = False, side: int = 1
    ) -> None:
        """``numbers``: x, y and both radii; ``turn`` in degrees, counter-clockwise."""
        x, y, rx, ry = numbers
        x, turn = side * x, math.radians(side * turn)
        if turn:
            c, s = math.cos(turn), math.sin(turn)
            points = [(x + rx * u * c - ry * v * s, y + rx * u * s + ry * v * c) for u, v in CIRCLE]
            self.shape(fill, *(number for point in points for number in point), flat=flat)
            return
        # the tilt of a sprite is small, so an upright oval at the tilted place looks the same
        (cx, cy), rx, ry = self.at(x, y), rx * self.scale, ry * self.scale
        edge, box = None if flat else OUTLINE, (cx - rx, cy - ry, cx + rx, cy + ry)
        self.canvas.ellipse(box, fill=fill, outline=edge, width=self.line_width)

    def line(self, fill: RGB, width: float, *xy: float, joint: str | None = None) -> None:
        """``width`` in the units of the points; 0 is the width of the outline."""
        points = [self.at(x, y) for x, y in zip(xy[::2], xy[1::2], strict=True)]
        pixels = round(width * self.scale) if width else self.line_width
        self.canvas.line(points, fill=fill, width=pixels, joint=joint)

    def eyes(self, fill: RGB, x: float, y: float, apart: float, size: float) -> None:
        for side in (-1, 1):
            eye, shine = x + side * apart / 2, size * 0.42
            self.oval(fill, eye, y, size, size * 1.2, flat=True)
            self.oval(WHITE, eye + size * 0.3, y + size * 0.4, shine, shine, flat=True)

    def smile(self, fill: RGB, x: float, y: float, width: float) -> None:
        half = width / 2
        curve = (number for u, v in _SMILE for number in (x + u * half, y + v * half))
        self.line(fill, 4.4, *curve, joint="curve")


COLOUR_RGB: dict[str, RGB] = {
    name: tuple(rgb) for name, rgb in load_table("drawings")["colours"].items()
}


@cache
def sprite_of(subject: str, colour: str) -> list[Shape]:
    """The shapes of a subject in a colour of ``COLOUR_RGB``."""
    table, rgb = load_table("drawings"), COLOUR_RGB[colour]
    known: dict[str, Any] = {"colour": rgb, "light": mix(rgb, WHITE, 0.5), **table["paints"]}
    known["lightest"] = mix(known["light"], WHITE, 0.5)
    known["dark"] = mix(rgb, (50, 30, 50), 0.25)
    known["pale"] = mix(rgb, known["cream"], 0.75)
    for name, value in table["sprites"][subject].get("colours", {}).items():
        if isinstance(value, dict):  # it follows from the subject's colour
            value = value.get(colour, value["else"])
        known[name] = known[value] if isinstance(value, str) else value
    return read_shapes(_rows(subject), lambda c: tuple(known[c] if isinstance(c, str) else c))


def _rows(subject: str) -> list[Sequence[Any]]:
    """The shapes of a sprite; where it is like another, those of the other."""
    rows = load_table("drawings")["sprites"][subject]["shapes"]
    return [r for row in rows for r in (_rows(row[1]) if row[0] == "like" else [row])]


def width_of(subject: str) -> float:
    """Of those that are wider than high, their width in heights; of the others 1."""
    return float(load_table("drawings")["sprites"][subject].get("wide", 1.0))
