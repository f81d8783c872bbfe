"""A pen that draws outlined cartoon shapes in its own small coordinate system.

Coordinates of a sprite: x to the right of its middle, y upwards from its feet, in hundredths of its
height. The pen moves, scales, mirrors and tilts them onto the canvas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]

OUTLINE: RGB = (44, 30, 46)


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """``a`` with ``share`` of ``b``."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def multiply(a: RGB, by: tuple[float, float, float]) -> RGB:
    return tuple(min(255, round(x * m)) for x, m in zip(a, by, strict=True))  # type: ignore[return-value]


_CIRCLE = tuple((math.cos(2 * math.pi * k / 20), math.sin(2 * math.pi * k / 20)) for k in range(20))


class Pen:
    """Draws onto ``canvas`` at (x, y) = the middle of the feet; ``height`` in canvas pixels."""

    def __init__(
        self,
        canvas: ImageDraw.ImageDraw,
        *,
        x: float,
        y: float,
        height: float,
        flip: bool = False,
        tilt: float = 0.0,
    ) -> None:
        self.canvas = canvas
        self.x, self.y, self.scale = x, y, height / 100
        self.mirror = -1 if flip else 1
        self.cos, self.sin = math.cos(tilt), math.sin(tilt)
        self.line_width = max(4, round(4.6 * self.scale))

    def at(self, x: float, y: float) -> Point:
        x *= self.mirror * self.scale
        y *= self.scale
        return (self.x + x * self.cos - y * self.sin, self.y - y * self.cos - x * self.sin)

    def polygon(self, points: Sequence[Point], fill: RGB, *, edge: RGB | None = OUTLINE) -> None:
        xy = [self.at(*p) for p in points]
        self.canvas.polygon(xy, fill=fill)
        if edge is not None:
            self.canvas.line([*xy, xy[0], xy[1]], fill=edge, width=self.line_width)

    def ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        fill: RGB,
        *,
        turn: float = 0.0,
        edge: RGB | None = OUTLINE,
    ) -> None:
        """``turn`` in degrees, counter-clockwise."""
        if turn:
            c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
            points = [
                (x + rx * u * c - ry * v * s, y + rx * u * s + ry * v * c) for u, v in _CIRCLE
            ]
            self.polygon(points, fill, edge=edge)
            return
        # the tilt of a sprite is small, so an upright ellipse at the tilted place looks the same
        cx, cy = self.at(x, y)
        rx, ry = rx * self.scale, ry * self.scale
        box = (cx - rx, cy - ry, cx + rx, cy + ry)
        if edge is None:
            self.canvas.ellipse(box, fill=fill)
        else:
            self.canvas.ellipse(box, fill=fill, outline=edge, width=self.line_width)

    def box(
        self, x0: float, y0: float, x1: float, y1: float, fill: RGB, *, edge: RGB | None = OUTLINE
    ) -> None:
        self.polygon(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), fill, edge=edge)

    def stroke(self, points: Sequence[Point], colour: RGB = OUTLINE, *, width: float = 0) -> None:
        """``width`` in hundredths of the sprite's height; 0 is the width of the outline."""
        pixels = round(width * self.scale) if width else self.line_width
        xy = [self.at(*p) for p in points]
        self.canvas.line(xy, fill=colour, width=pixels, joint="curve" if width else None)

    def eyes(self, x: float, y: float, *, apart: float, size: float = 4.5) -> None:
        for side in (-1, 1):
            self.ellipse(x + side * apart / 2, y, size, size * 1.2, OUTLINE, edge=None)
            self.ellipse(
                x + side * apart / 2 + size * 0.3,
                y + size * 0.4,
                size * 0.42,
                size * 0.42,
                (255, 255, 255),
                edge=None,
            )

    def smile(self, x: float, y: float, *, width: float, colour: RGB = OUTLINE) -> None:
        w = width / 2
        curve = ((-1, 0.5), (-0.6, -0.25), (0, -0.5), (0.6, -0.25), (1, 0.5))
        points = [(x + u * w, y + v * w) for u, v in curve]
        self.stroke(points, colour, width=4.4)

    def cheeks(self, x: float, y: float, *, apart: float, size: float = 4.5) -> None:
        for side in (-1, 1):
            self.ellipse(x + side * apart / 2, y, size, size * 0.7, (255, 130, 140), edge=None)
