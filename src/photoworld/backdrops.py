"""Places in their light and weather: what stands behind the subject of a photo.

A backdrop is wider than the photo; the photo is a window on it, so that no two need be the same.
Indoors, time and weather are seen through a big window, and the light tints the room. What stands
in a place is in ``drawings.json``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from PIL import Image, ImageDraw

from photoworld import load_table
from photoworld.pen import RGB, WHITE, Pen, mix, multiply, read_shapes

HEIGHT = 256
WIDTH = 288
WINDOW = (66, 14, 222, 108)  # of both rooms: left, top, right, bottom
INDOORS = ("kitchen", "bedroom")

_SKY: dict[str, tuple[RGB, RGB, RGB]] = {  # top, middle, horizon
    "day": ((66, 158, 244), (118, 196, 252), (196, 232, 255)),
    "sunset": ((150, 74, 138), (246, 112, 84), (255, 206, 104)),
    "night": ((10, 14, 52), (22, 30, 84), (50, 60, 124)),
}
_CLOUD: dict[tuple[str, str], RGB] = {
    ("day", "cloudy"): (178, 184, 194),
    ("day", "rainy"): (96, 106, 126),
    ("sunset", "cloudy"): (176, 132, 140),
    ("sunset", "rainy"): (108, 78, 100),
    ("night", "cloudy"): (92, 96, 120),
    ("night", "rainy"): (54, 58, 78),
}
_LIGHT = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.78, 0.66), "night": (0.47, 0.50, 0.76)}
_SNOW: RGB = (238, 246, 255)
_DROP: RGB = (158, 214, 255)
_MOON: RGB = (255, 246, 200)


def _paint_of(place: str, time: str, weather: str) -> Callable[[Any], RGB]:
    """Finds the colours of a place in its light: those of a name, or red, green, blue and, where
    there is one, the share of snow on snowy days."""
    snowy = weather == "snowy" and place not in INDOORS

    def lit(rgb: Sequence[int], snow: float = 0.0) -> RGB:
        red, green, blue = rgb
        return multiply(mix((red, green, blue), _SNOW, snow if snowy else 0.0), _LIGHT[time])

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
    (width, height), (sun_x, low) = size, sun
    top, middle, bottom = _SKY[time]
    if weather in ("cloudy", "rainy"):
        grey = _CLOUD[time, weather]
        top, middle, bottom = mix(top, grey, 0.6), mix(middle, grey, 0.4), mix(bottom, grey, 0.15)
    if weather == "snowy":
        pale = multiply(_SNOW, _LIGHT[time])
        top, middle, bottom = mix(top, pale, 0.3), mix(middle, pale, 0.3), mix(bottom, pale, 0.3)
    sky = Image.new("RGB", size)
    draw = ImageDraw.Draw(sky)
    for y in range(height):
        t = 2 * y / height
        draw.line(
            (0, y, width, y), fill=mix(top, middle, t) if t < 1 else mix(middle, bottom, t - 1)
        )
    stars = ((0.08, 0.18), (0.3, 0.4), (0.45, 0.13), (0.63, 0.36), (0.93, 0.2))
    discs: dict[str, list[tuple[float, float, float, RGB]]] = {
        "day": [(sun_x, 38, 32, (255, 240, 160)), (sun_x, 38, 23, (255, 218, 50))],
        "sunset": [(sun_x, low, 36, (255, 176, 80)), (sun_x, low, 27, (255, 238, 130))],
        "night": [
            *((width * u, height * v, 5, _MOON) for u, v in stars),
            (sun_x, 38, 27, _MOON),
            (sun_x - 12, 31, 21, mix(top, middle, 0.4)),
        ],
    }
    if weather == "clear":
        for u, v, r, colour in discs[time]:
            draw.ellipse((u - r, v - r, u + r, v + r), fill=colour)
    elif weather in ("cloudy", "rainy"):
        light = mix(grey, WHITE, 0.22)
        for colour, drop in ((mix(grey, (30, 30, 50), 0.15), 8), (grey, 0), (light, -12)):
            for k in range(0, width + 40, 40):
                middle_y = height * 0.10 + (10 if (k // 40) % 2 else 0) + drop
                draw.ellipse((k - 36, middle_y - 34, k + 36, middle_y + 28), fill=colour)
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
    image = _backdrop(place, time, weather).copy()
    if weather in ("rainy", "snowy"):
        _fall(ImageDraw.Draw(image), place, time, weather, rng=rng)
    shift = rng.randrange(WIDTH - HEIGHT + 1)
    image = image.crop((shift, 0, shift + HEIGHT, HEIGHT))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def _fall(
    draw: ImageDraw.ImageDraw, place: str, time: str, weather: str, *, rng: random.Random
) -> None:
    """Drops or flakes on a jittered grid, so that every part of the sky has some."""
    inside = place in INDOORS
    left, top, right, bottom = WINDOW if inside else (0, 0, WIDTH, HEIGHT)
    columns, rows, size = (5, 3, 0.75) if inside else (5, 5, 1.0)
    flake = _SNOW if time != "night" else (214, 226, 250)
    step_x, step_y = (right - left) / columns, (bottom - top) / rows
    for row in range(rows):
        for column in range(columns):
            x = left + step_x * (column + 0.25 + 0.5 * rng.random())
            y = top + step_y * (row + 0.25 + 0.5 * rng.random())
            if weather == "rainy":
                dx, dy = 7 * size, 20 * size
                dy = min(dy, y - top, bottom - y)
                draw.line((x + dx, y - dy, x - dx, y + dy), fill=_DROP, width=round(11 * size))
            else:
                r = 10 * size
                draw.ellipse((x - r, y - r, x + r, y + r), fill=flake)
