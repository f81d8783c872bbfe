"""world_base: what the papers take as pretrained, trained once: VAE, painter, LM, photo_encoder."""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import ViTModel

from photoworld.scenes import Scene, write_caption
from photoworld.talk import world_dialogue
from showtell.config import to_plain
from showtell.data.photochat import read_photochat, split_held_out
from showtell.dialogue import Dialogue
from showtell.errors import ConfigError, MissingDependency
from showtell.metrics.pictures import loss_curves
from showtell.models.checkpoint import save_model
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.language import LanguageModel
from showtell.models.painter import ClipTextTower, LatentDiffusionPainter
from showtell.models.photo_encoder import (
    LinearPhotoEncoder,
    QFormerPhotoEncoder,
    load_photo_encoder,
)
from showtell.papers import Pipeline, PipelineConfig
from showtell.prompt import Renderer, RendererConfig
from showtell.recipes import small
from showtell.recipes.tasks import (
    DialogueTask,
    LabelledPhotoEncoder,
    LabelledVision,
    PainterTask,
    VaeTask,
    VisionTask,
    captioning_example,
    encode_all,
    latent_scale,
    world_pixels,
)
from showtell.runtime import the_device
from showtell.training.features import cached_rows, photo_scene, world_photos
from showtell.training.loop import run_stage
from showtell.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class WorldBase:
    """Stages on the photo world's training seeds, and PhotoChat's training text if named.

    ``photochat``: a train.jsonl; without it the LM reads the world's dialogues only. ``start``: a
    model, shipped or a folder, whose parts are trained on instead of untrained ones; a stage of 0
    steps leaves its part as it is. ``language_layers``, ``language_width`` (a multiple of 64): of a
    new LM, 4 and 256 unless said; neither: the LM of ``start``, whose tokenizer stays in any case.
    ``reader``: what the LLM reads photos by; a linear map has one feature of the photo, so its ViT
    learns the labels at CLS, and there is no stage ``qformer``.
    """

    num_photos: int = 90_000
    num_dialogues: int = 90_000
    num_photo_tokens: int = 8
    excerpts: float = 0.6  # of the dialogues that the LM reads (see tasks.excerpt)
    photochat: str | None = None
    start: str | None = None
    language_layers: int | None = None
    language_width: int | None = None
    reader: Literal["qformer", "linear"] = "qformer"
    seed: int = 0
    vae: Stage = field(
        default=Stage(
            name="vae",
            steps=4500,
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
    vae_whole: Stage = field(  # the first one sees squares of 32 pixels, this one whole photos
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
            steps=6000,
            batch_size=64,
            learning_rate=6e-4,
            warmup=300,
            decay="cosine",
            betas=(0.9, 0.99),
            weights={"v": 1.0},
            ema=0.999,
        )
    )
    language: Stage = field(
        default=Stage(
            name="language",
            steps=3000,
            batch_size=32,
            learning_rate=2e-3,
            warmup=200,
            decay="cosine",
            betas=(0.9, 0.98),
            weights={"t": 1.0, "moment": 0.2, "caption": 0.5},
            ema=0.998,
        )
    )
    vision: Stage = field(
        default=Stage(
            name="vision",
            steps=1600,
            batch_size=128,
            learning_rate=1.5e-3,
            warmup=150,
            decay="cosine",
            betas=(0.9, 0.98),
            weight_decay=0.05,
            weights={"labels": 1.0},
            ema=0.995,
            evaluate_every=400,
        )
    )
    qformer: Stage = field(
        default=Stage(
            name="qformer",
            steps=600,
            batch_size=128,
            learning_rate=1.5e-3,
            learning_rates={"photo_encoder.vision": 0.0},
            warmup=80,
            decay="cosine",
            betas=(0.9, 0.98),
            weights={"labels": 1.0},
            evaluate_every=200,
        )
    )
    photo_encoder: Stage = field(
        default=Stage(
            name="photo_encoder",
            steps=1500,
            batch_size=48,
            learning_rate=1.2e-3,
            learning_rates={"photo_encoder.vision": 0.25},
            warmup=100,
            decay="cosine",
            betas=(0.9, 0.98),
            weights={"t": 1.0, "moment": 0.2, "caption": 0.5},
        )
    )


def run_world_base(config: WorldBase, *, out: Path, resume: bool) -> Path:
    """Train what is not yet there under ``out``; the finished model is ``out/model``.

    Raises CheckpointError for a ``start`` that is no model, ConfigError.
    """
    from showtell.models.checkpoint import model_folder

    torch.manual_seed(config.seed)
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    found = replace(config, start=config.start and str(model_folder(config.start)))
    painter = train_painter(found, run)
    language = train_language(found, run)
    model = train_photo_encoder(found, run, language=language, painter=painter)
    save_model(model, out / "model", recipe={"name": "world_base", "config": to_plain(config)})
    return out / "model"


@dataclass(frozen=True, kw_only=True)
class StageRunner:
    """Runs stages in their own folders; a finished one is not run again on --resume."""

    out: Path
    resume: bool
    seed: int = 0

    def run(self, stage: Stage, task: Any) -> list[dict[str, float]]:
        if stage.steps == 0:
            task.module.to(the_device())
            return []
        folder = self.out / stage.name
        folder.mkdir(parents=True, exist_ok=True)
        stage = replace(stage, seed=stage.seed + self.seed)
        history = run_stage(stage, task, out=folder, resume=self.resume)
        (folder / "history.json").write_text(json.dumps(history))
        with contextlib.suppress(MissingDependency):  # the numbers are in history.json
            loss_curves(history, folder / "loss.png")
        return history

    def finished(self, stage: Stage) -> bool:
        return self.resume and (self.out / stage.name / "done").exists()

    def finish(self, stage: Stage) -> None:
        (self.out / stage.name / "done").touch()


def new_painter(config: WorldBase) -> LatentDiffusionPainter:
    """An untrained painter with its tokenizer, or the one to start from."""
    if config.start is not None:
        return LatentDiffusionPainter.from_pretrained(Path(config.start) / "painter")
    rng = random.Random(config.seed)
    captions = [write_caption(photo_scene(seed), rng)[0] for seed in range(5000)]
    tokenizer = small.train_painter_tokenizer(captions)
    return LatentDiffusionPainter(
        text=ClipTextTower(small.build_text_tower(tokenizer), tokenizer),
        vae=small.build_vae(),
        unet=small.build_unet(),
        scheduler=small.build_scheduler(),
    )


def train_painter(config: WorldBase, run: StageRunner) -> LatentDiffusionPainter:
    """The VAE on photos, then text tower and U-Net together on captions."""
    folder = run.out / "painter" / "model"
    if run.finished(config.painter):
        return LatentDiffusionPainter.from_pretrained(folder)
    torch.manual_seed(config.seed)
    painter = new_painter(config)
    if config.start and not (config.vae.steps or config.vae_whole.steps or config.painter.steps):
        return painter
    scenes, photos = _photos(config, run)
    _, dev = _dev_photos(run)
    vae_folder = run.out / "vae" / "model"
    if run.finished(config.vae_whole):
        painter.vae = AutoencoderKL.from_pretrained(
            vae_folder, use_safetensors=True, low_cpu_mem_usage=False
        )
    else:
        painter.vae.to(memory_format=torch.channels_last)
        run.run(config.vae, VaeTask(painter.vae, photos, dev, crop=32))
        run.run(config.vae_whole, VaeTask(painter.vae, photos, dev))
        scale, shift = latent_scale(painter.vae, photos[:1024])
        painter.vae.register_to_config(scaling_factor=scale, shift_factor=shift)
        painter.vae.save_pretrained(vae_folder)
        run.finish(config.vae_whole)
    painter.vae.to(the_device(), memory_format=torch.channels_last).requires_grad_(False)
    latents = cached_rows(
        run.out / "painter" / f"latents-{config.num_photos}.npy",
        lambda: encode_all(painter, photos),
    )
    painter.unet.to(memory_format=torch.channels_last)
    stage = _frozen(config.painter, "vae")

    def caption(index: int, rng: random.Random) -> str:
        return write_caption(scenes[index], rng)[0]

    run.run(stage, PainterTask(painter, latents, caption))
    painter.save_pretrained(folder)
    run.finish(config.painter)
    return painter


def train_language(config: WorldBase, run: StageRunner) -> LanguageModel:
    """The LM on text: the world's dialogues, and PhotoChat's, photos standing as captions."""
    folder = run.out / "language" / "model"
    if run.finished(config.language):
        return LanguageModel.from_pretrained(folder)
    torch.manual_seed(config.seed)
    real = photochat_train(config.photochat) if config.photochat else []
    if config.start is not None:
        language = LanguageModel.from_pretrained(Path(config.start) / "language_model")
        tokenizer = language.tokenizer
    else:
        tokenizer = small.train_dialogue_tokenizer(
            text for dialogue in _mixed(config, real, 6000) for text in _texts(dialogue)
        )
    if config.start is None or config.language_layers or config.language_width:
        layers, width = config.language_layers or 4, config.language_width or 256
        if layers < 1 or width < 64 or width % 64:
            raise ConfigError(
                f"language_layers is {layers} and language_width {width}; wanted one layer or more "
                "and a multiple of 64, which is the width of a head; choose 4 and 256"
            )
        new = small.build_language_model(tokenizer, layers=layers, width=width)
        language = LanguageModel(new, tokenizer)
    elif config.language.steps == 0:
        return language
    renderer = Renderer(tokenizer, RendererConfig(perceive="caption", speakers=("user", "agent")))
    model = PhotoDialogueModel(
        language=language,
        photo_encoder=None,
        bridge=Pipeline(PipelineConfig(), tokenizer=tokenizer),
        painter=None,
        renderer=renderer,
    )

    def dialogue(index: int) -> Dialogue:
        return (
            real[index - config.num_dialogues]
            if index >= config.num_dialogues
            else (world_dialogue(index))
        )

    task = DialogueTask(
        model,
        dialogue=dialogue,
        length=config.num_dialogues + len(real),
        swap=lambda index: index >= config.num_dialogues,
        excerpts=config.excerpts,
    )
    run.run(config.language, task)
    language.save_pretrained(folder)
    run.finish(config.language)
    return language


def train_vision(config: WorldBase, run: StageRunner) -> ViTModel:
    """The photo encoder's ViT on attributes of drawn photos, as others' are on labelled ones."""
    folder = run.out / "vision" / "model"
    if run.finished(config.vision):
        return ViTModel.from_pretrained(folder, use_safetensors=True, add_pooling_layer=False)
    torch.manual_seed(config.seed)
    module = LabelledVision(small.build_vision(), at_cls=config.reader == "linear")
    run.run(config.vision, VisionTask(module, *_labelled_photos(config, run)))
    module.vision.save_pretrained(folder)
    run.finish(config.vision)
    return module.vision


def new_linear(config: WorldBase, run: StageRunner, *, language_width: int) -> LinearPhotoEncoder:
    """A linear map from the ViT's feature, untrained, or the one to start from."""
    if config.start is not None:
        started = load_photo_encoder(Path(config.start) / "perceptron")
        fits = isinstance(started, LinearPhotoEncoder) and started.language_width == language_width
        if fits and not config.vision.steps:
            return started  # type: ignore[return-value]
        vision = train_vision(config, run) if config.vision.steps else started.vision
    else:
        vision = train_vision(config, run)
    torch.manual_seed(config.seed)
    return LinearPhotoEncoder(
        vision=vision, num_tokens=config.num_photo_tokens, language_width=language_width
    )


def train_qformer(
    config: WorldBase, run: StageRunner, *, language_width: int
) -> QFormerPhotoEncoder:
    """ViT, then Q-Former on the same labels, before an LLM reads its tokens."""
    folder = run.out / "qformer" / "model"
    if run.finished(config.qformer):
        return QFormerPhotoEncoder.from_pretrained(folder)
    if config.start is not None:
        photo_encoder = QFormerPhotoEncoder.from_pretrained(Path(config.start) / "perceptron")
        if config.vision.steps:
            photo_encoder.vision = train_vision(config, run)
        if photo_encoder.language_width != language_width:
            torch.manual_seed(config.seed)
            photo_encoder.project = nn.Linear(photo_encoder.project.in_features, language_width)
    else:
        vision = train_vision(config, run)
        torch.manual_seed(config.seed)
        photo_encoder = QFormerPhotoEncoder(
            vision=vision,
            qformer=small.build_qformer(),
            num_tokens=config.num_photo_tokens,
            language_width=language_width,
        )
    if config.qformer.steps:
        module = LabelledPhotoEncoder(photo_encoder)
        run.run(config.qformer, VisionTask(module, *_labelled_photos(config, run)))
        photo_encoder.save_pretrained(folder)
        run.finish(config.qformer)
    return photo_encoder


def _labelled_photos(
    config: WorldBase, run: StageRunner
) -> tuple[np.ndarray, list[Scene], np.ndarray, list[Scene]]:
    scenes, photos = _photos(config, run)
    dev_scenes, dev = _dev_photos(run)
    return photos, scenes, dev, dev_scenes


def _photos(config: WorldBase, run: StageRunner) -> tuple[list[Scene], np.ndarray]:
    scenes = [photo_scene(seed) for seed in range(config.num_photos)]
    return scenes, world_photos(scenes, run.out / "cache" / f"photos-{config.num_photos}.npy")


def _dev_photos(run: StageRunner) -> tuple[list[Scene], np.ndarray]:
    scenes = [photo_scene(seed) for seed in range(200_000, 200_128)]
    return scenes, world_photos(scenes, run.out / "cache" / "photos-dev.npy")


def train_photo_encoder(
    config: WorldBase,
    run: StageRunner,
    *,
    language: LanguageModel,
    painter: LatentDiffusionPainter | None,
) -> PhotoDialogueModel:
    """The photo encoder by captioning, and by dialogues in which photos are seen, half and half."""
    start = new_linear if config.reader == "linear" else train_qformer
    photo_encoder = start(config, run, language_width=language.width)
    torch.manual_seed(config.seed)
    model = PhotoDialogueModel(
        language=language,
        photo_encoder=photo_encoder,
        bridge=Pipeline(PipelineConfig(), tokenizer=language.tokenizer),
        painter=None,
        renderer=Renderer(
            language.tokenizer, RendererConfig(num_photo_tokens=config.num_photo_tokens)
        ),
        name="world_base",
    )

    def dialogue(index: int) -> Dialogue:
        return captioning_example(index) if index % 2 else world_dialogue(index)

    task = DialogueTask(
        model,
        dialogue=dialogue,
        length=config.num_dialogues,
        pixels_of=world_pixels,
        excerpts=config.excerpts,
        excerpt_only=lambda index: bool(index % 2),
    )
    run.run(config.photo_encoder, task)
    model.painter = painter
    return model


def photochat_train(path: str) -> list[Dialogue]:
    """PhotoChat's training dialogues without the held-out thousand."""
    kept, _ = split_held_out(read_photochat(Path(path)))
    return list(kept)


def _mixed(config: WorldBase, real: list[Dialogue], count: int) -> list[Dialogue]:
    return [world_dialogue(seed) for seed in range(min(count, config.num_dialogues))] + real[:count]


def _texts(dialogue: Dialogue) -> list[str]:
    elements = [element for turn in dialogue.turns for element in turn.elements]
    return [" " + (e if isinstance(e, str) else e.caption) for e in elements]


def _frozen(stage: Stage, *prefixes: str) -> Stage:
    return replace(stage, learning_rates={**stage.learning_rates, **dict.fromkeys(prefixes, 0.0)})
