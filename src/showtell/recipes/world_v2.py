"""world_v2: the second version of 2408.08650, whose LLM attends to photos as Llama-Vision does.

From world_base's Llama and ViT. Layers and projector are new, so photos are shown and told first,
as Llama-Vision's were: the Llama stands still, and what was new learns to say captions. Then the
whole is trained on dialogues like ``world_mini``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from photoworld.talk import world_dialogue
from showtell.dialogue import Dialogue
from showtell.recipes.tasks import captioning_example
from showtell.recipes.world_base import StageRunner
from showtell.recipes.world_dialogue import (
    Perceiving,
    WorldDialogue,
    dialogue_task,
    finish_model,
    start_model,
)
from showtell.training.stage import Stage


@dataclass(frozen=True, kw_only=True)
class WorldV2(WorldDialogue):
    """``seeing`` is the first stage, half captions and half dialogues; the second is ``stage``.

    ``gate_rate`` multiplies the rate of the new layers' gates in the first: they start shut, and
    while they are, nothing else in these layers learns.
    """

    photo_encoder: Perceiving = "cross_attention"
    gate_rate: float = 20.0
    seeing: Stage = field(
        default=Stage(
            name="seeing",
            steps=1500,
            batch_size=48,
            learning_rate=1.2e-3,
            learning_rates={"photo_encoder.vision": 0.25, "painter": 0.0, "bridge": 0.0},
            warmup=100,
            decay="cosine",
            betas=(0.9, 0.98),
            weights={"t": 1.0, "moment": 0.2, "caption": 0.5},
        )
    )


def run_world_v2(config: WorldV2, *, out: Path, resume: bool, name: str) -> Path:
    """Train from the base and write ``out/model``."""
    model = start_model(config, name=name)
    run = StageRunner(out=out, resume=resume, seed=config.seed)

    def dialogue(index: int) -> Dialogue:
        return captioning_example(index) if index % 2 else world_dialogue(index)

    painter, model.painter = model.painter, None
    words = dialogue_task(model, config, dialogue=dialogue)
    layers = config.cross_attention_layers
    run.run(opening(still(config.seeing, layers), layers, rate=config.gate_rate), words)
    model.painter = painter
    run.run(config.stage, dialogue_task(model, config))
    return finish_model(model, config, out=out)


def still(stage: Stage, layers: tuple[int, ...]) -> Stage:
    """The stage with a Llama that stands still; the layers between its own move."""
    rates = {"language": 0.0, **{f"language.model.model.layers.{at}.": 1.0 for at in layers}}
    return replace(stage, learning_rates={**stage.learning_rates, **rates})


def opening(stage: Stage, layers: tuple[int, ...], *, rate: float) -> Stage:
    """The stage with gates that move at ``rate`` times its learning rate."""
    rates = {
        f"language.model.model.layers.{at}.cross_attn_{gate}_gate": rate
        for at in layers
        for gate in ("attn", "mlp")
    }
    return replace(stage, learning_rates={**stage.learning_rates, **rates})
