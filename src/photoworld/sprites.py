"""The twenty subjects, each one function of a pen and a colour.

Silhouettes differ before details do: a photo is 64 pixels wide, and a small painter must learn it.
"""

from __future__ import annotations

from collections.abc import Callable

from photoworld.pen import OUTLINE, RGB, Pen, mix

COLOUR_RGB: dict[str, RGB] = {
    "red": (216, 34, 40),
    "orange": (255, 138, 20),
    "yellow": (255, 222, 40),
    "green": (36, 160, 62),
    "blue": (38, 98, 226),
    "purple": (132, 56, 186),
    "pink": (255, 140, 198),
    "white": (252, 252, 252),
}
WHITE: RGB = (255, 255, 255)
CREAM: RGB = (255, 240, 214)
GLASS: RGB = (176, 226, 250)
DARK: RGB = (70, 62, 78)
WOOD: RGB = (128, 78, 44)
GOLD: RGB = (255, 212, 50)
LEAF: RGB = (70, 165, 70)


def _lighter(colour: RGB) -> RGB:
    return mix(colour, WHITE, 0.5)


def _darker(colour: RGB) -> RGB:
    return mix(colour, (50, 30, 50), 0.25)


def _dog(pen: Pen, colour: RGB) -> None:
    dark = _darker(colour)
    pen.ellipse(-47, 62, 7, 20, colour, turn=28)
    for x in (-32, 18):
        pen.box(x - 7, 0, x + 7, 30, dark)
    for x in (-20, 30):
        pen.box(x - 7, 0, x + 7, 30, colour)
    pen.ellipse(-4, 38, 42, 21, colour)
    pen.ellipse(28, 70, 28, 26, colour)
    pen.ellipse(36, 59, 17, 12, CREAM, edge=None)
    pen.ellipse(3, 68, 10, 23, dark, turn=-12)
    pen.ellipse(55, 72, 8, 19, dark, turn=14)
    pen.ellipse(37, 66, 6, 4.5, OUTLINE, edge=None)
    pen.eyes(34, 79, apart=21, size=5)
    pen.smile(37, 57, width=13)


def _sitting_cat(pen: Pen, colour: RGB, belly: RGB) -> None:
    pen.ellipse(33, 26, 8, 26, colour, turn=-22)
    pen.ellipse(0, 25, 29, 27, colour)
    pen.ellipse(0, 22, 14, 18, belly, edge=None)
    for side in (-1, 1):
        pen.polygon(((side * 9, 80), (side * 32, 76), (side * 31, 104)), colour)
        pen.polygon(((side * 17, 82), (side * 27, 80), (side * 27, 94)), (255, 170, 185), edge=None)
        pen.ellipse(side * 13, 5, 11, 6, colour)
    pen.ellipse(0, 64, 36, 27, colour)
    pen.ellipse(0, 56, 13, 9, _lighter(belly), edge=None)
    pen.eyes(0, 69, apart=32, size=6)
    pen.polygon(((-4, 61), (4, 61), (0, 57)), (240, 90, 120), edge=None)
    pen.smile(0, 53, width=14)


def _cat(pen: Pen, colour: RGB) -> None:
    _sitting_cat(pen, colour, _lighter(colour))


def _luna(pen: Pen, colour: RGB) -> None:
    _sitting_cat(pen, colour, (226, 196, 246))
    pen.polygon(((-20, 84), (-24, 112), (-9, 98), (0, 116), (9, 98), (24, 112), (20, 84)), GOLD)
    pen.box(-24, 35, 24, 42, GOLD, edge=None)
    pen.ellipse(0, 32, 10, 10, GOLD)


def _duck(pen: Pen, colour: RGB) -> None:
    beak: RGB = (255, 120, 20) if colour != COLOUR_RGB["orange"] else (255, 215, 60)
    for x in (-12, 8):
        pen.box(x - 3, 0, x + 3, 12, beak)
    pen.polygon(((-56, 60), (-44, 20), (-10, 8), (-6, 40)), colour)
    pen.ellipse(-6, 31, 40, 24, colour)
    pen.ellipse(26, 74, 24, 24, colour)
    pen.polygon(((44, 82), (68, 72), (62, 62), (42, 64)), beak)
    pen.ellipse(-12, 34, 20, 12, _darker(colour), turn=-12)
    pen.box(8, 44, 30, 56, colour, edge=None)
    pen.ellipse(31, 80, 5.5, 7, OUTLINE, edge=None)
    pen.ellipse(33, 83, 2.4, 2.4, WHITE, edge=None)


