"""PhotoChat's measures, on dialogues of its format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from conftest import photochat_record, words_alone
from showtell.data.photochat import moment_positions, read_photochat
from showtell.data.sources import open_data
from showtell.evaluation.answer import likeliest, write_texts
from showtell.evaluation.measures_photochat import (
    MAX_NEW_TOKENS,
    lexical_baseline,
    measure_photochat,
    objects,
)
from showtell.evaluation.reported import reported_rows
from showtell.models.decoder import Decoder


def record(number: int) -> dict:
    return photochat_record(number, [(f"turn {k} of {number}", k // 2 % 2) for k in range(7)])


def write(path: Path, numbers: range) -> Path:
    path.write_text("".join(json.dumps(record(k)) + "\n" for k in numbers))
    return path


@pytest.fixture(scope="module")
def dev_file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("photochat") / "dev.jsonl", range(100, 112))


@pytest.fixture(scope="module")
def model(dev_file):
    texts = [" " + turn.text for d in read_photochat(dev_file) for turn in d.turns]
    return words_alone(texts)


def measured(model, dev_file, folder, limit):
    dialogues = list(open_data(f"photochat:{dev_file}"))[:limit]
    return dialogues, measure_photochat(
        model, dialogues, folder=folder, path=dev_file, seed=0, most=None
    )


def test_the_report_counts_what_is_there_and_what_is_missing(model, dev_file, tmp_path):
    pytest.importorskip("sacrebleu")
    dialogues, found = measured(model, dev_file, tmp_path, 5)
    counts, values = found.counts, found.values
    positions = sum(len(moment_positions(d)) for d in dialogues)
    assert counts["dialogues"] == counts["missing photos"] == counts["positive positions"] == 5
    assert counts["positions"] == values["moment.f1"].n == positions
    assert counts["replies"] == values["text.psdg.bleu2"].n == 5 * 5
    assert values["moment.prevalence"].value == pytest.approx(5 / positions)
    assert values["text.perplexity"].value > 1
    assert measured(model, dev_file, tmp_path, 5)[1] == found
    ids = [json.loads(x)["id"] for x in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 5 * 5
    reported = reported_rows("photochat", ("photochat",), "")
    assert len(reported) == 8 and {row.split for row in reported} == {"test"}


def test_threshold_and_calibration_come_from_the_card(model, dev_file, tmp_path):
    model.card = {"moment": {"scale": 1.0, "bias": 50.0, "threshold": 0.9}}
    values = measured(model, dev_file, tmp_path, 3)[1].values
    assert values["moment.recall"].value == 1.0
    assert values["moment.f1"].note == "threshold 0.9"
    model.card = {"moment": {"scale": 1.0, "bias": -50.0, "threshold": 0.9}}
    assert measured(model, dev_file, tmp_path, 3)[1].values["moment.recall"].value == 0.0
    model.card = {}


def test_the_lexical_baseline_runs_only_where_its_training_file_lies(dev_file, tmp_path):
    pytest.importorskip("sklearn")
    dialogues = list(read_photochat(dev_file))
    absent = lexical_baseline(dev_file, dialogues, seed=0)
    assert absent["baseline.tfidf.f1"].value is None
    assert absent["baseline.tfidf.f1"].note.startswith("not run: train.jsonl")
    write(tmp_path / "train.jsonl", range(60))
    found = lexical_baseline(write(tmp_path / "dev.jsonl", range(100, 112)), dialogues, seed=0)
    assert found["baseline.tfidf.f1"].value == 1.0  # the share is announced in these
    assert found["baseline.tfidf.f1"].n == sum(len(moment_positions(d)) for d in dialogues)


def test_a_reply_is_the_one_that_a_slow_loop_writes(model, dev_file):
    dialogue = next(iter(read_photochat(dev_file)))
    context, turn = dialogue.turns[:2], dialogue.turns[2]
    renderer, language = model.renderer, model.language
    ids = [*renderer.render_turns(context).ids, renderer.roles[turn.speaker]]
    said: list[int] = []
    banned = list((renderer.special | {language.tokenizer.pad_token_id}) - {renderer.end})
    with torch.no_grad():
        while len(said) < 40:
            hidden = language.hidden(language.embed(torch.tensor([ids + said])), None)
            logits = language.head(hidden[0, -1])
            logits[banned] = -torch.inf
            if not said:
                logits[renderer.end] = -torch.inf
            token = int(logits.argmax())
            if token == renderer.end:
                break
            said.append(token)
    decoder = Decoder(model, decoding=likeliest(model, MAX_NEW_TOKENS))
    written = write_texts(decoder, [context], speakers=[turn.speaker], seed=0)
    assert written == [language.tokenizer.decode(said).strip()]


def test_the_objects_of_a_description_are_a_set_of_names():
    text = "The photo has your niece Nadia. Objects in the photo: Girl, Café , Cake"
    assert objects(text) == {"girl", "café", "cake"}
    assert objects("a red dog") == objects("") == frozenset()
