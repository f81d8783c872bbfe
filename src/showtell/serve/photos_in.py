"""Photos as clients send them, in any of the shapes that are in use, as pixels.

    {"type": "image_url", "image_url": {"url": U}}       chat completions, and entries of "images"
    {"type": "image_url" | "input_image", "image_url": U}          responses, and careless clients
    {"type": "image", "data": B}, {"type": "image", "base64": B}   MCP, sglang-omni
    {"type": "image", "source": {"data": B}}, {"type": "image", "image": U}
    {"type": "image_generation_call", "result": B}, {"b64_json": B}, {"url": U}     an answer's own
    U or B alone                                                   an entry of "images"

U is a data URI or an address, B base64. What the photo is its bytes say, and no media type.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from showtell.agent.provenance import mark_of
from showtell.data.photos import MAX_BYTES, photo_from_bytes
from showtell.dialogue import Origin
from showtell.errors import PhotoError, UsageError
from showtell.serve.outside import Outside

if TYPE_CHECKING:
    from PIL.Image import Image

PHOTO_PARTS = ("image_url", "input_image", "image", "output_image", "image_generation_call")
_KEYS = ("image_url", "url", "data", "base64", "b64_json", "result", "source", "image")
_NOWHERE = Outside()
# a photo of 50 megapixels takes half a gigabyte while it is decoded
_decoding = threading.Semaphore(2)


def is_photo_part(part: object) -> bool:
    """Whether a part of a message's content is a photo, of whatever shape."""
    return isinstance(part, Mapping) and part.get("type") in PHOTO_PARTS


def photo_from_part(part: object, *, outside: Outside = _NOWHERE, name: str = "the photo") -> Image:
    """The photo of a part, upright RGB without metadata; errors call it ``name``.

    Raises UsageError for what is no part with a photo, PhotoError for what is no photo, FetchError
    for an address that is not fetched.
    """
    return _photo(_of_part(part, outside, name), name)


def photo_sent_back(
    part: object, *, outside: Outside = _NOWHERE, name: str = "the photo"
) -> tuple[Image, Origin]:
    """The same for a photo that an agent has shared, and whence it was: painted if its file says
    so. Nothing else is said to be."""
    data = _of_part(part, outside, name)
    image = _photo(data, name)
    return image, "painted" if mark_of(data).generated else "album"


def _of_part(part: object, outside: Outside, name: str) -> bytes:
    told = _told(part)
    if told is None:
        wanted = 'wanted {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}'
        kept = isinstance(part, Mapping) and "file_id" in part
        met = "names a file by its id, and no files are kept here" if kept else "holds no photo"
        raise UsageError(f"{name} {met}; {wanted}; send it so")
    told = told.strip()
    if told[:5].lower() == "data:":
        return _of_data_uri(told, name)
    if "://" in told[:40]:
        return outside.get(told)
    return _of_base64(told, name)


def _told(part: object, depth: int = 0) -> str | None:
    """The address or base64 that stands in a part."""
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and depth < 3:
        for key in _KEYS:
            if part.get(key) is not None:
                return _told(part[key], depth + 1)
    return None


def _of_data_uri(told: str, name: str) -> bytes:
    head, comma, body = told[5:].partition(",")
    if not comma or len(head) > 200:
        raise PhotoError(f"{name} is a data URI without data; wanted data:image/png;base64,...")
    if head.lower().replace(" ", "").endswith(";base64"):
        return _of_base64(body, name)
    return unquote_to_bytes(body)


def _of_base64(told: str, name: str) -> bytes:
    if len(told) > MAX_BYTES * 3 // 2:
        raise PhotoError(
            f"{name} has more than {MAX_BYTES // 1_000_000} MB, wanted less. Reduce the photo."
        )
    # line feeds and the alphabet of addresses are in use, and so is base64 without its end
    told = "".join(told.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(told + "=" * (-len(told) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise PhotoError(
            f"{name} is not base64 (nor a data URI or an address); wanted the bytes of a photo "
            "in base64. Send it as data:image/png;base64,..."
        ) from None


def _photo(data: bytes, name: str) -> Image:
    with _decoding:
        return photo_from_bytes(data, name=name)
