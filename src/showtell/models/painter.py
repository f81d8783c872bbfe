"""Latent diffusion behind the Painter protocol: text tower, loss, guidance, denoising.

All parts are library classes in the ordinary diffusers folder layout (tokenizer/, text_encoder/,
vae/, unet/, scheduler/), so a Stable Diffusion checkpoint loads as the small one does.
Source: 2408.08650, section 2.4.3; classifier-free guidance as in arXiv 2207.12598.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    ModelMixin,
    UNet2DConditionModel,
)
from diffusers.training_utils import compute_snr
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPTextModel, PreTrainedTokenizerFast

from showtell.errors import ConfigError
from showtell.models.folders import (
    MAX_SHARD_SIZE,
    from_diffusers,
    from_transformers,
    reading,
    to_diffusers,
    write_json,
)
from showtell.models.parts import Conditioning, Dice, PainterTokens, drawn
from showtell.runtime import mixed_precision, small_attention


class TokenTower(nn.Module):
    """A text tower (parts.TextTower) less what it makes of the tokens; ``length`` is S."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, length: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.length = length

    @property
    def token_table_UC(self) -> Tensor:
        raise NotImplementedError

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Captions -> conditioning (N, S, C), by the ordinary path."""
        return self(self.tokenize(captions).ids_NS)

    def tokenize(self, captions: Sequence[str]) -> PainterTokens:
        """Captions -> padded ids with character offsets; longer ones are cut to S tokens."""
        encoded = self.tokenizer(
            list(captions),
            padding="max_length",
            max_length=self.length,
            truncation=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_tensors="pt",
        ).to(self.token_table_UC.device)
        return PainterTokens(
            ids_NS=encoded["input_ids"],
            content_NS=encoded["special_tokens_mask"] == 0,
            offsets_NS2=encoded["offset_mapping"],
        )


class ClipTextTower(TokenTower):
    """A CLIP text encoder with its own vocabulary U that accepts soft tokens (see parts.TextTower).

    Gradients flow into ``embeds_NSC``; the ids still say where the sequence ends.
    """

    def __init__(self, encoder: CLIPTextModel, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(tokenizer, length=int(encoder.config.max_position_embeddings))
        self.encoder = encoder

    @property
    def token_table_UC(self) -> Tensor:
        return self.encoder.get_input_embeddings().weight

    def forward(self, ids_NS: Tensor, embeds_NSC: Tensor | None = None) -> Tensor:
        """The last hidden states, (N, S, C)."""
        if embeds_NSC is None:
            return self.encoder(input_ids=ids_NS).last_hidden_state
        # The library's forward takes ids only: stand in for the rows of its token table.
        handle = self.encoder.get_input_embeddings().register_forward_hook(
            lambda module, args, output: embeds_NSC.to(output.dtype)
        )
        try:
            return self.encoder(input_ids=ids_NS).last_hidden_state
        finally:
            handle.remove()


def shrinks(autoencoder: ModelMixin) -> int:
    """How many times smaller the latents of an autoencoder of diffusers are than what it reads."""
    return int(2 ** (len(autoencoder.config.block_out_channels) - 1))


@torch.no_grad()
def encode_latents(
    vae: AutoencoderKL, pixels_N3HW: Tensor, *, generator: Dice | None = None
) -> Tensor:
    """Pixels in [0, 1] -> scaled latents; a sample with a generator, else the mode."""
    posterior = vae.encode(pixels_N3HW.to(vae.device) * 2 - 1).latent_dist
    latents = posterior.mode() if generator is None else posterior.sample(generator)
    return (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


@torch.no_grad()
def decode_latents(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Scaled latents -> pixels in [0, 1]."""
    unscaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    return (vae.decode(unscaled).sample.float() / 2 + 0.5).clamp(0, 1)


