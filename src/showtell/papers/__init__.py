"""From what the LLM said to what the painter paints. One paper, one file; and models by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from showtell.config import from_plain
from showtell.errors import CheckpointError, did_you_mean
from showtell.models.checkpoint import load_model_folder, model_folder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.language import LanguageModel
from showtell.models.parts import Bridge
from showtell.papers.divter import Divter, DivterConfig
from showtell.papers.e2e import Dvtm, DvtmConfig
from showtell.papers.gill import Gill, GillConfig
from showtell.papers.minigpt5 import Vokens, VokensConfig
from showtell.papers.pipeline import Pipeline, PipelineConfig
from showtell.runtime import on_device, the_device

BRIDGES: dict[str, type[Bridge]] = {
    "divter": Divter,
    "dvtm": Dvtm,
    "gill": Gill,
    "pipeline": Pipeline,
    "vokens": Vokens,
}
BRIDGE_CONFIGS: dict[str, type] = {
    "divter": DivterConfig,
    "dvtm": DvtmConfig,
    "gill": GillConfig,
    "pipeline": PipelineConfig,
    "vokens": VokensConfig,
}

__all__ = [
    "BRIDGES",
    "BRIDGE_CONFIGS",
    "Divter",
    "DivterConfig",
    "Dvtm",
    "DvtmConfig",
    "Gill",
    "GillConfig",
    "Pipeline",
    "PipelineConfig",
    "Vokens",
    "VokensConfig",
    "build_bridge",
    "load_folder",
    "load_model",
]


def build_bridge(plain: Mapping[str, Any], language: LanguageModel) -> Bridge:
    """The bridge of a plain configuration (its class name is the tag)."""
    kinds = {
        BRIDGE_CONFIGS[name].__name__: (BRIDGES[name], BRIDGE_CONFIGS[name]) for name in BRIDGES
    }
    if (tag := (plain or {}).get("class", "")) not in kinds:
        raise CheckpointError(
            f'the model has a bridge "{tag}"{did_you_mean(tag, kinds)}; '
            "it was written by another version of showtell; train it again"
        )
    bridge, config = kinds[tag]
    return bridge(from_plain(config, plain), tokenizer=language.tokenizer)


def load_folder(folder: Path) -> PhotoDialogueModel:
    """A model folder with any of our bridges, on ``the_device()``."""
    return load_model_folder(folder, bridge_of=build_bridge).to(the_device())


def load_model(name_or_path: str, *, device: str | None = None) -> PhotoDialogueModel:
    """A shipped model by name, or a model folder, on ``device`` (see ``devices.py``).

    Raises CheckpointError, UsageError.
    """
    folder = model_folder(name_or_path)
    with on_device(device):
        return load_folder(folder)
