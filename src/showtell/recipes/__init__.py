"""What can be trained, and how: ``registry.RECIPES``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from showtell.errors import ConfigError, did_you_mean
from showtell.recipes.registry import MODELS, RECIPES

__all__ = ["RECIPES", "config_of", "describe", "run_recipe"]


def config_of(name: str) -> Any:
    """The value of a recipe. Raises ConfigError for one that does not exist."""
    if name not in RECIPES:
        raise ConfigError(f'there is no recipe "{name}"{did_you_mean(name, RECIPES)}')
    return RECIPES[name].config


def describe(name: str) -> list[tuple[str, Any, str]]:
    """(key, default, meaning) of every setting of a recipe, as --set names it."""
    from showtell.config import described

    return list(described(config_of(name)))


def run_recipe(
    name: str,
    *,
    overrides: list[str],
    out: Path | None,
    resume: bool,
    seed: int = 0,
    **options: Any,
) -> Path:
    """Train a recipe into ``out`` (``runs/NAME``); the folder of the finished model.

    ``seed`` starts every die of the run. A run that is resumed goes on with the settings that it
    was begun with; ``options`` are those of the configuration's ``train``.

    Raises ConfigError for a recipe, key or value that does not exist, when ``out`` already holds a
    run and ``resume`` was not asked for, or that run has other settings; StorageError where
    nothing can be written to ``out`` or another process is at work there.
    """
    config = config_of(name)
    from showtell.config import override
    from showtell.recipes.runs import run_folder

    settings = [*([f"seed={seed}"] if seed else []), *overrides]
    override(config, settings)  # before anything is written
    out, model = out or Path("runs") / name, MODELS.get(name, name)
    begun = run_folder(out, config, recipe=name, settings=settings, resume=resume)
    with begun as (folder, config):
        path = config.train(name=model, out=folder, resume=resume, **options)
    return out / path.relative_to(folder)
