"""The twenty subjects in their colours; their shapes are in ``drawings.json``.

Silhouettes differ before details do: a photo is 64 pixels wide, and a small painter must learn it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from photoworld import load_table
from photoworld.pen import RGB, WHITE, Shape, mix, read_shapes

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
CREAM: RGB = (255, 240, 214)


@cache
def sprite_of(subject: str, colour: str) -> list[Shape]:
    """The shapes of a subject in a colour of ``COLOUR_RGB``."""
    sprite, rgb = load_table("drawings")["sprites"][subject], COLOUR_RGB[colour]
    made = {"colour": rgb, "dark": mix(rgb, (50, 30, 50), 0.25), "pale": mix(rgb, CREAM, 0.75)}
    made["light"] = mix(rgb, WHITE, 0.5)
    made["lightest"] = mix(made["light"], WHITE, 0.5)

    def paint(name: Any) -> RGB:
        """A colour by itself, of the sprite's own names, or one that all sprites know."""
        value = sprite.get("colours", {}).get(name, name) if isinstance(name, str) else name
        if isinstance(value, dict):  # it follows from the subject's colour
            value = value.get(colour, value["else"])
        return (
            made.get(value) or tuple(load_table("drawings")["paints"][value])
            if isinstance(value, str)
            else tuple(value)
        )

    return read_shapes(_rows(subject), paint)


def _rows(subject: str) -> Iterator[Sequence[Any]]:
    """The shapes of a sprite; where it is like another, those of the other."""
    for row in load_table("drawings")["sprites"][subject]["shapes"]:
        if row[0] == "like":
            yield from _rows(row[1])
        else:
            yield row


def width_of(subject: str) -> float:
    """Of those that are wider than high, their width in heights; of the others 1."""
    return float(load_table("drawings")["sprites"][subject].get("wide", 1.0))
