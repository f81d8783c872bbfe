"""The recipes by name: values, each a variant of another (``systems.py``, ``pretrain.py``).

A world recipe is the any-data recipe with ``data="world:..."``. "stage" in settings is a recipe's
last stage; where there are several, each goes by its own name too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from showtell.recipes.parts import Parts
from showtell.recipes.photochat_retrieval import PhotochatRetrieval
from showtell.recipes.photochat_small import PhotochatSmall
from showtell.recipes.pretrain import (
    PHOTO_CODES,
    PHOTOS_CAPTIONER,
    PHOTOS_CONTRASTIVE,
    PHOTOS_PAINTER,
    WORLD_BASE,
    WORLD_CODES,
    WORLD_CONTRASTIVE,
)
from showtell.recipes.systems import (
    DIALOGUES,
    DIVTER,
    END_TO_END,
    GILL_CAPTIONS,
    PIPELINE,
    SEEING,
    VOKENS_ALIGNMENT,
    VOKENS_LEARNING,
    WORLD,
    WORLD_DIVTER,
    WORLD_GILL,
    WORLD_GILL_CAPTIONS,
    WORLD_LONG,
    WORLD_PAPER,
    WORLD_PIPELINE,
    WORLD_RETRIEVAL,
    WORLD_STORIES,
    WORLD_STORIES_PAINTER,
    WORLD_STORIES_TEXT,
    WORLD_TEXT,
    WORLD_V2,
    WORLD_VOKENS,
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A value that can be trained, and what it is; ``model``: the name that the model bears, if not
    the recipe's."""

    config: Any
    summary: str
    model: str = ""


def _recipe(config: Any, summary: str, model: str = "") -> Recipe:
    return Recipe(config=config, summary=summary, model=model)


RECIPES: Mapping[str, Recipe] = {
    "world_base": _recipe(
        WORLD_BASE, "VAE, painter, LM and photo encoder of the photo world: every other run's start"
    ),
    "world_mini": _recipe(
        WORLD, "the end-to-end model of 2408.08650 (Q-Former, LLM, DVTM, latent diffusion)", "mini"
    ),
    "world_paper": _recipe(
        WORLD_PAPER, "the same with the paper's settings: 5e-5, stops by dev BLEU-2 and FID"
    ),
    "world_pipeline": _recipe(
        WORLD_PIPELINE, "its pipeline baseline: captions as strings, parts trained apart"
    ),
    "world_v2": _recipe(
        WORLD_V2, "2408.08650 v2: the LLM attends to photos by cross-attention (Llama-Vision)"
    ),
    "world_vokens": _recipe(
        WORLD_VOKENS, "MiniGPT-5 (2310.02239): generative vokens, LoRA; two stages"
    ),
    "world_vokens_prefix": _recipe(
        replace(WORLD_VOKENS, adapter="prefix"), "the same with prefix tuning in place of LoRA"
    ),
    "world_gill": _recipe(
        WORLD_GILL, "GILL (2305.17216): a frozen LLM whose tokens paint, or search an album"
    ),
    "world_retrieval": _recipe(
        WORLD_RETRIEVAL, "the same without a painter: every photo comes from the album"
    ),
    "world_text": _recipe(
        WORLD_TEXT, "words only: the same dialogues, a photo is what the agent says of it"
    ),
    "world_divter": _recipe(
        WORLD_DIVTER,
        "the baseline Divter (2110.08515): descriptions as strings, photos as codes",
    ),
    "world_stories": _recipe(
        WORLD_STORIES, "MiniGPT-5 on the world's stories: texts and photos, step by step; LoRA"
    ),
    "world_stories_prefix": _recipe(
        replace(WORLD_STORIES, adapter="prefix"), "the same with prefix tuning"
    ),
    "world_stories_text": _recipe(
        WORLD_STORIES_TEXT, "its baseline: an LLM fine-tuned on the stories' texts"
    ),
    "world_stories_painter": _recipe(
        WORLD_STORIES_PAINTER, "its baseline: a painter fine-tuned on the stories"
    ),
    "world_gill_captions": _recipe(
        WORLD_GILL_CAPTIONS, "GILL on captioned photos, as MiniGPT-5's table 6 has it"
    ),
    "world_long": _recipe(WORLD_LONG, "the end-to-end model on dialogues of 20 to 80 turns"),
    "world_codes": _recipe(
        WORLD_CODES, "Divter's image side: VQ codes of photos, a translator to them, a ranker"
    ),
    "world_contrastive": _recipe(
        WORLD_CONTRASTIVE, "a small CLIP of the world: CLIP-I, CLIP-T and retrieval, offline"
    ),
    "parts": _recipe(Parts(), "a base put together from folders of transformers and diffusers"),
    "dialogues": _recipe(
        DIALOGUES, "a model trained on any data: dialogues, stories, captions, with photos"
    ),
    "dialogues_end_to_end": _recipe(
        END_TO_END, "2408.08650 on such data, with the paper's settings"
    ),
    "dialogues_pipeline": _recipe(PIPELINE, "its pipeline baseline on such data"),
    "dialogues_divter": _recipe(
        DIVTER, "Divter on such data, its translator trained before or not"
    ),
    "photo_encoder_captions": _recipe(SEEING, "what sees photos, from captions alone"),
    "vokens_alignment": _recipe(VOKENS_ALIGNMENT, "MiniGPT-5's first stage, on captioned photos"),
    "vokens_learning": _recipe(
        VOKENS_LEARNING, "MiniGPT-5's second stage, on stories or dialogues"
    ),
    "gill_captions": _recipe(GILL_CAPTIONS, "GILL on captioned photos"),
    "photo_codes": _recipe(
        PHOTO_CODES,
        "Divter's image side on captioned photos of any data: VQ codes, a translator to them",
    ),
    "photochat_small": _recipe(
        PhotochatSmall(),
        "dialogue, share moment and photo description on PhotoChat's real dialogues",
    ),
    "photochat_retrieval": _recipe(
        PhotochatRetrieval(),
        "the dialogue so far finds the photo's description: BM25 + a dual encoder",
    ),
    "photos_contrastive": _recipe(
        PHOTOS_CONTRASTIVE, "a small CLIP of real photos in a folder, from scratch; not shipped"
    ),
    "photos_captioner": _recipe(
        PHOTOS_CAPTIONER,
        "ViT, Q-Former and LM that caption real photos, from scratch; not shipped",
    ),
    "photos_painter": _recipe(
        PHOTOS_PAINTER, "a 64-px text-to-photo painter of real photos, from scratch; not shipped"
    ),
}
