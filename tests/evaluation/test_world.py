"""The measures of the world: right answers score 1, wrong ones what they should."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from conftest import dialogues_with_photos
from photoworld.scenes import ATTRIBUTES
from photoworld.talk import world_dialogue
from showtell.dialogue import AGENT, USER
from showtell.evaluation import dropped_note, world, world_photos
from showtell.papers import GillConfig
from showtell.prompt import Renderer
from showtell.recipes.bridged import with_bridge


class Reader:
    """An oracle that says what it was told to say."""

    def __init__(self, answers):
        self.answers = answers

    def read(self, pixels):
        return self.answers


@pytest.fixture
def orders():
    return world_photos.photo_orders(dialogues_with_photos(6), seed=0)


def test_true_readings_score_one_and_false_ones_nothing(orders):
    true = [dict(order.scene) for order in orders]
    values = world_photos.attribute_values(
        Reader(true), torch.zeros(len(orders), 3, 1, 1), orders, name="x", seed=0
    )
    assert values["photo.x"].value == values["photo.x.all_right"].value == 1.0
    false = [dict.fromkeys(ATTRIBUTES, "?") for _ in orders]
    values = world_photos.attribute_values(
        Reader(false), torch.zeros(len(orders), 3, 1, 1), orders, name="x", seed=0
    )
    assert values["photo.x"].value == values["photo.x.all_right"].value == 0.0


def test_only_counted_attributes_count_and_every_attribute_counts_the_same():
    scene = dict.fromkeys(ATTRIBUTES, "so")
    orders = [
        world_photos.Order(caption="", scene=scene, counts=("subject",), seed=0),
        world_photos.Order(caption="", scene=scene, counts=("subject",), seed=0),
        world_photos.Order(caption="", scene=scene, counts=("subject", "place"), seed=0),
    ]
    read = [{**scene, "place": "wrong"}] * 3
    values = world_photos.attribute_values(
        Reader(read), torch.zeros(3, 3, 1, 1), orders, name="x", seed=0
    )
    assert values["photo.x"].value == pytest.approx(0.5)  # subject 1, place 0
    assert values["photo.x.all_right"].value == pytest.approx(2 / 3)
    assert values["photo.x.subject"].n == 3 and values["photo.x.place"].n == 1
    assert "photo.x.colour" not in values


def test_orders_are_the_agents_photos_with_what_their_captions_state():
    for dialogue in dialogues_with_photos(4):
        for order in world_photos.photo_orders([dialogue], seed=7):
            turn = dialogue.turns[len(order.context)]
            assert turn.speaker == AGENT and turn.photos[0].caption == order.caption
            assert set(order.counts) <= set(ATTRIBUTES)


def test_a_reply_is_right_if_it_names_something_and_nothing_false():
    scene = next(
        p.labels["scene"]
        for d in map(world_dialogue, range(2000))
        for p in d.photos
        if [p.labels["scene"][k] for k in ("subject", "colour", "count")] == ["duck", "red", "one"]
    )
    assert world.is_right("oh, a red duck!", scene)
    assert not world.is_right("oh, a blue duck!", scene)
    assert not world.is_right("how nice", scene)


def test_written_comments_are_right_about_their_photo_and_rarely_about_another():
    cases = world.comments([world_dialogue(seed) for seed in range(200)])
    assert len(cases) > 40
    for case in cases:
        assert world.is_right(case.gold, case.photo.labels["scene"]), case.gold
        assert any(case.photo in t.photos for t in case.context if t.speaker == USER)
    other = [
        world.is_right(one.gold, two.photo.labels["scene"])
        for one, two in zip(cases, cases[1:], strict=False)
    ]
    assert np.mean(other) < 0.5  # many name one common thing, such as a clear sky


def test_moments_do_not_depend_on_the_batch_and_know_the_draws(tiny_end_to_end):
    dialogues = [world_dialogue(seed) for seed in range(6)]
    one = world.share_moments(tiny_end_to_end, dialogues, batch_size=1)
    six = world.share_moments(tiny_end_to_end, dialogues, batch_size=6)
    np.testing.assert_allclose(one.p_share_M, six.p_share_M, atol=1e-5)
    assert one.token_nll == pytest.approx(six.token_nll, rel=1e-4)
    assert one.shared_M.sum() == sum(
        t.speaker == AGENT and bool(t.photos) for d in dialogues for t in d.turns
    )
    assert ((one.p_star_M >= 0) & (one.p_star_M <= 1)).all()
    assert not one.shared_M[one.p_star_M == 0].any()


def test_a_whole_measurement_names_every_measure_that_the_project_promises(tiny_end_to_end):
    dialogues = dialogues_with_photos(3)
    scenes = [p.labels["scene"] for p in (d.photos[0] for d in dialogues)]

    class Guess:
        def read(self, pixels):
            return [dict(scenes[0])] * len(pixels)

    model = tiny_end_to_end
    model.decoding = dataclasses.replace(model.decoding, max_new_tokens=3, num_steps=1)
    found = world.measure_world(model, dialogues, oracle=Guess(), encoder=Guess(), seed=0)
    for name in (
        "photo.attribute_accuracy",
        "photo.attribute_accuracy.all_right",
        "photo.attribute_accuracy.subject",
        "photo.attribute_ceiling",
        "photo.attribute_ceiling_vae",
        "photo.attribute_accuracy_in_dialogue",
        "photo.attribute_accuracy_gold_caption",
        "moment.f1",
        "moment.f1_bayes",
        "moment.auprc",
        "seeing.accuracy",
        "seeing.chance",
        "seeing.blind",
        "seeing.caption_only",
        "text.perplexity",
        "text.psdg.bleu1",
        "text.standard.rouge_l",
    ):
        assert name in found.metrics, name
    assert len(found.sheet[0]) == len(found.sheet[1]) > 0


@pytest.fixture(params=["captions", "tokens"])
def speaker(request, tiny_end_to_end):
    """A model that describes a photo in words, or announces it by GILL's tokens."""
    model = tiny_end_to_end
    if request.param == "tokens":
        model = with_bridge(model, GillConfig(width=8, num_heads=2, album_width=4), seed=0).eval()
    model.decoding = dataclasses.replace(model.decoding, max_new_tokens=3, num_steps=1)
    return model


