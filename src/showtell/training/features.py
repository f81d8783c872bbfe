"""What frozen parts say of the data, computed once and kept in a cache folder.

A cache can be deleted at any time; it is named by what it was made from.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from photoworld.drawing import draw
from photoworld.scenes import Scene, sample_scene, write_caption
from showtell.errors import StorageError


def photo_scene(seed: int, *, novel: bool = False) -> Scene:
    """The scene that stands for a seed where a photo without a dialogue is wanted."""
    return sample_scene(random.Random(f"photo-{seed}-{novel}"), novel=novel)


def captioned_scene(seed: int, *, always: Iterable[str] = ()) -> tuple[Scene, str, tuple[str, ...]]:
    """``photo_scene``, a caption of it, and the attributes that this states; ``always``: some that
    it has to."""
    scene = photo_scene(seed)
    caption, stated = write_caption(scene, random.Random(seed), always=always)
    return scene, caption, stated


def pixels_tensor(pixels_NHW3: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) -> float (N, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(pixels_NHW3)).permute(0, 3, 1, 2).float() / 255


@contextmanager
def _new_cache(path: Path) -> Iterator[Path]:
    """Where to write a cache; it gets its name when whole, so half a file never counts."""
    part = path.with_suffix(".part.npy")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise StorageError(
            f'the cache "{path}" could not be written ({error}); free some disk space and run again'
        ) from error


def cached_array(
    path: Path, shape: tuple[int, ...], dtype: str, rows: Callable[[], Iterator[np.ndarray]]
) -> np.ndarray:
    """A memory-mapped array, computed row by row the first time."""
    if not path.exists():
        with _new_cache(path) as part:
            array = np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape)
            for index, row in enumerate(rows()):
                array[index] = row
            array.flush()
    return np.load(path, mmap_mode="r")


def cached_rows(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """An array computed at once the first time, and memory-mapped after."""
    if not path.exists():
        with _new_cache(path) as part:
            np.save(part, compute())
    return np.load(path, mmap_mode="r")


def world_photos(scenes: Sequence[Scene], path: Path) -> np.ndarray:
    """The drawn photos of scenes, uint8 (N, 64, 64, 3)."""
    return cached_array(
        path,
        (len(scenes), 64, 64, 3),
        "uint8",
        lambda: (np.asarray(draw(scene), dtype=np.uint8) for scene in scenes),
    )
