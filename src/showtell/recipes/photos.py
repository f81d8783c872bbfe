"""Real photos with captions, from a folder: a contrastive encoder, a captioner and a painter.

photos_contrastive   a small CLIP (arXiv 2103.00020) of the library
photos_captioner     ViT (new, or the CLIP's), Q-Former and a small LM (arXiv 2301.12597)
photos_painter       latent diffusion at 64 px: VAE, then text tower and U-Net

All from scratch. What they learn from is other people's photos: they measure and are not shipped.
``folder:`` data name the photos (``data/captions.py``); their split "train" is trained on, without
``held_out`` photos that tell when a stage has learnt enough; "dev" is left to
``evaluation/photos.py``. Photos without captions serve the VAE alone.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    CLIPVisionModel,
)

from showtell.config import to_plain
from showtell.data.photos import load_photo, square
from showtell.data.sources import open_data
from showtell.dialogue import Photo
from showtell.errors import CheckpointError, DataError
from showtell.models.checkpoint import save_model
from showtell.models.dialogue_model import Decoding, PhotoDialogueModel
from showtell.models.language import LanguageModel
from showtell.models.painter import ClipTextTower, LatentDiffusionPainter
from showtell.models.photo_encoder import QFormerPhotoEncoder
from showtell.papers import Pipeline, PipelineConfig
from showtell.prompt import Renderer, RendererConfig
from showtell.recipes import small
from showtell.recipes.photos_tasks import CaptioningTask, PhotosContrastiveTask
from showtell.recipes.tasks import PainterTask, VaeTask, encode_all, latent_scale
from showtell.recipes.world_base import StageRunner
from showtell.runtime import the_device
from showtell.training.features import cached_array, cached_rows
from showtell.training.stage import Stage

VOCABULARY = 3000
_CACHED_SIDE = 80  # px a side of the cached photos of which encoders see crops
_SIDE = small.IMAGE_SIZE


@dataclass(frozen=True, kw_only=True)
class PhotosConfig:
    """Which photos: ``data``, a ``folder:`` name; ``held_out`` of its training photos."""

    data: str = "folder:data/photos"
    held_out: int = 400
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class PhotosContrastive(PhotosConfig):
    """One stage; every visit sees another crop of the photo and one of its captions."""

    width: int = 128
    layers: int = 4
    projection: int = 128
    patch: int = 8
    stage: Stage = field(
        default=Stage(
            name="contrastive",
            steps=1200,
            batch_size=128,
            learning_rate=1e-3,
            warmup=100,
            decay="cosine",
            betas=(0.9, 0.98),
            weight_decay=0.2,
            weights={"contrastive": 1.0},
            evaluate_every=100,
            patience_metrics=("held_out_r10",),
        )
    )


@dataclass(frozen=True, kw_only=True)
class PhotosCaptioner(PhotosConfig):
    """One stage by captioning; ``vision``: the folder of a photos_contrastive model, or None."""

    vision: str | None = None
    num_photo_tokens: int = 16
    stage: Stage = field(
        default=Stage(
            name="captioner",
            steps=1500,
            batch_size=48,
            learning_rate=1e-3,
            learning_rates={"photo_encoder.vision": 0.25},
            warmup=100,
            decay="cosine",
            betas=(0.9, 0.98),
            weight_decay=0.1,
            weights={"t": 1.0, "caption": 0.0},
            evaluate_every=150,
            patience_metrics=("-held_out_nll",),
        )
    )


@dataclass(frozen=True, kw_only=True)
class PhotosPainter(PhotosConfig):
    """The VAE on squares of half the side, then on whole photos; then text tower and U-Net."""

    vae: Stage = field(
        default=Stage(
            name="vae",
            steps=3000,
            batch_size=32,
            learning_rate=2e-3,
            warmup=100,
            decay="cosine",
            weight_decay=0.0,
            weights={"pixels": 1.0, "colour": 2.0, "edges": 0.5, "kl": 1e-3},
            ema=0.995,
            evaluate_every=500,
        )
    )
    vae_whole: Stage = field(
        default=Stage(
            name="vae_whole",
            steps=200,
            batch_size=16,
            learning_rate=4e-4,
            warmup=20,
            decay="cosine",
            weight_decay=0.0,
            weights={"pixels": 1.0, "colour": 2.0, "edges": 0.5, "kl": 1e-3},
            ema=0.98,
            evaluate_every=100,
        )
    )
    painter: Stage = field(
        default=Stage(
            name="painter",
            steps=12_000,
            batch_size=64,
            learning_rate=6e-4,
            learning_rates={"vae": 0.0},
            warmup=300,
            decay="cosine",
            betas=(0.9, 0.99),
            weights={"v": 1.0},
            ema=0.999,
        )
    )


# --------------------------------------------------------------------------------------- photos


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """Photos as uint8 (N, side, side, 3), and the captions of each (maybe none)."""

    photos: tuple[Photo, ...]
    pixels: np.ndarray

    @property
    def captions(self) -> list[tuple[str, ...]]:
        return [photo.labels["captions"] for photo in self.photos]


def find_photos(data: str, split: str) -> list[Photo]:
    """The photos of a split. Raises DataError where there is none, UsageError for other data."""
    found = [d.photos[0] for d in open_data(data) if d.labels.get("split") == split]
    if not found:
        raise DataError(
            f'{data} has no photo of the split "{split}"; wanted records with "split": "{split}" '
            "in its captions.jsonl. Write them, or name another folder."
        )
    return found


def captioned(photos: Sequence[Photo]) -> list[Photo]:
    return [photo for photo in photos if photo.labels["captions"]]


def split_photos(photos: Sequence[Photo], held_out: int) -> tuple[list[Photo], list[Photo]]:
    """``(rest, held_out)``, by the SHA-256 of the photos' names. Raises DataError."""
    if not 0 < held_out < len(photos):
        raise DataError(
            f"{held_out} photos are to be held out of {len(photos)} with captions; wanted fewer, "
            "and at least one. Change --set held_out, or name a folder with more photos."
        )
    order = sorted(photos, key=lambda photo: hashlib.sha256(photo.id.encode()).digest())
    return order[held_out:], order[:held_out]


