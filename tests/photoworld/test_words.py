"""Words for what a photo shows, and the way back."""

import random

import pytest

from photoworld import words
from photoworld.scenes import SUBJECTS, sample_scene
from photoworld.words import named_attributes


def test_small_talk_never_names_what_a_photo_may_show():
    rng = random.Random(0)
    scene = sample_scene(rng)
    for name in ("news", "verdict", "reply", "c_end", "moan", "because", "ask"):
        for _ in range(200):
            text, named = words.word(name, scene, rng=rng)
            assert not named and named_attributes(text) == {}, text


def test_every_phrase_for_every_scene_is_read_back_exactly():
    rng = random.Random(0)
    for _ in range(1500):
        scene = sample_scene(rng, novel=rng.random() < 0.3)
        colour, count = rng.random() < 0.5, rng.random() < 0.5
        phrases = [words.things(scene, rng, colour=colour, count=count), words.where_to(scene, rng)]
        slots = ("place", "time", "weather", "the_place", "t_is", "w_is", "colour", "cnt", "it")
        phrases += [p for slot in slots if (p := words.scene_phrase(slot, scene, rng))]
        for text, named in phrases:
            assert named_attributes(text) == {n: {getattr(scene, n)} for n in named}, text


@pytest.mark.parametrize(
    ("text", "subject", "other"),
    [
        ("two puppies! and is that snow?", "dog", {"count": "two", "weather": "snowy"}),
        ("Aww, a pink teddy", "teddy bear", {"count": "one", "colour": "pink"}),
        ("those bunnies next to a table", "rabbit", {"relation": "beside", "anchor": "table"}),
        ("the bus, and on the bridge!", "bus", {"relation": "on", "anchor": "bridge"}),
        ("the ICE CREAMS all alone", "ice cream", {"relation": "alone", "anchor": "nothing"}),
        ("Mia in that red jacket", "Mia", {"colour": "red"}),
        ("one moment, what a nice day to be on my own", None, {}),
        ("the second one, tonight", None, {}),
        *((f"the {words.nouns(name)[-1]}", name, {}) for name in SUBJECTS),  # the synonym, if any
    ],
)
def test_the_reader_reads_what_is_named(text, subject, other):
    named = {name: {value} for name, value in other.items()}
    assert named_attributes(text) == named | ({"subject": {subject}} if subject else {})


def test_what_one_hears_is_said_back_and_no_slot_is_a_word_of_the_world():
    assert words.heard("my sister hid my chips") == "your sister hid your chips"
    assert words.heard("i was baking with Sam") is None
    assert {"rabbit", "cactuses", "remember", "plan"} <= words.world_words()
    assert not {"np", "whom", "grammar"} & words.world_words()
