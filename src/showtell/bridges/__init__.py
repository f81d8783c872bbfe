"""From what the LLM said to what the painter paints. One paper, one file."""

from __future__ import annotations

from showtell.bridges.divter import Divter, DivterConfig
from showtell.bridges.dvtm import Dvtm, DvtmConfig
from showtell.bridges.gill import Gill, GillConfig
from showtell.bridges.pipeline import Pipeline, PipelineConfig
from showtell.bridges.vokens import Vokens, VokensConfig
from showtell.models.parts import Bridge

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
