"""Painters whose denoiser is a transformer that carries noise to photos along a flow.

    Sd3Painter     Stable Diffusion 3 and 3.5 (arXiv 2403.03206)
    KleinPainter   FLUX.2 klein; its distilled kind takes no guidance and few steps

The equations are the pipelines' of diffusers (StableDiffusion3Pipeline, Flux2KleinPipeline); what
these keep beside a caption's states stands in the conditioning's rows (text_towers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    Flux2Transformer2DModel,
    ModelMixin,
    SD3Transformer2DModel,
)
from torch import Tensor
from transformers import CLIPTextModelWithProjection, Qwen3ForCausalLM, T5EncoderModel

from showtell.errors import CheckpointError
from showtell.models.painter import (
    LatentDiffusionPainter,
    read_encoder,
    save_encoder,
    shrinks,
)
from showtell.models.parts import Dice
from showtell.models.text_towers import ChatTextTower, ThreeTextTowers, TokenTower

PATCH = 2  # latents of FLUX.2 a side, that are one of its transformer's


class Sd3Painter(LatentDiffusionPainter):
    """The first row of its conditioning is the pooled vector, padded."""

    pipeline = "StableDiffusion3Pipeline"
    folder = "transformer"
    kinds = (AutoencoderKL, SD3Transformer2DModel)
    text: ThreeTextTowers

    @property
    def usual(self) -> tuple[int, float]:
        return 28, 7.0

    @property
    def told_guidance(self) -> bool:
        return False

    def predict(self, noisy: Tensor, times: Tensor, cond_NSC: Tensor, *, guidance: float) -> Tensor:
        dtype, config = self.unet.dtype, self.unet.config
        pooled_NC = cond_NSC[:, 0, : config.pooled_projection_dim]
        out = self.unet(
            hidden_states=noisy.to(dtype),
            timestep=times.to(noisy.device).expand(len(noisy)),
            encoder_hidden_states=cond_NSC[:, 1:].to(dtype),
            pooled_projections=pooled_NC.to(dtype),
        )
        return out.sample.float()

    def times(self, num_steps: int) -> dict[str, Any]:
        """``mu``, for a scheduler that shifts by the size of a photo."""
        has = self.scheduler.config.get
        few, many = has("base_image_seq_len", 256), has("max_image_seq_len", 4096)
        low, high = has("base_shift", 0.5), has("max_shift", 1.16)
        places = (self.latent_shape[1] // self.unet.config.patch_size) ** 2
        slope = (high - low) / (many - few)
        return {"mu": places * slope + low - slope * few}

    def save_text(self, folder: Path) -> dict[str, Any]:
        text, absent = self.text, [None, None]
        said: dict[str, Any] = {"image_encoder": absent, "feature_extractor": absent}
        said |= save_encoder(folder, text.encoder, text.tokenizer)
        said |= save_encoder(folder, text.encoder_2, text.second_tokenizer, number="_2")
        if text.encoder_3 is None:
            return said | {"text_encoder_3": absent, "tokenizer_3": absent}
        return said | save_encoder(folder, text.encoder_3, text.third_tokenizer, number="_3")

    @classmethod
    def read_text(
        cls, folder: Path, *, dtype: torch.dtype, index: Mapping[str, Any], unet: ModelMixin
    ) -> TokenTower:
        """Without T5 where model_index.json names none (null, or no line)."""
        clips = [
            read_encoder(CLIPTextModelWithProjection, folder, dtype=dtype, number=number)
            for number in ("", "_2")
        ]
        t5 = tokenizer = None
        if index.get("text_encoder_3", [None])[0] is not None:
            t5, tokenizer = read_encoder(T5EncoderModel, folder, dtype=dtype, number="_3")
        encoders, tokenizers = zip(*clips, strict=True)
        width = unet.config.joint_attention_dim
        return ThreeTextTowers(encoders, tokenizers, t5=t5, t5_tokenizer=tokenizer, width=width)


class KleinPainter(LatentDiffusionPainter):
    """Its latents are squares of four of its VAE's, whitened by what that has counted."""

    pipeline = "Flux2KleinPipeline"
    folder = "transformer"
    kinds = (AutoencoderKLFlux2, Flux2Transformer2DModel)
    text: ChatTextTower
    vae: AutoencoderKLFlux2

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        config = self.unet.config
        width, _ = self.text.sizes
        if width != config.joint_attention_dim or config.guidance_embeds:
            lacks = f"reads rows of {config.joint_attention_dim} numbers, and it gives {width}"
            if config.guidance_embeds:
                lacks = "is told its guidance, as FLUX.2 dev's is"
            raise CheckpointError(
                f"the transformer {lacks}; wanted one of FLUX.2 klein with its own text encoder; "
                "copy the folder again, or name another painter"
            )

    @property
    def image_size(self) -> int:
        return int(self.vae.config.sample_size)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        side = self.image_size // (PATCH * shrinks(self.vae))
        return int(self.unet.config.in_channels), side, side

    @property
    def usual(self) -> tuple[int, float]:
        return (50, 4.0) if self.guided else (4, 1.0)

    @property
    def told_guidance(self) -> bool:
        return False

    @property
    def guided(self) -> bool:
        return not self.index.get("is_distilled")

    def predict(self, noisy: Tensor, times: Tensor, cond_NSC: Tensor, *, guidance: float) -> Tensor:
        dtype = self.unet.dtype
        _, _, high, wide = noisy.shape
        places = _places(noisy.device, torch.arange(high), torch.arange(wide), torch.arange(1))
        words = _places(
            noisy.device, torch.arange(1), torch.arange(1), torch.arange(cond_NSC.shape[1])
        )
        out = self.unet(
            hidden_states=noisy.flatten(2).mT.to(dtype),
            timestep=times.to(noisy.device, dtype).expand(len(noisy)) / 1000,
            guidance=None,
            encoder_hidden_states=cond_NSC.to(dtype),
            txt_ids=words.expand(len(noisy), -1, -1),
            img_ids=places.expand(len(noisy), -1, -1),
        )
        return out.sample.float().mT.reshape(noisy.shape)

    def times(self, num_steps: int) -> dict[str, Any]:
        """Even shares of noise, and ``mu``, measured by its makers for photos of some sizes."""
        places = self.latent_shape[1] ** 2
        many = 0.00016927 * places + 0.45666666
        few = 8.73809524e-05 * places + 1.89833333
        slope = (many - few) / 190.0
        mu = many if places > 4300 else slope * num_steps + many - 200.0 * slope
        sigmas = torch.linspace(1.0, 1 / num_steps, num_steps, dtype=torch.float64)
        return {"sigmas": sigmas.tolist(), "mu": mu}

    @torch.no_grad()
    def encode_photos(self, pixels_N3HW: Tensor, *, generator: Dice | None = None) -> Tensor:
        posterior = self.vae.encode(pixels_N3HW.to(self.vae.device, self.vae.dtype) * 2 - 1)
        drawn = posterior.latent_dist
        latents = drawn.mode() if generator is None else drawn.sample(generator)
        squares = torch.nn.functional.pixel_unshuffle(latents, PATCH)
        return self._whitened(squares, lambda x, mean, spread: (x - mean) / spread)

    @torch.no_grad()
    def decode_photos(self, latents: Tensor) -> Tensor:
        squares = self._whitened(latents, lambda x, mean, spread: x * spread + mean)
        flat = torch.nn.functional.pixel_shuffle(squares, PATCH)
        return (self.vae.decode(flat.to(self.vae.dtype)).sample.float() / 2 + 0.5).clamp(0, 1)

    def _whitened(self, latents: Tensor, apply: Callable[..., Tensor]) -> Tensor:
        counted = self.vae.bn
        mean, spread = counted.running_mean, counted.running_var + self.vae.config.batch_norm_eps
        return apply(latents, *(x.view(1, -1, 1, 1).to(latents) for x in (mean, spread.sqrt())))

    def save_text(self, folder: Path) -> dict[str, Any]:
        return save_encoder(folder, self.text.encoder, self.text.tokenizer)

    @classmethod
    def read_text(
        cls, folder: Path, *, dtype: torch.dtype, index: Mapping[str, Any], unet: ModelMixin
    ) -> TokenTower:
        return ChatTextTower(*read_encoder(Qwen3ForCausalLM, folder, dtype=dtype))


def _places(device: torch.device, *sides: Tensor) -> Tensor:
    """Coordinates (1, H W L, 4) of time 0."""
    return torch.cartesian_prod(torch.arange(1), *sides)[None].to(device)
