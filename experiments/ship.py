"""Put a trained model among the shipped ones: bf16 safetensors in shards of at most 15 MB.

    python experiments/ship.py runs/world_mini/model mini
    python experiments/ship.py runs/oracle oracle              (photoworld/train_oracle.py)

Ends with the sizes of everything shipped, and fails if they pass 40 MB together or 15 MB a file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from showtell.models.checkpoint import SHIPPED, read_description, save_model
from showtell.papers import load_folder

MOST_TOGETHER = 40_000_000
MOST_A_FILE = 15_000_000


def ship_reader(source: Path, target: Path) -> None:
    """A reader of attributes: its weights in bf16."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ("config.json", "report.json", "recipe.json"):
        if (source / name).exists():
            shutil.copy(source / name, target / name)
    state = load_file(source / "model.safetensors")
    save_file(
        {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()},
        target / "model.safetensors",
    )


def without_folders(plain: Any) -> Any:
    """A recipe in which absolute paths keep their last two parts: where files lay says nothing."""
    if isinstance(plain, dict):
        return {key: without_folders(value) for key, value in plain.items()}
    if isinstance(plain, str) and plain.startswith("/"):
        return "/".join(Path(plain).parts[-2:])
    return plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("name")
    options = parser.parse_args()
    target = SHIPPED / options.name
    if (options.source / "showtell.json").exists():
        recipe = without_folders(read_description(options.source)["recipe"])
        model = load_folder(options.source)
        card = target / "README.md"
        kept = card.read_text() if card.exists() else None
        save_model(model.to(torch.bfloat16), target, recipe=recipe)
        if kept is not None:
            card.write_text(kept)
    else:
        ship_reader(options.source, target)
    files = [p for p in SHIPPED.rglob("*") if p.is_file()]
    sizes = {
        folder.name: sum(p.stat().st_size for p in files if folder in p.parents)
        for folder in sorted(SHIPPED.iterdir())
        if folder.is_dir()
    }
    print(json.dumps(sizes, indent=2))
    together = sum(p.stat().st_size for p in files)
    largest = max(files, key=lambda p: p.stat().st_size)
    print(
        f"together {together / 1e6:.1f} MB; largest {largest.name} "
        f"{largest.stat().st_size / 1e6:.1f} MB"
    )
    if together > MOST_TOGETHER or largest.stat().st_size > MOST_A_FILE:
        sys.exit("too much to ship: wanted 40 MB together and 15 MB a file at most")


if __name__ == "__main__":
    main()
