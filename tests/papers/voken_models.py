"""A tiny whole model with vokens, and stories for it."""

from __future__ import annotations

import random
from dataclasses import replace

import torch

from conftest import build_model
from photoworld.scenes import sample_scene, write_caption
from showtell.batch import Batch, collate
from showtell.dialogue import Dialogue, Photo
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.papers.minigpt5 import Step, VokensConfig
from showtell.recipes.bridged import with_bridge
from showtell.recipes.tasks import world_pixels


def voken_model(tokenizers, **choices) -> PhotoDialogueModel:
    """The tests' tiny model with the vokens bridge in place of the pipeline's."""
    base = build_model(tokenizers, bridge="pipeline")
    config = VokensConfig(**{"num_vokens": 3, "num_layers": 1, "num_heads": 2, **choices})
    model = with_bridge(base, config, seed=0).eval()
    model.decoding = replace(model.decoding, num_steps=1)
    return model


def batched(model: PhotoDialogueModel, dialogues: list[Dialogue]) -> Batch:
    rows = [model.renderer.render(dialogue) for dialogue in dialogues]
    pad = model.language.tokenizer.pad_token_id
    return collate(rows, pad_id=pad, pixels_of=world_pixels, paint=True)


def dice(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def world_photo(seed: int) -> Photo:
    scene = sample_scene(random.Random(seed))
    caption, _ = write_caption(scene, random.Random(seed))
    return Photo(id=f"p{seed}", caption=caption, labels={"scene": scene.as_dict()})


def story(num_steps: int = 3, *, seed: int = 0) -> list[Step]:
    return [
        Step(text=f"and then came number {k}.", photo=world_photo(100 * seed + k))
        for k in range(num_steps)
    ]
