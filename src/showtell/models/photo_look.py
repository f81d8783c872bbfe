"""How a photo encoder of the hub looks at a photo: its own side, crop, resampling and pixel
statistics, as its preprocessor_config.json says, by the library's own image processor.

    look = PhotoLook.of(folder)     # what stands in the folder, nothing assumed
    look(image)                     # the picture that it sees; looked at again it stays the same
    look.mean, look.std             # of its pixels in [0, 1]
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor
from transformers.models.mllama.image_processing_pil_mllama import (
    get_all_supported_aspect_ratios,
)

from showtell.batch import to_image
from showtell.data.photos import middle
from showtell.errors import CheckpointError
from showtell.models.folders import reading

FILE = "preprocessor_config.json"


class PhotoLook:
    """A photo -> the picture that the encoder sees, 8-bit RGB."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        plain = not processor.do_normalize
        self.mean = (0.0,) * 3 if plain else tuple(map(float, processor.image_mean))
        self.std = (1.0,) * 3 if plain else tuple(map(float, processor.image_std))

    def __call__(self, image: Image.Image) -> Image.Image:
        if getattr(self.processor, "do_center_crop", None):
            image = middle(image)  # as a whole it would be enlarged before it is cut
        seen = self.processor(image, return_tensors="pt", do_rescale=False, do_normalize=False)
        pixels = seen["pixel_values"][0]
        if "aspect_ratio_ids" in seen:  # Llama-Vision's tiles, put together again
            cuts = get_all_supported_aspect_ratios(self.processor.max_image_tiles)
            pixels = together(pixels[0], *cuts[int(seen["aspect_ratio_ids"]) - 1])
        return to_image(pixels / 255)

    def check(self, side: int) -> None:
        """Raises CheckpointError where it makes pictures of another side than the encoder's."""
        if (size := self(Image.new("RGB", (side, side))).size) != (side, side):
            raise CheckpointError(
                f"{FILE} makes photos {size[0]} x {size[1]}, and by its config.json the vision "
                f"encoder sees {side} x {side}; wanted files of one model; copy both again"
            )

    def save(self, folder: Path) -> None:
        self.processor.save_pretrained(folder)

    @classmethod
    def of(cls, folder: Path) -> PhotoLook:
        """What a folder's preprocessor_config.json says. Raises CheckpointError, also where there
        is none."""
        wanted = f"{FILE} as the model's authors wrote it: side, crop, resampling, mean and std"
        with reading("how the photo encoder looks at photos", folder, wanted=wanted):
            if not (folder / FILE).is_file():
                raise FileNotFoundError(f"there is no {FILE}")
            processor = AutoImageProcessor.from_pretrained(
                folder, backend="pil", local_files_only=True
            )
            factor = processor.rescale_factor if processor.do_rescale else 1.0
            if not math.isclose(factor, 1 / 255, rel_tol=1e-4):
                raise ValueError(f"rescale_factor is {factor}, and here pixels are from 0 to 1")
            look = cls(processor)
            if [len(look.mean), len(look.std)] != [3, 3] or min(look.std) <= 0:
                raise ValueError(f"image_mean is {look.mean}, image_std {look.std}")
            return look


def together(tiles_M3HW: Tensor, rows: int, columns: int) -> Tensor:
    """The first tiles, row by row, as one picture (3, rows x H, columns x W)."""
    tiles = tiles_M3HW[: rows * columns].unflatten(0, (rows, columns))
    return tiles.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
