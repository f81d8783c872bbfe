"""Recipes: one function returns a complete experiment; and the models by name.

world_oracle, world_encoder   the instruments that read photos
world_contrastive             the instrument that holds photos against words
world_base                    what the papers take as pretrained
world_mini                    the end-to-end model (2408.08650) from world_base: shipped as "mini"
world_paper                   the same with the paper's own settings, early stopping included
world_pipeline                its baseline: the same parts, trained apart
photochat_small               the text side on real dialogues: shipped as "photochat_small"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.config import override
from showtell.errors import CheckpointError, ConfigError, did_you_mean

if TYPE_CHECKING:
    from showtell.models.dialogue_model import PhotoDialogueModel

SHIPPED = Path(__file__).parent.parent / "shipped"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named experiment: what it trains, how long on 2 CPU cores, its configuration, its run."""

    name: str
    summary: str
    hours: str
    config: Callable[[], Any]
    run: Callable[..., Path]


def _base() -> Any:
    from showtell.recipes.world_base import WorldBase

    return WorldBase()


def _run_base(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.world_base import run_world_base

    return run_world_base(config, out=out, resume=resume)


def _mini() -> Any:
    from showtell.recipes.world_dialogue import WorldDialogue

    return WorldDialogue()


def _pipeline() -> Any:
    from showtell.bridges import PipelineConfig
    from showtell.recipes.world_dialogue import WorldDialogue

    base = WorldDialogue()
    return replace(base, bridge=PipelineConfig(), stage=replace(base.stage, name="pipeline"))


def _paper() -> Any:
    from showtell.recipes.world_dialogue import PAPER

    return PAPER


def _run_dialogue(name: str) -> Callable[..., Path]:
    def run(config: Any, *, out: Path, resume: bool) -> Path:
        from showtell.recipes.world_dialogue import run_world_dialogue

        return run_world_dialogue(config, out=out, resume=resume, name=name)

    return run


def _photochat() -> Any:
    from showtell.recipes.photochat import PhotochatSmall

    return PhotochatSmall()


def _run_photochat(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.photochat import run_photochat_small

    return run_photochat_small(config, out=out, resume=resume)


def _reader(kind: str) -> Callable[[], Any]:
    def config() -> Any:
        from showtell.recipes.world_readers import WorldReader

        return WorldReader(kind=kind, num_steps={"oracle": 3_200, "encoder": 2_200}[kind])

    return config


def _run_reader(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.world_readers import run_world_reader

    return run_world_reader(config, out=out, resume=resume)


def _contrastive() -> Any:
    from showtell.recipes.world_contrastive import WorldContrastive

    return WorldContrastive()


def _run_contrastive(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.world_contrastive import run_world_contrastive

    return run_world_contrastive(config, out=out, resume=resume)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="world_oracle",
            summary="the classifier that reads a photo's attributes, for measurement only",
            hours="0.3",
            config=_reader("oracle"),
            run=_run_reader,
        ),
        Recipe(
            name="world_encoder",
            summary="a second, independent reader of attributes",
            hours="0.3",
            config=_reader("encoder"),
            run=_run_reader,
        ),
        Recipe(
            name="world_contrastive",
            summary="a small CLIP of the world: CLIP-I, CLIP-T and retrieval, offline",
            hours="0.4",
            config=_contrastive,
            run=_run_contrastive,
        ),
        Recipe(
            name="world_base",
            summary="VAE, painter, LM and perceptron of the photo world: every other run's start",
            hours="4",
            config=_base,
            run=_run_base,
        ),
        Recipe(
            name="world_mini",
            summary="the end-to-end model of 2408.08650 (Q-Former, LLM, DVTM, latent diffusion)",
            hours="1",
            config=_mini,
            run=_run_dialogue("mini"),
        ),
        Recipe(
            name="world_paper",
            summary="the same with the paper's settings: 5e-5, stops by dev BLEU-2 and FID",
            hours="40, not run",
            config=_paper,
            run=_run_dialogue("world_paper"),
        ),
        Recipe(
            name="world_pipeline",
            summary="its pipeline baseline: captions as strings, parts trained apart",
            hours="1",
            config=_pipeline,
            run=_run_dialogue("world_pipeline"),
        ),
        Recipe(
            name="photochat_small",
            summary="dialogue, share moment and photo description on PhotoChat's real dialogues",
            hours="0.5",
            config=_photochat,
            run=_run_photochat,
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
    if not resume and out.is_dir() and any(out.iterdir()):
        raise ConfigError(
            f'"{out}" already holds files; wanted an empty folder, so that no run is overwritten; '
            "go on with --resume, or choose another --out"
        )
    return recipe.run(config, out=out, resume=resume)


def model_folder(name_or_path: str) -> Path:
    """The folder of a shipped model or of a path. Raises CheckpointError."""
    shipped = SHIPPED / name_or_path
    if name_or_path in ("mini", "photochat_small") and shipped.is_dir():
        return shipped
    path = Path(name_or_path)
    for candidate in (path, path / "model"):
        if (candidate / "showtell.json").is_file():
            return candidate
    if path.is_dir():
        raise CheckpointError(
            f'"{path}" is not a model: it has no showtell.json; wanted a folder that '
            '"showtell train" has written'
        )
    known = sorted(p.parent.name for p in SHIPPED.glob("*/showtell.json"))
    raise CheckpointError(
        f'there is no model "{name_or_path}"{did_you_mean(name_or_path, known) if known else ""}; '
        'wanted a shipped model or a folder that "showtell train" wrote; see "showtell recipes"'
    )


def load_model(name_or_path: str) -> PhotoDialogueModel:
    """A shipped model by name, or a model folder. Raises CheckpointError."""
    folder = model_folder(name_or_path)
    from showtell.recipes.world_dialogue import load_folder

    return load_folder(folder)
