"""The comparison of all systems: one command over tiny models, interrupted and resumed; jobs."""

from __future__ import annotations

import dataclasses
import importlib
import json
import time
from pathlib import Path

import jobs
import pytest
import world_table
from PIL import Image

from conftest import build_model
from showtell.errors import ConfigError, UsageError
from showtell.models.checkpoint import save_model
from showtell.runtime import device_label

ROWS = ("GILL", "pipeline", "retrieval only", "text only")
ABSENT = world_table.Row(name="never written", recipe="world_never")


# ------------------------------------------------------------------------------------- the whole


def stop_once(monkeypatch, place: str) -> None:
    """Ctrl-C, the next time that the function at ``place`` is called."""
    module, _, name = place.rpartition(".")
    true = getattr(importlib.import_module(module), name)

    def stopped(*args, **kwargs):
        monkeypatch.setattr(place, true)
        raise KeyboardInterrupt

    monkeypatch.setattr(place, stopped)


def test_one_command_writes_the_table_though_it_was_stopped_twice(
    tmp_path, tokenizers, monkeypatch, capsys
):
    base = tmp_path / "base"
    recipe = {"name": "tiny", "config": {}}
    save_model(build_model(tokenizers, bridge="pipeline"), base, recipe=recipe)
    monkeypatch.setattr(world_table, "ROWS", (*world_table.ROWS, ABSENT))
    command = ["dry", "--base", str(base), "--runs", str(tmp_path / "runs"), "--workers", "0"]
    command += ["--out", str(tmp_path / "out")]
    for name in (*ROWS, ABSENT.name):
        command += ["--only", name]
    begun: list[tuple[str, ...]] = []
    call = world_table.call_here
    monkeypatch.setattr(
        world_table, "call_here", lambda arguments: begun.append(arguments) or call(arguments)
    )
    # within the first training, when its stage is done; then within an evaluation
    for place in (
        "showtell.recipes.experiment._calibrate",
        "showtell.evaluation.world_answers.add_photos",
    ):
        stop_once(monkeypatch, place)
        with pytest.raises(KeyboardInterrupt):
            world_table.main(command)
        assert not (tmp_path / "out").exists()
    assert world_table.main(command) == 1  # one row could not be run

    jobs_begun = ["answer" if "answer" in a else a[3] for a in begun]
    assert jobs_begun.count("world_gill") == 2 and sum("--resume" in a for a in begun) == 1
    assert jobs_begun.count("world_pipeline") == 1 and jobs_begun.count("answer") == len(ROWS) + 1

    rows = json.loads((tmp_path / "out" / "world.json").read_text())["rows"]
    assert rows["GILL"]["retrieval.r1"]["value"]["value"] is not None
    for name in ("pipeline", "text only"):
        cell = rows[name]["retrieval.r1"]
        assert cell["value"] is None and "no query" in cell["reason"]
    assert rows["text only"]["photo.kid"] == {
        "value": None,
        "reason": "it shows no photo",
        "against": None,
        "runs": [],
    }
    assert rows["text only"]["moment.f1"]["against"]["n"] == 12
    assert all(cell["against"] is None for cell in rows["pipeline"].values())
    assert "world_never" in rows[ABSENT.name]["moment.f1"]["reason"]
    assert rows["the true photos, through the VAE"]["photo.clip_i"]["value"]["n"] == 8
    trained = {n: rows[n]["cost.trained"]["value"]["value"] for n in ROWS}
    assert 0 < trained["text only"] < rows["text only"]["cost.parameters"]["value"]["value"] + 1
    page = (tmp_path / "out" / "world.md").read_text()
    assert f"| device | {device_label()}, 1 job at a time |" in page
    assert "never written: not run" in page and "through the VAE" in page
    Image.open(tmp_path / "out" / "examples.png").verify()
    capsys.readouterr()


def test_an_unknown_row_gets_a_suggestion():
    with pytest.raises(UsageError, match='did you mean "pipeline"'):
        world_table.main(["dry", "--only", "pipelin"])


def test_every_row_has_its_own_name_and_the_one_that_all_are_held_against_is_there():
    names = [jobs.slug(row.name) for row in world_table.ROWS]
    assert len(set(names)) == len(names)
    assert world_table.PIPELINE in [row.name for row in world_table.ROWS]


