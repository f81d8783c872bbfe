"""The card of a shipped model, from what its training and its reports say of themselves.

    python experiments/model_card.py mini --run runs/world_mini --report out/mini-test [...]

Writes README.md, loss.png and contact_sheet.png beside the weights. Nothing in it is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

from PIL import Image

from showtell.models.checkpoint import SHIPPED, read_description
from showtell.papers import load_model
from showtell.training.loop import parameter_count


def stage_rows(run: Path) -> list[str]:
    """One line for each stage that ran: steps, hours, first and last loss."""
    rows = []
    for path in sorted(run.glob("*/history.json")):
        history = [r for r in json.loads(path.read_text()) if "seconds" in r]
        if history:
            names = [k for k in history[0] if k not in ("step", "seconds", "gradient_norm")]
            losses = ", ".join(
                f"{name} {history[0][name]:.3f} to {history[-1][name]:.3f}" for name in names
            )
            rows.append(
                f"| {path.parent.name} | {history[-1]['step']:,} "
                f"| {history[-1]['seconds'] / 3600:.2f} | {losses} |"
            )
    return rows


def report_rows(report: dict) -> list[str]:
    rows = []
    for name, value in report["metrics"].items():
        if value["value"] is None:
            continue
        interval = "" if value["low"] is None else f"{value['low']:.3f} to {value['high']:.3f}"
        rows.append(
            f"| `{name}` | {value['value']:.3f} | {interval} | {value['n']:,} | "
            + value["note"].replace("|", "\\|")
            + " |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--run", type=Path, action="append", default=[])
    parser.add_argument("--report", type=Path, action="append", default=[])
    parser.add_argument("--note", default="", help="a sentence that stands first")
    options = parser.parse_args()
    folder = SHIPPED / options.name
    description = read_description(folder)
    card, recipe = description["card"], description["recipe"]
    model = load_model(options.name)
    parts = {
        part: parameter_count(model, only=(f"{part}.",))
        for part in ("language", "photo_encoder", "painter")
    }
    lines = [
        "---",
        "license: mit" if "MIT" in card.get("licence", "") else "license: cc-by-4.0",
        "library_name: showtell",
        "pipeline_tag: any-to-any"
        if model.painter is not None
        else "pipeline_tag: text-generation",
        "---",
        f"# {options.name}",
        "",
        *([options.note, ""] if options.note else []),
        f"{card.get('limits', '')}",
        "",
        f"Licence: {card.get('licence', 'MIT')}.",
        "",
        "Parameters: " + ", ".join(f"{k} {v:,}" for k, v in parts.items() if v) + ".",
        "",
        "## Training",
        "",
        f"Recipe `{recipe['name']}`; its resolved configuration is in showtell.json. Seeds: "
        f"{recipe['config'].get('seed', 0)}.",
        "",
        "| stage | steps | hours | losses |",
        "|---|--:|--:|---|",
        *(row for run in options.run for row in stage_rows(run)),
        "",
    ]
    curves = [p for run in options.run for p in sorted(run.glob("*/loss.png"))]
    if curves:
        shutil.copy(curves[-1], folder / "loss.png")
        lines += ["![loss](loss.png)", ""]
    for place in options.report:
        report = json.loads((place / "report.json").read_text())
        command = re.sub(r" --out [^ ]+", "", report["command"])
        # absolute paths keep their last two parts
        command, data = (
            re.sub(r"/(?:[^ /]+/)+([^ /]+/[^ /]+)", r"\1", text)
            for text in (command, report["data"])
        )
        lines += [
            f"## {data}",
            "",
            f"`{command}`, commit {report['commit']}, model {report['model_digest']}, "
            f"{report['seconds'] / 60:.0f} min.",
            "",
            "| measure | value | 95% | n | |",
            "|---|--:|:-:|--:|---|",
            *report_rows(report),
            "",
        ]
        if (place / "contact_sheet.png").exists():
            sheet = Image.open(place / "contact_sheet.png").quantize(256)
            sheet.save(folder / "contact_sheet.png", optimize=True)
            lines += ["![unpicked photos](contact_sheet.png)", ""]
    (folder / "README.md").write_text("\n".join(lines))
    print(f"wrote {folder / 'README.md'}")


if __name__ == "__main__":
    main()
