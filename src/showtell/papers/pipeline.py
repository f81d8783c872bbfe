"""The pipeline baseline of arXiv 2408.08650, section 3.1.4: captions travel as strings.

The same parts as the end-to-end model, trained apart: the painter sees the words of a caption
and nothing of the LLM, so no gradient reaches the LLM or the photo encoder. (The photos of the
context are captioned before the LLM reads them; that is the photo encoder's side of the baseline.)
"""

from __future__ import annotations

from dataclasses import dataclass

from showtell.models.parts import (
    Bridge,
    BridgeConfig,
    Conditioning,
    Die,
    Painter,
    PhotoSpans,
    caption_conditioning,
)


@dataclass(frozen=True, kw_only=True)
class PipelineConfig(BridgeConfig):
    """Nothing to choose: its type says which bridge to build."""


class Pipeline(Bridge):
    """Photo spans -> the conditioning of their captions, and no more."""

    settings = PipelineConfig

    def forward(self, spans: PhotoSpans, painter: Painter, *, generator: Die) -> Conditioning:
        return caption_conditioning(spans.captions, painter.text)
