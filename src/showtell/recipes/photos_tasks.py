"""What the stages on real photos train (see training/loop.Task).

Letters: N photos of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from showtell.batch import collate
from showtell.dialogue import Photo
from showtell.metrics.retrieval import ranks, recall_at
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.papers.forms import caption_dialogue
from showtell.recipes.tasks import excerpt
from showtell.training.features import pixels_tensor

Captions = Sequence[Sequence[str]]  # of each photo one or several


def one_caption(captions: Captions, index: int, *, generator: torch.Generator) -> str:
    """One of a photo's captions, drawn."""
    several = captions[index]
    return several[int(torch.randint(len(several), (1,), generator=generator))]


def random_crops(
    pixels_N3HW: Tensor, *, side: int, least: float, generator: torch.Generator
) -> Tensor:
    """Squares of ``least`` to 1 of the photo's side, every second one mirrored: (N, 3, side, side).

    Pixels outside the photo are never looked at.
    """
    count = len(pixels_N3HW)
    chance_N4 = torch.rand(count, 4, generator=generator)
    scale_N = least + (1 - least) * chance_N4[:, 0]
    mirror_N = torch.where(chance_N4[:, 1] < 0.5, -1.0, 1.0)
    shift_N2 = (2 * chance_N4[:, 2:] - 1) * (1 - scale_N)[:, None]
    theta_N23 = torch.zeros(count, 2, 3)
    theta_N23[:, 0, 0], theta_N23[:, 1, 1] = scale_N * mirror_N, scale_N
    theta_N23[:, :, 2] = shift_N2
    grid = F.affine_grid(theta_N23, [count, 3, side, side], align_corners=False)
    return F.grid_sample(pixels_N3HW, grid, padding_mode="border", align_corners=False)


@dataclass
class PhotosContrastiveTask:
    """Photos and captions: each picks out the other among those of its batch."""

    module: CLIPModel
    tokenizer: CLIPTokenizer
    pixels: np.ndarray  # uint8 (N, H, W, 3), H and W at least the encoder's
    captions: Captions
    held_pixels: np.ndarray
    held_captions: Captions
    least_crop: float = 0.6

    def __len__(self) -> int:
        return len(self.pixels)

    def losses(
        self, indices: Sequence[int], *, generator: torch.Generator, epoch: float
    ) -> dict[str, Tensor]:
        captions = [one_caption(self.captions, index, generator=generator) for index in indices]
        crops_N3HW = random_crops(
            pixels_tensor(self.pixels[list(indices)]),
            side=self.module.config.vision_config.image_size,
            least=self.least_crop,
            generator=generator,
        )
        brightness = 0.8 + 0.4 * torch.rand(len(indices), 1, 1, 1, generator=generator)
        seen = (crops_N3HW * brightness).clamp(0, 1).to(self.module.device)
        out = self.module(pixel_values=seen * 2 - 1, **self._ids(captions), return_loss=True)
        return {"contrastive": out.loss}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """R@10 among the held-out photos and their first captions, the mean of both ways."""
        whole = whole_photos(self.held_pixels, side=self.module.config.vision_config.image_size)
        whole = whole.to(self.module.device)
        ids = self._ids([several[0] for several in self.held_captions])
        logits_NN = self.module(pixel_values=whole * 2 - 1, **ids).logits_per_image.float().cpu()
        gold_N = np.arange(len(logits_NN))
        found = [recall_at(ranks(some.numpy(), gold_N), 10) for some in (logits_NN, logits_NN.T)]
        return {"held_out_r10": sum(found) / 2}

    def _ids(self, captions: Sequence[str]) -> dict[str, Tensor]:
        told = self.tokenizer(list(captions), padding=True, truncation=True, return_tensors="pt")
        return {name: told[name].to(self.module.device) for name in ("input_ids", "attention_mask")}


@dataclass
class CaptioningTask:
    """A photo by the user, answered by one of its captions; nothing of when to share."""

    module: PhotoDialogueModel
    pixels: np.ndarray  # uint8 (N, H, W, 3), H and W at least the photo encoder's
    captions: Captions
    held_pixels: np.ndarray
    held_captions: Captions
    side: int
    least_crop: float = 0.8

    def __len__(self) -> int:
        return len(self.pixels)

    def losses(
        self, indices: Sequence[int], *, generator: torch.Generator, epoch: float
    ) -> dict[str, Tensor]:
        captions = [one_caption(self.captions, index, generator=generator) for index in indices]
        crops_N3HW = random_crops(
            pixels_tensor(self.pixels[list(indices)]),
            side=self.side,
            least=self.least_crop,
            generator=generator,
        )
        return self._losses(crops_N3HW, captions, generator=generator)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The mean negative log-likelihood of a token of the held-out photos' first captions."""
        whole = whole_photos(self.held_pixels, side=self.side)
        first = [several[0] for several in self.held_captions]
        losses = self._losses(whole, first, generator=torch.Generator().manual_seed(0))
        return {"held_out_nll": float(losses["t"])}

    def _losses(
        self, pixels_N3HW: Tensor, captions: Sequence[str], *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        rows = []
        for n, caption in enumerate(captions):
            dialogue = caption_dialogue(Photo(id=str(n), caption=caption, labels={"pixels": n}))
            row = excerpt(self.module.renderer, dialogue, before=1, generator=generator)
            assert row is not None  # its second turn is the agent's, with a photo
            rows.append(row)
        batch = collate(
            rows,
            pad_id=self.module.language.tokenizer.pad_token_id,
            pixels_of=lambda photo: pixels_N3HW[photo.labels["pixels"]],
            paint=False,
        )
        return self.module(batch, generator=generator)


def whole_photos(pixels_NHW3: np.ndarray, *, side: int) -> Tensor:
    """Photos as an encoder sees them in evaluation: float (N, 3, side, side) in [0, 1]."""
    return F.interpolate(pixels_tensor(pixels_NHW3), size=side, mode="area")
