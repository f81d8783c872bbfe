"""The baseline Divter (arXiv 2110.08515; section 3.1.4 of 2408.08650): three models, no gradient
between them.

    G   the LLM: context, with each photo in it as its description -> response, or the marker [DST]
        and a description c of a photo
    F   the translator: c -> image tokens z          (models/vq_painter.py)
    V   the image tokenizer: z <-> photo             (models/vq_painter.py)

G's loss is the dialogue model's own:  L_G = - sum log p(response or [DST] c | context)   (its "t")
F's loss is here:                      L_F = - sum log p(z | c)                           ("v")
together (``WEIGHTS``)                 L = L_G + lambda L_F, lambda = 0.2: the Stage's weight of "v"

[DST] is this project's [IMG]: the same marker, at the same place. Only strings pass from G to F, so
"joint" learning is a sum of losses and L_F trains neither the LLM nor the photo encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from showtell.models.parts import (
    Bridge,
    BridgeConfig,
    Conditioning,
    Dice,
    Die,
    Painter,
    PhotoSpans,
    PhotoTargets,
    caption_conditioning,
)


@dataclass(frozen=True, kw_only=True)
class DivterConfig(BridgeConfig):
    """``drop_stock_captions``: as published, a description that PhotoChat's annotators' form wrote
    ("The photo has your * #...") trains nothing of F. ``stock_opening``: how such a one begins.
    """

    drop_stock_captions: bool = True
    stock_opening: str = "The photo has your * #"


class Divter(Bridge):
    """Photo spans -> the words of their captions in F's own table."""

    settings = DivterConfig
    config: DivterConfig

    def forward(self, spans: PhotoSpans, painter: Painter, *, generator: Die) -> Conditioning:
        # Eq. 1: L_G = - sum log p(response or [DST] c | context), the model's "t"; only c goes on
        return caption_conditioning(spans.captions, painter.text)

    def losses(
        self, conditioning: Conditioning, gold: PhotoTargets, painter: Painter, *, generator: Dice
    ) -> dict[str, Tensor]:
        """{"v": L_F}, or nothing where every caption is a stock one."""
        kept = [
            n
            for n, caption in enumerate(gold.captions)
            if not (
                self.config.drop_stock_captions and caption.startswith(self.config.stock_opening)
            )
        ]
        if not kept:
            return {}
        loss = painter.loss(  # Eq. 2: L_F = - sum log p(z | c)
            conditioning.cond_NSC[kept], gold.pixels_N3HW[kept], generator=generator
        )
        return {"v": loss}


# What moves, and the weights of its losses, in a Stage: F learns, V stands still, G is the LLM's.
RATES = {"painter": 0.0, "painter.translator": 1.0, "captioner": 0.0}
WEIGHTS = {"t": 1.0, "v": 0.2}  # Eq. 3: L = L_G + lambda L_F
