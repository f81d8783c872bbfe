"""Latent diffusion behind the Painter protocol: text tower, loss, guidance, denoising.

All parts are library classes in the ordinary diffusers folder layout (tokenizer/, text_encoder/,
vae/, unet/, scheduler/), so a Stable Diffusion checkpoint loads as the small one does.
Source: 2408.08650, section 2.4.3; classifier-free guidance as in arXiv 2207.12598, guidance that
a U-Net is told (``time_cond_proj_dim``) as in 2310.04378. noise.py knows the scheduler.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPTextModel

from showtell.models.folders import (
    from_diffusers,
    from_transformers,
    reading,
    stored_dtype,
    to_diffusers,
    to_transformers,
    write_json,
)
from showtell.models.noise import DISTILLED, Noise, read_scheduler
from showtell.models.painting import Painting, Start, denoise
from showtell.models.parts import Conditioning, Dice, OnStep
from showtell.models.text_towers import ClipTextTower, TokenTower
from showtell.runtime import Dtype, small_attention

PROBES = ("a red dog at the beach", "a city at night", "")


def shrinks(autoencoder: ModelMixin) -> int:
    """How many times smaller the latents of an autoencoder of diffusers are than what it reads."""
    return int(2 ** (len(autoencoder.config.block_out_channels) - 1))


@torch.no_grad()
def encode_latents(
    vae: AutoencoderKL, pixels_N3HW: Tensor, *, generator: Dice | None = None
) -> Tensor:
    """Pixels in [0, 1] -> scaled latents; a sample with a generator, else the mode."""
    posterior = vae.encode(pixels_N3HW.to(vae.device, vae.dtype) * 2 - 1).latent_dist
    latents = posterior.mode() if generator is None else posterior.sample(generator)
    return (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


@torch.no_grad()
def decode_latents(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Scaled latents -> pixels in [0, 1]."""
    unscaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    return (vae.decode(unscaled.to(vae.dtype)).sample.float() / 2 + 0.5).clamp(0, 1)


