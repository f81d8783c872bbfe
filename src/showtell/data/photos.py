"""Photos: the one way to their pixels, and where they lie on disk.

A photo file is hostile until shown otherwise: its header is checked before a pixel is decoded, and
whatever is wrong with it is one PhotoError. What comes out is upright RGB without metadata.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageOps

from showtell.data.jsonl import SKIP, opened
from showtell.data.storage import is_plain_path, write_atomically
from showtell.data.world import draw_photo
from showtell.dialogue import Photo
from showtell.errors import DataError, PhotoError

MAX_BYTES = 50_000_000
MAX_SIDE = 16_000
MAX_PIXELS = 50_000_000
# A short list on purpose: Pillow also opens formats that start other programs or hold no photo.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
FORMAT_NAMES = "JPEG, PNG, WebP, GIF, BMP or TIFF"
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
# a 64-pixel photo is enlarged smoothly: browsers would show its pixels or a blur
SHOWN_SIDE = 256
_WHITE = (255, 255, 255)


def load_photo(path: str | Path) -> Image.Image:
    """The photo as 8-bit RGB, upright, on white where it was transparent, without metadata.

    Raises PhotoError for a file that is missing, empty, larger than 50 MB, no photo, truncated,
    animated, over 16,000 px on a side or over 50 megapixels. Colour profiles are dropped: pixels
    are read as sRGB. A path inside a shard ("DIR/shard-000000.tar/000000012.0.jpg") is read, too.
    """
    return photo_from_bytes(photo_bytes(str(path)), name=str(path))


def kind_of_file(path: str | Path) -> str:
    """What the file is by its first bytes: "photo" (one of FORMATS), "HEIC", or ""."""
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "photo"
    return "HEIC" if head[4:8] == b"ftyp" and head[8:12] in _HEIC else ""


_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_HEIC = (b"heic", b"heix", b"heif", b"hevc", b"mif1", b"msf1", b"avif")


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


def _check_size(num_bytes: int, name: str | Path) -> None:
    if not 0 < num_bytes <= MAX_BYTES:
        met = f"more than {MAX_BYTES / 1e6:.0f} MB" if num_bytes else "0 bytes"
        raise PhotoError(
            f"{name} has {met}, wanted a photo of at most {MAX_BYTES // 1_000_000} MB. Get the "
            "file again, or reduce the photo."
        )


def photo_from_bytes(data: bytes, *, name: str) -> Image.Image:
    """The same for a photo in memory, which errors call ``name``."""
    path = Path(name)
    _check_size(len(data), path)
    with _damage(path), Image.open(io.BytesIO(_without_texts(data)), formats=FORMATS) as image:
        return _clean(image, path)


def photo_from_image(image: Image.Image, *, name: str) -> Image.Image:
    """The same for an image that Pillow has opened or made."""
    if not all(image.size):
        raise PhotoError(f"{name} has no pixels, wanted an image of at least 1 x 1 px.")
    with _damage(Path(name)):
        return _clean(image, Path(name))


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Whatever fails inside is a PhotoError."""
    try:
        with warnings.catch_warnings():
            # what a decoder warns of (a truncated tag, an odd palette) is not for the terminal;
            # where pixels are lost it raises as well
            warnings.simplefilter("ignore")
            # between one and two times its own pixel limit Pillow only warns
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except PhotoError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoError(
            f"{path}: more pixels than a photo has ({_reason(error)}); wanted at most "
            f"{MAX_PIXELS // 1_000_000} megapixels. Reduce the photo and try again."
        ) from error
    except Image.UnidentifiedImageError as error:
        raise PhotoError(
            f"{path} is not a photo that can be read; wanted {FORMAT_NAMES}. "
            "Convert it (HEIC and RAW included) and try again."
        ) from error
    except MemoryError as error:
        raise PhotoError(
            f"{path}: not enough memory to decode it. Reduce the photo and try again."
        ) from error
    except Exception as error:
        # Decoders of hostile bytes raise nearly anything (SyntaxError, struct.error, IndexError):
        # all of it means the same to the user, and the cause stays attached.
        raise PhotoError(
            f"{path}: the photo is damaged or cut short ({_reason(error)}); wanted a whole "
            f"{FORMAT_NAMES} file. Get the file again, or open it in a viewer and save it anew."
        ) from error


