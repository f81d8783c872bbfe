"""Words of photos and of those who ask for one: captions, names of files and folders, days.

A name says something as far as it has words: "Italy 2019/luna_03.jpg" does, "IMG_1234.jpg" not.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from showtell.data.pixels import opened_image
from showtell.data.sources import open_data

if TYPE_CHECKING:
    from showtell.album.index import AlbumPhoto

CAPTIONS = ("captions.jsonl", "metadata.jsonl")
MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
    *("october", "november", "december"),
)
_WORD = re.compile(r"[^\W_]+")
# what telephones and cameras write, and what all photos are
_OF_CAMERAS = frozenset(
    _WORD.findall("img image images dcim dsc dscn dscf pxl mvimg photo photos picture pictures pic")
)
_OF_ASKING = frozenset(
    _WORD.findall(
        """
        a an any the my our some one of me us you your i we can could would will may please show
        send give share find see look get want like do did have has is are there that which with
        photo photos picture pictures pic pics image images snapshot shot to for from in on at and
        it this these those his her its their maybe still again just also got need where what
        who remember
        """
    )
)
_ARTICLES = frozenset(("a", "an", "the"))
_NAME = re.compile(r"([^\W\d_]{2,})\d{0,3}")


def asked(text: str) -> str:
    """What is asked for, less the words of asking before it: "can you show me a photo of Luna?" is
    "Luna?". A text of nothing else stays as it is."""
    for word in _WORD.finditer(text):
        if word[0].casefold() not in _OF_ASKING:
            return text[word.start() :].strip()
    return text.strip()


def words_of(text: str) -> frozenset[str]:
    """The words that tell something, in one case and without a plural's s."""
    found = (word.casefold() for word in _WORD.findall(text))
    return frozenset(_singular(word) for word in found if word not in _OF_ASKING)


def plain_words(text: str) -> list[str]:
    """Its words in order and in one case, less articles."""
    return [word for word in _WORD.findall(text.casefold()) if word not in _ARTICLES]


def told_of(photo: AlbumPhoto) -> str:
    """A photo's caption and the words in its names; "" where there are none."""
    return " ".join([*photo.caption.split(), *_names(photo.source)])


def words_known(photo: AlbumPhoto) -> frozenset[str]:
    """All words by which a photo may be asked for: caption, names, numbers in them, the place, the
    day."""
    names = " ".join(_names(photo.source))
    told = f"{photo.caption} {_stem(photo.source)} {names} {photo.place}"
    return words_of(told) | _day(photo.taken)


def taken_at(exif: Image.Exif) -> str:
    """When a photo was taken by its EXIF, as 2024-07-31T10:20:30, or the day alone; "" where it
    says no day that there is."""
    with contextlib.suppress(Exception):  # EXIF is bytes of strangers
        told = str(exif.get_ifd(0x8769).get(0x9003) or exif.get(0x0132))
        day = date(*map(int, told[:10].split(":"))).isoformat()
        with contextlib.suppress(ValueError):
            return f"{day}T{time.fromisoformat(told[11:19]).isoformat()}"
        return day
    return ""


def degrees_in(exif: Image.Exif) -> tuple[float, float] | None:
    """Latitude and longitude of where a photo was taken by its EXIF."""
    with contextlib.suppress(Exception):
        gps = exif.get_ifd(0x8825)
        found = []
        for at, negative in ((1, "S"), (3, "W")):
            degrees, minutes, seconds = map(float, gps[at + 1])
            value = degrees + minutes / 60 + seconds / 3600
            found.append(-value if str(gps[at]).strip("\0 ").upper() == negative else value)
        return found[0], found[1]
    return None


def exif_of(data: bytes, *, name: str) -> Image.Exif:
    """The EXIF of a photo's file; none where it cannot be read."""
    with contextlib.suppress(Exception), opened_image(data, name=name) as image:
        return image.getexif()
    return Image.Exif()


def captions_in(folder: Path, *, skip_bad: bool = False) -> Mapping[str, str]:
    """The first caption ("" without) of each photo by its place in the folder, of its
    captions.jsonl or metadata.jsonl; none where it has no such file. Raises DataError for a broken
    one."""
    if not any((folder / name).is_file() for name in CAPTIONS):
        return {}
    photos = (p for d in open_data(f"folder:{folder}", skip_bad=skip_bad) for p in d.photos)
    return {photo.id: photo.caption for photo in photos}


def _names(source: str) -> list[str]:
    found = _WORD.findall(_stem(source))
    words = (match[1] for word in found if (match := _NAME.fullmatch(word)))
    return [word for word in words if word.casefold() not in _OF_CAMERAS]


def _stem(source: str) -> str:
    """A name less its ending."""
    return source.rpartition(".")[0] or source


def _day(taken: str) -> frozenset[str]:
    try:
        day = date.fromisoformat(taken[:10])
    except ValueError:
        return frozenset()
    return frozenset({str(day.year), MONTHS[day.month - 1], str(day.day), day.isoformat()})


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
