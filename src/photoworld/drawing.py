"""Scene -> pixels: cartoon photos in which every attribute can be seen at 64x64.

Drawn at 256 and reduced. All chance (pose, size, position, drops of rain) comes from
``random.Random(scene.seed)``, so that a scene's photo is the same on every machine.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from photoworld.backdrops import draw_backdrop, ground_colour
from photoworld.pen import OUTLINE, RGB, WHITE, Pen, mix, multiply
from photoworld.scenes import COUNTS, Scene
from photoworld.sprites import sprite_of, width_of

CANVAS = 256
_TIMBER: RGB = (150, 88, 40)
_STONE: RGB = (150, 152, 160)
_ANCHOR_LIGHT = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.9, 0.84), "night": (0.72, 0.74, 0.86)}


@dataclass(frozen=True, kw_only=True)
class _Spot:
    """Where one subject stands: the middle of its feet and its height, in canvas pixels."""

    x: float
    y: float
    height: float


def draw(scene: Scene, *, size: int = 64) -> Image.Image:
    """The photo of a scene: RGB, ``size`` x ``size``; deterministic."""
    rng = random.Random(scene.seed)
    image = draw_backdrop(scene.place, scene.time, scene.weather, rng=rng)
    canvas = ImageDraw.Draw(image)
    side = rng.choice((-1, 1))
    level = rng.uniform(-5, 5)
    spots = _spots(scene, side=side, level=level, rng=rng)
    if scene.anchor != "nothing":
        _draw_anchor(canvas, scene, side=side, level=level)
    if scene.relation != "on":
        shade = mix(ground_colour(scene.place, scene.time, scene.weather), OUTLINE, 0.35)
        for spot in spots:
            half = spot.height * 0.42
            box = (spot.x - half, spot.y - half * 0.18, spot.x + half, spot.y + half * 0.2)
            canvas.ellipse(box, fill=shade)
    for spot in spots:
        flip, tilt = rng.random() < 0.5, rng.uniform(-0.09, 0.09)
        pen = Pen(canvas, x=spot.x, y=spot.y, height=spot.height, flip=flip, tilt=tilt)
        pen.draw(sprite_of(scene.subject, scene.colour))
    if CANVAS % size == 0:
        return image.reduce(CANVAS // size)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def _spots(scene: Scene, *, side: int, level: float, rng: random.Random) -> list[_Spot]:
    """One spot for each subject, farthest first."""
    count, width = 1 + COUNTS.index(scene.count), width_of(scene.subject)
    if scene.relation == "beside":
        # the free half is too narrow for a row, so that several stand in two rows
        height, rows = {
            1: (112.0, ((72, 236),)),
            2: (86.0, ((40, 190), (104, 238))),
            3: (73.0, ((72, 164), (38, 240), (110, 240))),
        }[count]
        height *= rng.uniform(0.95, 1.05) / width**0.5
        dx = rng.uniform(-4, 4)
        return [_Spot(x=128 - side * (128 - x) + dx, y=y, height=height) for x, y in rows]
    height, gap, feet = {1: 120.0, 2: 96.0, 3: 80.0}[count], {1: 0, 2: 120, 3: 84}[count], 236.0
    if scene.relation == "on":
        feet = 184 + level
    elif scene.relation == "under":
        height, gap, feet = {1: 100.0, 2: 92.0, 3: 76.0}[count], {1: 0, 2: 108, 3: 79}[count], 238
    height *= rng.uniform(0.95, 1.06) if count > 1 else rng.uniform(0.9, 1.12)
    if scene.relation == "under":
        height = min(height, 106.0)
    if count > 1:  # neighbours that touch would read as one
        height = min(height, gap * 0.98 / width)
    middle = 128.0 + rng.uniform(-1, 1) * {1: 26, 2: 10, 3: 3}[count]
    feet += rng.uniform(-5, 5) if scene.relation == "alone" else 0.0
    places = [(k - (count - 1) / 2) * gap for k in range(count)]
    return [_Spot(x=middle + dx, y=feet, height=height) for dx in places]


def _draw_anchor(canvas: ImageDraw.ImageDraw, scene: Scene, *, side: int, level: float) -> None:
    """A table, or a stone arch through which the place is seen."""
    table, beside = scene.anchor == "table", scene.relation == "beside"
    colour = multiply(_TIMBER if table else _STONE, _ANCHOR_LIGHT[scene.time])
    top = level + {"beside": 154, "on": 178, "under": 100 if table else 84}[scene.relation]
    half = 116 if scene.relation == "under" or scene.count == "three" else 104
    middle, half = (128 + side * 74, 52) if beside else (128, half if table else 136)
    left, right = middle - half, middle + half
    if table:
        for x in (left + 10, right - 28):
            box = (x, top + 10, x + 18, 246)
            canvas.rectangle(box, fill=mix(colour, OUTLINE, 0.3), outline=OUTLINE, width=4)
        board = (left, top, right, top + 22)
        fill = mix(colour, (255, 200, 130), 0.25)
        canvas.rounded_rectangle(board, 7, fill=fill, outline=OUTLINE, width=5)
        return
    foot, span = 250, half - (16 if beside else 18)
    rise = foot - top - (24 if scene.relation == "under" else 22)
    angles = [math.pi * k / 16 for k in range(17)]
    arch = [(middle - span * math.cos(a), foot - rise * math.sin(a)) for a in angles]
    outside = [(left, foot), (left, top), (right, top), (right, foot), *reversed(arch)]
    canvas.polygon(outside, fill=colour)
    canvas.line([*outside, outside[0]], fill=OUTLINE, width=5)
    cap = (left, top - 4, right, top + 9)
    canvas.rectangle(cap, fill=mix(colour, WHITE, 0.3), outline=OUTLINE, width=4)
    for k in (3, 6, 10, 13):
        dx, dy = arch[k][0] - middle, arch[k][1] - foot
        end = (middle + dx * (1.0 + 14 / span), foot + dy * (1.0 + 14 / max(rise, 20)))
        canvas.line([arch[k], end], fill=mix(colour, OUTLINE, 0.6), width=4)
