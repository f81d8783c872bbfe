"""The drawings show what the scene says, and nothing but the scene decides them."""

import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import ImageChops

from photoworld.drawing import draw, photo_pixels
from photoworld.pen import Pen, mix
from photoworld.scenes import ATTRIBUTES, LOOKS, SUBJECTS, Scene, sample_scene
from photoworld.sprites import COLOUR_RGB, SPRITES
from showtell.dialogue import Photo
from showtell.errors import PhotoError

SCENE = Scene(
    subject="ball",
    colour="red",
    count="one",
    place="park",
    time="day",
    weather="clear",
    relation="alone",
    anchor="nothing",
    seed=7,
)


def difference(a: Scene, b: Scene) -> float:
    """Mean absolute difference of two drawings, 0-255."""
    return float(np.asarray(ImageChops.difference(draw(a), draw(b)), dtype=float).mean())


def changes(name: str) -> list[Scene]:
    """SCENE with every other value of one attribute; anchors need a relation and the reverse."""
    base = SCENE
    if name in ("relation", "anchor"):
        base = replace(SCENE, relation="on", anchor="table")
    found = []
    for value in ATTRIBUTES[name]:
        scene = replace(base, **{name: value})
        if (scene.relation == "alone") != (scene.anchor == "nothing"):
            scene = replace(scene, relation="alone", anchor="nothing")
        if scene != base:
            found.append((base, scene))
    return found


def test_a_photo_is_64_by_64_rgb_and_other_sizes_are_given_when_asked():
    assert draw(SCENE).size == (64, 64)
    assert draw(SCENE).mode == "RGB"
    assert draw(SCENE, size=256).size == (256, 256)
    assert draw(SCENE, size=100).size == (100, 100)


def test_the_same_scene_gives_the_same_pixels_whatever_was_drawn_before():
    first = draw(SCENE).tobytes()
    rng = random.Random(3)
    for _ in range(20):
        draw(sample_scene(rng))
    assert draw(SCENE).tobytes() == first


def test_drawing_neither_reads_nor_moves_global_chance():
    random.seed(1)
    first = draw(SCENE).tobytes()
    state = random.getstate()
    assert draw(SCENE).tobytes() == first
    assert random.getstate() == state


def test_another_seed_gives_another_photo_of_the_same_scene():
    photos = {draw(replace(SCENE, seed=seed)).tobytes() for seed in range(20)}
    assert len(photos) == 20


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_value_of_every_attribute_changes_the_photo_visibly(name):
    for base, other in changes(name):
        assert difference(base, other) > 1.0, other


def test_every_subject_of_the_world_has_a_sprite_and_every_colour_a_value():
    assert set(SPRITES) == set(SUBJECTS)
    assert set(COLOUR_RGB) == set(ATTRIBUTES["colour"])


def test_colours_are_far_apart():
    values = [np.array(rgb) for rgb in COLOUR_RGB.values()]
    gaps = [np.abs(a - b).sum() for k, a in enumerate(values) for b in values[:k]]
    assert min(gaps) > 80


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_colour_is_seen_in_every_subject_at_night_as_by_day(subject):
    colour = LOOKS.get(subject, "blue")
    wanted = np.array(COLOUR_RGB[colour])
    for time in ATTRIBUTES["time"]:
        pixels = np.asarray(
            draw(replace(SCENE, subject=subject, colour=colour, time=time, place="desert"))
        ).astype(int)
        near = (np.abs(pixels - wanted).sum(-1) < 60).sum()
        assert near > 30, (time, near)


@pytest.mark.parametrize("subject", ["dog", "bus", "duck", "flower"])
def test_more_subjects_cover_more_separate_ground(subject):
    """Count columns of the subject's colour: three stand wider than one."""
    widths = []
    for count in ("one", "three"):
        scene = replace(SCENE, subject=subject, colour="purple", count=count)
        pixels = np.asarray(draw(scene)).astype(int)
        near = np.abs(pixels - np.array(COLOUR_RGB["purple"])).sum(-1) < 60
        widths.append(near.any(0).sum())
    assert widths[1] > widths[0] + 4


def test_all_valid_scenes_can_be_drawn():
    rng = random.Random(0)
    for novel in (False, True):
        for _ in range(150):
            assert draw(sample_scene(rng, novel=novel)).size == (64, 64)


def test_photo_pixels_draws_the_scene_in_the_labels():
    photo = Photo(id="w1", labels={"scene": SCENE.as_dict()})
    assert photo_pixels(photo).tobytes() == draw(SCENE).tobytes()


def test_a_photo_without_a_scene_is_refused_by_name():
    with pytest.raises(PhotoError, match='photo "holiday" has no scene'):
        photo_pixels(Photo(id="holiday"))


def test_the_pen_mirrors_and_scales_about_the_feet():
    class Nothing:
        pass

    pen = Pen(Nothing(), x=100, y=200, height=50)
    assert pen.at(0, 100) == (100, 150)
    assert pen.at(10, 0) == (105, 200)
    assert Pen(Nothing(), x=100, y=200, height=50, flip=True).at(10, 0) == (95, 200)
    assert mix((0, 0, 0), (100, 200, 50), 0.5) == (50, 100, 25)


def test_drawing_does_not_load_torch():
    code = "import sys, photoworld.drawing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
