"""Photos: where they lie on disk, their sizes and shapes, and the folder of a data set.

Their pixels come by the one way of ``pixels.py``: upright RGB without metadata.
"""

from __future__ import annotations

import base64
import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from showtell.data.jsonl import SKIP, opened
from showtell.data.pixels import MAX_BYTES, photo_from_bytes, scaled
from showtell.data.storage import is_plain_path, write_atomically
from showtell.data.world import draw_photo
from showtell.dialogue import Photo
from showtell.errors import DataError, PhotoError

# a 64-pixel photo is enlarged smoothly: browsers would show its pixels or a blur
SHOWN_SIDE = 256


def load_photo(path: str | Path) -> Image.Image:
    """The photo as 8-bit RGB, upright, on white where it was transparent, without metadata.

    Raises PhotoError for a file that is missing, empty, larger than 50 MB, no photo, truncated,
    animated, over 16,000 px on a side or over 50 megapixels. A colour profile is applied: it is
    sRGB. A path inside a shard ("DIR/shard-000000.tar/000000012.0.jpg") is read, too.
    """
    return photo_from_bytes(photo_bytes(str(path)), name=str(path))


def photo_bytes(path: str) -> bytes:
    """The bytes of a file that may be a photo. Raises PhotoError for one that cannot be."""
    from showtell.data.shards import is_packed, packed_bytes

    try:
        if is_packed(path):
            return packed_bytes(Path(path))
        with opened(Path(path), wanted="Wanted a photo. Check the name.") as file:
            return file.read(MAX_BYTES + 1)
    except ValueError as error:  # a NUL in the name
        raise PhotoError(f"{path:.200} cannot be read ({error}). Check the name.") from error
    except DataError as error:
        raise PhotoError(str(error)) from error


# --------------------------------------------------------------------------- to and from pixels


def square(image: Image.Image, size: int) -> Image.Image:
    """The middle square of the photo, ``size`` pixels a side (LANCZOS)."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box)


EXTREME = 16  # how many times as long as broad a photo is before it is cut


def middle(image: Image.Image) -> Image.Image:
    """The photo; of one of extreme shape the middle, for those who look at the middle square alone:
    enlarged as a whole it would take hundreds of megabytes."""
    most = EXTREME * min(image.size)
    if max(image.size) <= most:
        return image
    left, top = (max(0, side - most) // 2 for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))


def data_uri(image: Image.Image) -> str:
    """The pixels as an address inside a page: a JPEG of at most 512 pixels a side; where they are
    few, a PNG of 256."""
    image, kind = image.convert("RGB"), "jpeg"
    if max(image.size) <= SHOWN_SIDE:
        kind, image = "png", scaled(image, SHOWN_SIDE)
    image.thumbnail((512, 512))
    buffer = io.BytesIO()
    image.save(buffer, format=kind.upper(), quality=92, optimize=kind == "png")
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def save_photo(image: Image.Image, path: str | Path) -> Path:
    """Write an RGB PNG, or a JPEG by the name, without metadata, atomically; StorageError leaves
    the old file whole."""
    clean = Image.new("RGB", image.size)  # Pillow writes a profile found in image.info
    clean.paste(image)
    buffer = io.BytesIO()
    if Path(path).suffix == ".jpg":
        clean.save(buffer, format="JPEG", quality=92)
    else:
        clean.save(buffer, format="PNG", optimize=False)
    return write_atomically(path, buffer.getvalue())


# ------------------------------------------------------------------------ the photo of a dialogue


def has_pixels(photo: Photo) -> bool:
    """Whether there is something to look at: a file that is there, or a scene to draw."""
    if photo.path is None:
        return "scene" in photo.labels
    from showtell.data.shards import is_packed

    return is_packed(photo.path) or os.path.isfile(photo.path)


def photo_image(photo: Photo) -> Image.Image:
    """The photo as RGB. Raises PhotoError if it is missing or cannot be read."""
    if photo.path is None:
        if "scene" not in photo.labels:
            raise PhotoError(
                f'the photo "{photo.id[:80]}" is missing; wanted its pixels. Get the photo, or '
                "leave such dialogues out with --missing-photos=skip."
            )
        return draw_photo(photo)
    return load_photo(photo.path)


# ------------------------------------------------------------------------------ photos in a folder


class PhotoFolder:
    """A folder of photos. The folder itself may be a link; nothing below it may.

    ``places`` are folders below it (or "") that are looked through in order, as far as they are
    there: releases of one data set do not agree on them.
    """

    def __init__(self, root: Path, places: Sequence[str] = ("",)) -> None:
        self.root, self._real = root, os.path.realpath(root)
        self.places = [place for place in places if (root / place).is_dir()]
        self._plain: set[str] = set()  # folders that are known to be no links below root

    def find(self, name: str, where: str, *, endings: Sequence[str] = ("",)) -> str | None:
        """The path of the photo, or None if it is not there; the first of the endings that is.

        Raises PhotoError for a name that climbs out of the folder, for a link on the way, and for
        what is not a file.
        """
        if not is_plain_path(name):
            raise PhotoError(
                f'{where}: the photo "{name[:80]!s}" lies outside of {self.root} or is no plain '
                f"path; wanted a name below that folder. {SKIP}"
            )
        for place in self.places:
            for ending in endings:
                found = self._file(f"{place}/{name}{ending}" if place else name + ending, where)
                if found is not None:
                    return found
        return None

    def _file(self, name: str, where: str) -> str | None:
        path, folder = os.path.join(self.root, name), os.path.dirname(name)
        try:
            if folder not in self._plain:
                real = os.path.realpath(os.path.dirname(path))
                if real != os.path.join(self._real, folder).rstrip("/"):
                    raise self._link(folder, where)
                self._plain.add(folder)
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:  # no permission; a name of 300 letters; a surrogate
            reason = getattr(error, "strerror", None) or error
            raise PhotoError(
                f'{where}: the photo "{name[:80]!r}" cannot be looked up ({reason}). {SKIP}'
            ) from error
        if stat.S_ISLNK(mode):
            raise self._link(name, where)
        if not stat.S_ISREG(mode):
            raise PhotoError(f'{where}: "{name[:80]}" is no file, wanted a photo. {SKIP}')
        return path

    def _link(self, name: str, where: str) -> PhotoError:
        return PhotoError(
            f'{where}: "{name[:80]}" is a symbolic link; wanted photos that lie in {self.root} '
            f"itself. Copy it there. {SKIP}"
        )