def _check_header(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width > MAX_SIDE or height > MAX_SIDE:
        raise PhotoError(
            f"{path} is {width:,} x {height:,} px, wanted at most {MAX_SIDE:,} px on a side. "
            "Reduce or cut the photo and try again."
        )
    if width * height > MAX_PIXELS:
        raise PhotoError(
            f"{path} has {width * height / 1e6:.0f} megapixels, wanted at most "
            f"{MAX_PIXELS // 1_000_000}. Reduce the photo and try again."
        )
    # MPO is a photo with a preview or a depth map behind it, as telephones save it: the first
    # frame is the photo
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise PhotoError(
            f"{path} is an animation or a document of several pages, wanted one photo. "
            "Save the frame that you mean as PNG."
        )


def _clean(image: Image.Image, path: Path) -> Image.Image:
    """A new 8-bit RGB image: new, so that no metadata comes along in ``image.info``."""
    _check_header(image, path)
    clear, lower = _clear_sample(image)
    image = _upright(image)
    mask = None
    if clear is not None:
        import numpy as np

        # at its full depth: of deep colours Pillow keeps eight bits, the rest is in ``lower``
        parts = [image.convert("L") if image.mode == "1" else image]
        parts += [] if lower is None else [_upright(lower)]
        samples_HWC = np.concatenate([np.atleast_3d(np.asarray(part)) for part in parts], -1)
        mask = Image.fromarray((samples_HWC != np.array(clear)).any(-1))
        image.info.pop("transparency", None)
    if image.mode.startswith("I"):
        image = _eight_bits(image, path)
    elif image.mode == "F":
        raise PhotoError(
            f"{path} has floating-point pixels, wanted 8 or 16 bits. Save it as an 8-bit PNG."
        )
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        mask = image.getchannel("A")
    clean = Image.new("RGB", image.size, _WHITE)
    clean.paste(image.convert("RGB"), mask=mask)
    return clean


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; a block that cannot be read says nothing: the pixels are whole."""
    image.load()
    with contextlib.suppress(Exception):
        image = ImageOps.exif_transpose(image)
    return image


def _clear_sample(image: Image.Image) -> tuple[tuple[int, ...] | None, Image.Image | None]:
    """(the grey or colour of a PNG that is transparent (tRNS), as its pixels will have it, or None;
    of deep colours the lower eight bits, which follow in the sample, too).

    Call it before the pixels are loaded. Pillow gives the sample as the file has it, but spreads
    pixels of fewer bits over 0 to 255, and keeps the upper eight bits of deep colours.
    """
    sample, png = image.info.get("transparency"), image.format == "PNG" and image.mode != "P"
    tiles = getattr(image, "tile", ()) if png else ()  # none where they are loaded
    if not tiles or not isinstance(sample, int | tuple):
        return None, None
    layout = tiles[0].args
    depth = _DEPTHS.get(layout if isinstance(layout, str) else layout[0], 8)
    most = (1 << depth) - 1
    values = sample if isinstance(sample, tuple) else (sample,)
    if image.mode == "RGB" and depth == 16:
        return tuple(v >> byte & 255 for byte in (8, 0) for v in values), _lower_bytes(image)
    spread = 255 // most if depth < 8 else 1
    return tuple((value & most) * spread for value in values), None


def _lower_bytes(image: Image.Image) -> Image.Image:
    """A PNG of 16 bits a colour again, each of its numbers taken for one with the low byte last:
    the eight bits that Pillow keeps are then the others."""
    file = image.fp  # type: ignore[attr-defined]
    at = file.tell()
    file.seek(0)
    other = Image.open(io.BytesIO(file.read()), formats=FORMATS)
    file.seek(at)
    other.tile = [tile._replace(args="RGB;16L") for tile in other.tile]
    return other


_DEPTHS = {"1": 1, "L;2": 2, "L;4": 4, "I;16B": 16, "RGB;16B": 16}
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


def _without_texts(data: bytes) -> bytes:
    """A PNG less its texts and profile, which Pillow limits and the format does not."""
    if not data.startswith(_PNG):
        return data
    kept, at = [_PNG], len(_PNG)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data) or data[at + 4 : at + 8] not in _TEXTS:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    wide = image.convert("I")
    low, high = wide.getextrema()
    if low < 0 or high > 65_535:  # type: ignore[operator]
        raise PhotoError(
            f"{path} has 32-bit pixels ({low} to {high}), wanted 8 or 16 bits. "
            "Save it as an 8-bit PNG."
        )
    # Pillow's own conversion clips at 255 instead of scaling
    return wide.point(lambda value: value * (1 / 257) + 0.5).convert("L")


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120] or type(error).__name__


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


def scaled(image: Image.Image, side: int) -> Image.Image:
    """The photo with ``side`` pixels on its longer side, in its own proportions (LANCZOS)."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


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
    """Write an RGB PNG without metadata, atomically; StorageError leaves the old file whole."""
    clean = Image.new("RGB", image.size)  # Pillow writes a profile found in image.info
    clean.paste(image)
    buffer = io.BytesIO()
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
