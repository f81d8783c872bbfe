"""From what the LLM said to what the painter paints. One paper, one file; and models by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from showtell.config import from_plain
from showtell.errors import CheckpointError, did_you_mean
from showtell.models.checkpoint import load_model_folder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.language import LanguageModel
from showtell.models.parts import Bridge, BridgeConfig
from showtell.models.sharing import any_model_folder
from showtell.papers.divter import Divter
from showtell.papers.e2e import Dvtm
from showtell.papers.gill import Gill
from showtell.papers.minigpt5 import Vokens
from showtell.papers.pipeline import Pipeline
from showtell.runtime import in_dtype, on_device, the_device

BRIDGES: dict[str, type[Bridge]] = {
    "divter": Divter,
    "dvtm": Dvtm,
    "gill": Gill,
    "pipeline": Pipeline,
    "vokens": Vokens,
}


def build_bridge(config: BridgeConfig, language: LanguageModel) -> Bridge:
    """The bridge whose settings these are."""
    kinds = {each.settings: each for each in BRIDGES.values()}
    return kinds[type(config)](config, tokenizer=language.tokenizer)


def read_bridge(plain: Mapping[str, Any], language: LanguageModel) -> Bridge:
    """The bridge of a plain configuration (its class name is the tag). Raises CheckpointError."""
    kinds = {each.settings.__name__: each.settings for each in BRIDGES.values()}
    if (tag := (plain or {}).get("class", "")) not in kinds:
        raise CheckpointError(
            f'the model has a bridge "{tag}"{did_you_mean(tag, kinds)}; '
            "it was written by another version of showtell; train it again"
        )
    return build_bridge(from_plain(kinds[tag], plain), language)


def load_folder(folder: Path) -> PhotoDialogueModel:
    """A model folder with any of our bridges, on ``the_device()``."""
    return load_model_folder(folder, bridge_of=read_bridge).to(the_device())


def load_model(
    name_or_path: str | Path, *, device: str | None = None, dtype: str | None = None
) -> PhotoDialogueModel:
    """A shipped model by name, a model folder, or a model on the hub by its id, on ``device`` (see
    ``runtime.py``).

    ``dtype`` is that of its LLM and of what sees photos: float32, bfloat16, float16, or "auto", as
    the LLM's file has it; None: as they were when saved. Raises CheckpointError, UsageError.
    """
    folder = any_model_folder(str(name_or_path))
    with on_device(device), in_dtype(dtype):
        return load_folder(folder)