def photo_set(photos: Sequence[Photo], *, side: int, cache: Path) -> PhotoSet:
    """Decoded once into ``cache``, cut to the middle square. Raises PhotoError for a bad file."""
    names = hashlib.sha256("\n".join(str(photo.path) for photo in photos).encode()).hexdigest()
    path = cache / f"photos-{side}-{names[:12]}.npy"
    pixels = cached_array(
        path,
        (len(photos), side, side, 3),
        "uint8",
        lambda: (np.asarray(square(load_photo(photo.path or ""), side)) for photo in photos),
    )
    return PhotoSet(photos=tuple(photos), pixels=pixels)


def _captioned_sets(
    config: PhotosConfig, *, side: int, out: Path
) -> tuple[PhotoSet, PhotoSet, CLIPTokenizer]:
    rest, held = split_photos(captioned(find_photos(config.data, "train")), config.held_out)
    words = (caption for photo in rest for caption in photo.labels["captions"])
    tokenizer = small.train_painter_tokenizer(words, vocabulary=VOCABULARY)
    first, second = (photo_set(some, side=side, cache=out / "cache") for some in (rest, held))
    return first, second, tokenizer


# ---------------------------------------------------------------------------------- contrastive


def run_photos_contrastive(config: PhotosContrastive, *, out: Path, resume: bool) -> Path:
    """Train and write ``out/model`` in the transformers layout, as load_clip reads it."""
    torch.manual_seed(config.seed)
    train, held, tokenizer = _captioned_sets(config, side=_CACHED_SIDE, out=out)
    task = PhotosContrastiveTask(
        module=build_contrastive(config, tokenizer),
        tokenizer=tokenizer,
        pixels=train.pixels,
        captions=train.captions,
        held_pixels=held.pixels,
        held_captions=held.captions,
    )
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    history = run.run(config.stage, task)
    folder = out / "model"
    task.module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    half = [0.5] * 3
    CLIPImageProcessorPil(
        size={"height": small.IMAGE_SIZE, "width": small.IMAGE_SIZE},
        do_center_crop=False,
        image_mean=half,
        image_std=half,
    ).save_pretrained(folder)
    _write_report(folder, config, {"held_out": task.validate(), "last": history[-1:]})
    return folder


