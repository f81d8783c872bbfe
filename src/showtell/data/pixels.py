"""The pixels of a photo file, and nothing else of it.

A photo file is hostile until shown otherwise: its first bytes say what it is, its header is checked
before a pixel is decoded, and whatever is wrong with it is one PhotoError. What comes out is new
upright RGB: no comment, EXIF, place, thumbnail, XMP or profile, and nothing that stood before,
between or after the pixels. A colour profile is applied, so that the colours stay what they were
where all are read as sRGB.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from showtell.errors import PhotoError

MAX_BYTES = 50_000_000
MAX_SIDE = 16_000
MAX_PIXELS = 50_000_000
MAX_PROFILE = 1_000_000
# of a JPEG over all of its pixels; one that loads step by step has about ten. Each takes time by
# the pixels' number, and may be fourteen bytes
MAX_PASSES = 100
_PASS = b"\xff\xda"  # among a JPEG's pixels 0xFF stands before 0 alone
# A short list on purpose: Pillow also opens formats that start other programs or hold no photo.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
FORMAT_NAMES = "JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP or TIFF"
ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".heif"),
    *(".gif", ".bmp", ".tif", ".tiff"),
)
NEEDS_HEIC = "HEIC, which needs pillow-heif: pip install 'showtell[heic]'"
_WHITE = (255, 255, 255)
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"heif", b"hevc", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")
# what is sent in a photo's place: how it begins
_OTHERS = {
    b"%PDF": "PDF",
    b"PK\x03\x04": "an archive (ZIP)",
    b"\x1a\x45\xdf\xa3": "a video",
}
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|script|img)[\s>]", re.IGNORECASE)


def kind_of(head: bytes) -> str:
    """What a file is by its first bytes (512 or more): "photo" (of a format that is read), or what
    else, or "" where they are of nothing that is known."""
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    if head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "photo"
    brands = {brand, *(head[at : at + 4] for at in range(16, 40, 4))} if brand else set()
    if brands.intersection(_AVIF):
        return "photo"
    if brand in _HEIC:
        return "photo" if _reads_heic() else NEEDS_HEIC
    if (text := head.lstrip(b"\xef\xbb\xbf \t\r\n")).startswith(b"<"):
        return "SVG" if b"<svg" in text.lower() else "HTML" if _HTML.search(text) else ""
    others = (name for start, name in _OTHERS.items() if head.startswith(start))
    return next(others, "a video" if brand else "")


def is_lossless(head: bytes) -> bool:
    """Whether a photo's file has all that was once in its pixels, by its first bytes: then a copy
    of it should, too."""
    if head[:4] == b"RIFF":
        return head[12:16] == b"VP8L"
    return head.startswith(_MAGIC) and not head.startswith(b"\xff\xd8")


def kind_of_file(path: str | Path) -> str:
    """``kind_of`` a file on the disk. Raises OSError."""
    with open(path, "rb") as file:
        return kind_of(file.read(1024))


def _reads_heic() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    return _registered(register_heif_opener)


@cache
def _registered(register: Any) -> bool:
    register(thumbnails=False)
    return True


@contextlib.contextmanager
def opened_image(data: bytes, *, name: str, first_frame: bool = False) -> Iterator[Image.Image]:
    """A photo whose header is looked at and whose pixels are not yet decoded, for ``rebuilt``.

    Raises PhotoError, inside of the block as well; for an animation, unless its ``first_frame`` is
    wanted.
    """
    path = Path(name)
    _check_size(len(data), path)
    if (kind := kind_of(data[:1024])) not in ("photo", ""):
        kind = kind.replace("which needs", "which is read with")
        raise PhotoError(
            f"{path} is {kind}; wanted a photo ({FORMAT_NAMES}). "
            + ("Or save it as JPEG." if kind.startswith("HEIC") else "Get the photo itself.")
        )
    if data.startswith(b"\xff\xd8") and (passes := data.count(_PASS)) > MAX_PASSES:
        raise PhotoError(
            f"{path} is a JPEG of {passes:,} passes over its pixels, wanted at most {MAX_PASSES}. "
            "Open it in a viewer and save it anew."
        )
    formats = (*FORMATS, "HEIF") if kind == "photo" and _reads_heic() else FORMATS
    with _damage(path), Image.open(io.BytesIO(_without_texts(data)), formats=formats) as image:
        _check_header(image, path, first_frame=first_frame)
        yield image


def photo_from_bytes(data: bytes, *, name: str) -> Image.Image:
    """A photo in memory as 8-bit RGB, upright, on white where it was transparent; errors call it
    ``name``. Raises what ``load_photo`` raises."""
    with opened_image(data, name=name) as image:
        return rebuilt(image, name=name)


def photo_from_image(image: Image.Image, *, name: str) -> Image.Image:
    """The same for an image that Pillow has opened or made."""
    if not all(image.size):
        raise PhotoError(f"{name} has no pixels, wanted an image of at least 1 x 1 px.")
    with _damage(Path(name)):
        _check_header(image, Path(name), first_frame=False)
        return rebuilt(image, name=name)


def _check_size(num_bytes: int, name: str | Path) -> None:
    if not 0 < num_bytes <= MAX_BYTES:
        met = f"more than {MAX_BYTES / 1e6:.0f} MB" if num_bytes else "0 bytes"
        raise PhotoError(
            f"{name} has {met}, wanted a photo of at most {MAX_BYTES // 1_000_000} MB. Get the "
            "file again, or reduce the photo."
        )


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


def _check_header(image: Image.Image, path: Path, *, first_frame: bool) -> None:
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
    if num_frames(image) > 1 and not first_frame:
        raise PhotoError(
            f"{path} is an animation or a document of several pages, wanted one photo. "
            "Save the frame that you mean as PNG."
        )


def num_frames(image: Image.Image) -> int:
    """How many frames or pages an opened file has. MPO and HEIC are photos with a preview or a
    depth map behind them, as telephones save them: the first is the photo."""
    several = getattr(image, "is_animated", False) and image.format not in ("MPO", "HEIF")
    return getattr(image, "n_frames", 1) if several else 1


def rebuilt(image: Image.Image, *, name: str, side: int | None = None) -> Image.Image:
    """A new 8-bit RGB image of an opened photo's pixels: new, so that no metadata comes along in
    ``image.info``; with ``side``, at most so many pixels on its longer side."""
    path = Path(name)
    clear, lower = _clear_sample(image)
    image = _upright(image)
    if side is not None and clear is None and image.mode in ("RGB", "L", "CMYK"):
        image = at_most(image, side)
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
    clean.paste(_in_srgb(image).convert("RGB"), mask=mask)
    return clean if side is None else at_most(clean, side)


def at_most(image: Image.Image, side: int) -> Image.Image:
    """The photo, reduced in proportion where its longer side has more than ``side`` pixels."""
    return scaled(image, side) if max(image.size) > side else image


def scaled(image: Image.Image, side: int) -> Image.Image:
    """The photo with ``side`` pixels on its longer side, in its own proportions (LANCZOS)."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _in_srgb(image: Image.Image) -> Image.Image:
    """The image with its profile applied; one that cannot be read, or is of other channels, says
    nothing."""
    profile = image.info.get("icc_profile")
    if not profile or len(profile) > MAX_PROFILE or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    from PIL import ImageCms

    with contextlib.suppress(Exception):
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if given.profile.xcolor_space.strip() != image.mode.removesuffix("A"):
            return image
        if (given.profile.profile_description or "").startswith("sRGB"):
            return image
        mode = "RGB" if image.mode == "CMYK" else image.mode
        srgb = ImageCms.createProfile("sRGB")
        turned = ImageCms.profileToProfile(image, given, srgb, outputMode=mode)
        return turned or image
    return image


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
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")


def _without_texts(data: bytes) -> bytes:
    """A PNG less its texts, which Pillow limits and the format does not, and less a profile that is
    too large for one."""
    if not data.startswith(_PNG):
        return data
    kept, at = [_PNG], len(_PNG)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        chunk, body = data[at + 4 : at + 8], data[at + 8 : end - 4]
        large = chunk == b"iCCP" and not _small(body)
        if end > len(data) or not (large or chunk in _TEXTS):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _small(body: bytes) -> bool:
    """Whether a PNG's compressed profile, after its name, is one of at most MAX_PROFILE bytes."""
    profile = zlib.decompressobj()
    with contextlib.suppress(zlib.error):
        return bool(profile.decompress(body.partition(b"\0")[2][1:], MAX_PROFILE)) and profile.eof
    return False


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
