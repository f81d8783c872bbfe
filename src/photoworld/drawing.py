"""Scene -> pixels: cartoon photos in which every attribute can be seen at 64x64.

Drawn at 256 and reduced. All chance (pose, size, position, drops of rain) comes from
``random.Random(scene.seed)``, so that a scene's photo is the same on every machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image, ImageDraw

from photoworld.backdrops import draw_backdrop, ground_colour
from photoworld.pen import OUTLINE, RGB, Pen, mix, multiply
from photoworld.scenes import COUNTS, Scene
from photoworld.sprites import COLOUR_RGB, SPRITES, WIDTHS
from showtell.dialogue import Photo
from showtell.errors import PhotoError

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
    light = _ANCHOR_LIGHT[scene.time]
    if scene.anchor == "table":
        _draw_table(canvas, scene, side=side, level=level, wood=multiply(_TIMBER, light))
    elif scene.anchor == "bridge":
        _draw_bridge(canvas, scene, side=side, level=level, stone=multiply(_STONE, light))
    if scene.relation != "on":
        shade = mix(ground_colour(scene.place, scene.time, scene.weather), OUTLINE, 0.35)
        for spot in spots:
            half = spot.height * 0.42
            box = (spot.x - half, spot.y - half * 0.18, spot.x + half, spot.y + half * 0.2)
            canvas.ellipse(box, fill=shade)
    for spot in spots:
        pen = Pen(
            canvas,
            x=spot.x,
            y=spot.y,
            height=spot.height,
            flip=rng.random() < 0.5,
            tilt=rng.uniform(-0.09, 0.09),
        )
        SPRITES[scene.subject](pen, COLOUR_RGB[scene.colour])
    if CANVAS % size == 0:
        return image.reduce(CANVAS // size)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def photo_pixels(photo: Photo) -> Image.Image:
    """Draws the scene that a photo of the world carries in its labels."""
    values = photo.labels.get("scene")
    if not isinstance(values, Mapping):
        raise PhotoError(
            f'photo "{photo.id}" has no scene in its labels, so it cannot be drawn; '
            "give a photo of the world, or one whose path names an image file"
        )
    return draw(Scene.from_dict(values))


def _spots(scene: Scene, *, side: int, level: float, rng: random.Random) -> list[_Spot]:
    """One spot for each subject, farthest first."""
    count = 1 + COUNTS.index(scene.count)
    height = {1: 120.0, 2: 96.0, 3: 80.0}[count]
    spread = {1: (0,), 2: (-60, 60), 3: (-84, 0, 84)}[count]
    middle, feet = 128.0, 236.0
    if scene.relation == "on":
        feet = 184 + level
    elif scene.relation == "under":
        height = {1: 100.0, 2: 92.0, 3: 76.0}[count]
        spread = {1: (0,), 2: (-54, 54), 3: (-79, 0, 79)}[count]
        feet = 238
    elif scene.relation == "beside":
        # the free half is too narrow for a row, so that several stand in two rows
        height = {1: 112.0, 2: 86.0, 3: 73.0}[count]
        rows = {
            1: ((72, 236),),
            2: ((40, 190), (104, 238)),
            3: ((72, 164), (38, 240), (110, 240)),
        }[count]
        height *= rng.uniform(0.95, 1.05) / WIDTHS.get(scene.subject, 1.0) ** 0.5
        dx = rng.uniform(-4, 4)
        return [_Spot(x=128 - side * (128 - x) + dx, y=y, height=height) for x, y in rows]
    height *= rng.uniform(0.95, 1.06) if count > 1 else rng.uniform(0.9, 1.12)
    if scene.relation == "under":
        height = min(height, 106.0)
    if count > 1:  # neighbours that touch would read as one
        height = min(height, (spread[1] - spread[0]) * 0.98 / WIDTHS.get(scene.subject, 1.0))
    middle += rng.uniform(-1, 1) * {1: 26, 2: 10, 3: 3}[count]
    rise = rng.uniform(-5, 5) if scene.relation == "alone" else 0.0
    return [_Spot(x=middle + dx, y=feet + rise, height=height) for dx in spread]


def _anchor_span(scene: Scene, side: int) -> tuple[float, float]:
    """Left and right end of the anchor."""
    if scene.relation == "beside":
        middle = 128 + side * 74
        return middle - 52, middle + 52
    half = 116 if scene.relation == "under" or scene.count == "three" else 104
    return 128 - half, 128 + half


def _anchor_top(scene: Scene, level: float) -> float:
    if scene.relation == "beside":
        return 154 + level
    if scene.relation == "on":
        return 178 + level
    return 100 + level if scene.anchor == "table" else 84 + level


def _draw_table(
    canvas: ImageDraw.ImageDraw, scene: Scene, *, side: int, level: float, wood: RGB
) -> None:
    left, right = _anchor_span(scene, side)
    top = _anchor_top(scene, level)
    dark = mix(wood, OUTLINE, 0.3)
    for x in (left + 10, right - 28):
        canvas.rectangle((x, top + 10, x + 18, 246), fill=dark, outline=OUTLINE, width=4)
    box = (left, top, right, top + 22)
    canvas.rounded_rectangle(
        box, 7, fill=mix(wood, (255, 200, 130), 0.25), outline=OUTLINE, width=5
    )


def _draw_bridge(
    canvas: ImageDraw.ImageDraw, scene: Scene, *, side: int, level: float, stone: RGB
) -> None:
    """A stone arch; the place is seen through it."""
    left, right = _anchor_span(scene, side)
    if scene.relation != "beside":
        left, right = -8, 264
    top, foot = _anchor_top(scene, level), 250
    thickness = 24 if scene.relation == "under" else 22
    middle, half = (
        (left + right) / 2,
        (right - left) / 2 - (18 if scene.relation != "beside" else 16),
    )
    rise = foot - top - thickness
    arch = [
        (middle - half * math.cos(math.pi * k / 16), foot - rise * math.sin(math.pi * k / 16))
        for k in range(17)
    ]
    shape = [(left, foot), (left, top), (right, top), (right, foot), *reversed(arch)]
    canvas.polygon(shape, fill=stone)
    canvas.line([*shape, shape[0]], fill=OUTLINE, width=5)
    cap = (left, top - 4, right, top + 9)
    canvas.rectangle(cap, fill=mix(stone, (255, 255, 255), 0.3), outline=OUTLINE, width=4)
    for k in (3, 6, 10, 13):
        x, y = arch[k]
        away = 1.0 + 14 / half
        end = (middle + (x - middle) * away, foot + (y - foot) * (1.0 + 14 / max(rise, 20)))
        canvas.line([(x, y), end], fill=mix(stone, OUTLINE, 0.6), width=4)