def _rabbit(pen: Pen, colour: RGB) -> None:
    for side in (-1, 1):
        pen.ellipse(side * 14, 84, 9.5, 28, colour, turn=-side * 10)
        pen.ellipse(side * 14.5, 86, 4, 17, (255, 175, 190), turn=-side * 10, edge=None)
    pen.ellipse(0, 22, 25, 23, colour)
    pen.ellipse(0, 20, 13, 14, _lighter(colour), edge=None)
    for side in (-1, 1):
        pen.ellipse(side * 16, 5, 13, 6, colour)
    pen.ellipse(0, 52, 29, 24, colour)
    pen.eyes(0, 57, apart=27, size=5.5)
    pen.cheeks(0, 47, apart=36)
    pen.box(-5, 35, 5, 43, WHITE)
    pen.ellipse(0, 48, 4, 3, (240, 90, 120), edge=None)


def _wheel(pen: Pen, x: float, size: float) -> None:
    pen.ellipse(x, size, size, size, (50, 46, 56))
    pen.ellipse(x, size, size * 0.45, size * 0.45, (205, 208, 215), edge=None)


def _car(pen: Pen, colour: RGB) -> None:
    pen.polygon(((-34, 40), (-22, 72), (20, 72), (36, 40)), colour)
    pen.polygon(((-24, 44), (-16, 64), (-3, 64), (-3, 44)), GLASS)
    pen.polygon(((4, 44), (4, 64), (16, 64), (26, 44)), GLASS)
    pen.polygon(((-58, 12), (-58, 36), (-50, 44), (44, 44), (58, 34), (58, 12)), colour)
    pen.ellipse(51, 32, 5.5, 5.5, (255, 240, 150))
    pen.smile(10, 28, width=16)
    _wheel(pen, -32, 15)
    _wheel(pen, 34, 15)


def _bus(pen: Pen, colour: RGB) -> None:
    pen.box(-58, 10, 58, 88, colour)
    for x in (-50, -22, 6):
        pen.box(x, 50, x + 22, 78, GLASS)
    pen.box(36, 16, 54, 78, GLASS)
    pen.box(-58, 34, 33, 41, _darker(colour), edge=None)
    _wheel(pen, -34, 14)
    _wheel(pen, 24, 14)


def _boat(pen: Pen, colour: RGB) -> None:
    pen.box(-3, 30, 3, 104, WOOD)
    pen.polygon(((7, 42), (7, 100), (50, 42)), colour)
    pen.polygon(((-8, 42), (-8, 88), (-38, 42)), _lighter(colour))
    pen.polygon(((-56, 34), (56, 34), (38, 2), (-36, 2)), colour)
    pen.stroke(((-50, 27), (50, 27)), _darker(colour), width=6)
    pen.eyes(20, 19, apart=18, size=4)
    pen.smile(20, 9, width=12)


def _cake(pen: Pen, colour: RGB) -> None:
    chocolate: RGB = (96, 54, 34)
    pen.ellipse(0, 7, 55, 8, (226, 230, 238))
    pen.box(-43, 8, 43, 56, colour)
    left = ((-45, 58), (-45, 40), (-34, 40), (-29, 48), (-21, 36), (-12, 48), (0, 38))
    right = ((11, 48), (22, 37), (30, 48), (38, 40), (45, 40), (45, 58))
    pen.polygon((*left, *right), chocolate)
    pen.ellipse(0, 58, 45, 9, chocolate)
    for x in (-22, 22):
        pen.box(x - 4, 60, x + 4, 82, WHITE)
        pen.ellipse(x, 91, 6, 9, (255, 190, 40))
    pen.ellipse(0, 69, 9, 9, (226, 40, 60))
    pen.eyes(0, 26, apart=24, size=4.5)
    pen.smile(0, 18, width=14)


def _ice_cream(pen: Pen, colour: RGB) -> None:
    waffle: RGB = (222, 164, 92)
    pen.polygon(((-24, 46), (24, 46), (0, -2)), waffle)
    pen.stroke(((-14, 42), (7, 14)), _darker(waffle))
    pen.stroke(((14, 42), (-7, 14)), _darker(waffle))
    pen.ellipse(0, 84, 23, 20, colour)
    pen.ellipse(0, 56, 33, 23, colour)
    pen.ellipse(3, 104, 8, 8, (226, 40, 60))
    pen.eyes(0, 60, apart=26, size=5)
    pen.smile(0, 50, width=15)


def _ball(pen: Pen, colour: RGB) -> None:
    other = WHITE if colour != COLOUR_RGB["white"] else (222, 226, 232)
    pen.ellipse(0, 43, 44, 43, colour)
    pen.polygon(((-16, 82), (16, 82), (9, 60), (12, 43), (-12, 43), (-9, 60)), other)
    pen.polygon(((-12, 43), (-40, 26), (-24, 8), (0, 34)), other)
    pen.polygon(((12, 43), (40, 26), (24, 8), (0, 34)), other)
    pen.ellipse(0, 43, 12, 12, colour)


