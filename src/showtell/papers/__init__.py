"""From what the LLM said to what the painter paints. One paper, one file."""

from __future__ import annotations

from showtell.models.parts import Bridge
from showtell.papers.divter import Divter, DivterConfig
from showtell.papers.e2e import Dvtm, DvtmConfig
from showtell.papers.gill import Gill, GillConfig
from showtell.papers.minigpt5 import Vokens, VokensConfig
from showtell.papers.pipeline import Pipeline, PipelineConfig

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
]
