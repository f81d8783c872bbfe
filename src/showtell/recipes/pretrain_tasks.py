"""What the stages of a pretraining train (see ``training/task.py``).

Letters: N photos of a batch, A attributes, O options of one, L codes of a photo, c channels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from showtell.dialogue import Photo
from showtell.errors import ConfigError, DataError
from showtell.metrics.retrieval import ranks, recall_at
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.photo_encoder import QFormerPhotoEncoder
from showtell.models.vq_painter import VqPainter
from showtell.recipes.photo_sets import PhotoSet, captions_of
from showtell.training.task import Losses, Task

SNR_GAMMA = 5.0  # 2303.09556
DROP_CAPTION = 0.1  # of the captions, for classifier-free guidance
AT_ONCE = 32  # photos whose codes are foretold together: in a large F each is a whole vocabulary
Caption = Callable[[int, random.Random], str]  # of the photo of that number


def _rng(generator: torch.Generator) -> random.Random:
    return random.Random(int(torch.randint(2**31, (1,), generator=generator)))


def _mirrored(pixels: Tensor, generator: torch.Generator) -> Tensor:
    flip = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(flip[:, None, None, None], pixels.flip(3), pixels)


@dataclass
class PhotoTask(Task):
    """What learns from photos and is measured on others."""

    module: Any
    train: PhotoSet
    held: PhotoSet

    def __len__(self) -> int:
        return len(self.train)


@dataclass
class VaeTask(PhotoTask):
    """Photos through the VAE and back: mean absolute error, and KL to keep the latents smooth."""

    module: AutoencoderKL
    crop: int | None = None  # train on squares of this side: more photos a second

    def losses(self, indices: Sequence[int], *, generator: torch.Generator) -> Losses:
        pixels = self.train.seen(sorted(indices)) * 2 - 1
        if self.crop is not None:
            pixels = _cropped(pixels, self.crop, generator=generator)
        pixels = _mirrored(pixels.to(memory_format=torch.channels_last), generator)
        pixels = pixels.to(self.module.device)
        posterior = self.module.encode(pixels).latent_dist
        rebuilt = self.module.decode(posterior.sample(generator)).sample.float()
        # Edges carry what a photo shows; a plain error would trade them for flat areas.
        edges = sum(F.l1_loss(rebuilt.diff(dim=axis), pixels.diff(dim=axis)) for axis in (2, 3))
        return {
            "pixels": F.l1_loss(rebuilt, pixels),
            # Squared: a small subject in the wrong colour is a large error on few pixels, which
            # an absolute error gives up for the wide flat areas.
            "colour": F.mse_loss(_opponents(rebuilt), _opponents(pixels)),
            "edges": torch.as_tensor(edges),
            "kl": posterior.kl().float().mean() / posterior.mean[0].numel(),
        }

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        pixels = self.held.all().to(self.module.device) * 2 - 1
        rebuilt = self.module.decode(self.module.encode(pixels).latent_dist.mode()).sample
        return {"dev_psnr": float(-10 * torch.log10(F.mse_loss(rebuilt, pixels) / 4))}


def _cropped(pixels: Tensor, side: int, *, generator: torch.Generator) -> Tensor:
    """One square of each photo, more often from where the subjects stand than from the sky."""
    room = pixels.shape[-1] - side
    chance = torch.rand(2, len(pixels), generator=generator)
    lefts, tops = (chance[0] * (room + 1)).int(), (chance[1].sqrt() * (room + 1)).int()
    places = zip(pixels, tops.tolist(), lefts.tolist(), strict=True)
    return torch.stack([photo[:, y : y + side, x : x + side] for photo, y, x in places])


def _opponents(pixels: Tensor) -> Tensor:
    """Red against green and blue against yellow: colour apart from light."""
    red, green, blue = pixels.unbind(1)
    return torch.stack([red - green, blue - (red + green) / 2])


# -------------------------------------------------------------------------------------- labels


def options_of(photos: Sequence[Photo]) -> dict[str, list[str]]:
    """The values that each attribute takes in the labels of photos. Raises DataError for none."""
    options: dict[str, set[str]] = {}
    for photo in photos:
        for name, value in (photo.labels.get("scene") or {}).items():
            options.setdefault(name, set()).add(value)
    if not options:
        raise DataError(
            'these photos have no labels that say what they show; wanted labels["scene"], as '
            "world:photos:train has; name such photos, or set vision.steps=0 and qformer.steps=0"
        )
    return {name: sorted(values) for name, values in options.items()}


class Labelled(nn.Module):
    """What sees photos, with one linear head for each attribute.

    Of a ViT the heads read the mean of its patches. Of a photo encoder they read the mean of its
    tokens, normalised as an LLM's first layer normalises them: so these hold all that the encoder
    sees before an LLM is asked to read them, as the Q-Former of BLIP-2 learns to represent photos
    before it meets its LLM (2301.12597, section 3.2).
    """

    def __init__(self, encoder: Any, options: Mapping[str, Sequence[str]]) -> None:
        """``encoder``: a ViT of transformers, or a QFormerPhotoEncoder."""
        super().__init__()
        at_tokens = isinstance(encoder, QFormerPhotoEncoder)
        self.name = "photo_encoder" if at_tokens else "vision"
        self.add_module(self.name, encoder)
        self.options = options
        width = encoder.language_width if at_tokens else int(encoder.config.hidden_size)
        heads = {name: nn.Linear(width, len(values)) for name, values in options.items()}
        self.heads = nn.ModuleDict(heads)

    def forward(self, pixels_N3HW: Tensor) -> dict[str, Tensor]:
        """Pixels in [0, 1] -> logits (N, options) by attribute."""
        encoder = self.get_submodule(self.name)
        pixels_N3HW = pixels_N3HW.to(next(encoder.parameters()).device)
        if self.name == "vision":
            seen_ND = encoder(pixel_values=pixels_N3HW * 2 - 1).last_hidden_state[:, 1:].mean(1)
        else:
            tokens_NQD = encoder(pixels_N3HW).float()
            seen_ND = F.rms_norm(tokens_NQD, tokens_NQD.shape[-1:]).mean(1)
        return {name: head(seen_ND) for name, head in self.heads.items()}


@dataclass
class LabelTask(PhotoTask):
    """Photos to their labels: what stands in for the pretraining of a vision encoder."""

    module: Labelled

    def losses(self, indices: Sequence[int], *, generator: torch.Generator) -> Losses:
        pixels = _mirrored(self.train.seen(indices), generator)
        logits = self.module(pixels)
        labels = self._labels([self.train.photos[index] for index in indices])
        losses = [
            F.cross_entropy(l_NO.float(), labels[name].to(l_NO.device))
            for name, l_NO in logits.items()
        ]
        return {"labels": torch.stack(losses).mean()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        logits = self.module(self.held.all())
        labels = self._labels(list(self.held.photos))
        return {
            f"dev_{name}": float((l_NO.argmax(-1).cpu() == labels[name]).float().mean())
            for name, l_NO in logits.items()
        }

    def _labels(self, photos: Sequence[Photo]) -> dict[str, Tensor]:
        return {
            name: torch.tensor([values.index(photo.labels["scene"][name]) for photo in photos])
            for name, values in self.module.options.items()
        }


# ------------------------------------------------------------------------------ captions, photos


@dataclass
class PainterTask(Task):
    """Captions to photos on cached latents; a caption is chosen anew at each visit."""

    module: LatentDiffusionPainter
    latents: np.ndarray  # float16 (N, c, h, w)
    caption: Caption

    def __len__(self) -> int:
        return len(self.latents)

    def losses(self, indices: Sequence[int], *, generator: torch.Generator) -> Losses:
        captions = []
        for index in indices:
            rng = _rng(generator)
            caption = self.caption(index, rng)
            captions.append("" if rng.random() < DROP_CAPTION else caption)
        latents = latents_tensor(self.latents[list(indices)]).to(memory_format=torch.channels_last)
        cond_NSC = self.module.text.encode(captions)
        loss = self.module.latent_loss(cond_NSC, latents, generator=generator, snr_gamma=SNR_GAMMA)
        return {"v": loss}


@dataclass
class ContrastiveTask(PhotoTask):
    """Photos and captions: each picks out the other among those of its batch (2103.00020)."""

    module: CLIPModel
    tokenizer: CLIPTokenizer

    def losses(self, indices: Sequence[int], *, generator: torch.Generator) -> Losses:
        rng = _rng(generator)
        captions = [rng.choice(captions_of(self.train.photos[index])) for index in indices]
        seen = self.train.seen(indices)
        return {"contrastive": self._scored(seen, captions, return_loss=True).loss}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """R@1 and R@10 among the held-out photos and a caption of each, the mean of both ways."""
        captions = [captions_of(photo)[0] for photo in self.held.photos]
        logits_NN = self._scored(self.held.all(), captions).logits_per_image.float().cpu()
        gold_N = np.arange(len(logits_NN))
        both = [ranks(some.numpy(), gold_N) for some in (logits_NN, logits_NN.T)]
        return {f"held_out_r{k}": sum(recall_at(found, k) for found in both) / 2 for k in (1, 10)}

    def _scored(self, pixels_N3HW: Tensor, captions: Sequence[str], **options: bool):  # type: ignore[no-untyped-def]
        told = self.tokenizer(list(captions), padding=True, truncation=True, return_tensors="pt")
        ids = {name: told[name].to(self.module.device) for name in ("input_ids", "attention_mask")}
        pixels = pixels_N3HW.to(self.module.device) * 2 - 1
        return self.module(pixel_values=pixels, **ids, **options)


# --------------------------------------------------------------------------------------- codes


def latents_tensor(latents: np.ndarray) -> Tensor:
    """float16 on disk -> float (N, c, h, w)."""
    return torch.from_numpy(np.array(latents)).float()


@dataclass
class VqTask(Task):
    """Latents through the VQ model and back: squared error, and the codebook's own loss.

    ``codes`` pulls code and latent to one another (arXiv 1711.00937, Eq. 3: the second and the
    third term, the third at a quarter); the straight-through estimator is the library's.
    """

    module: VQModel
    latents: np.ndarray  # float16 (N, c, h, w)
    held: np.ndarray

    def __len__(self) -> int:
        return len(self.latents)

    def losses(self, indices: Sequence[int], *, generator: torch.Generator) -> Losses:
        latents = latents_tensor(self.latents[sorted(indices)]).to(self.module.device)
        rebuilt = self.module(latents)
        return {
            "latents": F.mse_loss(rebuilt.sample.float(), latents),
            "codes": rebuilt.commit_loss.float().mean(),
        }

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The squared error, and the share of the codebook that the held-out photos use."""
        latents = latents_tensor(self.held).to(self.module.device)
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