def _robot(pen: Pen, colour: RGB) -> None:
    metal: RGB = (168, 176, 190)
    pen.box(-3, 88, 3, 104, metal)
    pen.ellipse(0, 105, 6, 6, (255, 70, 60))
    for side in (-1, 1):
        pen.box(side * 15 - 8, 0, side * 15 + 8, 16, metal)
        pen.box(side * 37 - 7, 20, side * 37 + 7, 47, colour)
        pen.ellipse(side * 37, 17, 8, 8, metal)
    pen.box(-29, 12, 29, 50, colour)
    pen.box(-13, 23, 13, 39, (214, 220, 230))
    pen.ellipse(-5, 31, 4, 4, (255, 70, 60), edge=None)
    pen.ellipse(6, 31, 4, 4, (60, 190, 90), edge=None)
    pen.box(-34, 52, 34, 90, colour)
    pen.box(-26, 58, 26, 84, (34, 44, 66))
    for x in (-12, 12):
        pen.ellipse(x, 75, 5.5, 5.5, (120, 240, 255), edge=None)
    pen.smile(0, 66, width=20, colour=(120, 240, 255))


def _teddy_bear(pen: Pen, colour: RGB) -> None:
    patch = mix(colour, CREAM, 0.75)
    for side in (-1, 1):
        pen.ellipse(side * 27, 90, 13, 13, colour)
        pen.ellipse(side * 27, 90, 6, 6, patch, edge=None)
        pen.ellipse(side * 35, 34, 11, 16, colour, turn=side * 35)
    pen.ellipse(0, 28, 31, 27, colour)
    pen.ellipse(0, 28, 18, 17, patch, edge=None)
    for side in (-1, 1):
        pen.ellipse(side * 26, 10, 15, 12, colour)
        pen.ellipse(side * 26, 10, 7, 6, patch, edge=None)
    pen.ellipse(0, 72, 35, 27, colour)
    pen.ellipse(0, 63, 16, 12, patch)
    pen.ellipse(0, 68, 6, 4.5, OUTLINE, edge=None)
    pen.eyes(0, 79, apart=32, size=5)
    pen.smile(0, 60, width=11)


def _flower(pen: Pen, colour: RGB) -> None:
    warm = colour in (COLOUR_RGB["yellow"], COLOUR_RGB["orange"])
    centre = (150, 92, 46) if warm else GOLD
    pen.box(-4, 0, 4, 44, LEAF)
    pen.ellipse(-20, 15, 19, 9, LEAF, turn=-28)
    pen.ellipse(20, 18, 19, 9, LEAF, turn=28)
    for x, y in ((0, 27), (24, 13), (24, -14), (0, -28), (-24, -14), (-24, 13)):
        pen.ellipse(x, 67 + y, 16.5, 16.5, colour)
    pen.ellipse(0, 67, 21, 21, centre)
    pen.eyes(0, 72, apart=16, size=4)
    pen.smile(0, 62, width=14)


def _cactus(pen: Pen, colour: RGB) -> None:
    pen.box(-44, 42, -10, 54, colour)
    pen.ellipse(-40, 60, 9, 20, colour)
    pen.box(-37, 44, -10, 52, colour, edge=None)
    pen.box(10, 54, 44, 66, colour)
    pen.ellipse(40, 72, 9, 20, colour)
    pen.box(10, 56, 37, 64, colour, edge=None)
    pen.ellipse(0, 58, 19, 42, colour)
    pen.polygon(((-30, 30), (30, 30), (22, 0), (-22, 0)), (196, 100, 62))
    pen.box(-34, 26, 34, 37, (214, 118, 76))
    for x, y in ((-8, 98), (8, 98), (0, 106)):
        pen.ellipse(x, y, 7, 7, (255, 96, 150))
    pen.eyes(0, 66, apart=17, size=4.5)
    pen.smile(0, 54, width=13)


def _house(pen: Pen, colour: RGB) -> None:
    pen.box(20, 64, 35, 98, (150, 84, 70))
    pen.box(-42, 0, 42, 56, colour)
    pen.polygon(((-56, 54), (56, 54), (0, 100)), (112, 66, 58))
    pen.box(-11, 0, 11, 34, (120, 74, 40))
    pen.ellipse(6, 16, 2.5, 2.5, GOLD, edge=None)
    for side in (-1, 1):
        pen.box(side * 27 - 9, 24, side * 27 + 9, 44, (255, 240, 160))
    pen.ellipse(0, 70, 9, 9, (255, 240, 160))


