"""Recipes: one function returns a complete experiment; and the models by name.

world_contrastive             the instrument that holds photos against words
world_base                    what the papers take as pretrained
world_mini                    the end-to-end model (2408.08650) from world_base: shipped as "mini"
world_paper                   the same with the paper's own settings, early stopping included
world_pipeline                its baseline: the same parts, trained apart
world_v2                      its second version, whose LLM attends to photos (Llama-Vision)
world_vokens, _prefix         MiniGPT-5 (2310.02239), with LoRA or a prefix
world_gill                    GILL (2305.17216), which paints or finds a photo in an album
world_retrieval, world_text   it without a painter; words only
world_stories, _prefix        MiniGPT-5 on the world's stories; _text, _painter: its baselines
world_gill_captions, world_long   GILL on captions; the end-to-end model on long dialogues
world_codes                   Divter's image side: photos as codes, and a translator to them
world_divter                  the baseline Divter (2110.08515), its translator trained before or not
parts                         a base put together from folders of transformers and diffusers
dialogues, dialogues_*        any model on any data (DATA of showtell train), photos from files
photo_codes                   Divter's image side on captioned photos, for dialogues_divter
vokens_*, gill_captions       MiniGPT-5's two stages and GILL's, on their own data
photochat_small               the text side on real dialogues: shipped as "photochat_small"
photochat_retrieval           the dialogue so far finds the photo's description
photos_contrastive, photos_captioner, photos_painter   on real photos; for measurement only
"""

from __future__ import annotations

import importlib
import inspect
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from showtell.config import override
from showtell.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Recipe:
    """A named experiment: how long it takes on 2 CPU cores, its configuration, its run, what it is.

    ``settings`` and ``trains`` say where configuration and run are, as ``module:NAME`` below this
    package (``NAME.key`` in a mapping): they are imported when they are asked for. ``model``: the
    name that the trained model bears, if not the recipe's.
    """

    name: str
    hours: str
    settings: str
    trains: str
    summary: str
    model: str = ""

    def config(self) -> Any:
        """The default configuration."""
        found = _named(self.settings)
        return found() if callable(found) else found

    def run(self, config: Any, *, out: Path, resume: bool) -> Path:
        """Train; the folder of the finished model."""
        train = _named(self.trains)
        told = {"name": self.model or self.name}
        takes_name = "name" in inspect.signature(train).parameters
        return train(config, out=out, resume=resume, **(told if takes_name else {}))


def _named(place: str) -> Any:
    module, _, path = place.partition(":")
    found: Any = importlib.import_module(f"showtell.recipes.{module}")
    for step in path.split("."):
        found = found[step] if isinstance(found, Mapping) else getattr(found, step)
    return found


