"""The photo world as data: lazy, the same by index and by iteration, clear about its names."""

from __future__ import annotations

import random

import pytest

from photoworld.scenes import ATTRIBUTES, Scene, sample_scene, split_of, write_caption
from showtell.data.photos import photo_image
from showtell.data.sources import open_data
from showtell.data.world import SPANS, draw_photo, open_world
from showtell.dialogue import Photo
from showtell.errors import PhotoError, UsageError

KINDS = ("photos", "stories", "rounds", "long")


@pytest.mark.parametrize("span", SPANS)
def test_a_named_span_lies_in_its_own_split(span):
    data = open_world(f"world:{span}")
    assert {split_of(seed) for seed in data.seeds} == {"test" if span == "novel" else span}
    assert data.novel == (span == "novel") and len(data) >= 1000
    assert len(open_data("world:train")) == 100_000


def test_test_and_novel_share_no_seed_and_a_range_includes_both_ends():
    assert not set(SPANS["test"]) & set(SPANS["novel"])
    assert list(open_world("world:5-7").seeds) == [5, 6, 7]
    assert open_world("world:novel:5-7").novel and open_world("world:photos:novel").novel


@pytest.mark.parametrize("kind", ["", *KINDS])
def test_every_kind_is_the_same_by_index_by_slice_and_by_iteration(kind):
    data = open_world(":".join(filter(None, ["world", kind, "200000-200004"])))
    whole = list(data)
    assert len(whole) == len(data) == 5 and whole == list(open_world(f"world:{data.kind}:dev")[:5])
    assert data[3] == whole[3] == data[-2] and list(data[1:3]) == whole[1:3]
    assert [each.labels["seed"] for each in whole] == list(range(200_000, 200_005))
    assert {each.labels["split"] for each in whole} == {"dev"}
    assert all(photo_image(photo).size == (64, 64) for photo in whole[0].photos)
    with pytest.raises(IndexError):
        data[5]


def test_a_captioned_photo_is_that_of_its_seed_and_has_a_caption_that_states_everything():
    for novel in (False, True):
        for seed, dialogue in enumerate(open_world(f"world:photos:{'novel:' * novel}0-9")):
            told, shown = dialogue.turns
            scene = sample_scene(random.Random(f"photo-{seed}-{novel}"), novel=novel)
            caption, stated = write_caption(scene, random.Random(seed))
            (photo,) = shown.photos
            assert told.text == photo.caption == caption and photo.labels["stated"] == list(stated)
            assert Scene.from_dict(photo.labels["scene"]) == scene
            full, stated = write_caption(scene, random.Random(seed), always=ATTRIBUTES)
            assert photo.labels["full_caption"] == full
            assert set(stated) >= set(ATTRIBUTES) - {"colour"}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("world:storys:test", 'no "storys"; did you mean "stories"'),
        ("world:tset", 'did you mean "test"'),
        ("world:photo", 'did you mean "photos"'),
        ("world:stories", "wanted for example world:stories:test"),
        ("world:stories:tset", 'did you mean "test"'),
        ("world:stories:novel", "no novel"),
        ("world:rounds:7-5", "first <= last"),
        ("world:novel:x", "first-last"),
        ("world:0-99999999999", "first <= last"),
    ],
)
def test_a_name_that_means_nothing_is_answered_with_what_is_wanted(name, answer):
    with pytest.raises(UsageError, match=answer) as caught:
        open_data(name)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "odd",
    [{"moon": 1}, {"place": "moon"}, {"place": []}, {"seed": "7"}, {"seed": 1.5}, {"seed": True}],
)
def test_a_scene_that_cannot_be_drawn_is_refused_by_the_photos_name(odd):
    whole = open_world("world:photos:0-0")[0].photos[0].labels["scene"]
    for scene in (None, {}, [], "x", whole | odd):
        with pytest.raises(PhotoError, match='photo "holiday" has no scene'):
            draw_photo(Photo(id="holiday", labels={"scene": scene}))
    with pytest.raises(PhotoError, match='photo "holiday" has no scene'):
        draw_photo(Photo(id="holiday"))
