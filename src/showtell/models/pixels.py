"""Images and pixel tensors."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor


def to_pixels(image: Image.Image) -> Tensor:
    """RGB image -> (3, H, W) in [0, 1]."""
    width, height = image.size
    flat = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return flat.view(height, width, 3).permute(2, 0, 1).float() / 255


def to_image(pixels_3HW: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> RGB image."""
    bytes_3HW = (pixels_3HW.float().clamp(0, 1) * 255).round().byte().cpu()
    array = bytes_3HW.permute(1, 2, 0).contiguous()
    return Image.frombytes("RGB", (array.shape[1], array.shape[0]), array.numpy().tobytes())
