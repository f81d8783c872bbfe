"""Scene -> pixels: cartoon photos in which every attribute can be seen at 64x64.

Drawn at 256 and reduced. All chance (pose, size, position, drops of rain) comes from
``random.Random(scene.seed)``, so that a scene's photo is the same on every machine.

A place is wider than the photo, which is a window on it, so that no two need be the same. Indoors,
time and weather are seen through a big window, and the light tints the room. What stands in a place
is in ``drawings.json``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from PIL import Image, ImageDraw

from photoworld import load_table
from photoworld.scenes import ATTRIBUTES, Scene
from photoworld.sprites import OUTLINE, RGB, WHITE, Pen, mix, read_shapes, sprite_of, tint, width_of

HEIGHT, WIDTH = 256, 288  # of a place
WINDOW = (66, 14, 222, 108)  # of both rooms: left, top, right, bottom
INDOORS = ("kitchen", "bedroom")

_SNOW, _DROP, _STAR = (238, 246, 255), (158, 214, 255), (255, 246, 200)
_TIMBER, _STONE = (150, 88, 40), (150, 152, 160)
_ANCHOR_LIGHT = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.9, 0.84), "night": (0.72, 0.74, 0.86)}


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
        for x, y, height in spots:
            half = height * 0.42
            canvas.ellipse((x - half, y - half * 0.18, x + half, y + half * 0.2), fill=shade)
    for spot in spots:
        flip, tilt = rng.random() < 0.5, rng.uniform(-0.09, 0.09)
        Pen(canvas, *spot, flip, tilt).draw(sprite_of(scene.subject, scene.colour))
    if HEIGHT % size == 0:
        return image.reduce(HEIGHT // size)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def _spots(
    scene: Scene, *, side: int, level: float, rng: random.Random
) -> list[tuple[float, float, float]]:
    """One spot for each subject, farthest first: the middle of its feet, and its height."""
    count, width = 1 + ATTRIBUTES["count"].index(scene.count), width_of(scene.subject)
    if scene.relation == "beside":
        # the free half is too narrow for a row, so that several stand in two rows
        height, rows = {
            1: (112.0, ((72, 236),)),
            2: (86.0, ((40, 190), (104, 238))),
            3: (73.0, ((72, 164), (38, 240), (110, 240))),
        }[count]
        height *= rng.uniform(0.95, 1.05) / width**0.5
        dx = rng.uniform(-4, 4)
        return [(128 - side * (128 - x) + dx, y, height) for x, y in rows]
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
    return [(middle + dx, feet, height) for dx in places]


def _draw_anchor(canvas: ImageDraw.ImageDraw, scene: Scene, *, side: int, level: float) -> None:
    """A table, or a stone arch through which the place is seen."""
    table, beside = scene.anchor == "table", scene.relation == "beside"
    colour = tint(_TIMBER if table else _STONE, _ANCHOR_LIGHT[scene.time])
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


# ------------------------------------------------------------------------------------- places


def _paint_of(place: str, time: str, weather: str) -> Callable[[Any], RGB]:
    """Finds the colours of a place in its light: those of a name, or red, green, blue and, where
    there is one, the share of snow on snowy days."""
    light = load_table("drawings")["skies"][time]["light"]
    snowy = weather == "snowy" and place not in INDOORS

    def lit(rgb: Sequence[int], snow: float = 0.0) -> RGB:
        red, green, blue = rgb
        return tint(mix((red, green, blue), _SNOW, snow if snowy else 0.0), light)

    ground = lit(load_table("drawings")["places"][place]["ground"], snow=0.72)
    named = {
        "ground": ground,
        "dune": mix(ground, WHITE, 0.14),
        "hollow": mix(ground, (160, 80, 40), 0.16),
        "glow": lit((206, 232, 250)) if time == "day" else (255, 222, 110),
        "lamp": (255, 244, 206) if time == "day" else (255, 236, 140),
    }
    return lambda colour: named[colour] if isinstance(colour, str) else lit(colour[:3], *colour[3:])


@cache
def ground_colour(place: str, time: str, weather: str) -> RGB:
    return _paint_of(place, time, weather)("ground")


def _sky(size: tuple[int, int], time: str, weather: str, sun: tuple[int, int]) -> Image.Image:
    """A sky; sun and moon stand at ``sun[0]``, the setting sun at the height ``sun[1]``."""
    (width, height), table = size, load_table("drawings")["skies"][time]
    grey = table.get(weather) or tint(_SNOW, table["light"])
    shares = {"clear": (0, 0, 0), "snowy": (0.3, 0.3, 0.3)}.get(weather, (0.6, 0.4, 0.15))
    top, middle, bottom = (mix(a, grey, b) for a, b in zip(table["bands"], shares, strict=True))
    sky = Image.new("RGB", size)
    draw = ImageDraw.Draw(sky)
    for y in range(height):
        t = 2 * y / height
        fill = mix(top, middle, t) if t < 1 else mix(middle, bottom, t - 1)
        draw.line((0, y, width, y), fill=fill)
    if weather == "clear":
        stars = [(width * u, height * v, 5, _STAR) for u, v in table.get("stars", ())]
        discs = [(sun[0] + dx, sun[1] if y is None else y, r, c) for dx, y, r, c in table["discs"]]
        for x, y, r, colour in stars + discs:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(colour))
    elif weather in ("cloudy", "rainy"):
        light = mix(grey, WHITE, 0.22)
        for colour, drop in ((mix(grey, (30, 30, 50), 0.15), 8), (grey, 0), (light, -12)):
            for k in range(0, width + 40, 40):
                wave = height * 0.10 + (10 if (k // 40) % 2 else 0) + drop
                draw.ellipse((k - 36, wave - 34, k + 36, wave + 28), fill=tuple(colour))
    return sky


@cache  # 96 of them, 20 MB: drawing one costs more than a whole photo
def _backdrop(place: str, time: str, weather: str) -> Image.Image:
    image = Image.new("RGB", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(image)
    drawing, paint = load_table("drawings")["places"][place], _paint_of(place, time, weather)
    if place not in INDOORS:
        image.paste(_sky((WIDTH, 160), time, weather, drawing["sun"]), (0, 0))
    Pen(draw, x=0, y=HEIGHT, height=100).draw(read_shapes(drawing["shapes"], paint))
    if place in INDOORS:
        left, top, right, bottom = WINDOW
        draw.rectangle((left - 9, top - 9, right + 9, bottom + 9), fill=paint((250, 248, 242)))
        image.paste(_sky((right - left, bottom - top), time, weather, (116, 54)), (left, top))
        land = mix((120, 190, 96), _SNOW, 0.9 if weather == "snowy" else 0.0)
        draw.rectangle((left, bottom - 16, right, bottom), fill=paint(land))
        if weather == "snowy":
            draw.rounded_rectangle((left - 12, bottom - 8, right + 12, bottom + 12), 8, fill=_SNOW)
    return image


def draw_backdrop(place: str, time: str, weather: str, *, rng: random.Random) -> Image.Image:
    """A 256x256 view of the place, with its own rain or snow."""
    image = _backdrop(place, time, weather)
    if weather in ("rainy", "snowy"):
        image = image.copy()
        flake = _SNOW if time != "night" else (214, 226, 250)
        _fall(ImageDraw.Draw(image), place, flake if weather == "snowy" else None, rng)
    shift = rng.randrange(WIDTH - HEIGHT + 1)
    image = image.crop((shift, 0, shift + HEIGHT, HEIGHT))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def _fall(draw: ImageDraw.ImageDraw, place: str, flake: RGB | None, rng: random.Random) -> None:
    """Flakes of a colour, else drops, on a jittered grid: every part of the sky has some."""
    inside = place in INDOORS
    left, top, right, bottom = WINDOW if inside else (0, 0, WIDTH, HEIGHT)
    columns, rows, size = (5, 3, 0.75) if inside else (5, 5, 1.0)
    step_x, step_y = (right - left) / columns, (bottom - top) / rows
    for row in range(rows):
        for column in range(columns):
            x = left + step_x * (column + 0.25 + 0.5 * rng.random())
            y = top + step_y * (row + 0.25 + 0.5 * rng.random())
            if flake is None:
                dx, dy = 7 * size, 20 * size
                dy = min(dy, y - top, bottom - y)
                draw.line((x + dx, y - dy, x - dx, y + dy), fill=_DROP, width=round(11 * size))
            else:
                r = 10 * size
                draw.ellipse((x - r, y - r, x + r, y + r), fill=flake)
