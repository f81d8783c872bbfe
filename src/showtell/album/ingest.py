"""Photos from a folder into an album: checked, upright, stripped of metadata, embedded.

What the album keeps is a copy: an RGB PNG without EXIF, place, thumbnail or profile, at most
``max_side`` pixels a side, under a name made of its own pixels. The same photo in two places is
one photo; an original can be moved or deleted without harm.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from showtell.album.index import DESCRIPTION, Album, AlbumPhoto, empty_album
from showtell.batch import to_pixels
from showtell.data.photos import load_photo, save_photo, square
from showtell.errors import DataError, PhotoError
from showtell.models.dialogue_model import PhotoDialogueModel

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
PHOTOS = "photos"
MAX_SIDE = 1024
BATCH = 16
SAVE_SECONDS = 30.0
SIDE = 64  # of photos for a model that does not say

Embed = Callable[[Sequence[Image.Image]], Tensor]


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """The album, how many photos are new in it, and what was left out."""

    album: Album
    added: int
    duplicates: int
    refused: tuple[PhotoError, ...]


def ingest_folder(
    folder: str | Path,
    *,
    into: str | Path,
    album: Album,
    embed: Embed,
    skip_bad: bool = False,
    max_side: int = MAX_SIDE,
    caption_of: Callable[[Path], str] = lambda path: "",
    told: Callable[[int, int], None] = lambda done, total: None,
    save_seconds: float = SAVE_SECONDS,
) -> Ingested:
    """Add the photos of a folder and its subfolders, in the order of their names, to ``album``.

    ``into`` is the album's folder: the copies go to ``into/photos``, and the index is written every
    ``save_seconds`` and at the end. A run that is stopped leaves the last index and maybe copies
    that the next run finds again; that one embeds nothing twice. ``embed``: images -> (n, E). A
    photo that cannot be read raises its PhotoError (with ``skip_bad`` it is left out, counted and
    reported); a folder without a single photo is a DataError. What is a link out of the folder is
    not followed. ``told``: how many of how many files were read.
    """
    folder, into = Path(folder), Path(into)
    paths = photo_paths(folder)
    if not paths:
        raise DataError(
            f'"{folder}" holds no photo ({", ".join(ENDINGS)}), neither do its subfolders; '
            "an album needs one at least. Name another folder."
        )
    known = {photo.id for photo in album.photos}
    refused: list[PhotoError] = []
    added = duplicates = 0
    waiting: list[tuple[AlbumPhoto, Image.Image]] = []
    saved = time.monotonic()

    def flush() -> None:
        nonlocal album, saved
        if waiting:
            embeddings_NE = embed([image for _, image in waiting])
            album = album.with_photos([photo for photo, _ in waiting], embeddings_NE)
            for photo, image in waiting:
                assert photo.path is not None
                save_photo(image, into / photo.path)
            waiting.clear()
            if time.monotonic() - saved > save_seconds:
                album.save(into)
                saved = time.monotonic()

    for number, path in enumerate(paths):
        told(number, len(paths))
        try:
            image = reduced(load_photo(path), max_side)
        except PhotoError as error:
            if not skip_bad:
                raise
            refused.append(error)
            continue
        name = photo_id(image)
        if name in known:
            duplicates += 1
            continue
        known.add(name)
        added += 1
        photo = AlbumPhoto(id=name, path=f"{PHOTOS}/{name}.png", caption=caption_of(path))
        waiting.append((photo, image))
        if len(waiting) == BATCH:
            flush()
    flush()
    if not added and not duplicates:
        raise DataError(
            f'none of the {len(paths)} photos in "{folder}" can be read. The first: {refused[0]}'
        )
    album.save(into)
    told(len(paths), len(paths))
    return Ingested(album=album, added=added, duplicates=duplicates, refused=tuple(refused))


def index_photos(
    model: PhotoDialogueModel,
    folder: str | Path,
    *,
    into: str | Path,
    skip_bad: bool = False,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Ingested:
    """``ingest_folder`` for a model that asks albums (GILL), into a new album or one of its own.

    Raises ConfigError for a model that asks none, and DataError for an album that another has made.
    """
    into = Path(into)
    width = model.album_width
    album = empty_album(width=width, made_by=model.name)
    if (into / DESCRIPTION).exists():
        album = Album.load(into)
        if (album.width, album.made_by) != (width, model.name):
            raise DataError(
                f'the album in "{into}" was made by "{album.made_by or "an unnamed model"}", width '
                f'{album.width}; "{model.name}" asks with {width}, and one album has the vectors '
                "of one model; name another folder, or that model"
            )
    embed = embed_with(model.bridge.photo_keys, size=model.seen_side or SIDE)
    return ingest_folder(folder, into=into, album=album, embed=embed, skip_bad=skip_bad, told=told)


def photo_paths(folder: Path) -> list[Path]:
    """Files that are named as photos, in this folder and below, sorted; never outside of it."""
    if not folder.is_dir():
        raise DataError(
            f'"{folder}" is not a folder; wanted one with photos in it. Check the name.'
        )
    root = folder.resolve()

    def found() -> Iterator[Path]:
        for path in folder.rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            photo = path.suffix.lower() in ENDINGS and path.is_file() and not hidden
            if photo and path.resolve().is_relative_to(root):
                yield path

    return sorted(found())


def photo_id(image: Image.Image) -> str:
    """A name made of the pixels: the same photo has the same one wherever it lies."""
    size = f"{image.width}x{image.height}:".encode()
    return "album-" + hashlib.sha256(size + image.tobytes()).hexdigest()[:20]


def reduced(image: Image.Image, max_side: int) -> Image.Image:
    """The photo with at most ``max_side`` pixels a side, in its own proportions (LANCZOS)."""
    scale = max_side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def forget(folder: str | Path, ids: Sequence[str]) -> Album:
    """Remove photos for good: from the list, from the vectors, and their copies from the disk.

    The index is written first, so that what fails half-way can no longer be found. Raises
    DataError for an id that is not there.
    """
    folder = Path(folder)
    album = Album.load(folder)
    gone = [photo for photo in album.photos if photo.id in set(ids)]
    album = album.without_photos(ids)
    album.save(folder)
    for photo in gone:
        if photo.path is not None:
            (folder / photo.path).unlink(missing_ok=True)
    return album


def embed_with(keys: Callable[[Tensor], Tensor], *, size: int) -> Embed:
    """``embed`` of a model: square pixels -> album vectors, by the bridge's ``photo_keys``."""

    @torch.no_grad()
    def embed(images: Sequence[Image.Image]) -> Tensor:
        pixels_P3HW = torch.stack([to_pixels(square(image, size)) for image in images])
        return keys(pixels_P3HW).cpu()

    return embed
