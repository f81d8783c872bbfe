"""What can be trained: ``RECIPES`` by name, and ``run_recipe``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from showtell.config import described, override
from showtell.errors import ConfigError, did_you_mean
from showtell.recipes.registry import RECIPES, Recipe
from showtell.recipes.runs import run_folder

__all__ = ["RECIPES", "Recipe", "describe", "recipe_named", "run_recipe"]


def recipe_named(name: str) -> Recipe:
    """Raises ConfigError for a recipe that does not exist."""
    if name not in RECIPES:
        raise ConfigError(f'there is no recipe "{name}"{did_you_mean(name, RECIPES)}')
    return RECIPES[name]


def describe(name: str) -> list[tuple[str, Any, str]]:
    """(key, default, meaning) of every setting of a recipe, as --set names it."""
    return list(described(recipe_named(name).config))


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
    recipe = recipe_named(name)
    settings = [*([f"seed={seed}"] if seed else []), *overrides]
    override(recipe.config, settings)  # before anything is written
    out = out or Path("runs") / name
    begun = run_folder(out, recipe.config, recipe=name, settings=settings, resume=resume)
    with begun as (folder, config):
        path = config.train(name=recipe.model or name, out=folder, resume=resume, **options)
    return out / path.relative_to(folder)
