"""The recipes by name: where each value is, and what it is, told without loading any of them.

The recipe "world_mini" is the value WORLD_MINI of its file. A world recipe is the any-data recipe
with ``data="world:..."``. "stage" in settings is a recipe's last stage; where there are several,
each goes by its own name too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

MODELS = {"world_mini": "mini"}  # the name of a recipe's model, if not its own


@dataclass(frozen=True)
class Recipe:
    """A value that can be trained: its name, its file, and what it is."""

    name: str
    file: str
    told: str

    @property
    def config(self) -> Any:
        """The value."""
        return getattr(import_module(f"showtell.recipes.{self.file}"), self.name.upper())


_TOLD: Mapping[str, Mapping[str, str]] = {
    "pretrain": {
        "world_base": "VAE, painter, LM, photo encoder of the photo world: every other run's start",
        "world_codes": "Divter's image side: VQ codes of photos, a translator to them, a ranker",
        "world_contrastive": "a small CLIP of the world: CLIP-I, CLIP-T and retrieval, offline",
        "photo_codes": "Divter's image side on photos of any data: VQ codes, a translator to them",
    },
    "systems": {
        "world_mini": "the end-to-end model of 2408.08650 (Q-Former, LLM, DVTM, latent diffusion)",
        "world_paper": "the same with the paper's settings: 5e-5, stops by dev BLEU-2 and FID",
        "world_pipeline": "its pipeline baseline: captions as strings, parts trained apart",
        "world_v2": "2408.08650 v2: the LLM attends to photos by cross-attention (Llama-Vision)",
        "world_vokens": "MiniGPT-5 (2310.02239): generative vokens, LoRA; two stages",
        "world_vokens_prefix": "the same with prefix tuning in place of LoRA",
        "world_vokens_gathered": "the same, the whole LLM first aligned on dialogues' captions",
        "world_gill": "GILL (2305.17216): a frozen LLM whose tokens paint, or search an album",
        "world_gill_gathered": "the same, the whole LLM first aligned on dialogues' captions",
        "world_retrieval": "GILL without a painter: every photo comes from the album",
        "world_text": "words only: the same dialogues, a photo is what the agent says of it",
        "world_divter": "the baseline Divter (2110.08515): descriptions in words, photos as codes",
        "world_stories": "MiniGPT-5 on the world's stories: texts and photos, step by step; LoRA",
        "world_stories_prefix": "the same with prefix tuning",
        "world_stories_text": "its baseline: an LLM fine-tuned on the stories' texts",
        "world_stories_painter": "its baseline: a painter fine-tuned on the stories",
        "world_gill_captions": "GILL on captioned photos, as MiniGPT-5's table 6 has it",
        "world_long": "the end-to-end model on dialogues of 20 to 80 turns",
        "dialogues": "a model trained on any data: dialogues, stories, captions, with photos",
        "dialogues_end_to_end": "2408.08650 on such data, with the paper's settings",
        "dialogues_pipeline": "its pipeline baseline on such data",
        "dialogues_divter": "Divter on such data, its translator trained before or not",
        "photo_encoder_captions": "what sees photos, from captions alone",
        "vokens_alignment": "MiniGPT-5's first stage, on captioned photos",
        "vokens_learning": "MiniGPT-5's second stage, on stories or dialogues",
        "gill_captions": "GILL on captioned photos",
    },
    "full": {
        "photochat_e2e": "2408.08650 at its size on PhotoChat: Llama-2-7B, ViT-g, SD 2.1",
        "photochat_e2e_release": "the same as its authors' code has it",
        "photochat_e2e_v2": "its v2 on PhotoChat: Llama-3.2-11B-Vision",
        "photochat_pipeline": "its pipeline baseline on PhotoChat",
        "dialogcc_e2e": "2408.08650 at its size on DialogCC",
        "dialogcc_e2e_release": "the same as its authors' code has it",
        "psdg_parts": "the parts of 2408.08650 from the hub",
        "psdg_v2_parts": "those of its v2",
        "psdg_seeing": "the projection of its Q-Former to Llama, on CC3M's captions",
        "cc3m_uas": "MiniGPT-5 at its size: Vicuna-7B, ViT-g, SD 2.1; first stage, on CC3M",
        "cc3m_uas_release": "the same as its authors' code has it",
        "vist_mls": "its second stage on VIST",
        "vist_mls_release": "the same as its authors' code has it",
        "mmdialog_mls": "its second stage on MMDialog",
        "mmdialog_mls_release": "the same as its authors' code has it",
        "minigpt5_parts": "the parts of MiniGPT-5 from the hub",
        "cc3m_gill": "GILL at its size on CC3M: OPT-6.7B, CLIP ViT-L/14, SD 1.5",
        "cc3m_gill_release": "the same as its authors' code has it",
        "gill_parts": "the parts of GILL from the hub",
    },
    "hub_parts": {
        "parts": "a base put together from folders of transformers and diffusers",
    },
    "album_heads": {
        "album_heads": "an album's search by words, on captioned photos of one's own",
    },
    "talking": {
        "home": "an LLM of the package index on PhotoChat's dialogues: words, moment, description",
        "photochat_small": "words, share moment, photo description on PhotoChat's real dialogues",
    },
}
RECIPES: Mapping[str, Recipe] = {
    name: Recipe(name, file, told)
    for file, recipes in _TOLD.items()
    for name, told in recipes.items()
}
