"""The papers' tables in small: every sheet from training to its page on next to nothing; run again
it trains and paints nothing anew."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
import time
from pathlib import Path

import gill_context
import minigpt5_table1
import minigpt5_table4
import minigpt5_table6
import published
import pytest
import runner
import story_tasks
import torch
import workers
import world_table

from conftest import build_model
from photoworld.scenes import TEST_SEEDS
from photoworld.stories import STEPS, determined_only_by, world_story
from showtell.config import override
from showtell.errors import ConfigError, UsageError
from showtell.evaluation.score_runs import photo_scores
from showtell.evaluation.world_gold import Gold, Readers
from showtell.metrics.blind_page import export_page
from showtell.models.checkpoint import save_model
from showtell.papers.forms import readable
from showtell.papers.minigpt5 import SYSTEM
from showtell.recipes.registry import RECIPES

ROOT = Path(__file__).parents[2]
STORIES = [world_story(seed) for seed in TEST_SEEDS[:12]]
TABLES = sorted(
    path.stem
    for path in (ROOT / "experiments").glob("*.py")
    if "= table(__file__" in path.read_text()
)
# rows that are run, and rows that must be found on each sheet, with the number of their photos
RUN = {
    "e2e_table2": (
        ["end to end", "photos in the context unseen"],
        {"e2e_table2": {"end to end": 8, "photos in the context unseen": 8}},
    ),
    "gathered": (
        ["base, no step", "MiniGPT-5, gathered, 450 steps, then as published"],
        {
            "gathered": {
                "base, no step": 8,
                "MiniGPT-5, gathered, 450 steps, then as published": 8,
            }
        },
    ),
    "gill_checks": (["r_1"], {"gill_checks": {"r_1": 12}}),
    "gill_context": (
        ["GILL"],
        {
            "gill_stories": {
                "GILL; 1 captions": 12,
                **{f"GILL; {n} captions{more}": 12
                   for n in range(2, STEPS + 1) for more in ("", " and photos")},
            },
            "gill_rounds": {"GILL; 1 rounds": 12, "GILL; 10 rounds": 12},
        },
    ),
    "gradient_matters": (["sentence, gold"], {"gradient_matters": {"sentence, gold": 8}}),
    "minigpt5_table1": (
        ["painter, zero-shot", "vokens, LoRA"],
        {
            "minigpt5_table1": {
                "painter, zero-shot; no context": 12,
                "painter, zero-shot; text": 12,
                **{f"vokens, LoRA; {head}": 12 for head in minigpt5_table1.CONTEXTS.values()},
            }
        },
    ),
    "minigpt5_tables23": (
        ["LLM, fine-tuned", "vokens, LoRA"],
        {
            "minigpt5_table2": {"vokens, LoRA; photos and text": 12 * STEPS},
            "minigpt5_table3": {"LLM, fine-tuned": 0, "vokens, LoRA": 0},
        },
    ),
    "minigpt5_table4": (
        ["two stages: LLM, then painter", "vokens, LoRA"],
        {
            "minigpt5_table4": {
                "two stages: LLM, then painter": 12 * (STEPS - 1),
                "vokens, LoRA": 12 * (STEPS - 1),
                "gold text and photo": 0,
            }
        },
    ),
    "minigpt5_table6": (
        ["vokens", "vokens, fitted"],
        {
            "minigpt5_table6": {"vokens": 12, "vokens, fitted": 12},
            "minigpt5_guidance": {f"vokens; {head}": 12 for head in minigpt5_table6.SCALES},
        },
    ),
    "world_table": (
        ["pipeline", "retrieval only", "vokens, prefix"],
        {
            "world": {"pipeline": 8, "retrieval only": 8, "the true photos, through the VAE": 8},
            "minigpt5_table5": {"pipeline": 8, "vokens, prefix": 8},
        },
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tokenizers, tmp_path_factory) -> Path:
    """A tiny world_base."""
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(build_model(tokenizers, bridge="pipeline"), folder, recipe={})
    return folder


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("showtell.metrics.intervals.RESAMPLES", 20)


def command(base: Path, runs: Path, *only: str) -> list[str]:
    rows = [word for name in only for word in ("--only", name)]
    return ["--tiny", "--base", str(base), "--runs", str(runs), *rows]


def refuse(*args, **kwargs):
    raise AssertionError("this was done already")


# -------------------------------------------------------------------------------- every table


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_trained_measured_and_written(name, base, tmp_path, monkeypatch, capsys):
    script, (only, wanted) = importlib.import_module(name), RUN[name]
    sheets = getattr(script, "SHEETS", None) or (script.SHEET,)
    names = [row.name for row in {row for sheet in sheets for row in sheet.rows}]
    assert len(names) == len(set(map(workers.slug, names)))
    for sheet in sheets:  # no two rows are the same, and recipes know their settings
        configs = [
            (row.recipe, repr(override(RECIPES[row.recipe].config, row.settings)))
            for row in sheet.rows
            if row.recipe
        ]
        assert len(set(configs)) >= len(configs) - (name == "minigpt5_table4")
    published = {path: path.stat().st_mtime_ns for path in (ROOT / "docs/results").iterdir()}

    assert script.main(command(base, tmp_path, *only)) == 0
    said = capsys.readouterr().out
    for sheet, rows in wanted.items():
        found = json.loads((tmp_path / f"{sheet}.json").read_text())["rows"]
        assert set(rows) <= set(found)
        for row, count in rows.items():
            photos = [cell["value"] for key, cell in found[row].items() if key[:6] == "photo."]
            assert max((value["n"] for value in photos if value), default=0) == count
        written = (tmp_path / f"{sheet}.md").read_text()
        assert written in said and "| trained on | CPU" in written
    assert {path: path.stat().st_mtime_ns for path in published} == published

    pages = {path: path.read_text() for path in tmp_path.glob("*.json")}
    monkeypatch.setattr(runner, "run_recipe", refuse)
    monkeypatch.setattr("gradient_watch.run_recipe", refuse)
    monkeypatch.setattr(runner, "world_answers", refuse)
    assert script.main(command(base, tmp_path, *only)) == 0
    assert {path: path.read_text() for path in pages} == pages
    with pytest.raises(ConfigError, match="was made with .*name another --runs"):
        script.main([*command(base, tmp_path, *only[-1:]), "--set", "stage.clip=2"])


def test_rows_go_on_from_an_alignment_or_have_their_own(base, tmp_path):
    """Half of the steps are alignment's, but where it is the whole of a row, or was had before;
    every stage warms up at the same part of its steps as in the recipe."""
    options = ["--base", str(base), "--runs", str(tmp_path), "--steps", "100"]

    def settings(row: runner.Row, *more: str) -> list[str]:
        found = []

        def measure(bench, rows):
            found.extend(bench.settings(row, 3))
            return {}

        sheet = runner.Sheet(
            name="x", title="x", rows=(row,), columns=(), against="x", measure=measure
        )
        assert runner.table("x.py", "x", sheet)([*options, *more]) == 0
        return found

    whole = RECIPES["world_vokens"].config
    config = override(whole, settings(world_table.VOKENS[0]))
    assert [stage.steps for stage in config.stages] == [50, 100]
    assert config.stages[0].warmup / 50 == whole.stages[0].warmup / whole.stages[0].steps
    alone = override(whole, settings(minigpt5_table6.VOKENS))
    assert [stage.steps for stage in alone.stages] == [100, 0]
    before = tmp_path / "run-3" / "model"
    before.parent.mkdir()
    shutil.copytree(base, before)
    later = ("--aligned", str(tmp_path / "run-{seed}" / "model"))
    config = override(whole, settings(world_table.VOKENS[0], *later))
    assert [stage.steps for stage in config.stages] == [0, 100]
    assert config.base == str(before.resolve())
    without = next(row for row in story_tasks.PAPERS if "UAS" in row.name)
    assert override(RECIPES[without.recipe].config, settings(without, *later)).base != config.base


def test_an_unknown_row_gets_a_suggestion():
    with pytest.raises(UsageError, match='did you mean "pipeline"'):
        world_table.main(["--only", "pipelin"])


# ---------------------------------------------------------------------------------- processes


def test_processes_run_side_by_side_and_one_that_fails_says_why(tmp_path):
    other = f"pathlib.Path({str(tmp_path)!r}) / 'other'"
    wait = "while not other.exists(): time.sleep(0.05)"
    jobs = {
        "first": ["-c", f"import pathlib, time\nother = {other}\n{wait}"],
        "bad": ["-c", "import sys; print('much'); sys.exit('showtell: error: the disk is full')"],
        "second": ["-c", f"import pathlib\n({other}).touch()"],
    }
    assert workers.run_all(jobs, logs=tmp_path, workers=3) == {"bad": "it failed: the disk is full"}


def test_a_stop_ends_the_processes_and_begins_no_other(tmp_path):
    began = time.monotonic()
    slow = ["-c", f"import os, signal, time\nos.kill(os.getppid(), {int(signal.SIGTERM)})\n"
            "time.sleep(60)"]  # fmt: skip
    later = ["-c", f"open({str(tmp_path / 'later')!r}, 'w')"]
    with pytest.raises(KeyboardInterrupt):
        workers.run_all({"slow": slow, "later": later}, logs=tmp_path, workers=1)
    assert time.monotonic() - began < 30 and not (tmp_path / "later").exists()


def test_a_row_that_failed_is_not_run_and_rows_of_two_devices_are_said_to_be(
    base, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(runner, "run_all", lambda jobs, **_: {"GILL, seed 0": "the disk is full"})
    devices = iter(("CPU", "GPU 3"))
    monkeypatch.setattr(runner, "device_label", lambda: next(devices, "CPU"))
    told = [*command(base, tmp_path, "GILL", "pipeline", "text only"), "--workers", "2"]
    assert world_table.main(told) == 1
    written = (tmp_path / "world.md").read_text()
    assert "- GILL: not run: the disk is full" in written
    assert "| trained on | CPU: pipeline, seed 0. GPU 3: text only, seed 0 |" in written
    capsys.readouterr()


def test_a_page_names_no_folder_of_a_machine():
    shown = published.without_folders("--base /home/me/runs/base/model --out runs/some/where/else")
    assert shown == "--base base/model --out runs/some/where/else"
    shown = published.without_folders("photochat:/home/me/data/photochat/train.jsonl")
    assert shown == "photochat:photochat/train.jsonl"
    assert published.without_folders("https://x/y/z/w") == "https://x/y/z/w"


# ---------------------------------------------------------------------------- what is measured


def test_photos_are_painted_once_and_kept_to_the_byte(base, tmp_path):
    def measure(bench, rows):
        path = tmp_path / "a.safetensors"
        first = bench.kept_photos(path, lambda: torch.rand(2, 3, 4, 4), 2)
        assert torch.equal(first, bench.kept_photos(path, refuse, 2))
        return {}

    sheet = runner.Sheet(
        name="x", title="x", rows=(story_tasks.LLM,), columns=(), against="x", measure=measure
    )
    assert runner.table("x.py", "x", sheet)(["--base", str(base), "--runs", str(tmp_path)]) == 0


def test_people_compare_answers_without_the_instruction(base, tmp_path, capsys):
    rows = (minigpt5_table4.TWO_STAGES.name, story_tasks.VOKENS.name)
    assert minigpt5_table4.main(command(base, tmp_path, *rows)) == 0
    a, b = (tmp_path / "people" / workers.slug(name) / "predictions.jsonl" for name in rows)
    context = a.with_name("context.jsonl")
    out = tmp_path / "judge.html"
    exported = export_page(a, b, out, context=f"showtell:{context}", seed=0)
    assert exported.page.stat().st_size > 10_000
    said = [json.loads(line) for line in a.read_text().splitlines()]
    assert [len(record["elements"]) for record in said] == [2] * 3
    assert SYSTEM not in context.read_text()  # that is for the LLM alone
    capsys.readouterr()


def test_two_stages_paint_the_own_text_after_the_gold_ones_before_it(monkeypatch):
    read: list[str] = []
    monkeypatch.setattr(minigpt5_table4, "painted_texts", lambda model, texts: read.extend(texts))
    own = [f"own {number}" for number in range(2 * (STEPS - 1))]
    minigpt5_table4.painted_after(STORIES[:2], own, lambda: None)
    gold = [turn.text for turn in STORIES[1].turns]
    assert read[STEPS] == ". ".join(["own 5", gold[1], gold[0]])
    assert len(read) == len(own)


def test_a_painter_reads_all_of_a_short_text_and_of_a_long_one_the_words_it_knows(tokenizers):
    tower = build_model(tokenizers, bridge="pipeline").painter.text
    assert readable("a red dog, at night", tower) == "a red dog, at night"
    known = "red dog at night"
    assert readable(f"Xylophones quarrelled {known} " + "zyzzyva " * 40, tower) == known


def test_true_photos_score_full_marks_on_what_each_source_settles():
    gold = Gold(story_tasks.tasks_of(STORIES, "task_end:both"), Readers())
    counted = {
        f"story.only_{s}": [determined_only_by(story.photos[-1], s) for story in STORIES]
        for s in minigpt5_table1.SOURCES
    }
    true = photo_scores(gold.pixels_N3HW, gold, counted)
    others = photo_scores(gold.pixels_N3HW.roll(1, 0), gold, counted)
    for name in counted:
        assert true[name].value() > 0.95 > 0.8 > others[name].value()


def test_the_points_of_gills_curves_differ_in_what_is_read_only():
    class Bench:
        readers = None

        def data(self, kind):
            return STORIES

        def shown(self, name, rows, points, gold):
            return points

    points = gill_context.captions(Bench(), ())
    made = [[task.turns[-1] for task in point.tasks] for point in points.values()]
    assert all(turns == made[0] for turns in made)
    read = {head: point.tasks[0].turns[0] for head, point in points.items()}
    for count in range(2, STEPS + 1):
        text, both = (read[f"{count} captions{more}"] for more in ("", " and photos"))
        assert len(text.elements) == count and not text.photos
        assert len(both.photos) == count - 1 and both.text == text.text