def _lighthouse(pen: Pen, colour: RGB) -> None:
    other = WHITE if colour != COLOUR_RGB["white"] else (224, 228, 234)
    pen.ellipse(0, 5, 42, 9, (130, 132, 142))

    def band(y0: float, y1: float, fill: RGB) -> None:
        a, b = 30 - y0 * 0.18, 30 - y1 * 0.18
        pen.polygon(((-a, y0), (a, y0), (b, y1), (-b, y1)), fill)

    for y0, y1, fill in (
        (5, 25, colour),
        (25, 34, other),
        (34, 54, colour),
        (54, 62, other),
        (62, 77, colour),
    ):
        band(y0, y1, fill)
    pen.box(-20, 75, 20, 80, DARK)
    pen.box(-11, 80, 11, 96, (255, 236, 110))
    pen.polygon(((-18, 95), (18, 95), (0, 111)), _darker(colour) if other is WHITE else DARK)


def _person(pen: Pen, *, jacket: RGB, skin: RGB, trousers: RGB, shoes: RGB) -> None:
    for side in (-1, 1):
        pen.box(side * 10 - 8, 3, side * 10 + 8, 22, trousers)
        pen.ellipse(side * 12, 4, 11, 5, shoes)
        pen.ellipse(side * 29, 30, 8, 17, jacket, turn=side * 28)
        pen.ellipse(side * 37, 18, 6, 6, skin)
    pen.polygon(((-24, 14), (24, 14), (20, 50), (-20, 50)), jacket)
    pen.stroke(((0, 15), (0, 46)), _darker(jacket))


def _face(pen: Pen, *, skin: RGB) -> None:
    pen.ellipse(0, 66, 29, 26, skin)
    pen.eyes(0, 67, apart=24, size=5)
    pen.cheeks(0, 58, apart=36)
    pen.smile(0, 55, width=16)


def _mia(pen: Pen, colour: RGB) -> None:
    hair: RGB = (92, 48, 26)
    skin: RGB = (255, 214, 178)
    for side in (-1, 1):
        pen.ellipse(side * 37, 60, 12, 22, hair, turn=side * 16)
        pen.ellipse(side * 22, 97, 13, 13, hair)
    pen.ellipse(0, 71, 34, 30, hair)
    _person(pen, jacket=colour, skin=skin, trousers=(240, 240, 246), shoes=colour)
    _face(pen, skin=skin)
    pen.polygon(((-29, 70), (-25, 92), (0, 98), (25, 92), (29, 70), (14, 82), (-8, 84)), hair)


def _leo(pen: Pen, colour: RGB) -> None:
    skin: RGB = (150, 94, 58)
    cap: RGB = (255, 206, 40)
    _person(pen, jacket=colour, skin=skin, trousers=(92, 80, 76), shoes=(240, 240, 246))
    _face(pen, skin=skin)
    pen.polygon(((-30, 75), (-27, 93), (-14, 104), (14, 104), (27, 93), (30, 75)), cap)
    pen.box(-33, 73, 33, 83, (240, 160, 20))
    pen.ellipse(0, 107, 9, 9, WHITE)


def _biscuit(pen: Pen, colour: RGB) -> None:
    brown: RGB = (146, 78, 34)
    scarf: RGB = (30, 158, 84)
    pen.ellipse(36, 22, 7, 22, colour, turn=-48)
    pen.ellipse(0, 25, 30, 26, colour)
    pen.ellipse(0, 20, 15, 17, CREAM, edge=None)
    for side in (-1, 1):
        pen.ellipse(side * 17, 6, 13, 7, colour)
    pen.ellipse(0, 70, 32, 28, colour)
    for side in (-1, 1):
        pen.ellipse(side * 34, 68, 11, 25, brown, turn=side * 14)
    pen.ellipse(0, 61, 18, 14, CREAM)
    pen.ellipse(0, 52, 6, 8, (240, 96, 116))
    pen.ellipse(0, 67, 7, 5, OUTLINE, edge=None)
    pen.eyes(0, 79, apart=26, size=5.5)
    pen.smile(0, 60, width=14)
    pen.polygon(((10, 44), (30, 42), (38, 6), (16, 8)), scarf)
    pen.polygon(((-34, 46), (-28, 32), (0, 27), (28, 32), (34, 46), (0, 40)), scarf)


SPRITES: dict[str, Callable[[Pen, RGB], None]] = {
    "dog": _dog,
    "cat": _cat,
    "duck": _duck,
    "rabbit": _rabbit,
    "car": _car,
    "bus": _bus,
    "boat": _boat,
    "cake": _cake,
    "ice cream": _ice_cream,
    "ball": _ball,
    "robot": _robot,
    "teddy bear": _teddy_bear,
    "flower": _flower,
    "cactus": _cactus,
    "house": _house,
    "lighthouse": _lighthouse,
    "Mia": _mia,
    "Leo": _leo,
    "Biscuit": _biscuit,
    "Luna": _luna,
}

WIDTHS = {"dog": 1.14, "duck": 1.24, "car": 1.2, "bus": 1.2, "boat": 1.16, "cake": 1.14} | {
    "house": 1.16
}  # of those that are wider than high, in heights
