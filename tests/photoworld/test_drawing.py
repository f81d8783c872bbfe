"""The drawings show what the scene says, and nothing but the scene decides them."""

import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import ImageChops

from photoworld import load_table
from photoworld.drawing import draw
from photoworld.scenes import ATTRIBUTES, LOOKS, SUBJECTS, Scene, sample_scene
from photoworld.sprites import COLOUR_RGB, sprite_of

VALUES = ("ball", "red", "one", "park", "day", "clear", "alone", "nothing")
SCENE = Scene(**dict(zip(ATTRIBUTES, VALUES, strict=True)), seed=7)


def near(scene: Scene, colour: str) -> np.ndarray:
    """Which pixels of a photo have about that colour."""
    return np.abs(np.asarray(draw(scene)).astype(int) - COLOUR_RGB[colour]).sum(-1) < 60


def test_the_scene_and_its_seed_alone_decide_the_pixels():
    random.seed(1)
    state, first = random.getstate(), draw(SCENE).tobytes()
    rng = random.Random(3)
    for k in range(300):
        assert draw(sample_scene(rng, novel=k % 2 == 1)).size == (64, 64)
    assert draw(SCENE).tobytes() == first and random.getstate() == state
    assert [draw(SCENE, size=size).size for size in (256, 100)] == [(256, 256), (100, 100)]
    assert len({draw(replace(SCENE, seed=seed)).tobytes() for seed in range(20)}) == 20


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_value_of_every_attribute_changes_the_photo_visibly(name):
    """An anchor needs a relation, and the reverse."""
    base = SCENE
    if name in ("relation", "anchor"):
        base = replace(SCENE, relation="on", anchor="table")
    for value in ATTRIBUTES[name]:
        scene = replace(base, **{name: value})
        if (scene.relation == "alone") != (scene.anchor == "nothing"):
            scene = replace(scene, relation="alone", anchor="nothing")
        if scene != base:
            assert np.asarray(ImageChops.difference(draw(base), draw(scene))).mean() > 1.0, scene


def test_all_subjects_colours_and_places_are_drawn_and_colours_are_far_apart():
    assert set(SUBJECTS) < set(load_table("drawings")["sprites"])
    assert set(ATTRIBUTES["place"]) == set(load_table("drawings")["places"])
    assert set(COLOUR_RGB) == set(ATTRIBUTES["colour"])
    for subject in SUBJECTS:
        assert len({repr(sprite_of(subject, colour)) for colour in COLOUR_RGB}) == len(COLOUR_RGB)
    values = [np.array(rgb) for rgb in COLOUR_RGB.values()]
    assert min(np.abs(a - b).sum() for k, a in enumerate(values) for b in values[:k]) > 80


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_colour_is_seen_in_every_subject_at_night_as_by_day(subject):
    colour = LOOKS.get(subject, "blue")
    for time in ATTRIBUTES["time"]:
        scene = replace(SCENE, subject=subject, colour=colour, time=time, place="desert")
        assert near(scene, colour).sum() > 30, time


@pytest.mark.parametrize("subject", ["dog", "bus", "duck", "flower"])
def test_three_subjects_stand_wider_than_one(subject):
    one, three = (
        near(replace(SCENE, subject=subject, colour="purple", count=count), "purple").any(0).sum()
        for count in ("one", "three")
    )
    assert three > one + 4
