"""The recipes by name: values, each a variant of another (``systems.py``, ``pretrain.py``).

A world recipe is the any-data recipe with ``data="world:..."``. "stage" in settings is a recipe's
last stage; where there are several, each goes by its own name too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from showtell.recipes.hub_parts import Parts
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


@dataclass(frozen=True)
class Recipe:
    """A value that can be trained. ``model``: the model's name, if not the recipe's."""

    config: Any
    model: str = ""


RECIPES: Mapping[str, Recipe] = {
    "world_base": Recipe(WORLD_BASE),
    "world_mini": Recipe(WORLD, model="mini"),
    "world_paper": Recipe(WORLD_PAPER),
    "world_pipeline": Recipe(WORLD_PIPELINE),
    "world_v2": Recipe(WORLD_V2),
    "world_vokens": Recipe(WORLD_VOKENS),
    "world_vokens_prefix": Recipe(replace(WORLD_VOKENS, adapter="prefix")),
    "world_gill": Recipe(WORLD_GILL),
    "world_retrieval": Recipe(WORLD_RETRIEVAL),
    "world_text": Recipe(WORLD_TEXT),
    "world_divter": Recipe(WORLD_DIVTER),
    "world_stories": Recipe(WORLD_STORIES),
    "world_stories_prefix": Recipe(replace(WORLD_STORIES, adapter="prefix")),
    "world_stories_text": Recipe(WORLD_STORIES_TEXT),
    "world_stories_painter": Recipe(WORLD_STORIES_PAINTER),
    "world_gill_captions": Recipe(WORLD_GILL_CAPTIONS),
    "world_long": Recipe(WORLD_LONG),
    "world_codes": Recipe(WORLD_CODES),
    "world_contrastive": Recipe(WORLD_CONTRASTIVE),
    "parts": Recipe(Parts()),
    "dialogues": Recipe(DIALOGUES),
    "dialogues_end_to_end": Recipe(END_TO_END),
    "dialogues_pipeline": Recipe(PIPELINE),
    "dialogues_divter": Recipe(DIVTER),
    "photo_encoder_captions": Recipe(SEEING),
    "vokens_alignment": Recipe(VOKENS_ALIGNMENT),
    "vokens_learning": Recipe(VOKENS_LEARNING),
    "gill_captions": Recipe(GILL_CAPTIONS),
    "photo_codes": Recipe(PHOTO_CODES),
    "photochat_small": Recipe(PhotochatSmall()),
    "photochat_retrieval": Recipe(PhotochatRetrieval()),
    "photos_contrastive": Recipe(PHOTOS_CONTRASTIVE),
    "photos_captioner": Recipe(PHOTOS_CAPTIONER),
    "photos_painter": Recipe(PHOTOS_PAINTER),
}
