"""Photos that a pretraining learns from: which, their captions, and their pixels and latents on
disk, computed once.

A cache can be deleted at any time; it is named by what it was made from.
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from showtell.data.photos import has_pixels, photo_image, square
from showtell.data.sources import DataSource
from showtell.dialogue import Photo
from showtell.errors import ConfigError, DataError, StorageError
from showtell.models.painter import LatentDiffusionPainter, encode_latents
from showtell.training.examples import square_pixels

_BATCH = 16  # photos that a VAE encodes at once


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """Photos, and their pixels as uint8 (N, H, W, 3), perhaps on disk."""

    photos: Sequence[Photo]
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.photos)

    def seen(self, indices: Sequence[int]) -> Tensor:
        """Some of the photos as float (N, 3, H, W) in [0, 1]."""
        pixels_NHW3 = torch.from_numpy(self.pixels[list(indices)])
        return pixels_NHW3.permute(0, 3, 1, 2).float() / 255

    def all(self) -> Tensor:
        """All of them."""
        return self.seen(range(len(self)))


def captions_of(photo: Photo) -> Sequence[str]:
    """All captions that a photo has."""
    return photo.labels.get("captions") or [photo.caption]


@dataclass(frozen=True)
class OnDemand(Sequence[Photo]):
    """The first photos of data that are made when they are asked for."""

    source: DataSource
    most: int

    def __len__(self) -> int:
        return min(self.most, len(self.source))

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.source[index].photos[0]


def choose_photos(
    source: DataSource, *, num_photos: int | None, held_out: int
) -> tuple[list[Photo], list[Photo]]:
    """(photos to train on, photos held out): those whose ids have the lowest SHA-256, each once.

    A photo needs pixels, a caption and, where its record names a split, "train". The data are read
    once, and no more photos than wanted are kept in memory. Raises DataError where none is left to
    train on, ConfigError where none is to be held out.
    """
    if held_out < 1:
        raise ConfigError(f"num_held is {held_out}; wanted one photo to measure on, or more")

    def usable() -> Iterator[Photo]:
        for dialogue in source:
            if dialogue.labels.get("split", "train") == "train":
                yield from (p for p in dialogue.photos if p.caption.strip() and has_pixels(p))

    def digest(photo: Photo) -> bytes:
        return hashlib.sha256(photo.id.encode("utf-8", "surrogatepass")).digest()

    if num_photos is None:
        lowest = sorted(usable(), key=digest)
    else:
        lowest = heapq.nsmallest(num_photos + held_out, usable(), key=digest)
    photos = list({photo.id: photo for photo in lowest}.values())
    if len(photos) <= held_out:
        raise DataError(
            f"{source.name} has {len(photos)} photos with pixels and a caption in the split "
            f'"train"; wanted more than the {held_out} of num_held, which are held out. Get its '
            'photos ("showtell data fetch"), name other data, or set num_held lower.'
        )
    return photos[held_out:], photos[:held_out]


def cached_array(path: Path, count: int, rows: Callable[[], Iterator[np.ndarray]]) -> np.ndarray:
    """A memory-mapped array of ``count`` rows, all of one shape and type, which are computed the
    first time; half a file never counts."""
    if not path.exists():
        part = path.with_suffix(".part.npy")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            array: np.memmap | None = None
            for index, row in enumerate(rows()):
                if array is None:
                    shape = (count, *row.shape)
                    array = np.lib.format.open_memmap(part, "w+", dtype=row.dtype, shape=shape)
                array[index] = row
            assert array is not None, "no rows"
            array.flush()
            os.replace(part, path)
        except OSError as error:
            raise StorageError(
                f'the cache "{path}" could not be written ({error}); free some disk space and run '
                "again"
            ) from error
    return np.load(path, mmap_mode="r")


def cached_pixels(photos: Sequence[Photo], *, side: int, cache: Path) -> PhotoSet:
    """The photos decoded once, cut to the middle square. Raises PhotoError for a bad file."""

    def rows() -> Iterator[np.ndarray]:
        for photo in photos:
            image = photo_image(photo)
            yield np.asarray(image if image.size == (side, side) else square(image, side))

    path = cache / f"photos-{side}-{digest_of(photos)}.npy"
    return PhotoSet(photos=photos, pixels=cached_array(path, len(photos), rows))


def cached_latents(
    painter: LatentDiffusionPainter, photos: Sequence[Photo], *, cache: Path
) -> np.ndarray:
    """The scaled latents of photos, float16 (N, c, h, w), batch by batch.

    Raises PhotoError for a photo that cannot be read.
    """
    side = painter.image_size

    def rows() -> Iterator[np.ndarray]:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(photos), _BATCH):
                batch = photos[start : start + _BATCH]
                pixels_N3HW = torch.stack(list(pool.map(partial(square_pixels, side=side), batch)))
                yield from encode_latents(painter.vae, pixels_N3HW).half().cpu().numpy()

    path = cache / f"latents-{side}-{digest_of(photos)}.npy"
    return cached_array(path, len(photos), rows)


def digest_of(photos: Sequence[Photo]) -> str:
    """Of which photos a cache is: their number, and the first and the last by name."""
    names = "\n".join(photos[n].path or photos[n].id for n in sorted({0, len(photos) - 1}))
    digest = hashlib.sha256(names.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{len(photos)}-{digest[:12]}"
