"""What can happen to a photo before it is measured, and pictures that show nothing at all.

All pixels are N3HW in [0, 1]; N photos are treated apart where chance is involved.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def blur(pixels_N3HW: Tensor, *, radius: float) -> Tensor:
    """Gaussian blur; ``radius`` is the standard deviation in pixels."""
    reach = max(1, round(radius * 3))
    offsets = torch.arange(-reach, reach + 1, dtype=pixels_N3HW.dtype, device=pixels_N3HW.device)
    kernel = torch.exp(-0.5 * (offsets / radius) ** 2)
    kernel = kernel / kernel.sum()
    x = F.pad(pixels_N3HW, (reach,) * 4, mode="replicate")
    x = F.conv2d(x, kernel.view(1, 1, 1, -1).expand(3, 1, 1, -1), groups=3)
    return F.conv2d(x, kernel.view(1, 1, -1, 1).expand(3, 1, -1, 1), groups=3)


def shift(pixels_N3HW: Tensor, *, dx_N: Tensor, dy_N: Tensor) -> Tensor:
    """Moves each photo by whole pixels; the edge is repeated."""
    n, _, height, width = pixels_N3HW.shape
    device = pixels_N3HW.device
    ys = (torch.arange(height, device=device)[None] - dy_N[:, None]).clamp(0, height - 1)
    xs = (torch.arange(width, device=device)[None] - dx_N[:, None]).clamp(0, width - 1)
    rows = torch.arange(n, device=device)[:, None, None]
    moved_NHW3 = pixels_N3HW.permute(0, 2, 3, 1)[rows, ys[:, :, None], xs[:, None, :]]
    return moved_NHW3.permute(0, 3, 1, 2)


def _chance(n: int, share: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(n, generator=generator) < share).nonzero().squeeze(1)


def degrade(pixels_N3HW: Tensor, *, generator: torch.Generator) -> Tensor:
    """What photos suffer on their way: shift, blur, lost resolution, noise, another light."""
    n, _, height, width = pixels_N3HW.shape

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    dx_N = torch.randint(-3, 4, (n,), generator=generator)
    dy_N = torch.randint(-3, 4, (n,), generator=generator)
    x = shift(pixels_N3HW, dx_N=dx_N, dy_N=dy_N)
    some = _chance(n, 0.3, generator)
    if len(some):
        x[some] = blur(x[some], radius=uniform(0.4, 1.15))
    some = _chance(n, 0.25, generator)
    if len(some):  # what an autoencoder loses looks like this
        small = round(height * uniform(0.45, 0.8)), round(width * uniform(0.45, 0.8))
        low = F.interpolate(x[some], small, mode="bilinear", antialias=True)
        x[some] = F.interpolate(low, (height, width), mode="bicubic", align_corners=False)
    gain = 1 + 0.08 * torch.randn((n, 3, 1, 1), generator=generator)
    offset = 0.03 * torch.randn((n, 3, 1, 1), generator=generator)
    sigma = 0.05 * torch.rand((n, 1, 1, 1), generator=generator)
    sigma = sigma * (torch.rand((n, 1, 1, 1), generator=generator) < 0.5)
    return (x * gain + offset + sigma * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def draw_noise(photos_N3HW: Tensor, *, generator: torch.Generator) -> Tensor:
    """Pictures that show nothing: one sort for each row in turn; photos give colours only."""
    n, _, height, width = photos_N3HW.shape
    noise = torch.empty_like(photos_N3HW)
    first = int(torch.randint(5, (), generator=generator))
    for k in range(n):
        sort = (first + k) % 5
        if sort == 0:
            noise[k] = torch.rand((3, height, width), generator=generator)
        elif sort == 1:
            mean, std = torch.rand(2, generator=generator).tolist()
            noise[k] = mean + (0.05 + 0.5 * std) * torch.randn(
                (3, height, width), generator=generator
            )
        elif sort == 2:
            noise[k] = torch.rand((3, 1, 1), generator=generator)
        elif sort == 3:
            cells = int(torch.randint(2, 33, (), generator=generator))
            coarse = torch.rand((1, 3, cells, cells), generator=generator)
            noise[k] = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[
                0
            ]
        else:
            order = torch.randperm(height * width, generator=generator)
            noise[k] = photos_N3HW[k].flatten(1)[:, order].view(3, height, width)
    return noise.clamp(0, 1)
