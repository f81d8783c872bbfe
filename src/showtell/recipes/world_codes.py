"""world_codes: Divter's image side on drawn photos, before any dialogue.

V, a VQ model on the latents of world_base's VAE; F, which writes the codes of a captioned photo
(its pre-training); and the ranker, a small CLIP of its own that no measure ever uses.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import VQModel

from photoworld.scenes import DEV_SEEDS, Scene, write_caption
from showtell.config import to_plain
from showtell.errors import ConfigError
from showtell.models.painter import LatentDiffusionPainter, shrinks
from showtell.models.ranker import ClipRanker
from showtell.models.vq_painter import VqPainter
from showtell.recipes import small
from showtell.recipes.codes_tasks import (
    TranslatorTask,
    VqTask,
    codes_of,
    latents_of,
    start_codebook,
)
from showtell.recipes.world_base import StageRunner
from showtell.recipes.world_contrastive import WorldContrastive, run_world_contrastive
from showtell.runtime import the_device
from showtell.training.features import cached_rows, photo_scene, world_photos
from showtell.training.stage import Stage

_CONTRASTIVE = WorldContrastive()


@dataclass(frozen=True, kw_only=True)
class WorldCodes:
    """``base`` gives the VAE and the words. A photo is a codebook's choice of ``num_codes`` for
    each 2 x 2 latents. Of ``num_samples`` photos the ranker keeps one; a ranker of 0 steps is
    none, and then one photo is painted."""

    base: str = "runs/world_base/model"
    num_photos: int = 30_000
    num_dev: int = 512
    num_codes: int = 1024
    code_width: int = 8
    width: int = 192
    layers: int = 4
    text_length: int = 32  # tokens of a caption, as Divter's
    num_samples: int = 8
    seed: int = 0
    vq: Stage = field(
        default=Stage(
            name="vq",
            steps=1500,
            batch_size=64,
            learning_rate=2e-3,
            warmup=50,
            decay="cosine",
            betas=(0.9, 0.98),
            weight_decay=0.0,
            weights={"latents": 1.0, "codes": 1.0},
            ema=0.99,
            autocast=False,
            evaluate_every=500,
        )
    )
    translator: Stage = field(
        default=Stage(
            name="translator",
            steps=2000,
            batch_size=32,
            learning_rate=1e-3,
            learning_rates={"": 0.0, "translator": 1.0},
            warmup=100,
            decay="cosine",
            betas=(0.9, 0.98),
            weights={"v": 1.0},
            ema=0.995,
            evaluate_every=500,
        )
    )
    ranker: WorldContrastive = field(
        default=replace(
            _CONTRASTIVE,
            num_photos=12_000,
            stage=replace(_CONTRASTIVE.stage, name="ranker", steps=500),
        )
    )


def run_world_codes(config: WorldCodes, *, out: Path, resume: bool) -> Path:
    """Train what is not yet there under ``out``; the finished painter is ``out/model``."""
    base = base_painter(config.base)
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    rank = train_ranker(config, out=out, resume=resume)
    scenes, latents = _latents(config, base, run, range(config.num_photos))
    dev_scenes, dev = _latents(config, base, run, DEV_SEEDS[: config.num_dev])
    rng = random.Random(config.seed)
    return train_translator(
        config,
        run,
        base=base,
        rank=rank,
        latents=latents,
        caption=lambda index, rng: write_caption(scenes[index], rng)[0],
        dev=dev,
        dev_captions=[write_caption(scene, rng)[0] for scene in dev_scenes],
        report={"recipe": to_plain(config)},
    )


def train_translator(
    config: WorldCodes,
    run: StageRunner,
    *,
    base: LatentDiffusionPainter,
    rank: ClipRanker | None,
    latents: np.ndarray,
    caption: Callable[[int, random.Random], str],
    dev: np.ndarray,
    dev_captions: Sequence[str],
    report: Mapping[str, Any],
) -> Path:
    """V on latents (N, c, h, w), F on their codes; the painter of both, and its report."""
    vq = train_vq(config, run, latents, dev)
    torch.manual_seed(config.seed)
    tokenizer = base.text.tokenizer
    painter = VqPainter(
        translator=small.build_translator(
            tokenizer,
            num_codes=config.num_codes,
            positions=config.text_length + 1 + (vq.config.sample_size // shrinks(vq)) ** 2,
            width=config.width,
            layers=config.layers,
        ),
        tokenizer=tokenizer,
        vq=vq,
        vae=base.vae,
        text_length=config.text_length,
        num_samples=config.num_samples if rank is not None else 1,
        rank=rank,
    )
    task = TranslatorTask(
        painter, codes_of(painter, latents), caption, codes_of(painter, dev), dev_captions
    )
    run.run(config.translator, task)
    folder = run.out / "model"
    folder.mkdir(exist_ok=True)
    painter.save_pretrained(folder)
    text = json.dumps({**report, "measures": task.validate()}, indent=2)
    (folder / "report.json").write_text(text + "\n")
    return folder


def base_painter(base: str) -> LatentDiffusionPainter:
    """The painter of world_base's model. Raises ConfigError where there is none."""
    folder = Path(base) / "painter"
    if not folder.is_dir():
        raise ConfigError(
            f'base is "{base}", and there is no painter in such a folder; train it first with '
            '"showtell train world_base", or name one with --set base=PATH'
        )
    return LatentDiffusionPainter.from_pretrained(folder).to(the_device())


def train_ranker(config: WorldCodes, *, out: Path, resume: bool) -> ClipRanker | None:
    """A contrastive encoder of its own, or None where its stage has no steps."""
    if config.ranker.stage.steps == 0:
        return None
    ranker = replace(config.ranker, seed=config.seed)
    return ClipRanker.from_pretrained(
        run_world_contrastive(ranker, out=out / "ranker", resume=resume)
    )


def train_vq(config: WorldCodes, run: StageRunner, latents: np.ndarray, dev: np.ndarray) -> VQModel:
    """V on latents, (N, c, h, w)."""
    folder = run.out / "vq" / "model"
    if run.finished(config.vq):
        vq = VQModel.from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False)
        return vq.to(the_device())
    torch.manual_seed(config.seed)
    vq = small.build_vq(
        channels=latents.shape[1],
        side=latents.shape[-1],
        num_codes=config.num_codes,
        code_width=config.code_width,
    )
    start_codebook(vq, latents[:256], seed=config.seed)
    run.run(config.vq, VqTask(vq, latents, dev))
    vq.save_pretrained(folder)
    run.finish(config.vq)
    return vq


def _latents(
    config: WorldCodes, base: LatentDiffusionPainter, run: StageRunner, seeds: Sequence[int]
) -> tuple[list[Scene], np.ndarray]:
    """Drawn photos as the VAE's latents, kept in ``out``/cache."""
    scenes = [photo_scene(seed) for seed in seeds]
    name = f"{seeds[0]}-{len(seeds)}"
    photos = world_photos(scenes, run.out / "cache" / f"photos-{name}.npy")
    base.vae.to(memory_format=torch.channels_last)
    return scenes, cached_rows(
        run.out / "cache" / f"latents-{name}.npy", lambda: latents_of(base.vae, photos)
    )