@torch.no_grad()
def codes_of(painter: VqPainter, latents: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """The codes of all photos from their latents, int16 (N, L)."""
    parts = [
        painter.vq_codes(latents_tensor(latents[start : start + batch_size])).short().cpu().numpy()
        for start in range(0, len(latents), batch_size)
    ]
    return np.concatenate(parts)


@dataclass
class TranslatorTask(Task):
    """Captions to the codes of their photos (L_F); a caption is chosen anew at each visit."""

    module: VqPainter
    codes: np.ndarray  # (N, L)
    caption: Caption
    held: np.ndarray
    held_captions: Sequence[str]

    def __len__(self) -> int:
        return len(self.codes)

    def losses(self, indices: Sequence[int], *, generator: torch.Generator) -> Losses:
        rng = _rng(generator)
        captions = [self.caption(index, rng) for index in indices]
        codes_NL = torch.from_numpy(self.codes[list(indices)]).long()
        return {"v": self.module.codes_loss(self.module.text.encode(captions), codes_NL)}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """L_F of the held-out photos."""
        total = 0.0
        for start in range(0, len(self.held), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            codes_NL = torch.from_numpy(np.array(self.held[rows])).long()
            cond_NSC = self.module.text.encode(self.held_captions[rows])
            total += len(codes_NL) * float(self.module.codes_loss(cond_NSC, codes_NL))
        return {"dev_v": total / len(self.held)}
