"""Photos that are being painted: a step at a time, many at once, each at its own step.

painting = Painting(painter, conditioning, num_steps=20, guidance=4.0, seeds=[0])
while not painting.done:
    denoise([painting])
painting.photos()
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.models.noise import clean_latents, scaled
from showtell.models.parts import Conditioning
from showtell.runtime import mixed_precision

if TYPE_CHECKING:
    from showtell.models.painter import LatentDiffusionPainter

SHOWN = (0.2, 0.5, 0.75)  # of a painting, when there is something to see


@dataclass(frozen=True, kw_only=True)
class Start:
    """A photo that painting starts from, (3, H, W) in [0, 1]: under noise of the last ``strength``
    of the steps. 1: painted anew; 0: the photo, as the autoencoder rebuilds it."""

    pixels_3HW: Tensor
    strength: float


class Painting:
    """N photos of a painter that denoises, ``num_steps`` from done, less those before a ``start``.
    Each has the dice of its own seed, so a batch paints what single calls do."""

    def __init__(
        self,
        painter: LatentDiffusionPainter,
        conditioning: Conditioning,
        *,
        num_steps: int,
        guidance: float,
        seeds: Sequence[int],
        start: Start | None = None,
    ) -> None:
        noise = painter.noise
        cond_NSC = conditioning.cond_NSC
        device = None if cond_NSC is None else cond_NSC.device
        self.painter, self.guidance = painter, guidance
        self.solver = noise.solver(num_steps, device=device, **painter.times(num_steps))
        uncond_NSC = conditioning.uncond_NSC
        if uncond_NSC is None:
            uncond_NSC = painter.text.encode([""]).expand(len(cond_NSC), -1, -1)
        self.conds = [cond_NSC]  # what is led away from comes first
        if painter.guided and guidance != 1:
            self.conds = [uncond_NSC.to(cond_NSC.dtype), cond_NSC]
        dice = [torch.Generator().manual_seed(seed) for seed in seeds]
        drawn = torch.stack([torch.randn(painter.latent_shape, generator=die) for die in dice])
        drawn = drawn.to(cond_NSC.device)
        self.times = self.solver.timesteps
        if start is None:
            self.latents = drawn * getattr(self.solver, "init_noise_sigma", 1.0)
        else:
            pixels_1 = start.pixels_3HW[None].to(drawn.device)
            size = (painter.image_size, painter.image_size)
            pixels_1 = F.interpolate(pixels_1, size, mode="bilinear", antialias=True)
            latents = painter.encode_photos(pixels_1).to(drawn.dtype).expand(drawn.shape)
            self.latents, self.times = noise.started(self.solver, latents, drawn, start.strength)
        self._take = noise.steps(self.solver, dice)
        self._taken = 0
        self.clean: Tensor | None = None
        # a step of higher order takes several times
        self.order = len(self.solver.timesteps) / num_steps
        self.of = round(len(self.times) / self.order)

    @property
    def done(self) -> bool:
        return self._taken >= len(self.times)

    @property
    def step(self) -> int:
        """Steps taken, of ``of``."""
        return int(self._taken / self.order)

    @property
    def shown(self) -> bool:
        """Whether this step is one to look at."""
        return self.step in {max(1, int(share * self.of)) for share in SHOWN}

    def asks(self) -> tuple[Tensor, Tensor]:
        """Latents as the denoiser reads them now, and the time."""
        time = self.times[self._taken]
        return scaled(self.solver, self.latents, time), time

    def takes(self, predicted: Tensor) -> None:
        """A step, by what the denoiser says of each of ``conds``."""
        if len(self.conds) > 1:
            uncond, cond = predicted.chunk(2)
            predicted = uncond + self.guidance * (cond - uncond)
        time = self.times[self._taken]
        taken = self._take(predicted, time, self.latents)
        self.latents, self.clean = taken.prev_sample, clean_latents(self.solver, taken)
        self._taken += 1

    def preview(self) -> Tensor | None:
        """The photos so far, (N, 3, H, W), where the scheduler tells what they should become."""
        return None if self.clean is None else self.painter.decode_photos(self.clean)

    @torch.no_grad()
    def photos(self) -> Tensor:
        with _products(self.painter, self.latents.device):
            return self.painter.decode_photos(self.latents)


@torch.no_grad()
def denoise(paintings: Sequence[Painting]) -> None:
    """One step of each of one painter's paintings with one guidance, all at once."""
    painter, guidance = paintings[0].painter, paintings[0].guidance
    asked = [painting.asks() for painting in paintings]
    noisy = [each for each, _ in asked]
    counts = [len(painting.conds) for painting in paintings]
    read = torch.cat([torch.cat([each] * count) for each, count in zip(noisy, counts, strict=True)])
    cond = torch.cat([torch.cat(painting.conds) for painting in paintings])
    times = asked[0][1]
    sizes = [count * len(each) for each, count in zip(noisy, counts, strict=True)]
    if len(paintings) > 1:
        own = [time.to(read.device).expand(n) for (_, time), n in zip(asked, sizes, strict=True)]
        times = torch.cat(own)
    with _products(painter, read.device):
        predicted = painter.predict(read, times, cond, guidance=guidance)
    for painting, said in zip(paintings, predicted.split(sizes), strict=True):
        painting.takes(said)


def _products(painter: LatentDiffusionPainter, device: torch.device) -> AbstractContextManager[Any]:
    return mixed_precision(device) if painter.bfloat16_products else nullcontext()
