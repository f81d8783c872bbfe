"""A run in its folder: never overwritten, held by one process, gone on with by its own settings."""

from __future__ import annotations

import json
import os
import signal
import stat

import pytest

from recipes.conftest import EXTRA, WORLD, moved, train
from showtell.data.storage import locked
from showtell.errors import CheckpointError, ConfigError, StorageError
from showtell.papers import load_model

MINI = ["stage.steps=1", "stage.batch_size=2", "num_dialogues=8", "calibration_dialogues=4"]


def test_an_unknown_recipe_or_key_is_answered_with_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match='did you mean "world_mini"'):
        train("world_mimi", tmp_path)
    with pytest.raises(ConfigError, match='did you mean "painter"'):
        train("world_base", tmp_path, "panter.steps=3")
    assert not list(tmp_path.iterdir())


def test_a_run_is_never_overwritten(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ConfigError, match="--resume"):
        train("world_base", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_base_that_a_recipe_writes_names_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match='"showtell train world_base"'):
        train("world_mini", tmp_path / "o")


@pytest.mark.parametrize("name", ["nothing", "/no/such/folder"])
def test_a_model_that_is_not_there_is_a_clear_error(name, tmp_path):
    with pytest.raises(CheckpointError, match="there is no model"):
        load_model(name)
    with pytest.raises(CheckpointError, match="there is no model"):
        train("world_mini", tmp_path / "o", f"base={name}")


def test_two_processes_on_one_folder_the_second_is_refused(tmp_path):
    with locked(tmp_path / "o"), pytest.raises(StorageError, match=r"another|holds"):
        train("world_mini", tmp_path / "o", *MINI)
    assert not list(tmp_path.rglob("*.json"))


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        train("world_mini", tmp_path / "file" / "o", *MINI)
    shut = tmp_path / "shut"
    shut.mkdir()
    shut.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if not os.access(shut, os.W_OK):  # root may write anywhere
        with pytest.raises(StorageError):
            train("world_mini", shut / "o", *MINI)


def test_a_run_goes_on_with_the_settings_that_it_was_begun_with(tmp_path, pipeline_base):
    """Without any, with a part of them, or with all; and others are refused by name."""
    settings = [f"base={pipeline_base}", *MINI]
    out = tmp_path / "o"
    model = train("world_mini", out, *settings, seed=3)
    known = json.loads((out / "run.json").read_text())
    assert known == {"recipe": "world_mini", "settings": ["seed=3", *settings]}
    for again in ([], settings[:2], settings):
        assert train("world_mini", out, *again, resume=True) == model
    recipe = json.loads((model / "showtell.json").read_text())["recipe"]
    assert recipe["config"]["seed"] == 3 and recipe["config"]["stages"][0]["steps"] == 1
    with pytest.raises(ConfigError, match=r"end_to_end\.steps=1, and 2 is wanted"):
        train("world_mini", out, "stage.steps=2", resume=True)
    with pytest.raises(ConfigError, match="seed=3, and 4 is wanted"):
        train("world_mini", out, resume=True, seed=4)
    with pytest.raises(ConfigError, match="a run of world_mini, and world_text"):
        train("world_text", out, resume=True)
    (out / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        train("world_mini", out, resume=True)


def test_a_stopped_run_of_two_stages_goes_on_to_the_bit(pipeline_base, tmp_path):
    """Ctrl-C in the second stage; the adapter joined the LLM before it."""
    settings = [f"base={pipeline_base}", *WORLD, *EXTRA["world_vokens"]]
    whole = train("world_vokens", tmp_path / "whole", *settings)

    def stopped(task):
        if (tmp_path / "half" / "alignment").exists():
            task.advance = lambda epoch, *, of: os.kill(os.getpid(), signal.SIGINT)
        return task

    with pytest.raises(KeyboardInterrupt):
        train("world_vokens", tmp_path / "half", *settings, watch=stopped)
    assert (tmp_path / "half" / "learning" / "state").is_dir()
    half = train("world_vokens", tmp_path / "half", resume=True)
    assert not moved(whole, half)
