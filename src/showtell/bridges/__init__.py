"""From what the LLM said to what the painter paints. One paper, one file."""

from __future__ import annotations

from showtell.bridges.dvtm import Dvtm, DvtmConfig
from showtell.bridges.pipeline import Pipeline, PipelineConfig
from showtell.models.parts import Bridge

BRIDGES: dict[str, type[Bridge]] = {"dvtm": Dvtm, "pipeline": Pipeline}
BRIDGE_CONFIGS: dict[str, type] = {"dvtm": DvtmConfig, "pipeline": PipelineConfig}

__all__ = [
    "BRIDGES",
    "BRIDGE_CONFIGS",
    "Dvtm",
    "DvtmConfig",
    "Pipeline",
    "PipelineConfig",
]
