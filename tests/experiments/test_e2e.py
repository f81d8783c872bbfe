"""2408.08650's experiments in small: what is corrupted, what is sent back, what is kept."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import e2e_robustness
import e2e_sensitivity
import e2e_table2
import gradient_matters
import pytest
import runner
import torch
from gradient_watch import WatchedTask, watched_run

from conftest import build_model, dialogues_with_photos
from photoworld.scenes import ATTRIBUTES
from photoworld.words import world_words
from showtell.config import override
from showtell.dialogue import Photo
from showtell.errors import ConfigError, UsageError
from showtell.evaluation.world_gold import Readers, photo_places, photos_at
from showtell.models.checkpoint import save_model
from showtell.papers.e2e import Dvtm, DvtmConfig
from showtell.prompt import IGNORED, Renderer
from showtell.recipes.experiment import start
from showtell.recipes.registry import RECIPES

SCRIPTS = (e2e_table2, e2e_sensitivity, gradient_matters)


@pytest.fixture(scope="module")
def base(tokenizers, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(build_model(tokenizers, bridge="pipeline"), folder, recipe={"name": "tiny"})
    return folder


# --------------------------------------------------------------------------------------- the rows


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_every_row_is_a_setting_of_its_recipe_and_no_two_are_the_same(script):
    rows = script.ROWS
    assert len({row.name for row in rows}) == len(rows)
    configs = [repr(override(RECIPES[row.recipe].config, row.settings)) for row in rows]
    assert len(set(configs)) == len(configs)


def test_the_rows_of_the_gradient_are_the_whole_grid_less_what_is_the_same():
    found = {
        (config.vocabulary, config.caption_for_denoiser, config.gumbel)
        for row in gradient_matters.ROWS
        for config in [override(DvtmConfig(), [s.removeprefix("bridge.") for s in row.settings])]
    }
    whole = {
        (vocabulary, fed, gumbel)
        for vocabulary in ("none", "static", "sentence", "word", "aligned", "soft")
        for fed in ("gold", "predicted")
        for gumbel in (True, False)
    }
    assert whole - found == {
        ("none", "gold", False),
        ("soft", "predicted", True),
        ("soft", "predicted", False),
    }


def test_a_short_run_warms_up_at_the_same_part_as_a_long_one():
    whole = RECIPES["world_mini"].config
    steps = whole.stage.steps // 10
    short = override(whole, runner.schedule(runner.Row(name="x"), steps))
    assert short.stage.warmup == whole.stage.warmup / 10
    assert short.bridge.annealing_epochs is whole.bridge.annealing_epochs is None  # its own steps
    assert len(runner.schedule(runner.Row(name="x", recipe="world_pipeline"), steps)) == 1


def test_what_was_made_is_not_made_again_and_not_mixed_with_other_settings(tmp_path):
    calls = []
    for _ in range(2):
        found = runner.kept(tmp_path / "a.json", {"n": (1, 2)}, lambda: calls.append(1) or [3])
        assert found == [3] and len(calls) == 1
    with pytest.raises(ConfigError, match="name another --runs"):
        runner.kept(tmp_path / "a.json", {"n": (1, 3)}, list)


def test_an_unknown_row_gets_a_suggestion():
    bench = runner.Bench(runner.parser(None, runs="x").parse_args(["--only", "pipelin"]))
    with pytest.raises(UsageError, match='did you mean "pipeline"'):
        bench.chosen(e2e_table2.ROWS)


def test_a_table_is_trained_measured_written_and_not_trained_again(
    base, tmp_path, monkeypatch, capsys
):
    command = ["--tiny", "--base", str(base), "--runs", str(tmp_path), "--only", e2e_table2.WHOLE]
    assert e2e_table2.main([*command, "--only", "photos in the context unseen"]) == 0
    page = (tmp_path / "e2e_table2.md").read_text()
    assert page in capsys.readouterr().out and re.search(r"\| N \| BLEU-1 \d+", page)
    rows = json.loads((tmp_path / "e2e_table2.json").read_text())["rows"]
    cell = rows["photos in the context unseen"]["text.word_perplexity"]
    assert cell["value"]["low"] < cell["value"]["value"] < cell["value"]["high"]
    assert cell["against"] is not None
    assert rows["end to end"]["photo.fid"]["reason"].endswith("wanted 2,000 or more")

    def never(*args, **kwargs):
        raise AssertionError("it was done")

    monkeypatch.setattr(runner, "run_recipe", never)
    monkeypatch.setattr(runner, "world_answers", never)
    assert e2e_table2.main(command) == 0
    with pytest.raises(ConfigError, match="was made with"):
        e2e_table2.main([*command, "--set", "stage.clip=2"])


@pytest.mark.parametrize(
    ("script", "row", "column"),
    [
        (e2e_sensitivity, e2e_sensitivity.DEFAULT, "diversity.distance"),
        (gradient_matters, "sentence, gold", "gradient.numbers"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_tiny_run_has_measures_of_its_own(script, row, column, base, tmp_path, capsys):
    words = ["--tiny", "--base", str(base), "--runs", str(tmp_path), "--only", row]
    assert script.main(words) == 0
    rows = json.loads((tmp_path / f"{script.NAME}.json").read_text())["rows"]
    assert rows[row][column]["value"]["value"] > 0
    assert rows[row]["photo.attribute_accuracy_in_dialogue"]["value"]["n"] > 0
    capsys.readouterr()


def test_a_tiny_run_counts_wrong_words_for_each_checkpoint(base, tmp_path, capsys):
    words = [f"a={base}", f"b={base}", "--tiny", "--photos", "3", "--runs", str(tmp_path)]
    assert e2e_robustness.main(words) == 0
    rows = json.loads((tmp_path / "e2e_robustness.json").read_text())["rows"]
    assert len(rows) == 10
    assert rows["a, 2 wrong"][e2e_robustness.STATED] == rows["b, 2 wrong"][e2e_robustness.STATED]
    assert "paired by photo" in capsys.readouterr().out


# ------------------------------------------------------------------------------------ photo_encoder


def test_unseen_photos_leave_a_mark_and_no_word(base, tokenizers):
    config = override(RECIPES["world_mini"].config, [f"base={base}", "photo_encoder=none"])
    model = start(config, name="blind")
    assert model.photo_encoder is None and model.captioner is None
    (dialogue,) = dialogues_with_photos(1)
    row = model.renderer.render(dialogue)
    text = model.language.tokenizer.decode(row.ids)
    told = Renderer(tokenizers[0], replace(model.renderer.config, perceive="caption"))
    words = model.language.tokenizer.decode(told.render(dialogue).ids)
    for photo in dialogue.photos:
        assert photo.caption in words
    ours = [p.caption for t in dialogue.turns for p in t.photos if t.speaker == "agent"]
    theirs = [p.caption for t in dialogue.turns for p in t.photos if t.speaker == "user"]
    assert all(caption in text for caption in ours)
    assert not any(caption in text for caption in theirs)
    assert text.count("[IMG]") == len(ours) + len(theirs) and not row.seen
    # what is trained on is the same
    kept = [label for label in row.labels if label != IGNORED]
    assert kept == [label for label in told.render(dialogue).labels if label != IGNORED]


# ------------------------------------------------------------------------------------ robustness


def test_wrong_words_are_other_words_of_the_world_and_each_joins_the_ones_before():
    caption = "two red dogs on a bridge at the beach, at night"
    words = [re.findall(r"\w+", caption)]
    for count in range(1, 5):
        text = e2e_robustness.corrupted(caption, count, seed=3)
        assert text == e2e_robustness.corrupted(caption, count, seed=3)
        words.append(re.findall(r"\w+", text))
        changed = [k for k, word in enumerate(words[0]) if words[-1][k] != word]
        assert len(words[-1]) == len(words[0]) and len(changed) == count
        assert all(words[-1][k] in world_words() for k in changed)
        before = [k for k, word in enumerate(words[0]) if words[-2][k] != word]
        assert all(words[-1][k] == words[-2][k] for k in before)
    assert e2e_robustness.corrupted("Mia", 4, seed=0) != "Mia"
    assert e2e_robustness.corrupted(caption, 0, seed=3) == caption


def test_only_attributes_whose_words_still_stand_are_still_stated():
    stated = ("subject", "count", "colour", "place")
    photo = Photo(id="p", caption="two red dogs at the beach", labels={"stated": stated})
    still = e2e_robustness.still_stated
    assert still(photo, photo.caption) == list(stated)
    assert still(photo, "two blue dogs at the beach") == ["subject", "count", "place"]
    assert "place" not in still(photo, "two red dogs at the farm beach in the park")


def test_wrong_words_cost_nothing_where_the_photo_shows_everything_and_all_where_nothing(rng):
    dialogues = dialogues_with_photos(12)
    photos = photos_at(dialogues, photo_places(dialogues))
    everything = [torch.ones(len(photos), len(ATTRIBUTES)).bool().numpy()] * 5
    nothing = [everything[0], *[~everything[0]] * 4]
    table = e2e_robustness.cells({"a": everything, "b": nothing}, photos, seed=0)
    assert all(cell.value.value == 1 for k in range(5) for cell in table[f"a, {k} wrong"].values())
    cell = table["b, 2 wrong"][e2e_robustness.STATED]
    assert cell.value.value == 0 and cell.against.value == -1 == cell.against.low
    notes = e2e_robustness.systems_notes({"a": everything, "b": nothing}, photos, seed=0)
    assert '0 wrong words: "a" less "b" 0.0%' in notes[0] and "100.0%" in notes[1]


# ------------------------------------------------------------------------------------- diversity


def test_photos_of_one_kind_have_no_diversity_and_drawings_do_what_their_captions_say():
    asked = e2e_sensitivity.briefs(6)
    read_by = Readers()
    drawn = e2e_sensitivity.drawn(asked, 3)
    same = [photos[:1].expand(3, -1, -1, -1) for photos in drawn]
    spread = e2e_sensitivity.spread(same, asked, read_by)
    assert all(value == pytest.approx(0, abs=1e-4) for _, value in spread["diversity.distance"])
    assert all(value == 1 for _, value in spread["diversity.values"])
    wide = e2e_sensitivity.spread(drawn, asked, read_by)
    assert min(value for _, value in wide["diversity.distance"]) > 0
    assert {number for number, _ in wide["diversity.values"]} <= set(range(6))
    for _, scene, stated in asked:
        assert set(e2e_sensitivity.left_open(scene, stated)).isdisjoint(stated)


# -------------------------------------------------------------------------------------- gradient


def numbers(tokenizers, **choices) -> tuple[dict[str, int], str]:
    model = build_model(tokenizers, bridge="dvtm")
    ((spans, pixels), *_) = gradient_matters.spans_of(model, dialogues_with_photos(1))
    model.double().requires_grad_(False)
    bridge = Dvtm(DvtmConfig(gumbel=False, **choices), tokenizer=tokenizers[0])
    sent = gradient_matters.sent_back(model, spans, pixels, bridge, draws=24, seed=0)
    return sent, spans.captions[0]


def test_a_caption_sends_back_one_number_a_sentence_and_one_a_word(tokenizers):
    assert set(numbers(tokenizers, vocabulary="none")[0].values()) == {0}
    sent, caption = numbers(tokenizers)
    assert sent["numbers"] == 1 and sent["columns"] > 100
    words = re.findall(r"\w+|[^\w\s]", caption)
    assert numbers(tokenizers, vocabulary="aligned")[0]["numbers"] == len(words)
    grouped = numbers(tokenizers, vocabulary="word")[0]["numbers"]
    assert 1 < grouped <= len(set(words))
    # every position and piece of a mixture, up to what was drawn
    assert numbers(tokenizers, vocabulary="soft")[0]["numbers"] == 24


def test_watching_changes_nothing_and_finds_the_gradient_of_the_photo_loss_alone(base, tmp_path):
    # whole dialogues, all of them in a batch: there is always a photo to make
    settings = [
        f"base={base}",
        *runner.TINY,
        "stage.steps=2",
        "stage.batch_size=8",
        "stage.excerpts=0",
    ]
    config = override(RECIPES["world_mini"].config, settings)
    plain = config.train(name="mini", out=tmp_path / "plain", resume=False)
    seen = watched_run("world_mini", overrides=settings, out=tmp_path / "seen", resume=True)
    weights = [path.relative_to(plain) for path in plain.rglob("*.safetensors")]
    assert len(weights) > 3
    for path in weights:
        assert (plain / path).read_bytes() == (seen / path).read_bytes()
    records = WatchedTask.records_in(tmp_path / "seen")
    assert [record["step"] for record in records] == [0, 1]
    assert all(r["logits"] > 0 and 0 < r["states"] < r["whole"] for r in records)
    none = [*settings, "bridge.vocabulary=none"]
    watched_run("world_mini", overrides=none, out=tmp_path / "none", resume=True)
    silent = WatchedTask.records_in(tmp_path / "none")
    assert all(r["logits"] == r["states"] == 0 < r["whole"] for r in silent)
