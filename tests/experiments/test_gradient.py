"""Does the gradient matter? What a caption sends back, and what is written down in training."""

from __future__ import annotations

import re
from dataclasses import replace

import gradient_matters
import pytest
from gradient_watch import records_in, watched_run

from conftest import build_model, dialogues_with_photos
from showtell.config import override
from showtell.models.checkpoint import save_model
from showtell.papers.e2e import Dvtm, DvtmConfig
from showtell.prompt import IGNORED, Renderer
from showtell.recipes.experiment import start
from showtell.recipes.registry import RECIPES


@pytest.fixture(scope="module")
def base(tokenizers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(build_model(tokenizers, bridge="pipeline"), folder, recipe={"name": "tiny"})
    return folder


def test_the_rows_are_the_whole_grid_less_what_is_the_same():
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
    same = {("none", "gold", False), ("soft", "predicted", True), ("soft", "predicted", False)}
    assert whole - found == same and len(found) == len(gradient_matters.ROWS)


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
    settings = [f"base={base}", "num_dialogues=8", "calibration_dialogues=12"]
    settings += ["stage.steps=2", "stage.batch_size=8", "stage.excerpts=0"]
    config = override(RECIPES["world_mini"].config, settings)
    plain = config.train(name="mini", out=tmp_path / "plain", resume=False)
    seen = watched_run("world_mini", overrides=settings, out=tmp_path / "seen", resume=True)
    weights = [path.relative_to(plain) for path in plain.rglob("*.safetensors")]
    assert len(weights) > 3
    for path in weights:
        assert (plain / path).read_bytes() == (seen / path).read_bytes()
    records = records_in(tmp_path / "seen")
    assert [record["step"] for record in records] == [0, 1]
    assert all(r["logits"] > 0 and 0 < r["states"] < r["whole"] for r in records)
    none = [*settings, "bridge.vocabulary=none"]
    watched_run("world_mini", overrides=none, out=tmp_path / "none", resume=True)
    silent = records_in(tmp_path / "none")
    assert all(r["logits"] == r["states"] == 0 < r["whole"] for r in silent)


def test_unseen_photos_leave_a_mark_and_no_word(base, tokenizers):
    config = override(RECIPES["world_mini"].config, [f"base={base}", "photo_encoder=none"])
    model = start(config, name="blind")
    assert model.photo_encoder is None and model.captioner is None
    (dialogue,) = dialogues_with_photos(1)
    row = model.renderer.render(dialogue)
    text = model.language.tokenizer.decode(row.ids)
    told = Renderer(tokenizers[0], replace(model.renderer.config, perceive="caption"))
    words = model.language.tokenizer.decode(told.render(dialogue).ids)
    captions = {by: [p.caption for t in dialogue.turns for p in t.photos if t.speaker == by]
                for by in ("agent", "user")}  # fmt: skip
    assert all(caption in words for each in captions.values() for caption in each)
    assert all(caption in text for caption in captions["agent"])
    assert not any(caption in text for caption in captions["user"])
    assert text.count("[IMG]") == sum(map(len, captions.values())) and not row.seen
    # what is trained on is the same
    kept = [label for label in row.labels if label != IGNORED]
    assert kept == [label for label in told.render(dialogue).labels if label != IGNORED]
