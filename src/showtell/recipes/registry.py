"""The recipes by name: values, each a variant of another (``systems.py``, ``pretrain.py``).

A world recipe is the any-data recipe with ``data="world:..."``. "stage" in settings is a recipe's
last stage; where there are several, each goes by its own name too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from showtell.recipes import pretrain, systems
from showtell.recipes.hub_parts import Parts
from showtell.recipes.photochat_retrieval import PhotochatRetrieval
from showtell.recipes.photochat_small import PhotochatSmall


@dataclass(frozen=True)
class Recipe:
    """A value that can be trained. ``model``: the model's name, if not the recipe's."""

    config: Any
    model: str = ""


RECIPES: Mapping[str, Recipe] = {
    "world_base": Recipe(pretrain.WORLD_BASE),
    "world_mini": Recipe(systems.WORLD, model="mini"),
    "world_paper": Recipe(systems.WORLD_PAPER),
    "world_pipeline": Recipe(systems.WORLD_PIPELINE),
    "world_v2": Recipe(systems.WORLD_V2),
    "world_vokens": Recipe(systems.WORLD_VOKENS),
    "world_vokens_prefix": Recipe(replace(systems.WORLD_VOKENS, adapter="prefix")),
    "world_gill": Recipe(systems.WORLD_GILL),
    "world_retrieval": Recipe(systems.WORLD_RETRIEVAL),
    "world_text": Recipe(systems.WORLD_TEXT),
    "world_divter": Recipe(systems.WORLD_DIVTER),
    "world_stories": Recipe(systems.WORLD_STORIES),
    "world_stories_prefix": Recipe(replace(systems.WORLD_STORIES, adapter="prefix")),
    "world_stories_text": Recipe(systems.WORLD_STORIES_TEXT),
    "world_stories_painter": Recipe(systems.WORLD_STORIES_PAINTER),
    "world_gill_captions": Recipe(systems.WORLD_GILL_CAPTIONS),
    "world_long": Recipe(systems.WORLD_LONG),
    "world_codes": Recipe(pretrain.WORLD_CODES),
    "world_contrastive": Recipe(pretrain.WORLD_CONTRASTIVE),
    "parts": Recipe(Parts()),
    "dialogues": Recipe(systems.DIALOGUES),
    "dialogues_end_to_end": Recipe(systems.END_TO_END),
    "dialogues_pipeline": Recipe(systems.PIPELINE),
    "dialogues_divter": Recipe(systems.DIVTER),
    "photo_encoder_captions": Recipe(systems.SEEING),
    "vokens_alignment": Recipe(systems.VOKENS_ALIGNMENT),
    "vokens_learning": Recipe(systems.VOKENS_LEARNING),
    "gill_captions": Recipe(systems.GILL_CAPTIONS),
    "photo_codes": Recipe(pretrain.PHOTO_CODES),
    "photochat_small": Recipe(PhotochatSmall()),
    "photochat_retrieval": Recipe(PhotochatRetrieval()),
    "photos_contrastive": Recipe(pretrain.PHOTOS_CONTRASTIVE),
    "photos_captioner": Recipe(pretrain.PHOTOS_CAPTIONER),
    "photos_painter": Recipe(pretrain.PHOTOS_PAINTER),
}
