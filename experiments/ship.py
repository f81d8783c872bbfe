"""Put a trained model among the shipped ones: bf16 safetensors in shards of at most 15 MB, and its
card from what its training and its reports say of themselves.

    python experiments/ship.py runs/world_mini/model mini --run runs/world_mini --report out/mini
    python experiments/ship.py runs/oracle oracle              (photoworld/train_oracle.py)

Nothing in a card is typed by hand but --note, a sentence that stands first. Ends with the sizes of
everything shipped, and fails if they pass 53 MB together or 15 MB a file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from published import without_folders
from safetensors.torch import load_file, save_file

from showtell.cli.exits import exit_code_of
from showtell.models.checkpoint import SHIPPED, dtypes_of, read_description, save_model
from showtell.models.folders import write_json
from showtell.papers import load_model
from showtell.training.loop import parameter_count

MOST_TOGETHER, MOST_A_FILE = 53_000_000, 15_000_000


def ship_reader(source: Path, target: Path) -> None:
    """A reader of attributes: its weights in bf16."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in source.glob("*.json"):
        shutil.copy(path, target)
    state = load_file(source / "model.safetensors")
    floats = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    save_file(floats, target / "model.safetensors")


def card(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """The parts of README.md; contact sheets are put beside it."""
    description, model = read_description(folder), load_model(str(folder))
    told, recipe = description["card"], description["recipe"]
    kind = "any-to-any" if model.painter is not None else "text-generation"
    licence = "mit" if "MIT" in told.get("licence", "") else "cc-by-4.0"
    yield f"---\nlicense: {licence}\nlibrary_name: showtell\npipeline_tag: {kind}\n---"
    yield f"# {options.name}\n\n{options.note}\n\n{told.get('limits', '')}"
    counts = {p: parameter_count(model, only=(f"{p}.",)) for p in ("language", "painter")}
    parts = ", ".join(f"{part} {count:,}" for part, count in counts.items() if count)
    yield f"Licence: {told.get('licence', 'MIT')}. Parameters: {parts}."
    yield f"Recipe `{recipe['name']}`; its resolved configuration is in showtell.json. Stages:"
    for path in (path for run in options.run for path in sorted(run.glob("*/history.json"))):
        last = next(r for r in reversed(json.loads(path.read_text())) if "seconds" in r)
        hours = last["seconds"] / 3600
        yield f"- {path.parent.name}: {last['step']:,} steps, {hours:.2f} hours"
    for place in options.report:
        yield without_folders((place / "report.md").read_text())
        for path in place.glob("contact_sheet.png"):
            shutil.copy(path, folder)
            yield f"![unpicked photos]({path.name})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("name")
    parser.add_argument("--run", type=Path, action="append", default=[])
    parser.add_argument("--report", type=Path, action="append", default=[])
    parser.add_argument("--note", default="", help="whom the model is for: it stands first")
    options = parser.parse_args()
    target = SHIPPED / options.name
    if (options.source / "showtell.json").exists():
        recipe = json.loads(without_folders(json.dumps(read_description(options.source)["recipe"])))
        readme = target / "README.md"
        kept = readme.read_text() if readme.exists() else ""
        model = load_model(str(options.source))
        dtype = dtypes_of(model)
        save_model(model.to(torch.bfloat16), target, recipe=recipe)
        write_json(target / "showtell.json", read_description(target) | {"dtype": dtype})
        readme.write_text("\n\n".join(card(options, target)) + "\n" if options.report else kept)
    else:
        ship_reader(options.source, target)
    sizes = {path: path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()}
    largest = max(sizes, key=sizes.__getitem__)
    together, most = sum(sizes.values()), sizes[largest]
    print(f"together {together / 1e6:.1f} MB; largest {largest.name} {most / 1e6:.1f} MB")
    if together > MOST_TOGETHER or most > MOST_A_FILE:
        sys.exit("too much to ship: wanted 53 MB together and 15 MB a file at most")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
