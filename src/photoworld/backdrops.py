"""Places in their light and weather: what stands behind the subject of a photo.

A backdrop is wider than the photo; the photo is a window on it, so that no two need be the same.
Indoors, time and weather are seen through a big window, and the light tints the room.
"""

from __future__ import annotations

import random
from functools import cache

from PIL import Image, ImageDraw

from photoworld.pen import RGB, mix, multiply

HEIGHT = 256
WIDTH = 288
HORIZON = 136
FLOOR = 164
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
_GROUND: dict[str, RGB] = {
    "beach": (246, 222, 156),
    "park": (140, 204, 96),
    "mountains": (150, 166, 140),
    "desert": (240, 168, 88),
    "city": (128, 130, 140),
    "farm": (214, 178, 78),
    "kitchen": (236, 240, 236),
    "bedroom": (204, 146, 104),
}
_SUN = {  # where the sun or the moon stands free of trees, peaks and roofs: x, low y
    "beach": (232, 84),
    "park": (176, 66),
    "mountains": (106, 56),
    "desert": (236, 52),
    "city": (214, 60),
    "farm": (96, 72),
}
_SNOW: RGB = (238, 246, 255)
_DROP: RGB = (158, 214, 255)


def ground_colour(place: str, time: str, weather: str) -> RGB:
    colour = _GROUND[place]
    if weather == "snowy" and place not in INDOORS:
        colour = mix(colour, _SNOW, 0.72)
    return multiply(colour, _LIGHT[time])


