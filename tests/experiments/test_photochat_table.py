"""PhotoChat's table from the command to its page, on tiny models."""

from __future__ import annotations

import json
import shutil

import photochat
import pytest

from agent.tiny_chat import write_chatty
from conftest import photochat_record, words_alone
from showtell.agent.zero_shot import read_calibration
from showtell.data.photochat import moment_positions, split_held_out
from showtell.data.sources import open_data
from showtell.errors import CheckpointError, ConfigError, UsageError
from showtell.evaluation import photochat_runs as runs
from showtell.evaluation.answer import likeliest, write_texts
from showtell.metrics.moment import at_threshold, average_precision
from showtell.metrics.text import text_scores
from showtell.models.checkpoint import save_model
from showtell.models.decoder import Decoder
from showtell.papers import load_model

WORDS = ("hi : nice dog", "look a beach .", "a nice dog", "hi .", "nice : look a dog")
THINGS = ("Dog, Cake", "Cat, Sea", "Boat", "Human face")


def record(number: int) -> dict:
    said = [(WORDS[(k + number) % 5], (k // 2 + k) % 2) for k in range(7)]
    made = photochat_record(number, said)
    if number % 3 == 0:
        made["dialogue"][1 + number % 4]["message"] = "look"
    return made | {"photo_description": f"Objects in the photo: {THINGS[number % 4]}"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photochat")
    for name, numbers in (("train", range(60)), ("dev", range(100, 112))):
        lines = (json.dumps(record(k)) + "\n" for k in numbers)
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def told(data, tmp_path_factory):
    """The command, less --only; two homes stand for two seeds."""
    folder = tmp_path_factory.mktemp("models")
    words = [*WORDS, *THINGS, "let me show you a picture"]
    for name, card in (("one", {}), ("two", {"scale": 2.0, "bias": 0.5, "threshold": 0.2})):
        model = words_alone(f" {text}" for text in words)
        model.card = {"moment": card} if card else {}
        save_model(model, folder / name, recipe={})
    write_chatty(folder / "llm")
    command = ["--home", str(folder / "one"), "--home", str(folder / "two")]
    command += ["--lm", str(folder / "llm"), "--held", "16", "--choose", "6", "--part", "5"]
    return [*command, "--train", f"photochat:{data}/train.jsonl"] + [
        *("--dev", f"photochat:{data}/dev.jsonl")
    ]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("showtell.metrics.intervals.RESAMPLES", 20)
    monkeypatch.setattr(photochat, "TALKING", (photochat.HOME, photochat.ZERO_SHOT))
    no_encoder = property(lambda bench: None)
    monkeypatch.setattr(photochat.Bench, "encoder", no_encoder)


def refuse(*args, **kwargs):
    raise AssertionError("this was asked already")


def run(told, folder, *more: str) -> dict:
    command = [*told, "--runs", str(folder), "--out", str(folder), *more]
    for row in photochat.ROWS if "--only" not in more else ():
        if row != photochat.SMALL:
            command += ["--only", row]
    assert photochat.main(command) == 0
    return json.loads((folder / "photochat.json").read_text())


def value(found: dict, row: str, name: str) -> float:
    return found["rows"][row][name]["value"]["value"]


def test_a_table_is_asked_once_scored_and_written(told, data, tmp_path, monkeypatch, capsys):
    found = run(told, tmp_path)
    said = capsys.readouterr().out
    page = (tmp_path / "photochat.md").read_text()
    assert page in said and str(tmp_path) not in page.split("Passport")[1]
    dev = list(open_data(f"photochat:{data}/dev.jsonl"))
    positions = sum(len(moment_positions(d)) for d in dev)
    assert f"dialogues 12, positions {positions}, replies 60" in page
    for who, name, number in (
        ("T5-3B (*reported, test*)", "moment.f1", 0.589),
        ("end-to-end model (*reported, test*)", "text.psdg.bleu2", 0.0294),
        ("Divter (*reported, test*)", "text.psdg.rouge_l", 0.054),
    ):
        assert value(found, who, name) == number
        assert who in page

    # the same cells, computed without the table
    homes = [load_model(told[1]), load_model(told[3])]
    _, held = split_held_out(open_data(f"photochat:{data}/train.jsonl"), count=16)
    labels = [p.shares for d in dev for p in moment_positions(d)]
    f1s, areas = [], []
    for model in homes:
        raw = [c for one in runs.ModelTalks(model).read(dev, words=False) for c in one.chances]
        if not (card := model.card.get("moment")):
            told_held = runs.ModelTalks(model).read(held, words=False)
            own = runs.Calibration.of(held, [c for one in told_held for c in one.chances])
        else:
            own = runs.Calibration(**card)
        f1s.append(at_threshold(labels, own(raw), own.threshold).f1)
        areas.append(average_precision(labels, own(raw)))
    home = found["rows"][photochat.HOME]
    assert home["moment.f1"]["runs"] == pytest.approx(f1s)
    assert home["moment.auprc"]["runs"] == pytest.approx(areas, rel=1e-3)
    assert value(found, photochat.HOME, "moment.f1") == pytest.approx(sum(f1s) / 2)

    chosen = next(note for note in found["notes"] if note.startswith("decoding: "))
    decoding = runs.DECODINGS[chosen.split('"')[1]]
    places = [(b, k) for b, d in enumerate(dev) for k, t in enumerate(d.turns) if k and t.text]
    gold = [dev[b].turns[k].text for b, k in places]
    if decoding.temperature == 0:
        bleu = []
        for model in homes:
            texts = write_texts(
                Decoder(model, decoding=decoding),
                [dev[b].turns[:k] for b, k in places],
                speakers=[dev[b].turns[k].speaker for b, k in places],
                seed=0,
            )
            bleu.append(text_scores(texts, gold, protocol="psdg").bleu[0])
        assert home["text.psdg.bleu1"]["runs"] == pytest.approx(bleu)
    assert set(found["rows"][photochat.KEYWORD]) == {c.name for c in photochat.COLUMNS}
    assert value(found, photochat.WORDS, "description.bm25.r10") >= 0
    assert found["rows"][photochat.WORDS]["moment.f1"]["value"] is None
    assert value(found, photochat.ZERO_SHOT, "text.perplexity_per_word") > 1

    own = read_calibration(tmp_path / "zero-shot-0" / "calibration.json", lm=told[5])
    assert found["rows"][photochat.ZERO_SHOT]["moment.f1"]["value"] and 0 < own.threshold < 1

    # again: nothing is asked, and the page is the same
    monkeypatch.setattr(photochat.Bench, "talks", lambda bench, row, number: _Card(homes[number]))
    assert run(told, tmp_path) == found
    with pytest.raises(ConfigError, match=r"was made with .*name another --runs"):
        changed = [*told[:1], told[3], *told[2:]]
        run(changed, tmp_path, "--only", photochat.HOME)


class _Card:
    """A row that may tell its card, and nothing else."""

    read = replies = descriptions = refuse

    def __init__(self, model):
        self.model = model


def test_a_killed_table_goes_on_behind_the_last_part(told, tmp_path, monkeypatch, capsys):
    asked = []
    own = runs.ModelTalks.read

    def read(talks, dialogues, **how):
        asked.append(len(dialogues))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return own(talks, dialogues, **how)

    monkeypatch.setattr(runs.ModelTalks, "read", read)
    with pytest.raises(KeyboardInterrupt):
        run(told, tmp_path, "--only", photochat.HOME)
    assert asked == [5, 5, 5]  # of the 16 held out
    run(told, tmp_path, "--only", photochat.HOME)
    assert asked == [5, 5, 5, 5, 1, *([5, 5, 2] * 2)]  # the second home has its card
    capsys.readouterr()


def test_rows_in_processes_make_the_same_table_and_one_that_fails_says_why(
    told, tmp_path, monkeypatch, capsys
):
    jobs: dict = {}

    def run_all(given, *, logs, workers):
        jobs.update(given)
        failed = {}
        for name, command in given.items():
            if name.startswith(photochat.ZERO_SHOT):
                failed[name] = "it failed: the disk is full"
            else:
                assert photochat.main(command[1:]) == 0
        return failed

    monkeypatch.setattr(photochat, "run_all", run_all)
    rows = ("--only", photochat.HOME, "--only", photochat.ZERO_SHOT)
    command = [*told, "--runs", str(tmp_path), "--out", str(tmp_path), *rows]
    assert photochat.main([*command, "--workers", "2", "--decoding", "most likely"]) == 1
    assert list(jobs) == ["home, held", "zero-shot, held", "home, dev"]
    page = (tmp_path / "photochat.md").read_text()
    assert "- zero-shot: not run: it failed: the disk is full" in page
    assert 'decoding: "most likely", named by --decoding' in page
    monkeypatch.setattr(
        photochat.Bench, "talks", lambda bench, row, number: _Card(load_model(told[1]))
    )
    shutil.rmtree(tmp_path / "home-1")
    with pytest.raises(AssertionError, match="asked already"):  # what the processes made is used
        photochat.main([*command[:-2], "--decoding", "most likely"])
    capsys.readouterr()


def test_a_name_that_is_none_is_said_before_anything_is_asked(told, tmp_path):
    with pytest.raises(UsageError, match='did you mean "home"'):
        photochat.main(["--only", "hom"])
    with pytest.raises(CheckpointError, match="nowhere"):
        photochat.main(["--home", str(tmp_path / "nowhere"), "--only", "home"])


def test_the_likeliest_decoding_is_that_of_evaluate(told):
    model = load_model(told[1])
    mine, its = runs.DECODINGS["most likely"], likeliest(model, runs.MAX_NEW_TOKENS)
    for name in ("temperature", "max_new_tokens", "min_new_tokens"):
        assert getattr(mine, name) == getattr(its, name)