def build_contrastive(config: PhotosContrastive, tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP of the configured size."""
    tower = {
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": 4,
    }
    text = {
        **tower,
        "num_hidden_layers": max(1, config.layers // 2),
        "vocab_size": len(tokenizer),
        "max_position_embeddings": small.TEXT_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**tower, "image_size": small.IMAGE_SIZE, "patch_size": config.patch}
    return CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=config.projection)
    )


def _write_report(folder: Path, config: PhotosConfig, measured: Mapping[str, object]) -> None:
    report = {"recipe": to_plain(config), "measures": measured}
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")


# ------------------------------------------------------------------------------------- captioner


def run_photos_captioner(config: PhotosCaptioner, *, out: Path, resume: bool) -> Path:
    """Train and write ``out/model``, a model whose ``caption`` says what it sees in a photo."""
    torch.manual_seed(config.seed)
    rest, held = split_photos(captioned(find_photos(config.data, "train")), config.held_out)
    train, kept = (photo_set(some, side=_CACHED_SIDE, cache=out / "cache") for some in (rest, held))
    task = CaptioningTask(
        module=build_captioner(config, rest),
        pixels=train.pixels,
        captions=train.captions,
        held_pixels=kept.pixels,
        held_captions=kept.captions,
        side=small.IMAGE_SIZE,
    )
    StageRunner(out=out, resume=resume, seed=config.seed).run(config.stage, task)
    folder = out / "model"
    save_model(task.module, folder, recipe={"name": "photos_captioner", "config": to_plain(config)})
    _write_report(folder, config, task.validate())
    return folder


def build_captioner(config: PhotosCaptioner, photos: Sequence[Photo]) -> PhotoDialogueModel:
    """ViT, Q-Former and LM, untrained but for the ViT where one is named; words of ``photos``."""
    words = (" " + caption for photo in photos for caption in photo.labels["captions"])
    tokenizer = small.train_dialogue_tokenizer(words, vocabulary=VOCABULARY)
    language = LanguageModel(small.build_language_model(tokenizer), tokenizer)
    vision = small.build_vision() if config.vision is None else _clip_vision(config.vision)
    photo_encoder = QFormerPhotoEncoder(
        vision=vision,
        qformer=small.build_qformer(vision_width=vision.config.hidden_size),
        num_tokens=config.num_photo_tokens,
        language_width=language.width,
    )
    settings = RendererConfig(num_photo_tokens=config.num_photo_tokens, own_pixels=False)
    return PhotoDialogueModel(
        language=language,
        photo_encoder=photo_encoder,
        bridge=Pipeline(PipelineConfig(), tokenizer=tokenizer),
        painter=None,
        renderer=Renderer(tokenizer, settings, has_pixels=lambda photo: "pixels" in photo.labels),
        name="photos_captioner",
        decoding=Decoding(max_new_tokens=30),
    )


def _clip_vision(folder: str) -> CLIPVisionModel:
    if not (Path(folder) / "config.json").is_file():
        raise CheckpointError(
            f'there is no photo encoder in "{folder}"; wanted the model folder of '
            'photos_contrastive; train it with "showtell train photos_contrastive", or start the '
            "ViT from scratch with --set vision=none"
        )
    clip = CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    return clip.vision_model


# --------------------------------------------------------------------------------------- painter


def run_photos_painter(config: PhotosPainter, *, out: Path, resume: bool) -> Path:
    """Train and write ``out/model``, a painter in the diffusers layout."""
    torch.manual_seed(config.seed)
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    photos = find_photos(config.data, "train")
    told = captioned(photos)
    words = [photo.labels["captions"] for photo in told]
    tokenizer = small.train_painter_tokenizer(
        (caption for captions in words for caption in captions), vocabulary=VOCABULARY
    )
    painter = LatentDiffusionPainter(
        text=ClipTextTower(small.build_text_tower(tokenizer), tokenizer),
        vae=small.build_vae(),
        unet=small.build_unet(),
        scheduler=small.build_scheduler(),
    )
    vae_folder = out / "vae" / "model"
    if run.finished(config.vae_whole):
        painter.vae = AutoencoderKL.from_pretrained(
            vae_folder, use_safetensors=True, low_cpu_mem_usage=False
        )
    else:
        rest, held = split_photos(photos, config.held_out)
        first, kept = (photo_set(some, side=_SIDE, cache=out / "cache") for some in (rest, held))
        painter.vae.to(memory_format=torch.channels_last)
        run.run(config.vae, VaeTask(painter.vae, first.pixels, kept.pixels, crop=_SIDE // 2))
        run.run(config.vae_whole, VaeTask(painter.vae, first.pixels, kept.pixels))
        scale, shift = latent_scale(painter.vae, first.pixels[:1024])
        painter.vae.register_to_config(scaling_factor=scale, shift_factor=shift)
        painter.vae.save_pretrained(vae_folder)
        run.finish(config.vae_whole)
    painter.vae.to(the_device(), memory_format=torch.channels_last).requires_grad_(False)
    painter.unet.to(memory_format=torch.channels_last)
    pixels = photo_set(told, side=_SIDE, cache=out / "cache").pixels
    latents = cached_rows(  # of every photo and of its mirror image
        out / "painter" / "latents.npy",
        lambda: encode_all(painter, np.concatenate([pixels, pixels[:, :, ::-1]])),
    )

    def caption(index: int, rng: random.Random) -> str:
        return rng.choice(words[index % len(words)])

    run.run(config.painter, PainterTask(painter, latents, caption))
    folder = out / "model"
    painter.save_pretrained(folder)
    _write_report(folder, config, {})
    return folder
