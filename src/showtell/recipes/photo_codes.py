"""photo_codes: Divter's image side on captioned photos of any data, before any dialogue.

    showtell train photo_codes --set data=cc3m:data/cc3m/GCC-training.tsv --set base=runs/parts

What ``world_codes`` does on drawn photos: V, a VQ model on the latents of the base's VAE; then F,
which writes the codes of a captioned photo. No ranker is trained: it is a CLIP that is there.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from showtell.config import to_plain
from showtell.data.photos import has_pixels
from showtell.data.sources import DataSource, open_data
from showtell.dialogue import Photo
from showtell.errors import ConfigError, DataError
from showtell.models.painter import LatentDiffusionPainter, encode_latents, shrinks
from showtell.models.ranker import ClipRanker
from showtell.recipes.world_base import StageRunner
from showtell.recipes.world_codes import WorldCodes, base_painter, train_translator
from showtell.training.examples import square_pixels
from showtell.training.features import cached_array

_BATCH = 16  # photos that the VAE encodes at once


@dataclass(frozen=True, kw_only=True)
class PhotoCodes(WorldCodes):
    """``num_photos`` (at most) of ``data``, any DATA name, and the VAE and the words of ``base``, a
    model's name or folder.

    Latents of the photos lie in ``out``/cache: 32 KiB each for Stable Diffusion at 512 px.
    ``ranker`` is the folder of a CLIP of transformers, or None: then one photo is painted for a
    caption, whatever ``num_samples``. ``threads`` read photos.
    """

    data: str = "cc3m:data/cc3m/GCC-training.tsv"
    base: str = "runs/parts/model"
    skip_bad: bool = False
    num_photos: int = 200_000
    num_dev: int = 256
    threads: int = 2
    ranker: str | None = None  # type: ignore[assignment]  # nothing is drawn to train one on


def run_photo_codes(config: PhotoCodes, *, out: Path, resume: bool) -> Path:
    """Train what is not yet there under ``out``; the finished painter is ``out/model``.

    Raises CheckpointError for a base or ranker that is none, ConfigError, DataError.
    """
    from showtell.models.checkpoint import model_folder

    base = base_painter(str(model_folder(config.base)))
    rank = None if config.ranker is None else ClipRanker.from_pretrained(Path(config.ranker))
    source = open_data(config.data, skip_bad=config.skip_bad)
    photos, held = choose_photos(source, num_photos=config.num_photos, held_out=config.num_dev)
    latents, dev = (
        photo_latents(base, some, cache=out / "cache", threads=config.threads)
        for some in (photos, held)
    )
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    return train_translator(
        config,
        run,
        base=base,
        rank=rank,
        latents=latents,
        caption=lambda index, rng: caption_of(photos[index], rng),
        dev=dev,
        dev_captions=[photo.caption for photo in held],
        report={
            "recipe": to_plain(config),
            "data": {
                "name": source.name,
                "digest": source.digest(),
                "licence": source.licence,
                "photos": len(photos),
                "held_out": len(held),
                "broken records left out": len(source.skipped),
            },
        },
    )


def caption_of(photo: Photo, rng: random.Random) -> str:
    """One of the photo's captions."""
    return rng.choice(photo.labels.get("captions") or (photo.caption,))


def choose_photos(
    source: DataSource, *, num_photos: int, held_out: int
) -> tuple[list[Photo], list[Photo]]:
    """(photos to train on, photos held out): those whose ids have the lowest SHA-256, each once.

    A photo needs pixels, a caption and, where its record names a split, "train". The data are read
    once, and no more photos than wanted are kept in memory. Raises DataError where none is left to
    train on, ConfigError where none is to be held out.
    """
    if held_out < 1:
        raise ConfigError(f"num_dev is {held_out}; wanted one photo to measure on, or more")

    def usable() -> Iterator[Photo]:
        for dialogue in source:
            if dialogue.labels.get("split", "train") == "train":
                yield from (p for p in dialogue.photos if p.caption.strip() and has_pixels(p))

    def digest(photo: Photo) -> bytes:
        return hashlib.sha256(photo.id.encode("utf-8", "surrogatepass")).digest()

    lowest = heapq.nsmallest(num_photos + held_out, usable(), key=digest)
    photos = list({photo.id: photo for photo in lowest}.values())
    if len(photos) <= held_out:
        raise DataError(
            f"{source.name} has {len(photos)} photos with pixels and a caption in the split "
            f'"train"; wanted more than the {held_out} of num_dev, which are held out. Get its '
            'photos ("showtell data fetch"), name other data, or set num_dev lower.'
        )
    return photos[held_out:], photos[:held_out]


def photo_latents(
    base: LatentDiffusionPainter, photos: Sequence[Photo], *, cache: Path, threads: int
) -> np.ndarray:
    """The scaled latents of photos, float16 (N, c, h, w): encoded once, batch by batch, to disk.

    Raises PhotoError for a photo that cannot be read.
    """
    side = base.image_size
    latent_side = side // shrinks(base.vae)

    def rows() -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(max(1, threads)) as pool:
            for start in range(0, len(photos), _BATCH):
                batch = photos[start : start + _BATCH]
                pixels_N3HW = torch.stack(
                    list(pool.map(lambda photo: square_pixels(photo, side), batch))
                )
                yield from encode_latents(base.vae, pixels_N3HW).cpu().numpy()

    names = hashlib.sha256("\n".join(photo.id for photo in photos).encode("utf-8", "surrogatepass"))
    return cached_array(
        cache / f"latents-{side}-{names.hexdigest()[:12]}.npy",
        (len(photos), base.vae.config.latent_channels, latent_side, latent_side),
        "float16",
        rows,
    )