_DIALOGUE = "world_dialogue:run_world_dialogue"
_VOKENS, _GILL = "world_systems:run_world_vokens", "world_systems:run_world_gill"
_STORIES, _ANY = "world_experiments:SETTINGS", "dialogues:VARIANTS"
_TABLE = (
    Recipe(
        "world_contrastive",
        "0.4",
        "world_contrastive:WorldContrastive",
        "world_contrastive:run_world_contrastive",
        "a small CLIP of the world: CLIP-I, CLIP-T and retrieval, offline",
    ),
    Recipe(
        "world_base",
        "4",
        "world_base:WorldBase",
        "world_base:run_world_base",
        "VAE, painter, LM and photo_encoder of the photo world: every other run's start",
    ),
    Recipe(
        "world_mini",
        "1",
        "world_dialogue:WorldDialogue",
        _DIALOGUE,
        "the end-to-end model of 2408.08650 (Q-Former, LLM, DVTM, latent diffusion)",
        "mini",
    ),
    Recipe(
        "world_paper",
        "40, not run",
        "world_dialogue:PAPER",
        _DIALOGUE,
        "the same with the paper's settings: 5e-5, stops by dev BLEU-2 and FID",
    ),
    Recipe(
        "world_pipeline",
        "1",
        "world_dialogue:PIPELINE",
        _DIALOGUE,
        "its pipeline baseline: captions as strings, parts trained apart",
    ),
    Recipe(
        "world_v2",
        "1.5, not run",
        "world_v2:WorldV2",
        "world_v2:run_world_v2",
        "2408.08650 v2: the LLM attends to photos by cross-attention (Llama-Vision)",
    ),
    Recipe(
        "world_vokens",
        "1.5, not run",
        "world_systems:WorldVokens",
        _VOKENS,
        "MiniGPT-5 (2310.02239): generative vokens, LoRA; two stages",
    ),
    Recipe(
        "world_vokens_prefix",
        "1.5, not run",
        "world_systems:PREFIX",
        _VOKENS,
        "the same with prefix tuning in place of LoRA",
    ),
    Recipe(
        "world_gill",
        "0.5, not run",
        "world_systems:WorldGill",
        _GILL,
        "GILL (2305.17216): a frozen LLM whose tokens paint, or search an album",
    ),
    Recipe(
        "world_retrieval",
        "0.5, not run",
        "world_systems:RETRIEVAL",
        _GILL,
        "the same without a painter: every photo comes from the album",
    ),
    Recipe(
        "world_text",
        "0.5, not run",
        "world_systems:TEXT",
        "world_systems:run_world_text",
        "words only: the same dialogues, a photo is what the agent says of it",
    ),
    Recipe(
        "world_codes",
        "0.7, not run",
        "world_codes:WorldCodes",
        "world_codes:run_world_codes",
        "Divter's image side: VQ codes of photos, a translator to them, a ranker",
    ),
    Recipe(
        "world_divter",
        "1, not run",
        "world_divter:WorldDivter",
        "world_divter:run_world_divter",
        "the baseline Divter (2110.08515): descriptions as strings, photos as codes",
    ),
    Recipe(
        "photo_codes",
        "not run",
        "photo_codes:PhotoCodes",
        "photo_codes:run_photo_codes",
        "Divter's image side on captioned photos of any data: VQ codes, a translator to them",
    ),
    Recipe(
        "photochat_small",
        "0.5",
        "photochat:PhotochatSmall",
        "photochat:run_photochat_small",
        "dialogue, share moment and photo description on PhotoChat's real dialogues",
    ),
    Recipe(
        "photochat_retrieval",
        "0.1",
        "photochat_retrieval:PhotochatRetrieval",
        "photochat_retrieval:run_photochat_retrieval",
        "the dialogue so far finds the photo's description: BM25 + a dual encoder",
    ),
    Recipe(
        "photos_contrastive",
        "0.3",
        "photos:PhotosContrastive",
        "photos:run_photos_contrastive",
        "a small CLIP of real photos in a folder, from scratch; not shipped",
    ),
    Recipe(
        "photos_captioner",
        "0.3",
        "photos:PhotosCaptioner",
        "photos:run_photos_captioner",
        "ViT, Q-Former and LM that caption real photos, from scratch; not shipped",
    ),
    Recipe(
        "photos_painter",
        "4, not run",
        "photos:PhotosPainter",
        "photos:run_photos_painter",
        "a 64-px text-to-photo painter of real photos, from scratch; not shipped",
    ),
    Recipe(
        "parts",
        "0.1",
        "parts:Parts",
        "parts:run_parts",
        "a base put together from folders of transformers and diffusers",
    ),
)
_OF_STORIES = {
    "world_stories": "MiniGPT-5 on the world's stories: texts and photos, step by step; LoRA",
    "world_stories_prefix": "the same with prefix tuning",
    "world_stories_text": "its baseline: an LLM fine-tuned on the stories' texts",
    "world_stories_painter": "its baseline: a painter fine-tuned on the stories",
    "world_gill_captions": "GILL on captioned photos, as MiniGPT-5's table 6 has it",
    "world_long": "the end-to-end model on dialogues of 20 to 80 turns",
}
_OF_ANY_DATA = {
    "dialogues": "a model trained on any data: dialogues, stories, captions, with photos",
    "photo_encoder_captions": "what sees photos, from captions alone",
    "dialogues_end_to_end": "2408.08650 on such data, with the paper's settings",
    "dialogues_pipeline": "its pipeline baseline on such data",
    "dialogues_divter": "Divter on such data, its translator trained before or not",
    "vokens_alignment": "MiniGPT-5's first stage, on captioned photos",
    "vokens_learning": "MiniGPT-5's second stage, on stories or dialogues",
    "gill_captions": "GILL on captioned photos",
}
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        *_TABLE,
        *(
            Recipe(name, "not run", f"{_STORIES}.{name}", f"world_experiments:RUNS.{name}", told)
            for name, told in _OF_STORIES.items()
        ),
        *(
            Recipe(name, "not run", f"{_ANY}.{name}", "dialogues:run_dialogues", told)
            for name, told in _OF_ANY_DATA.items()
        ),
    )
}


def run_recipe(
    name: str, *, overrides: list[str], out: Path | None, resume: bool, seed: int = 0
) -> Path:
    """Train a recipe into ``out`` (``runs/NAME``); the folder of the finished model.

    ``seed`` starts every die of the run.

    Raises ConfigError for a recipe, key or value that does not exist, or when ``out`` already
    holds a run and ``resume`` was not asked for.
    """
    if name not in RECIPES:
        raise ConfigError(f'there is no recipe "{name}"{did_you_mean(name, RECIPES)}')
    recipe = RECIPES[name]
    config = override(replace(recipe.config(), seed=seed), overrides)
    out = out or Path("runs") / name
    from showtell.runtime import gathered, processes, told_by

    rank, _ = processes()
    if told_by(0, not resume and out.is_dir() and any(out.iterdir())):
        raise ConfigError(
            f'"{out}" already holds files; wanted an empty folder, so that no run is overwritten; '
            "go on with --resume, or choose another --out"
        )
    if rank == 0:
        gathered(None)  # the others have their copies
        return recipe.run(config, out=out, resume=resume)
    # one folder is kept, the first process's; a further one works in a copy, which it throws away
    scratch = out / f".rank{rank}"
    shutil.rmtree(scratch, ignore_errors=True)
    if resume and out.is_dir():
        # run_stage has its state from the first process
        spared = shutil.ignore_patterns(".rank*", "state*", "best.safetensors")
        shutil.copytree(out, scratch, ignore=spared)
    gathered(None)
    path = recipe.run(config, out=scratch, resume=resume)
    shutil.rmtree(scratch)
    return out / path.relative_to(scratch)