def test_own_photos_do_not_depend_on_how_many_are_made_at_once(speaker):
    dialogues = dialogues_with_photos(4)
    one = world_photos.spoken_photos(speaker, dialogues, seed=3, batch_size=1)
    all_ = world_photos.spoken_photos(speaker, dialogues, seed=3, batch_size=16)
    assert one.orders == all_.orders
    torch.testing.assert_close(one.pixels_N3HW, all_.pixels_N3HW, atol=1e-4, rtol=1e-3)
    assert (one.query_NE is None) == (all_.query_NE is None) == bool(one.orders[0].caption)
    gold = world_photos.photo_orders(dialogues, seed=3)
    assert [o.scene for o in one.orders] == [o.scene for o in gold]
    assert [len(o.context) for o in one.orders] == [len(o.context) for o in gold]


def test_dialogues_longer_than_the_context_are_named_with_what_was_dropped(tiny_end_to_end):
    model, dialogues = tiny_end_to_end, dialogues_with_photos(3)
    assert world.dropped_turns(model, dialogues) == {}
    lengths = {d.id: len(model.renderer.render(d).ids) for d in dialogues}
    longest = max(lengths, key=lengths.__getitem__)
    config = dataclasses.replace(model.renderer.config, max_tokens=lengths[longest] - 1)
    model.renderer = Renderer(model.language.tokenizer, config)
    dropped = world.dropped_turns(model, dialogues)
    assert dropped[longest] == 1
    assert f"{longest}: the first 1" in dropped_note(dropped, config.max_tokens)
