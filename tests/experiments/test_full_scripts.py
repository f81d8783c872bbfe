"""The shell scripts: those of full/ go from the data to their tables, on tiny parts and two
examples; a recipe knows every setting that a script, a page or a docstring names.

A stand-in for the command writes down what a script asks for; the commands are then run in this
process, so that the libraries are loaded once.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from conftest import build_model, save_vision
from data import natives
from showtell.cli import main
from showtell.config import override
from showtell.recipes.registry import RECIPES

FOLDER = Path(__file__).parents[2] / "experiments" / "full"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("[!_]*.sh"))
RECORDER = """#!/bin/sh
for word in "$@"; do printf '%s\\037' "$word"; done >> "$RECORD"
echo >> "$RECORD"
"""


@pytest.fixture(scope="module")
def dry(tokenizers, tmp_path_factory):
    root = tmp_path_factory.mktemp("dry")
    natives.write_fetched(root / "data")
    model = build_model(tokenizers, bridge="pipeline")
    model.language.save_pretrained(root / "models/language")
    model.painter.save_pretrained(root / "models/painter")
    save_vision(model.photo_encoder.vision, root / "models/vision")
    recorder = root / "recorder"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    return root


def commands(script: str, dry: Path, *words: str, **environment: str) -> list[list[str]]:
    """What the script asks ``showtell`` for, in order, as if nothing had been done before."""
    record = dry / f"{Path(script).name}.record"
    record.unlink(missing_ok=True)
    settings = {**os.environ, "SHOWTELL": str(dry / "recorder"), "RECORD": str(record)}
    subprocess.run(
        ["bash", str(FOLDER / f"{script}.sh"), *words],
        env=settings | environment,
        check=True,
        timeout=60,
        cwd=dry,
    )
    return [line.split("\037")[:-1] for line in record.read_text().splitlines()]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_prints_its_table_on_tiny_parts(script, dry, capsys):
    printed = ""
    seen: set[str] = set()
    for command in commands(script, dry, "--dry", str(dry)):
        assert command[:2] != ["data", "fetch"]
        out = Path(command[command.index("--out") + 1]) if "--out" in command else None
        if command[0] == "train" and (out / "model/showtell.json").exists():
            continue  # shared by several scripts
        if command[0] == "evaluate":
            what = {command[1], " ".join(command[2:4] + command[command.index("--protocol") :])}
            if what <= seen:
                continue  # this run, and these options on another run
            seen |= what
        assert main(command) == 0, command
        printed += capsys.readouterr().out
    assert "Dial" in printed or "## passport" in printed
    if script.startswith(("minigpt5", "psdg_table2")):
        assert "## reported, not measured here" in printed


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_of_full_size_fetches_before_it_trains_and_measures_all(script, dry):
    asked = commands(script, dry, MODELS=str(dry / "none"), RUNS=str(dry / "never"))
    verbs = [" ".join(command[:2]) if command[0] == "data" else command[0] for command in asked]
    assert verbs[0] in ("data fetch", "train") and "data fetch" in verbs
    for command in asked:
        if command[0] == "evaluate":
            assert command[command.index("--limit") + 1] == "100000000"
            assert "--protocol" in command and "--inception" in command


@pytest.mark.parametrize("script", [*SCRIPTS, "../mini"])
def test_a_recipe_knows_every_setting_of_a_script(script, dry):
    for command in commands(script, dry, MODELS=str(dry / "none"), RUNS=str(dry / "never")):
        if command[0] == "train":
            settings = [text for flag, text in pairwise(command) if flag == "--set"]
            assert override(RECIPES[command[1]].config, settings)


def test_a_recipe_knows_every_setting_that_a_page_or_a_docstring_names():
    root = FOLDER.parents[1]
    places = ("README.md", "docs/**/*.md", "experiments/*.py", "scripts/*", "src/showtell/**/*.py")
    found = []
    for path in (path for place in places for path in root.glob(place) if path.is_file()):
        text = re.sub(r"\s*\\\n\s*|\s+", " ", path.read_text(encoding="utf-8"))
        value = r"(?:'[^']*'|[^\s\"`')]+)"
        found += re.findall(rf"showtell train (\w+)((?: --(?:set|out|seed) {value})+)", text)
    assert len(found) > 20
    for recipe, options in found:
        override(RECIPES[recipe].config, [word for word in shlex.split(options) if "=" in word])


def test_every_script_says_that_it_was_not_run_and_what_it_would_take():
    for script in SCRIPTS:
        head = (FOLDER / f"{script}.sh").read_text().split("\n.", 1)[0]
        assert "Not run" in head, script
