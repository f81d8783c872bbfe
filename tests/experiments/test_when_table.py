"""When a photo comes: the table and the card, on few dialogues and tiny models."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import when_photo
from PIL import Image

from agent.tiny_chat import write_chatty
from conftest import photochat_record, words_alone
from showtell.agent.when import Reading
from showtell.models.checkpoint import SHIPPED, save_model

WORDS = ("hi : nice dog", "look a beach .", "a nice dog", "hi .", "nice : look a dog")


def record(number: int) -> dict:
    said = [(WORDS[(k + number) % 5], (k // 2 + k) % 2) for k in range(7)]
    return photochat_record(number, said) | {"photo_description": "Objects in the photo: Dog"}


@pytest.fixture
def told(tmp_path):
    """The command's options."""
    for name, numbers in (("train", range(60)), ("dev", range(100, 112))):
        lines = (json.dumps(record(k)) + "\n" for k in numbers)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    model = words_alone(f" {text}" for text in WORDS)
    model.card = {"moment": {"scale": 2.0, "bias": 0.5, "threshold": 0.2}}
    save_model(model, tmp_path / "home", recipe={})
    write_chatty(tmp_path / "llm")
    told = ["--home", str(tmp_path / "home"), "--lm", str(tmp_path / "llm"), "--held", "16"]
    told += ["--train", f"photochat:{tmp_path}/train.jsonl", "--few", "8", "--part", "5"]
    told += ["--dev", f"photochat:{tmp_path}/dev.jsonl", "--runs", str(tmp_path / "runs")]
    told += ["--photochat-runs", str(tmp_path / "talks"), "--out", str(tmp_path / "out")]
    return [*told, "--world-dev", "world:200000-200011", "--world-test", "world:100000-100011"]


def test_the_table_has_every_rows_chances_and_costs(told, tmp_path, monkeypatch):
    monkeypatch.setattr("showtell.metrics.intervals.RESAMPLES", 20)
    assert when_photo.main(told) == 0
    found = json.loads((tmp_path / "out" / "when.json").read_text())["rows"]
    assert list(found) == list(when_photo.ROWS)
    ours, never = found[when_photo.OURS], found[when_photo.NEVER]
    for data in when_photo.DATA:
        # none shared: each missed one costs 1, at every cost
        values = {never[f"{data}.moment.cost_{cost}"]["value"]["value"] for cost in (1, 3, 10)}
        assert len(values) == 1 and never[f"{data}.moment.auprc"]["value"] is None
        always = found[when_photo.ALWAYS]
        (missed,) = values
        for cost in (1, 3, 10):
            value = always[f"{data}.moment.cost_{cost}"]["value"]["value"]
            assert value == pytest.approx(cost * (100 - missed))
        assert 0 < ours[f"{data}.moment.auprc"]["value"]["value"] <= 1
    assert (
        ours["world.moment.cost_1"]["value"]["value"]
        < never["world.moment.cost_1"]["value"]["value"]
    )
    page = (tmp_path / "out" / "when.md").read_text()
    assert "when.png" in page and str(tmp_path) not in page
    with Image.open(tmp_path / "out" / "when.png") as picture:
        assert picture.width > 400


def test_a_card_is_fitted_on_held_out_dialogues_and_nothing_else_of_the_model_changes(tmp_path):
    shutil.copytree(SHIPPED / "mini", tmp_path / "mini")
    path = tmp_path / "mini" / "showtell.json"
    before = json.loads(path.read_text())
    when_photo.main(["--fit", str(tmp_path / "mini"), "--world-dev", "world:200000-200015"])
    after = json.loads(path.read_text())
    told = after["card"]["moment"].pop("spoken")
    assert told["data"] == "world:200000-200015" and told["positions"] > 40
    before["card"]["moment"].pop("spoken")
    assert after == before
    assert told["scale"] > 0 and Reading.of(after["card"] | {"moment": {"spoken": told}})


def test_what_a_policy_costs_by_hand():
    shared_M = np.array([True, True, False, False])
    row = when_photo.Row.by(np.array([0.8, 0.3, 0.6, 0.1]))
    found = row.scores("world", shared_M, [0, 0, 1, 1])
    assert found["world.moment.cost_1"].value() == 100 * (0 + 1 + 1 + 0) / 4
    assert found["world.moment.cost_3"].value() == 100 * (0 + 1 + 0 + 0) / 4
    assert found["world.moment.cost_10"].value() == 100 * (1 + 1 + 0 + 0) / 4
    always = when_photo.Row.fixed(np.ones(4, bool)).scores("world", shared_M, [0, 0, 1, 1])
    assert always["world.moment.cost_10"].value() == 500 and "world.moment.ece" not in always