def _sky(
    width: int, height: int, time: str, weather: str, *, sun_x: float, low: float
) -> Image.Image:
    """A sky; sun and moon stand at ``sun_x``, the setting sun at height ``low``."""
    top, middle, bottom = _SKY[time]
    if weather in ("cloudy", "rainy"):
        grey = _CLOUD[time, weather]
        top, middle, bottom = mix(top, grey, 0.6), mix(middle, grey, 0.4), mix(bottom, grey, 0.15)
    if weather == "snowy":
        pale = multiply(_SNOW, _LIGHT[time])
        top, middle, bottom = mix(top, pale, 0.3), mix(middle, pale, 0.3), mix(bottom, pale, 0.3)
    sky = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(sky)
    for y in range(height):
        t = 2 * y / height
        draw.line(
            (0, y, width, y), fill=mix(top, middle, t) if t < 1 else mix(middle, bottom, t - 1)
        )

    def disc(x: float, y: float, r: float, colour: RGB) -> None:
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    if weather == "clear" and time == "day":
        disc(sun_x, 38, 32, (255, 240, 160))
        disc(sun_x, 38, 23, (255, 218, 50))
    elif weather == "clear" and time == "sunset":
        disc(sun_x, low, 36, (255, 176, 80))
        disc(sun_x, low, 27, (255, 238, 130))
    elif weather == "clear":
        for u, v in ((0.08, 0.18), (0.3, 0.4), (0.45, 0.13), (0.63, 0.36), (0.93, 0.2)):
            disc(width * u, height * v, 5, (255, 246, 200))
        disc(sun_x, 38, 27, (255, 246, 200))
        disc(sun_x - 12, 31, 21, mix(top, middle, 0.4))
    elif weather in ("cloudy", "rainy"):
        grey = _CLOUD[time, weather]
        light = mix(grey, (255, 255, 255), 0.22)
        for colour, drop in ((mix(grey, (30, 30, 50), 0.15), 8), (grey, 0), (light, -12)):
            for k in range(0, width + 40, 40):
                wave = 10 if (k // 40) % 2 else 0
                middle_y = height * 0.10 + wave + drop
                draw.ellipse((k - 36, middle_y - 34, k + 36, middle_y + 28), fill=colour)
    return sky


def _outdoors(draw: ImageDraw.ImageDraw, place: str, time: str, weather: str) -> None:
    snowy = weather == "snowy"

    def lit(colour: RGB, *, snow: float = 0.0) -> RGB:
        return multiply(mix(colour, _SNOW, snow if snowy else 0.0), _LIGHT[time])

    glow: RGB = (255, 222, 110) if time != "day" else lit((206, 232, 250))
    ground = ground_colour(place, time, weather)
    far = HORIZON
    if place == "beach":
        draw.rectangle((0, 108, WIDTH, 160), fill=lit((34, 140, 206)))
        draw.rectangle((0, 150, WIDTH, 160), fill=lit((190, 232, 246)))
        draw.rectangle((0, 158, WIDTH, HEIGHT), fill=ground)
        draw.polygon(((26, 178), (42, 178), (50, 64), (40, 64)), fill=lit((150, 100, 58)))
        for dx, dy in ((-48, 14), (-40, -22), (46, -22), (52, 14), (2, -36)):
            leaf = lit((40, 150, 70), snow=0.3)
            draw.polygon(((45, 56), (45 + dx * 0.6, 50 + dy), (45 + dx, 70 + dy), (45, 76)), leaf)
    elif place == "park":
        draw.rectangle((0, far, WIDTH, HEIGHT), fill=ground)
        draw.rectangle((0, 116, WIDTH, 146), fill=lit((60, 134, 62), snow=0.4))
        for x in (38, 250):
            draw.rectangle((x - 9, 100, x + 9, 166), fill=lit((122, 82, 52)))
            for dx, dy, r in ((-20, 92, 28), (20, 92, 28), (0, 66, 34)):
                box = (x + dx - r, dy - r, x + dx + r, dy + r)
                draw.ellipse(box, fill=lit((66, 158, 62), snow=0.5))
        draw.polygon(
            ((132, 146), (156, 146), (200, 256), (88, 256)), fill=lit((232, 214, 164), snow=0.5)
        )
    elif place == "mountains":
        for x, peak, half in ((60, 26, 100), (226, 16, 110), (146, 66, 70)):
            rock = lit((112, 106, 138), snow=0.25)
            draw.polygon(((x - half, 164), (x, peak), (x + half, 164)), fill=rock)
            cap = half * 0.34
            rise = (164 - peak) * 0.34
            top = ((x - cap, peak + rise), (x, peak), (x + cap, peak + rise))
            zigzag = (
                (x + cap / 3, peak + rise * 0.7),
                (x, peak + rise * 1.15),
                (x - cap / 3, peak + rise * 0.7),
            )
            draw.polygon((*top, *zigzag), fill=lit((250, 250, 255)))
        draw.rectangle((0, 152, WIDTH, HEIGHT), fill=ground)
    elif place == "desert":
        rust = lit((196, 92, 52), snow=0.25)
        draw.polygon(((6, 150), (20, 60), (84, 60), (100, 150)), fill=rust)
        draw.polygon(((196, 150), (206, 84), (264, 84), (280, 150)), fill=rust)
        draw.rectangle((0, 140, WIDTH, HEIGHT), fill=ground)
        draw.ellipse((-60, 122, 150, 260), fill=mix(ground, (255, 255, 255), 0.14))
        draw.ellipse((110, 130, 350, 300), fill=mix(ground, (160, 80, 40), 0.16))
    elif place == "city":
        for x, roof, width, colour in (
            (0, 62, 46, (106, 122, 156)),
            (46, 28, 50, (138, 148, 176)),
            (96, 78, 44, (96, 108, 142)),
            (140, 46, 54, (122, 134, 168)),
            (194, 88, 40, (142, 150, 178)),
            (234, 36, 54, (104, 116, 150)),
        ):
            draw.rectangle((x, roof, x + width - 3, 160), fill=lit(colour))
            if snowy:
                draw.rectangle((x, roof, x + width - 3, roof + 9), fill=lit(_SNOW))
            for wy in range(roof + 14, 140, 26):
                for wx in (x + 8, x + width - 22):
                    draw.rectangle((wx, wy, wx + 11, wy + 12), fill=glow)
        draw.rectangle((0, 156, WIDTH, HEIGHT), fill=ground)
        draw.rectangle((0, 152, WIDTH, 164), fill=lit((196, 196, 202), snow=0.6))
        for x in range(-10, WIDTH, 76):
            draw.rectangle((x, 206, x + 44, 214), fill=lit((250, 246, 220)))
    elif place == "farm":
        draw.rectangle((0, far, WIDTH, HEIGHT), fill=ground)
        for k, x in enumerate(range(-320, 640, 64)):
            if k % 2:
                left, right = 144 + (x - 144) * 0.35, 144 + (x - 80) * 0.35
                row = ((left, far), (right, far), (x + 64, HEIGHT), (x, HEIGHT))
                draw.polygon(row, fill=lit((150, 116, 60), snow=0.5))
        barn = ((172, 152), (172, 84), (184, 58), (218, 40), (252, 58), (264, 84), (264, 152))
        draw.polygon(barn, fill=lit((170, 44, 40)))
        gable = ((164, 86), (180, 56), (218, 34), (256, 56), (272, 86))
        draw.line(gable, fill=lit((250, 246, 240)), width=9)
        draw.rectangle((200, 104, 236, 152), fill=lit((250, 246, 240)))
        draw.line((202, 106, 234, 150), fill=lit((170, 44, 40)), width=7)
        draw.line((234, 106, 202, 150), fill=lit((170, 44, 40)), width=7)
        for y in (116, 134):
            draw.rectangle((0, y, 164, y + 7), fill=lit((252, 250, 244)))
        for x in (10, 56, 102, 148):
            draw.rectangle((x, 104, x + 9, 154), fill=lit((252, 250, 244)))


def _indoors(draw: ImageDraw.ImageDraw, place: str, time: str) -> None:
    def lit(colour: RGB) -> RGB:
        return multiply(colour, _LIGHT[time])

    ground = ground_colour(place, time, "clear")
    if place == "kitchen":
        draw.rectangle((0, 0, WIDTH, FLOOR), fill=lit((255, 226, 150)))
        draw.rectangle((0, FLOOR, WIDTH, HEIGHT), fill=ground)
        for row, (y0, y1) in enumerate(((FLOOR, 190), (190, 222), (222, HEIGHT))):
            for k in range(8):
                if (k + row) % 2:
                    draw.rectangle((k * 42, y0, k * 42 + 41, y1), fill=lit((96, 190, 186)))
        draw.rectangle((226, 108, WIDTH, 176), fill=lit((60, 150, 150)))
        draw.rectangle((220, 102, WIDTH, 114), fill=lit((240, 240, 236)))
        draw.rectangle((238, 70, 276, 102), fill=lit((206, 70, 62)))
        draw.rectangle((232, 66, 282, 74), fill=lit((90, 84, 96)))
        draw.rectangle((4, 34, 58, 178), fill=lit((236, 240, 246)))
        draw.rectangle((4, 84, 58, 89), fill=lit((130, 140, 156)))
        draw.rectangle((46, 58, 52, 78), fill=lit((130, 140, 156)))
        draw.rectangle((46, 96, 52, 124), fill=lit((130, 140, 156)))
    else:
        draw.rectangle((0, 0, WIDTH, FLOOR), fill=lit((164, 178, 224)))
        draw.rectangle((0, FLOOR, WIDTH, HEIGHT), fill=ground)
        draw.ellipse((40, 186, 248, 262), fill=lit((240, 196, 176)))
        draw.rectangle((228, 84, WIDTH, 190), fill=lit((140, 86, 52)))
        draw.rectangle((196, 142, WIDTH, 184), fill=lit((226, 96, 136)))
        draw.ellipse((224, 116, 284, 150), fill=lit((252, 252, 255)))
        draw.rectangle((14, 132, 56, 182), fill=lit((140, 86, 52)))
        draw.rectangle((31, 110, 39, 132), fill=lit((90, 84, 96)))
        lamp: RGB = (255, 236, 140) if time != "day" else (255, 244, 206)
        draw.polygon(((14, 112), (56, 112), (46, 80), (24, 80)), fill=lamp)
    left, top, right, bottom = WINDOW
    draw.rectangle((left - 9, top - 9, right + 9, bottom + 9), fill=lit((250, 248, 242)))


@cache  # 96 of them, 20 MB: drawing one costs more than a whole photo
def _backdrop(place: str, time: str, weather: str) -> Image.Image:
    if place not in INDOORS:
        sun_x, low = _SUN[place]
        image = Image.new("RGB", (WIDTH, HEIGHT))
        image.paste(_sky(WIDTH, 160, time, weather, sun_x=sun_x, low=low), (0, 0))
        _outdoors(ImageDraw.Draw(image), place, time, weather)
        return image
    image = Image.new("RGB", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(image)
    _indoors(draw, place, time)
    left, top, right, bottom = WINDOW
    sky = _sky(right - left, bottom - top, time, weather, sun_x=116, low=54)
    image.paste(sky, (left, top))
    light = _LIGHT[time]
    land = mix((120, 190, 96), _SNOW, 0.9) if weather == "snowy" else (120, 190, 96)
    draw.rectangle((left, bottom - 16, right, bottom), fill=multiply(land, light))
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
    if place in INDOORS:
        left, top, right, bottom = WINDOW
        columns, rows, size = 5, 3, 0.75
    else:
        left, top, right, bottom = 0, 0, WIDTH, HEIGHT
        columns, rows, size = 5, 5, 1.0
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
