"""The pixels of a photo, wherever they are: drawn on demand, in a file, or in a packed shard."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from showtell.data.images import load_photo
from showtell.data.unpack import is_packed, packed_photo
from showtell.dialogue import Photo
from showtell.errors import PhotoError


def has_pixels(photo: Photo) -> bool:
    """Whether there is something to look at: a file that is there, or a scene to draw."""
    if photo.path is None:
        return "scene" in photo.labels
    return is_packed(photo.path) or os.path.isfile(photo.path)


def photo_image(photo: Photo) -> Image.Image:
    """The photo as RGB. Raises PhotoError if it is missing or cannot be read."""
    if photo.path is None:
        if "scene" not in photo.labels:
            raise PhotoError(
                f'the photo "{photo.id[:80]}" is missing; wanted its pixels. Get the photo, or '
                "leave such dialogues out with --missing-photos=skip."
            )
        from photoworld.drawing import photo_pixels

        return photo_pixels(photo)
    return packed_photo(Path(photo.path)) if is_packed(photo.path) else load_photo(photo.path)
