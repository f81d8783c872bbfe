"""What Divter's image side trains: V on what it rebuilds, F on the codes that V gives photos."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, VQModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from showtell.errors import ConfigError
from showtell.models.painter import encode_latents
from showtell.models.vq_painter import VqPainter
from showtell.training.features import pixels_tensor

# photos whose codes are foretold together: in a large F each code has a chance for every token
MEASURED_AT_ONCE = 32


@dataclass
class VqTask:
    """Latents through the VQ model and back: squared error, and the codebook's own loss.

    ``codes`` pulls code and latent to one another (arXiv 1711.00937, Eq. 3: the second and the
    third term, the third at a quarter); the straight-through estimator is the library's.
    """

    module: VQModel
    latents: np.ndarray  # float16 (N, c, h, w)
    held_out: np.ndarray

    def __len__(self) -> int:
        return len(self.latents)

    def losses(
        self, indices: Sequence[int], *, generator: torch.Generator, epoch: float
    ) -> dict[str, Tensor]:
        latents = latents_tensor(self.latents[sorted(indices)]).to(self.module.device)
        rebuilt = self.module(latents)
        return {
            "latents": F.mse_loss(rebuilt.sample.float(), latents),
            "codes": rebuilt.commit_loss.float().mean(),
        }

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The squared error, and the share of the codebook that the held-out photos use."""
        latents = latents_tensor(self.held_out).to(self.module.device)
        used = self.module.quantize(self.module.encode(latents).latents)[2][2].unique()
        return {
            "dev_error": float(F.mse_loss(self.module(latents).sample, latents)),
            "dev_codes_used": len(used) / self.module.config.num_vq_embeddings,
        }


@torch.no_grad()
def start_codebook(vq: VQModel, latents: np.ndarray, *, seed: int) -> None:
    """Codes at random places of what the untrained encoder gives: all of them are then in use.

    The library's own start, a tiny cube round zero, leaves most codes without a photo for ever.
    Raises ConfigError for more codes than places in these photos.
    """
    encoded = vq.encode(latents_tensor(latents).to(vq.device)).latents
    rows_MW = encoded.permute(0, 2, 3, 1).reshape(-1, encoded.shape[1])
    chosen = torch.randperm(len(rows_MW), generator=torch.Generator().manual_seed(seed))
    codebook = vq.quantize.embedding.weight
    if len(rows_MW) < len(codebook):
        raise ConfigError(
            f"{len(latents)} photos have {len(rows_MW)} places for a code, and the codebook has "
            f"{len(codebook)}; give more photos, or set num_codes={len(rows_MW)} or fewer"
        )
    codebook.copy_(rows_MW[chosen[: len(codebook)].to(vq.device)])


def latents_tensor(latents: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(latents)).float()


@dataclass
class TranslatorTask:
    """Captions to the codes of their photos (L_F); a caption is written anew at each visit."""

    module: VqPainter
    codes: np.ndarray  # (N, L)
    caption: Callable[[int, random.Random], str]  # of the photo of that number
    held_out: np.ndarray
    held_out_captions: Sequence[str]

    def __len__(self) -> int:
        return len(self.codes)

    def losses(
        self, indices: Sequence[int], *, generator: torch.Generator, epoch: float
    ) -> dict[str, Tensor]:
        seed = int(torch.randint(2**31, (1,), generator=generator))
        rng = random.Random(seed)
        captions = [self.caption(index, rng) for index in indices]
        codes_NL = torch.from_numpy(np.stack([self.codes[i] for i in indices])).long()
        return {"v": self.module.codes_loss(self.module.encode_text(captions), codes_NL)}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """L_F of the held-out photos."""
        total = 0.0
        for start in range(0, len(self.held_out), MEASURED_AT_ONCE):
            rows = slice(start, start + MEASURED_AT_ONCE)
            codes_NL = torch.from_numpy(np.array(self.held_out[rows])).long()
            cond_NSC = self.module.encode_text(self.held_out_captions[rows])
            total += len(codes_NL) * float(self.module.codes_loss(cond_NSC, codes_NL))
        return {"dev_v": total / len(self.held_out)}


def latents_of(vae: AutoencoderKL, photos: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
    """The scaled latents of photos, float16 (N, c, h, w); in full precision, as codes are read."""
    parts = []
    for start in range(0, len(photos), batch_size):
        pixels = pixels_tensor(photos[start : start + batch_size])
        pixels = pixels.to(memory_format=torch.channels_last)
        parts.append(encode_latents(vae, pixels).cpu().numpy().astype(np.float16))
    return np.concatenate(parts)


@torch.no_grad()
def codes_of(painter: VqPainter, latents: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """The codes of all photos from their latents, int16 (N, L)."""
    parts = [
        painter.vq_codes(latents_tensor(latents[start : start + batch_size])).short().cpu().numpy()
        for start in range(0, len(latents), batch_size)
    ]
    return np.concatenate(parts)


def with_untrained_translator(painter: VqPainter, *, seed: int) -> VqPainter:
    """The same painter with F as it was before any training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = AutoModelForCausalLM.from_config(painter.translator.config)
    return VqPainter(
        translator=fresh,
        tokenizer=painter.text.tokenizer,
        vq=painter.vq,
        vae=painter.vae,
        text_length=painter.text.length,
        num_samples=painter.num_samples,
        rank=painter.rank,
    )