class LatentDiffusionPainter(nn.Module):
    """Conditioning -> photo: VAE, denoiser, text tower, scheduler handed in.

    ``bfloat16_products``: photos are painted by them on a device that has them; nearly twice as
    fast on such a CPU, and off by some thousandths of a photo's range.
    """

    denoises = True
    bfloat16_products = False

    def __init__(
        self,
        *,
        text: ClipTextTower,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler: DDPMScheduler,
    ) -> None:
        super().__init__()
        self.text = text
        self.vae = vae
        self.unet = unet
        self.scheduler = scheduler

    @property
    def image_size(self) -> int:
        """H and W of a photo."""
        return int(self.unet.config.sample_size) * shrinks(self.vae)

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
        noise = randn_tensor(latents.shape, generator=generator, device=latents.device)
        total = self.scheduler.config.num_train_timesteps
        steps_N = drawn(partial(torch.randint, total), len(latents), generator).to(latents.device)
        noisy = self.scheduler.add_noise(latents, noise, steps_N)
        with small_attention(noisy, length=noisy.shape[-2] * noisy.shape[-1]):
            predicted = self.unet(
                noisy.to(cond_NSC.dtype), steps_N, encoder_hidden_states=cond_NSC
            ).sample.float()
        kind = self.scheduler.config.prediction_type
        targets = {
            "epsilon": lambda: noise,
            "v_prediction": lambda: self.scheduler.get_velocity(latents, noise, steps_N),
            "sample": lambda: latents,
        }
        error_N = F.mse_loss(predicted, targets[kind](), reduction="none").mean(dim=(1, 2, 3))
        if snr_gamma is not None:
            snr_N = compute_snr(self.scheduler, steps_N).to(error_N)
            per_N = {"epsilon": snr_N, "v_prediction": snr_N + 1, "sample": torch.ones_like(snr_N)}
            error_N = error_N * snr_N.clamp(max=snr_gamma) / per_N[kind]
        return error_N.mean()

    @torch.no_grad()
    def paint(
        self,
        conditioning: Conditioning,
        *,
        num_steps: int,
        guidance: float,
        seeds: Sequence[int],
        callback: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """Photos (N, 3, H, W) in [0, 1] by DPM-Solver++ with classifier-free guidance.

        Each photo starts from the noise of its own seed, so a batch paints what single calls do.
        ``callback(step, latents)`` is called after each of ``num_steps`` steps.
        """
        solver = DPMSolverMultistepScheduler.from_config(
            self.scheduler.config, algorithm_type="dpmsolver++", timestep_spacing="trailing"
        )
        total = int(self.scheduler.config.num_train_timesteps)
        if not 0 < num_steps <= total:
            raise ConfigError(f"num_steps is {num_steps}; wanted 1 to {total}, for example 20")
        solver.set_timesteps(num_steps)
        if len(solver.timesteps) > num_steps:  # rounding has added a step, below time 0
            solver.set_timesteps(timesteps=solver.timesteps[:num_steps].tolist())
        cond_NSC = conditioning.cond_NSC
        count = cond_NSC.shape[0]
        uncond_NSC = conditioning.uncond_NSC
        if uncond_NSC is None:
            uncond_NSC = self.text.encode([""]).expand(count, -1, -1)
        both = torch.cat([uncond_NSC, cond_NSC]) if guidance != 1 else cond_NSC
        size = self.unet.config.sample_size
        shape = (self.unet.config.in_channels, size, size)
        latents = torch.stack(
            [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        ).to(cond_NSC.device)
        latents = latents * solver.init_noise_sigma
        with mixed_precision(cond_NSC.device) if self.bfloat16_products else nullcontext():
            for index, step in enumerate(solver.timesteps):
                if guidance != 1:
                    predicted = self.unet(torch.cat([latents] * 2), step, both).sample.float()
                    uncond, cond = predicted.chunk(2)
                    predicted = uncond + guidance * (cond - uncond)
                else:
                    predicted = self.unet(latents, step, both).sample.float()
                latents = solver.step(predicted, step, latents).prev_sample
                if callback is not None:
                    callback(index + 1, latents)
            return self.decode_photos(latents)

    # ------------------------------------------------------------------------------ on disk

    def save_pretrained(self, folder: Path) -> None:
        """Write the diffusers folder layout with safetensors in shards of at most 15 MB."""
        self.text.encoder.save_pretrained(folder / "text_encoder", max_shard_size=MAX_SHARD_SIZE)
        self.text.tokenizer.save_pretrained(folder / "tokenizer")
        to_diffusers(self.vae, folder / "vae")
        to_diffusers(self.unet, folder / "unet")
        self.scheduler.save_pretrained(folder / "scheduler")
        index: dict[str, Any] = {
            "_class_name": "StableDiffusionPipeline",
            "feature_extractor": [None, None],
            "safety_checker": [None, None],
            "requires_safety_checker": False,
            "image_encoder": [None, None],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
            "vae": ["diffusers", "AutoencoderKL"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "scheduler": ["diffusers", "DDPMScheduler"],
        }
        write_json(folder / "model_index.json", index)

    @classmethod
    def from_pretrained(
        cls, folder: Path, *, dtype: torch.dtype = torch.float32
    ) -> LatentDiffusionPainter:
        """Read a diffusers folder from this machine; only safetensors are read.

        Raises CheckpointError if a part is missing or broken.
        """
        wanted = (
            "the diffusers layout (tokenizer, text_encoder, vae, unet, scheduler) as "
            "save_pretrained writes it"
        )
        with reading("the painter", folder, wanted=wanted):
            return cls(
                text=ClipTextTower(
                    from_transformers(CLIPTextModel, folder / "text_encoder", dtype=dtype),
                    AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
                ),
                vae=from_diffusers(AutoencoderKL, folder / "vae", dtype=dtype),
                unet=from_diffusers(UNet2DConditionModel, folder / "unet", dtype=dtype),
                scheduler=DDPMScheduler.from_pretrained(
                    folder / "scheduler", local_files_only=True
                ),
            )