class LatentDiffusionPainter(nn.Module):
    """Conditioning -> photo: VAE, denoiser, text tower, scheduler handed in.

    ``unet`` is the denoiser, in families that came later a transformer, which keeps the name that
    settings have. ``index``: what of the pipeline's own its model_index.json says.
    ``bfloat16_products``: photos are painted by them on a device that has them; nearly twice as
    fast on such a CPU, and off by some thousandths of a photo's range.
    """

    denoises = True
    bfloat16_products = False
    pipeline: ClassVar[str] = "StableDiffusionPipeline"
    folder: ClassVar[str] = "unet"  # of the denoiser
    kinds: ClassVar[tuple[Any, Any]] = (AutoencoderKL, UNet2DConditionModel)

    def __init__(
        self,
        *,
        text: TokenTower,
        vae: ModelMixin,
        unet: ModelMixin,
        scheduler: Any,
        index: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.text = text
        self.vae = vae
        self.unet = unet
        self.scheduler = scheduler
        self.index = {"_class_name": self.pipeline} | dict(index or {})

    @property
    def image_size(self) -> int:
        """H and W of a photo."""
        return int(self.unet.config.sample_size) * shrinks(self.vae)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Of a photo, as the denoiser reads it."""
        side = int(self.unet.config.sample_size)
        return int(self.unet.config.in_channels), side, side

    @property
    def noise(self) -> Noise:
        return Noise(self.scheduler)

    @property
    def told_guidance(self) -> bool:
        """Whether the denoiser is told the guidance, and leads nowhere by the empty caption."""
        return self.unet.config.get("time_cond_proj_dim") is not None

    @property
    def guided(self) -> bool:
        """Whether guidance leads away from the empty caption."""
        return not self.told_guidance

    @property
    def usual(self) -> tuple[int, float]:
        """Steps and guidance that its kind is made for."""
        if type(self.scheduler).__name__ in DISTILLED:
            return 4, 8.5 if self.told_guidance else 1.0
        return 50, 7.5

    def encode_photos(self, pixels_N3HW: Tensor, *, generator: Dice | None = None) -> Tensor:
        """Pixels in [0, 1] -> scaled latents; a sample with a generator, else the mode."""
        return encode_latents(self.vae, pixels_N3HW, generator=generator)

    def decode_photos(self, latents: Tensor) -> Tensor:
        """Scaled latents -> pixels in [0, 1]."""
        return decode_latents(self.vae, latents)

    def loss(
        self,
        cond_NSC: Tensor,
        pixels_N3HW: Tensor,
        *,
        generator: Dice,
        snr_gamma: float | None = None,
    ) -> Tensor:
        """Squared error of the predicted noise, a scalar (2408.08650 Eq. 12, see bridges/dvtm).

        ``snr_gamma`` weighs it as ``latent_loss`` says. A list of N generators gives each photo
        its own dice, so that its share of the loss does not depend on the batch around it.
        """
        latents = self.encode_photos(pixels_N3HW, generator=generator)
        return self.latent_loss(cond_NSC, latents, generator=generator, snr_gamma=snr_gamma)

    def latent_loss(
        self,
        cond_NSC: Tensor,
        latents: Tensor,
        *,
        generator: Dice,
        snr_gamma: float | None = None,
    ) -> Tensor:
        """The same on latents; ``snr_gamma`` weighs by min(SNR, gamma)/SNR (arXiv 2303.09556)."""
        # in float32 under autocast too: bfloat16's three digits would be noise of their own
        latents = latents.to(cond_NSC.device).float()
        noise = self.noise
        seen = noise.noised(latents, generator=generator)
        with small_attention(latents, length=latents.shape[-2] * latents.shape[-1]):
            predicted = self.predict(seen.noisy, seen.times_N, cond_NSC, guidance=1.0)
        error_N = F.mse_loss(predicted, seen.target, reduction="none").mean(dim=(1, 2, 3))
        if snr_gamma is not None:
            error_N = error_N * noise.min_snr(seen.snr_N, snr_gamma)
        return error_N.mean()

    def predict(self, noisy: Tensor, times: Tensor, cond_NSC: Tensor, *, guidance: float) -> Tensor:
        """What the denoiser says of N latents at their times, or at one, in float32.
        ``guidance``: for one that is told it."""
        told = {}
        if self.told_guidance:
            width = self.unet.config.time_cond_proj_dim
            scale_N = torch.full((len(noisy),), 1000 * (guidance - 1), device=noisy.device)
            told["timestep_cond"] = get_timestep_embedding(
                scale_N, width, downscale_freq_shift=1
            ).to(self.unet.dtype)
        cond_NSC = cond_NSC.to(self.unet.dtype)
        out = self.unet(noisy.to(self.unet.dtype), times, encoder_hidden_states=cond_NSC, **told)
        return out.sample.float()

    def times(self, num_steps: int) -> dict[str, Any]:
        """What its pipeline tells a scheduler beside the number of steps."""
        return {}

    @torch.no_grad()
    def paint(
        self,
        conditioning: Conditioning,
        *,
        num_steps: int,
        guidance: float,
        seeds: Sequence[int],
        callback: OnStep | None = None,
        start: Start | None = None,
    ) -> Tensor:
        """Photos (N, 3, H, W) in [0, 1] by the scheduler, with classifier-free guidance.

        Each photo has the dice of its own seed, so a batch paints what single calls do.
        ``callback(step, clean)`` is called after each of ``num_steps`` steps; ``clean``: what the
        latents should become, where the scheduler tells that.
        """
        painting = self.begin(
            conditioning, num_steps=num_steps, guidance=guidance, seeds=seeds, start=start
        )
        while not painting.done:
            before = painting.step
            denoise([painting])
            if callback is not None and painting.step > before:
                callback(painting.step, painting.clean)
        return painting.photos()

    def begin(
        self,
        conditioning: Conditioning,
        *,
        num_steps: int,
        guidance: float,
        seeds: Sequence[int],
        start: Start | None = None,
    ) -> Painting:
        """Photos to paint, a step at a time (``painting.py``)."""
        return Painting(
            self, conditioning, num_steps=num_steps, guidance=guidance, seeds=seeds, start=start
        )

    @torch.no_grad()
    def faults(self) -> list[str]:
        """What words or guidance do not change, each in a line that says what it means: asked of
        the denoiser once, at a small size."""
        cond_NSC = self.text.encode(PROBES)
        channels, side, _ = self.latent_shape
        side = min(side, 16)
        noisy = torch.randn((1, channels, side, side), generator=torch.Generator().manual_seed(0))
        noisy = noisy.to(cond_NSC.device).expand(len(PROBES), -1, -1, -1)
        times = self.noise.solver(4, device=noisy.device, **self.times(4)).timesteps
        said = self.predict(noisy, times[len(times) // 2], cond_NSC, guidance=1.0)
        found = []
        if _alike(said[0], said[1]):
            found.append(
                "two captions and one seed give one photo: words do not reach this painter. Its "
                "text encoder and its denoiser are of two models, or it is not trained"
            )
        other = said[2]
        if self.told_guidance:
            other = self.predict(noisy, times[len(times) // 2], cond_NSC, guidance=7.0)[0]
        if (self.guided or self.told_guidance) and _alike(said[0], other):
            found.append(
                "guidance 1 and 7 give one photo: this painter does not tell a caption from none. "
                "It follows words no better where guidance is higher"
            )
        return found

    # ------------------------------------------------------------------------------ on disk

    def save_pretrained(self, folder: Path) -> None:
        """Write the diffusers folder layout with safetensors in shards of at most 15 MB."""
        named = {"vae": self.vae, self.folder: self.unet, "scheduler": self.scheduler}
        index = {**self.index, **self.save_text(folder)}
        for name, part in named.items():
            index[name] = ["diffusers", type(part).__name__]
        to_diffusers(self.vae, folder / "vae")
        to_diffusers(self.unet, folder / self.folder)
        self.scheduler.save_pretrained(folder / "scheduler")
        write_json(folder / "model_index.json", index)

    def save_text(self, folder: Path) -> dict[str, Any]:
        """Write the text tower's parts; what model_index.json says of them, and of none."""
        absent = [None, None]
        return {
            "feature_extractor": absent,
            "safety_checker": absent,
            "requires_safety_checker": False,
            "image_encoder": absent,
            **save_encoder(folder, self.text.encoder, self.text.tokenizer),
        }

    @classmethod
    def read_text(
        cls, folder: Path, *, dtype: torch.dtype, index: Mapping[str, Any], unet: ModelMixin
    ) -> TokenTower:
        """The text tower that a pipeline with this ``index`` has for its denoiser."""
        encoder, tokenizer = read_encoder(CLIPTextModel, folder, dtype=dtype)
        return ClipTextTower(encoder, tokenizer)

    @classmethod
    def from_pretrained(cls, folder: Path, *, dtype: Dtype = torch.float32) -> Self:
        """Read a diffusers folder from this machine; only safetensors are read. ``dtype`` "auto":
        that of its denoiser's file.

        Raises CheckpointError if a part is missing or broken, or a weight finds no place.
        """
        wanted = (
            f"the diffusers layout of a {cls.pipeline} (tokenizer, text_encoder, vae, {cls.folder},"
            " scheduler) as save_pretrained writes it"
        )
        with reading("the painter", folder, wanted=wanted):
            index = json.loads((folder / "model_index.json").read_text())
            if dtype == "auto":
                dtype = stored_dtype(folder / cls.folder)
            unet = from_diffusers(cls.kinds[1], folder / cls.folder, dtype=dtype)
            scheduler = read_scheduler(
                folder / "scheduler", named=index.get("scheduler", [None, None])[1]
            )
            return cls(
                text=cls.read_text(folder, dtype=dtype, index=index, unet=unet),
                vae=from_diffusers(cls.kinds[0], folder / "vae", dtype=dtype),
                unet=unet,
                scheduler=scheduler,
                # the pipeline's own settings; the library's version is not of them
                index={
                    key: value
                    for key, value in index.items()
                    if not isinstance(value, list) and key != "_diffusers_version"
                },
            )


def _alike(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) <= 1e-5 * float(one.abs().max())


def save_encoder(
    folder: Path, encoder: Any, tokenizer: Any, *, number: str = ""
) -> dict[str, list[str]]:
    """Write a text encoder and its tokenizer; what model_index.json says of them."""
    to_transformers(encoder, folder / f"text_encoder{number}")
    tokenizer.save_pretrained(folder / f"tokenizer{number}")
    return {
        f"text_encoder{number}": ["transformers", type(encoder).__name__],
        f"tokenizer{number}": ["transformers", type(tokenizer).__name__],
    }


def read_encoder(
    kind: Any, folder: Path, *, dtype: torch.dtype, number: str = ""
) -> tuple[Any, Any]:
    """A text encoder and its tokenizer."""
    encoder = from_transformers(kind, folder / f"text_encoder{number}", dtype=dtype, exact=True)
    tokenizer = AutoTokenizer.from_pretrained(folder / f"tokenizer{number}", local_files_only=True)
    return encoder, tokenizer
