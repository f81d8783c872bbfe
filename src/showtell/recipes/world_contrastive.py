"""world_contrastive: photos and captions of the world in one space, for CLIP-I, CLIP-T, retrieval.

A CLIP model (arXiv 2103.00020) of the library at a small size; an instrument like the oracle: it
trains, ranks or filters nothing whose figure it takes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from photoworld.scenes import DEV_SEEDS, Scene, write_caption
from showtell.config import to_plain
from showtell.recipes import small
from showtell.recipes.world_base import StageRunner
from showtell.training.features import photo_scene, pixels_tensor, world_photos
from showtell.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class WorldContrastive:
    """One stage on drawn photos, each with a caption that is written anew at every visit."""

    num_photos: int = 30_000
    num_dev: int = 512
    width: int = 96
    layers: int = 3
    projection: int = 64
    seed: int = 0
    stage: Stage = field(
        default=Stage(
            name="contrastive",
            steps=1500,
            batch_size=128,
            learning_rate=1e-3,
            warmup=100,
            decay="cosine",
            betas=(0.9, 0.98),
            weight_decay=0.05,
            weights={"contrastive": 1.0},
            ema=0.99,
            evaluate_every=500,
        )
    )


def run_world_contrastive(config: WorldContrastive, *, out: Path, resume: bool) -> Path:
    """Train and write ``out/model`` in the transformers layout, its tokenizer beside it."""
    torch.manual_seed(config.seed)
    scenes = [photo_scene(seed) for seed in range(config.num_photos)]
    dev_scenes = [photo_scene(seed) for seed in DEV_SEEDS[: config.num_dev]]
    rng = random.Random(config.seed)
    tokenizer = small.train_painter_tokenizer(write_caption(s, rng)[0] for s in scenes[:5000])
    task = ContrastiveTask(
        module=build(config, tokenizer),
        tokenizer=tokenizer,
        scenes=scenes,
        photos=world_photos(scenes, out / "cache" / f"photos-{config.num_photos}.npy"),
        held_out_scenes=dev_scenes,
        held_out=world_photos(dev_scenes, out / "cache" / f"dev-{config.num_dev}.npy"),
    )
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    run.run(config.stage, task)
    folder = out / "model"
    task.module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    half = [0.5] * 3
    CLIPImageProcessorPil(  # so that load_clip, and showtell score --clip, read the folder
        size={"height": small.IMAGE_SIZE, "width": small.IMAGE_SIZE},
        do_center_crop=False,
        image_mean=half,
        image_std=half,
    ).save_pretrained(folder)
    measured = {"recipe": to_plain(config), "measures": task.validate()}
    (folder / "report.json").write_text(json.dumps(measured, indent=2) + "\n")
    return folder


def build(config: WorldContrastive, tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP of the configured size."""
    tower = {
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": 4,
    }
    return CLIPModel(
        CLIPConfig(
            text_config={
                **tower,
                "vocab_size": len(tokenizer),
                "max_position_embeddings": small.TEXT_LENGTH,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
            },
            vision_config={**tower, "image_size": small.IMAGE_SIZE, "patch_size": 8},
            projection_dim=config.projection,
        )
    )


@dataclass
class ContrastiveTask:
    """Photos and captions: each picks out the other among those of its batch."""

    module: CLIPModel
    tokenizer: CLIPTokenizer
    scenes: Sequence[Scene]
    photos: np.ndarray  # uint8 (N, H, W, 3)
    held_out_scenes: Sequence[Scene]
    held_out: np.ndarray

    def __len__(self) -> int:
        return len(self.scenes)

    def losses(
        self, indices: Sequence[int], *, generator: torch.Generator, epoch: float
    ) -> dict[str, Tensor]:
        seed = int(torch.randint(2**31, (1,), generator=generator))
        inputs = self._inputs([self.scenes[i] for i in indices], self.photos[list(indices)], seed)
        return {"contrastive": self.module(**inputs, return_loss=True).loss}

    def validate(self) -> dict[str, float]:
        """R@1 both ways among the held-out photos; a caption states only some of what is there."""
        with torch.no_grad():
            inputs = self._inputs(self.held_out_scenes, self.held_out, seed=0)
            logits_NN = self.module(**inputs).logits_per_image.cpu()
        gold_N = torch.arange(len(logits_NN))
        return {
            "dev_photo_to_caption_r1": float((logits_NN.argmax(1) == gold_N).float().mean()),
            "dev_caption_to_photo_r1": float((logits_NN.argmax(0) == gold_N).float().mean()),
        }

    def _inputs(self, scenes: Sequence[Scene], photos: np.ndarray, seed: int) -> dict[str, Tensor]:
        rng = random.Random(seed)
        told = self.tokenizer(
            [write_caption(scene, rng)[0] for scene in scenes],
            padding="max_length",
            max_length=small.TEXT_LENGTH,
            truncation=True,
            return_tensors="pt",
        )
        inputs = {
            "input_ids": told["input_ids"],
            "attention_mask": told["attention_mask"],
            "pixel_values": pixels_tensor(photos) * 2 - 1,
        }
        return {name: each.to(self.module.device) for name, each in inputs.items()}
