from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import photochat_record, words_alone
from showtell.data.photochat import moment_positions, read_photochat, split_held_out
from showtell.errors import ConfigError, DataError
from showtell.evaluation.measures_photochat import calibrated, platt, rendered_moments
from showtell.papers import load_model
from showtell.prompt import IGNORED
from showtell.recipes.talking import (
    PHOTOCHAT_SMALL,
    PhotochatTask,
    lexical_teacher,
    softened,
    with_dropout,
)


def record(number: int) -> dict:
    words = ("hello", "how was the beach", "we ate a cake", "nice", "the dog ran", "lovely")
    said = [(f"{words[(k + number) % 6]} {number % 7}", (k + number) % 2) for k in range(8)]
    return photochat_record(number, said)


@pytest.fixture(scope="module")
def train_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("photochat") / "train.jsonl"
    path.write_text("".join(json.dumps(record(k)) + "\n" for k in range(60)))
    return path


@pytest.fixture
def config(train_file):
    pytest.importorskip("sklearn")  # the teacher
    (stage,) = PHOTOCHAT_SMALL.stages
    stage = replace(stage, steps=4, batch_size=8, warmup=1, evaluate_every=None)
    dialogues = f"photochat:{train_file}"
    return replace(PHOTOCHAT_SMALL, dialogues=dialogues, num_held=15, stages=(stage,))


@pytest.fixture
def task(train_file):
    dialogues = list(read_photochat(train_file))
    model = words_alone(" " + turn.text for d in dialogues for turn in d.turns)
    rows = rendered_moments(model.renderer, dialogues)
    return PhotochatTask(model, dialogues.__getitem__, length=len(rows), rows=rows)


def losses(task: PhotochatTask, indices=range(8), seed=0, count=3) -> dict[str, float]:
    found: dict[str, float] = {}
    generator = torch.Generator().manual_seed(seed)
    for part, shares in task.parts(list(indices), count=count, generator=generator):
        for name, loss in part.items():
            found[name] = found.get(name, 0.0) + shares[name] * float(loss.detach())
    return found


def test_the_moments_are_those_of_the_protocol_and_all_words_are_trained(train_file, task):
    for dialogue, row in zip(read_photochat(train_file), task.rows, strict=True):
        asked = moment_positions(dialogue)
        assert [(m.turn, m.shared) for m in row.moments] == [(p.turn, p.shares) for p in asked]
        assert sum(label == IGNORED for label in row.labels) == 2  # begin and the first speaker


def test_what_is_dropped_follows_the_given_generator(task):
    task.text_share = 0.5
    task.drop_any = 0.3
    task.module.eval()
    assert losses(task, seed=1) == losses(task, seed=1) != losses(task, seed=2)
    with_dropout(task.module.language, 0.5)
    calm = losses(task, seed=1)
    torch.manual_seed(123)
    assert losses(task, seed=1) == calm  # none in evaluation
    task.module.train()
    assert losses(task, seed=1) != calm


def test_dropped_words_are_never_marks_and_a_part_of_all_words_is_learnt(task):
    task.text_share = 0.25
    task.drop_any = 1.0
    batch = task.batch(task.rows[:20], generator=torch.Generator().manual_seed(0))
    special, pad = task.module.renderer.special, task.module.language.tokenizer.pad_token_id
    for row, ids, labels in zip(
        task.rows[:20], batch.ids_BT.tolist(), batch.labels_BT.tolist(), strict=True
    ):
        assert ids[: len(row.ids)] == [i if i in special else pad for i in row.ids]
        pairs = zip(labels, row.labels, strict=False)
        assert all(label in (IGNORED, old) for label, old in pairs)
    trained = sum(label != IGNORED for row in task.rows[:20] for label in row.labels)
    assert 0.15 < int((batch.labels_BT != IGNORED).sum()) / trained < 0.35


def test_a_teacher_that_knows_the_answers_changes_nothing(task):
    task.module.eval()
    plain, rows = losses(task), task.rows
    known = [np.array([m.shared for m in row.moments], dtype=float) for row in rows]
    task.rows = [softened(*each, trust=0.5) for each in zip(rows, known, strict=True)]
    assert losses(task) == pytest.approx(plain)
    task.rows = [
        softened(row, 1 - chances, trust=0.5) for row, chances in zip(rows, known, strict=True)
    ]
    assert {moment.shared for moment in task.rows[0].moments} == {0.5}
    assert losses(task)["moment"] != pytest.approx(plain["moment"])


def test_the_lexical_teacher_gives_each_position_a_chance_and_finds_the_announcement(train_file):
    pytest.importorskip("sklearn")
    dialogues = list(read_photochat(train_file))
    chances = lexical_teacher(dialogues)
    for dialogue, given in zip(dialogues, chances, strict=True):
        assert len(given) == len(moment_positions(dialogue))
        assert int(np.argmax(given)) == len(given) - 1  # the share is announced in these
        assert ((given > 0) & (given < 1)).all()


def test_platt_finds_the_scale_and_the_bias_that_spoilt_the_chances():
    rng = np.random.default_rng(0)
    true_M = rng.beta(0.5, 3, size=60_000).clip(1e-4, 1 - 1e-4)
    shared_M = rng.random(60_000) < true_M
    spoilt_M = calibrated(true_M, scale=1 / 1.7, bias=0.4)
    scale, bias = platt(shared_M, spoilt_M)
    np.testing.assert_allclose(calibrated(spoilt_M, scale=scale, bias=bias), true_M, atol=0.03)


def test_the_recipe_writes_a_model_that_knows_its_thresholds_and_resumes_to_the_same(
    config, train_file, tmp_path
):
    folder = config.train(name="photochat_small", out=tmp_path / "run", resume=False)
    model = load_model(str(folder))
    settings = model.card["moment"]
    _, held = split_held_out(read_photochat(train_file), count=config.num_held)
    assert 0 < settings["threshold"] < 1
    assert settings["positions"] == sum(len(moment_positions(dialogue)) for dialogue in held)
    assert 0 < model.decoding.share_threshold < 1
    assert "CC BY 4.0" in model.card["licence"] and len(model.card["openings"]) == 3
    assert model.painter is None
    weights = model.language.state_dict()
    again = config.train(name="photochat_small", out=tmp_path / "run", resume=True)
    for name, value in load_model(str(again)).language.state_dict().items():
        assert torch.equal(value, weights[name])


@pytest.mark.parametrize(
    ("dialogues", "error", "told"),
    [("photochat:none", DataError, "none"), ("world:0-9", ConfigError, "wanted PhotoChat")],
)
def test_other_data_or_none_are_told(config, tmp_path, dialogues, error, told):
    with pytest.raises(error, match=told):
        replace(config, dialogues=dialogues).train(name="x", out=tmp_path / "x", resume=False)
