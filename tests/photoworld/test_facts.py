from __future__ import annotations

import random

import pytest

from photoworld.facts import NOUNS, named_attributes, scene_phrase, things, where_to
from photoworld.scenes import sample_scene
from photoworld.templates import word


def test_small_talk_never_names_what_a_photo_may_show() -> None:
    for words in ("news", "verdict", "reply", "c_end", "moan", "because", "ask"):
        rng = random.Random(0)
        scene = sample_scene(rng)
        for _ in range(200):
            text, named = word(words, scene, rng=rng)
            assert not named
            assert named_attributes(text) == {}, text


def test_every_phrase_for_every_scene_is_read_back_exactly() -> None:
    rng = random.Random(0)
    for _ in range(1500):
        scene = sample_scene(rng, novel=rng.random() < 0.3)
        colour, count = rng.random() < 0.5, rng.random() < 0.5
        phrases = [things(scene, rng, colour=colour, count=count), where_to(scene, rng)]
        slots = ("place", "time", "weather", "the_place", "t_is", "w_is", "colour", "cnt", "it")
        phrases += [p for slot in slots if (p := scene_phrase(slot, scene, rng))]
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
    ],
)
def test_the_reader_reads_what_is_named(
    text: str, subject: str | None, other: dict[str, str]
) -> None:
    named = {name: {value} for name, value in other.items()}
    assert named_attributes(text) == named | ({"subject": {subject}} if subject else {})


def test_synonyms_are_read_as_their_subject() -> None:
    for subject, nouns in NOUNS.items():
        for noun in nouns:
            assert named_attributes(f"the {noun}") == {"subject": {subject}}
