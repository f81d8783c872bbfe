"""The measures of the world: right answers score 1, wrong ones what they should."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch

from conftest import dialogues_with_photos, responder_of
from photoworld.scenes import ATTRIBUTES
from photoworld.talk import world_dialogue
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Photo
from showtell.evaluation.answer import own_photos
from showtell.evaluation.answered import Answers
from showtell.evaluation.measures import (
    attribute_values,
    dev_measures,
    dropped_note,
    measure_world,
    moment_report,
)
from showtell.evaluation.score import reply_values
from showtell.evaluation.world_gold import (
    Readers,
    is_right,
    photo_places,
    photos_at,
    seeing_places,
)
from showtell.papers.forms import form_named
from showtell.papers.gill import GillConfig
from showtell.recipes.assemble import with_bridge


def test_true_readings_score_one_and_false_ones_nothing():
    dialogues = dialogues_with_photos(6)
    photos = photos_at(dialogues, photo_places(dialogues))
    assert all(set(photo.labels["stated"]) <= set(ATTRIBUTES) for photo in photos)
    told = {"counts": "stated", "name": "x", "seed": 0}
    values = attribute_values([photo.labels["scene"] for photo in photos], photos, **told)
    assert values["photo.x"].value == values["photo.x.all_right"].value == 1.0
    values = attribute_values([dict.fromkeys(ATTRIBUTES, "?")] * len(photos), photos, **told)
    assert values["photo.x"].value == values["photo.x.all_right"].value == 0.0


def test_only_counted_attributes_count_and_every_attribute_counts_the_same():
    scene = dict.fromkeys(ATTRIBUTES, "so")
    photos = [
        Photo(id=str(n), labels={"scene": scene, "stated": stated})
        for n, stated in enumerate([("subject",), ("subject",), ("subject", "place")])
    ]
    read = [{**scene, "place": "wrong"}] * 3
    values = attribute_values(read, photos, counts="stated", name="x", seed=0)
    assert values["photo.x"].value == pytest.approx(0.5)  # subject 1, place 0
    assert values["photo.x.all_right"].value == pytest.approx(2 / 3)
    assert values["photo.x.subject"].n == 3 and values["photo.x.place"].n == 1
    assert "photo.x.colour" not in values


def test_a_reply_is_right_if_it_names_something_and_nothing_false():
    scene = next(
        p.labels["scene"]
        for d in map(world_dialogue, range(2000))
        for p in d.photos
        if [p.labels["scene"][k] for k in ("subject", "colour", "count")] == ["duck", "red", "one"]
    )
    assert is_right("oh, a red duck!", scene)
    assert not is_right("oh, a blue duck!", scene)
    assert not is_right("how nice", scene)


def test_written_comments_are_right_about_their_photo_and_rarely_about_another():
    dialogues = [world_dialogue(seed) for seed in range(200)]
    cases = seeing_places(dialogues)
    assert len(cases) > 40
    texts = [dialogues[b].turns[k].text for b, k in cases]
    for ((b, k), photo), text in zip(cases.items(), texts, strict=True):
        assert is_right(text, photo.labels["scene"]), text
        assert any(photo in t.photos for t in dialogues[b].turns[:k] if t.speaker == USER)
    scenes = [photo.labels["scene"] for photo in cases.values()]
    other = [is_right(one, two) for one, two in zip(texts, scenes[1:], strict=False)]
    assert np.mean(other) < 0.5  # many name one common thing, such as a clear sky


def test_without_a_positive_the_moment_is_not_measured_and_says_why(tmp_path):
    facts = {"threshold": 0.5, "token_nll": 1.0, "num_tokens": 9}
    answers = Answers(dialogues=[world_dialogue(0)], folder=tmp_path, facts=facts)
    answers.add("moment", (0, 1), {"p_share": 0.7}, {"share": False})
    values = moment_report(answers, seed=0)
    assert values["moment.f1"].printed == "\u2013" and "none of 1" in values["moment.f1"].note
    assert set(values) == {"moment.f1", "text.perplexity"}


def test_a_missing_package_is_a_row_that_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    answers = Answers(dialogues=[world_dialogue(0)], folder=tmp_path)
    answers.add("text", (0, 1), {"elements": ["a red dog"]}, {"elements": ["a red cat"]})
    values = reply_values(answers, seed=0, distinct=2, protocol="world")
    assert values["text.psdg.bleu1"].value == pytest.approx(2 / 3)
    absent = values["text.standard.bleu1"]
    assert absent.value is None and absent.note.startswith("not run: ")
    assert "pip install 'showtell[eval]'" in absent.note


def test_early_stopping_measures_the_dialogues_that_were_held_out(tiny_end_to_end, files):
    model = tiny_end_to_end
    model.decoding = dataclasses.replace(model.decoding, max_new_tokens=2, num_steps=1)
    held = [form_named("dialogue")(d)[0] for d in open_data(f"dialogcc:{files['dialogcc']}")]
    assert sum(len(t.photos) for d in held for t in d.turns if t.speaker == AGENT) > 1
    measured = dev_measures(model, held)
    assert 0 <= measured["bleu2"] <= 1 and measured["fid"] > 0
    wordless = [dataclasses.replace(d, turns=d.turns[:1]) for d in held]
    assert dev_measures(model, wordless) == {"bleu2": 0.0}


def test_a_whole_measurement_names_every_measure_that_the_project_promises(
    tiny_end_to_end, tmp_path
):
    dialogues = dialogues_with_photos(3)
    scenes = [p.labels["scene"] for p in (d.photos[0] for d in dialogues)]

    class Guess:
        def read(self, pixels):
            return [dict(scenes[0])] * len(pixels)

    model = tiny_end_to_end
    model.decoding = dataclasses.replace(model.decoding, max_new_tokens=3, num_steps=1)
    readers = Readers(oracle=Guess(), encoder=Guess())
    found = measure_world(
        model, dialogues, name="world:x", folder=tmp_path, readers=readers, seed=0
    )
    read = ("accuracy", "accuracy.all_right", "accuracy.subject", "accuracy_in_dialogue")
    read += ("accuracy_gold_caption", "accuracy_encoder", "ceiling", "ceiling_vae")
    assert {f"photo.attribute_{name}" for name in read} <= set(found.values)
    seen = ("accuracy", "chance", "blind", "caption_only", "gold", "silent")
    assert {f"seeing.{name}" for name in seen} <= set(found.values)
    assert {"moment.f1", "moment.f1_bayes", "moment.auprc"} <= set(found.values)
    assert {"text.perplexity", "text.psdg.bleu1", "text.standard.rouge_l"} <= set(found.values)
    assert (tmp_path / "contact_sheet.png").is_file()


@pytest.fixture(params=["captions", "tokens"])
def speaker(request, tiny_end_to_end):
    """A model that describes a photo in words, or announces it by GILL's tokens."""
    model = tiny_end_to_end
    if request.param == "tokens":
        model = with_bridge(model, GillConfig(width=8, num_heads=2, album_width=4), seed=0).eval()
    model.decoding = dataclasses.replace(model.decoding, max_new_tokens=3, num_steps=1)
    return model


def test_own_photos_do_not_depend_on_how_many_are_made_at_once(speaker, monkeypatch):
    dialogues = dialogues_with_photos(4)
    contexts = [dialogues[b].turns[:k] for b, k in photo_places(dialogues)]
    all_ = own_photos(responder_of(speaker), contexts, seed=3)
    monkeypatch.setattr("showtell.evaluation.answer.rows_at_once", lambda model, **given: 1)
    one = own_photos(responder_of(speaker), contexts, seed=3)
    assert one.captions == all_.captions
    torch.testing.assert_close(one.pixels_N3HW, all_.pixels_N3HW, atol=1e-4, rtol=1e-3)
    assert (one.query_NE is None) == (all_.query_NE is None) == bool(one.captions[0])


def test_dialogues_longer_than_the_context_are_named_with_what_was_dropped():
    note = dropped_note({"a": 1, "b": 3}, 100)
    assert "2 dialogues are longer" in note and "b: the first 3, a: the first 1" in note
