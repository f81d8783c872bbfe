"""Put a trained model among the shipped ones: bf16 safetensors in shards of at most 15 MB, and its
card from what its training and its reports say of themselves.

    python experiments/ship.py runs/world_mini/model mini --run runs/world_mini --report out/mini
    python experiments/ship.py runs/oracle oracle              (photoworld/train_oracle.py)

Nothing in a card is typed by hand but --note, a sentence that stands first. Ends with the sizes of
everything shipped, and fails if they pass 40 MB together or 15 MB a file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from showtell.cli.exits import exit_code_of
from showtell.metrics.pictures import loss_curves, save_picture
from showtell.models.checkpoint import SHIPPED, read_description, save_model
from showtell.papers import load_model
from showtell.training.loop import parameter_count

MOST_TOGETHER, MOST_A_FILE = 40_000_000, 15_000_000


def ship_reader(source: Path, target: Path) -> None:
    """A reader of attributes: its weights in bf16."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ("config.json", "report.json", "recipe.json"):
        if (source / name).exists():
            shutil.copy(source / name, target / name)
    state = load_file(source / "model.safetensors")
    floats = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    save_file(floats, target / "model.safetensors")


def without_folders(plain: Any) -> Any:
    """A value in which absolute paths keep their last two parts: where files lay says nothing."""
    if isinstance(plain, dict):
        return {key: without_folders(value) for key, value in plain.items()}
    if isinstance(plain, str):
        words = [("/".join(Path(w).parts[-2:]) if w[:1] == "/" else w) for w in plain.split(" ")]
        return " ".join(words)
    return plain


def card(name: str, *, runs: Sequence[Path], reports: Sequence[Path], note: str) -> Iterator[str]:
    """The lines of README.md; pictures are put beside it."""
    folder, model = SHIPPED / name, load_model(name)
    description = read_description(folder)
    told, recipe = description["card"], description["recipe"]
    parts = {
        p: parameter_count(model, only=(f"{p}.",)) for p in ("language", "photo_encoder", "painter")
    }
    kind = "any-to-any" if model.painter is not None else "text-generation"
    yield "---\nlicense: " + ("mit" if "MIT" in told.get("licence", "") else "cc-by-4.0")
    yield f"library_name: showtell\npipeline_tag: {kind}\n---\n# {name}\n"
    yield f"{note}\n\n{told.get('limits', '')}\n".lstrip()
    yield f"Licence: {told.get('licence', 'MIT')}.\n"
    yield "Parameters: " + ", ".join(f"{k} {v:,}" for k, v in parts.items() if v) + ".\n"
    yield f"## Training\n\nRecipe `{recipe['name']}`, seed {recipe['config'].get('seed', 0)}; its"
    yield "resolved configuration is in showtell.json.\n"
    yield "| stage | steps | hours | losses |\n|---|--:|--:|---|"
    for path in (path for run in runs for path in sorted(run.glob("*/history.json"))):
        if history := [r for r in json.loads(path.read_text()) if "seconds" in r]:
            first, last = history[0], history[-1]
            names = [k for k in first if k not in ("step", "seconds", "gradient_norm")]
            losses = ", ".join(f"{k} {first[k]:.3f} to {last[k]:.3f}" for k in names)
            hours = last["seconds"] / 3600
            yield f"| {path.parent.name} | {last['step']:,} | {hours:.2f} | {losses} |"
    if histories := [p for run in runs for p in sorted(run.glob("*/history.json"))]:
        loss_curves(json.loads(histories[-1].read_text()), folder / "loss.png")
        yield "\n![loss](loss.png)"
    for place in reports:
        report = json.loads((place / "report.json").read_text())
        command = without_folders(report["command"].partition(" --out ")[0])
        yield f"\n## {without_folders(report['data'])}\n"
        yield f"`{command}`, commit {report['commit']}, model {report['model_digest']}, "
        yield f"{report['seconds'] / 60:.0f} min.\n"
        yield "| measure | value | 95% | n | |\n|---|--:|:-:|--:|---|"
        for measure, value in report["metrics"].items():
            if value["value"] is not None:
                low, high = value["low"], value["high"]
                interval = "" if low is None else f"{low:.3f} to {high:.3f}"
                about = value["note"].replace("|", "\\|")
                cells = (f"{value['value']:.3f}", interval, f"{value['n']:,}", about)
                yield f"| `{measure}` | {' | '.join(cells)} |"
        if (place / "contact_sheet.png").exists():
            save_picture(Image.open(place / "contact_sheet.png"), folder / "contact_sheet.png")
            yield "\n![unpicked photos](contact_sheet.png)"


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
        recipe = without_folders(read_description(options.source)["recipe"])
        old = target / "README.md"
        kept = old.read_text() if old.exists() else ""
        save_model(load_model(str(options.source)).to(torch.bfloat16), target, recipe=recipe)
        if options.report:
            told = {"runs": options.run, "reports": options.report, "note": options.note}
            kept = "\n".join(card(options.name, **told)) + "\n"
        old.write_text(kept)
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
    most = largest.stat().st_size
    print(f"together {together / 1e6:.1f} MB; largest {largest.name} {most / 1e6:.1f} MB")
    if together > MOST_TOGETHER or most > MOST_A_FILE:
        sys.exit("too much to ship: wanted 40 MB together and 15 MB a file at most")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
