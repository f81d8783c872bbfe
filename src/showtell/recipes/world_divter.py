"""world_divter: the baseline Divter (2110.08515) on the world's dialogues.

The LLM of world_base reads and writes descriptions of photos (G); the image side of world_codes
paints what it describes (F, V). F starts as world_codes left it, or untrained: the two rows of the
published tables, with and without extra pairs of captions and photos.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from showtell.errors import ConfigError
from showtell.models.vq_painter import VqPainter
from showtell.papers import DivterConfig
from showtell.papers.divter import RATES, WEIGHTS
from showtell.recipes.codes_tasks import with_untrained_translator
from showtell.recipes.world_base import StageRunner
from showtell.recipes.world_dialogue import (
    Perceiving,
    WorldDialogue,
    dialogue_task,
    finish_model,
    start_model,
)
from showtell.training.stage import Stage

_WORLD = WorldDialogue().stage


@dataclass(frozen=True, kw_only=True)
class WorldDivter(WorldDialogue):
    """``codes``: the model of world_codes. ``pretrained``: whether F starts as that one's, or
    untrained. ``num_samples``: photos that are ranked for one caption; None: as ``codes`` has it.
    """

    codes: str = "runs/world_codes/model"
    pretrained: bool = True
    num_samples: int | None = None
    bridge: DivterConfig = DivterConfig()
    photo_encoder: Perceiving = "caption"
    stage: Stage = field(
        default=replace(
            _WORLD,
            name="divter",
            learning_rates=RATES,
            weights={**_WORLD.weights, **WEIGHTS},
        )
    )


def run_world_divter(config: WorldDivter, *, out: Path, resume: bool, name: str) -> Path:
    """Train G and F together and write ``out/model``."""
    painter = code_painter(  # first: it may not be there
        config.codes,
        pretrained=config.pretrained,
        num_samples=config.num_samples,
        seed=config.seed,
    )
    model = start_model(config, name=name)
    model.painter = painter
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    run.run(config.stage, dialogue_task(model, config))
    return finish_model(model, config, out=out)


def code_painter(
    codes: str,
    *,
    pretrained: bool,
    num_samples: int | None,
    seed: int,
    made_by: str = "world_codes",
) -> VqPainter:
    """V, F and the ranker of a model that the recipe ``made_by`` trains, F perhaps untrained.

    Raises ConfigError, CheckpointError.
    """
    if not (Path(codes) / "code_painter.json").is_file():
        raise ConfigError(
            f'codes is "{codes}", and there is no code_painter.json; train it first with '
            f'"showtell train {made_by}", or name its model with --set codes=PATH'
        )
    painter = VqPainter.from_pretrained(Path(codes))
    if num_samples is not None:
        painter.num_samples = num_samples
    if painter.num_samples > 1 and painter.rank is None:
        raise ConfigError(
            f'num_samples is {painter.num_samples}, and "{codes}" has no ranker to choose by; '
            f"set num_samples=1, or train {made_by} with a ranker"
        )
    return painter if pretrained else with_untrained_translator(painter, seed=seed)