def test_rows_from_two_devices_are_said_to_be(tmp_path):
    devices = {"pipeline": "CPU with bfloat16", "GILL": "CPU with bfloat16", "Divter": "GPU 3"}
    for name, device in devices.items():
        file = tmp_path / "jobs" / f"{jobs.slug(f'{name}, seed 7')}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"arguments": [], "device": device}))
    told = world_table.devices_of(tmp_path, ["pipeline", "GILL"], seed=7)
    assert told == "CPU with bfloat16"
    told = world_table.devices_of(tmp_path, devices, seed=7)
    assert told == "CPU with bfloat16: pipeline; GILL. GPU 3: Divter"


# ------------------------------------------------------------------------------------------- jobs


def job(folder: Path, name: str, code: str, *needs: str) -> jobs.Job:
    goal = folder / f"{name}.goal"
    text = f"import pathlib, sys, time; goal = pathlib.Path({str(goal)!r}); {code}"
    return jobs.Job(name=name, arguments=("-c", text), out=goal, goal=goal, needs=needs)


def test_jobs_run_once_after_what_they_need_and_a_failure_takes_only_its_own_with_it(tmp_path):
    todo = [
        job(
            tmp_path, "late", "assert goal.with_name('early.goal').exists(); goal.touch()", "early"
        ),
        job(tmp_path, "early", "print('step 3/4'); goal.touch()"),
        job(tmp_path, "bad", "sys.exit('showtell: error: the disk is full')"),
        job(tmp_path, "orphan", "goal.touch()", "bad"),
    ]
    runner = jobs.Runner(tmp_path, workers=2)
    runner.run(todo)
    assert set(runner.failed) == {"bad", "orphan"}
    assert runner.failed["orphan"] == "it failed: the disk is full"
    assert jobs.record_of(tmp_path, "early")["peak_memory_bytes"] > 1e6
    before = (tmp_path / "early.goal").stat().st_mtime_ns
    again = jobs.Runner(tmp_path, workers=2)
    again.run(todo)
    assert (tmp_path / "early.goal").stat().st_mtime_ns == before
    assert len(jobs.seconds_spent(tmp_path)) == 2


def test_what_was_begun_otherwise_is_not_gone_on_with(tmp_path):
    one = job(tmp_path, "one", "goal.mkdir()")
    jobs.Runner(tmp_path, workers=1).run([one])
    other = dataclasses.replace(one, arguments=("-c", "pass"), goal=tmp_path / "one.goal" / "never")
    with pytest.raises(ConfigError, match="begun with other settings"):
        jobs.Runner(tmp_path, workers=1).run([other])


def test_a_stop_ends_the_processes_that_were_begun(tmp_path, monkeypatch):
    slow = job(tmp_path, "slow", "time.sleep(60); goal.touch()")
    began = time.monotonic()

    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs.time, "sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        jobs.Runner(tmp_path, workers=1).run([slow])
    assert time.monotonic() - began < 30 and not slow.done


def test_a_job_that_an_earlier_call_left_at_work_is_not_begun_twice(tmp_path):
    slow = job(tmp_path, "slow", "time.sleep(60)")
    left = jobs.Runner(tmp_path, workers=1)._start(slow)
    try:
        with pytest.raises(ConfigError, match="still at work"):
            jobs.Runner(tmp_path, workers=1).run([slow])
    finally:
        left.process.kill()
        left.process.wait()


def test_a_row_whose_settings_no_recipe_knows_is_not_run_and_says_so():
    assert "did you mean" in world_table.impossible("world_mini", ["photo_encodr=caption"])
    assert world_table.impossible("world_mini", ["photo_encoder=caption"]) == ""


def test_a_page_names_no_folder_of_a_machine():
    shown = world_table.without_folders("--base /home/me/runs/base/model --out docs/results")
    assert shown == "--base base/model --out docs/results"


@pytest.mark.parametrize("name", world_table.SIZES)
def test_every_row_of_every_size_has_a_recipe_that_knows_its_settings(name, tmp_path):
    todo, _ = world_table.jobs_of(
        world_table.SIZES[name], world_table.ROWS, runs=tmp_path, base=None
    )
    assert [job.name for job in todo if job.impossible] == []
    names = [job.name for job in todo]
    assert len(set(names)) == len(names) and {n for job in todo for n in job.needs} <= set(names)
