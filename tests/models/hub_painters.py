"""Painters of the hub's families as they lie there, written by the library's pipelines; tiny."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2, UNet2DConditionModel
from hub_llms import TEXTS, hub_tokenizer
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

from showtell.recipes.small import train_painter_tokenizer

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_OLD_BETAS = BETAS | {"set_alpha_to_one": False, "steps_offset": 1}
SD15 = diffusers.PNDMScheduler(**_OLD_BETAS, skip_prk_steps=True)
SD21_BASE = SD15
SD21 = diffusers.DDIMScheduler(**_OLD_BETAS, clip_sample=False, prediction_type="v_prediction")
TURBO = diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing", steps_offset=1)
LCM = diffusers.LCMScheduler(**_OLD_BETAS, clip_sample=False)
FLOW = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
KLEIN = diffusers.FlowMatchEulerDiscreteScheduler(
    use_dynamic_shifting=True,
    shift=3.0,
    base_shift=0.5,
    max_shift=1.15,
    time_shift_type="exponential",
)
FAMILIES = {  # the scheduler that its folder names
    "sd15": SD15,
    "sd21_base": SD21_BASE,
    "sd21": SD21,
    "sd_turbo": TURBO,
    "lcm": LCM,
    "sd3": FLOW,
    "sd3_without_t5": FLOW,
    "sd35": FLOW,
    "klein": KLEIN,
    "klein_distilled": KLEIN,
}
ROOM = 20  # tokens of a caption
_LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def _vae(kind: Any = AutoencoderKL, **own: Any) -> Any:
    return kind(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=32,
        **own,
    )


def _clip(kind: Any, tokenizer: Any, *, width: int) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        projection_dim=width,
        max_position_embeddings=ROOM,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=1,
        **_LAYERS,
    )
    return kind(config)


def _pieces() -> Any:
    tokenizer = train_painter_tokenizer([*TEXTS, "a city at night"], vocabulary=400)
    tokenizer.model_max_length = ROOM
    return tokenizer


def _t5_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=90,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(TEXTS) * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def _stable_diffusion(family: str, scheduler: Any) -> Any:
    tokenizer = _pieces()
    if family == "sd15":  # as CLIP's own; the later ones pad with "!"
        tokenizer.pad_token = tokenizer.eos_token
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2 if family == "sd15" else (2, 4),
        use_linear_projection=family != "sd15",
        cross_attention_dim=16,
        norm_num_groups=4,
        time_cond_proj_dim=12 if family == "lcm" else None,
    )
    kind = "LatentConsistencyModel" if family == "lcm" else "StableDiffusion"
    return getattr(diffusers, f"{kind}Pipeline")(
        vae=_vae(latent_channels=4),
        text_encoder=_clip(CLIPTextModel, tokenizer, width=16),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sd3(family: str, scheduler: Any) -> Any:
    first, second = _pieces(), _pieces()
    first.pad_token = first.eos_token
    t5 = T5Config(vocab_size=100, d_model=64, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    whole = family != "sd3_without_t5"
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=64,
        caption_projection_dim=16,
        pooled_projection_dim=40,
        out_channels=4,
        pos_embed_max_size=16,
        **({"dual_attention_layers": (0,), "qk_norm": "rms_norm"} if family == "sd35" else {}),
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=scheduler,
        vae=_vae(
            latent_channels=4,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.0609,
            scaling_factor=1.5305,
        ),
        text_encoder=_clip(CLIPTextModelWithProjection, first, width=16),
        tokenizer=first,
        text_encoder_2=_clip(CLIPTextModelWithProjection, second, width=24),
        tokenizer_2=second,
        text_encoder_3=T5EncoderModel(t5) if whole else None,
        tokenizer_3=_t5_tokenizer() if whole else None,
    )


def _klein(family: str, scheduler: Any) -> Any:
    tokenizer = hub_tokenizer("qwen3")
    tokenizer.add_special_tokens({"pad_token": "<|endoftext|>"})
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=True,
        pad_token_id=None,
    )
    vae = _vae(AutoencoderKLFlux2, latent_channels=4)
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=48,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
    )
    return diffusers.Flux2KleinPipeline(
        scheduler=scheduler,
        vae=vae,
        text_encoder=Qwen3ForCausalLM(config),
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=family == "klein_distilled",
    )


def write_hub_painter(
    folder: Path, family: str, *, scheduler: Any = None, dtype: torch.dtype = torch.float32
) -> Path:
    """The folder, as the hub has the family, perhaps with another scheduler."""
    build = {"sd3": _sd3, "klei": _klein}.get(family[:3], _stable_diffusion)
    build = _klein if family.startswith("klein") else build
    torch.manual_seed(0)
    pipeline = build(family, FAMILIES[family] if scheduler is None else scheduler)
    for part in pipeline.components.values():  # what starts at 0 says nothing
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.2)
            part.to(dtype)

    pipeline.save_pretrained(folder)
    if family == "sd15":
        _as_long_ago(folder)
    return folder


def _as_long_ago(folder: Path) -> None:
    """As the files of 2022 are: buffers among the weights, older names in the VAE's attention, a
    tokenizer of two files."""
    for file in folder.glob("text_encoder/*.safetensors"):
        weights = load_file(file)
        weights["text_model.embeddings.position_ids"] = torch.arange(ROOM)[None]
        save_file(weights, file, metadata={"format": "pt"})
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for file in folder.glob("vae/*.safetensors"):
        weights = load_file(file)
        for new, name in old.items():
            weights = {key.replace(f".{new}.", f".{name}."): each for key, each in weights.items()}
        save_file(weights, file, metadata={"format": "pt"})
    whole = json.loads((folder / "tokenizer/tokenizer.json").read_text())
    (folder / "tokenizer/tokenizer.json").unlink()
    (folder / "tokenizer/vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    merges = [" ".join(pair) for pair in whole["model"]["merges"]]
    (folder / "tokenizer/merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
