"""Answers that find a photo in an album: when, which, and what an empty album does."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from PIL import Image

from conftest import build_model
from showtell.album.index import Album, AlbumPhoto, empty_album
from showtell.dialogue import USER, Turn
from showtell.errors import ConfigError, DataError
from showtell.models.parts import Conditioning
from showtell.papers import GillConfig
from showtell.recipes.bridged import with_bridge

HELLO = (Turn(speaker=USER, elements=("show me a dog",)),)
COLOURS = {"red": (250, 0, 0), "blue": (0, 0, 250)}


@pytest.fixture
def model(tokenizers):
    base = build_model(tokenizers, bridge="pipeline")
    config = GillConfig(num_tokens=2, num_layers=1, num_heads=2, width=16, album_width=8)
    model = with_bridge(base, config, seed=0).eval()
    model.decoding = dataclasses.replace(
        model.decoding, num_steps=1, max_new_tokens=2, share_threshold=0.0
    )
    return model


@pytest.fixture
def folder(model, tmp_path):
    """Two photos: "red" is where the model's query for HELLO points, "blue" opposite."""
    writing, _ = model.read(HELLO, {})
    model.open_turn(writing)
    (query_E,) = model.bridge.query(model.write_span(writing).after_NKD).detach()
    photos = []
    for name, colour in COLOURS.items():
        Image.new("RGB", (50, 30), colour).save(tmp_path / f"{name}.png")
        photos.append(AlbumPhoto(id=name, path=f"{name}.png", caption=f"it is {name}"))
    Album(photos, torch.stack([query_E, -query_E]), made_by="tiny").save(tmp_path)
    return tmp_path


def shared(reply):
    (photo,) = [photo for turn in reply.turns for photo in turn.photos]
    return photo, reply.images[photo.id]


def test_the_nearest_photo_is_shared_and_seen(model, folder):
    model.open_album(folder)
    pushed = []
    push = model._push_photos
    model._push_photos = lambda writing, shown, rows: (
        pushed.extend(shown),
        push(writing, shown, rows),
    )
    photo, image = shared(model.respond(HELLO, images={}, seed=0))
    assert (photo.id, photo.origin, photo.caption) == ("red", "album", "it is red")
    assert image.size == (64, 64) and image.getpixel((32, 32)) == COLOURS["red"]
    assert pushed == [image]


def test_what_is_not_near_enough_is_painted(model, folder):
    model.open_album(folder)
    plain = model.respond(HELLO, images={}, seed=0)
    assert shared(plain)[0].origin == "album"
    model.decoding = dataclasses.replace(model.decoding, album_cut_off=1.1)
    photo, _ = shared(model.respond(HELLO, images={}, seed=0))
    assert photo.origin == "painted"
    assert photo.seed == 0


def test_the_bridges_decision_comes_first(model, folder):
    model.open_album(folder)
    for chance, origin in ((0.4, "painted"), (0.6, "album")):
        model.bridge.decide = lambda states_ND, chance=chance: torch.full((len(states_ND),), chance)
        assert shared(model.respond(HELLO, images={}, seed=0))[0].origin == origin


def test_a_photo_that_was_shown_gives_way_to_another_unless_there_is_none(model, folder):
    model.open_album(folder)
    model.decoding = dataclasses.replace(model.decoding, album_cut_off=-2.0)
    conditioning = Conditioning(
        cond_NSC=torch.zeros(1, 1, 1), query_NE=Album.load(folder).embeddings_ME[:1]
    )
    for seen, want in (((), "red"), (("red",), "blue"), (("red", "blue"), "red")):
        ((photo, _),) = model.found_in_album(None, conditioning, [set(seen)])
        assert photo.id == want


def test_an_album_is_all_that_a_model_without_a_painter_has(model, folder):
    model.painter = None
    model.open_album(folder)
    model.bridge.decide = lambda states_ND: torch.zeros(len(states_ND))
    model.decoding = dataclasses.replace(model.decoding, album_cut_off=1.1)
    assert shared(model.respond(HELLO, images={}, seed=0))[0].id == "red"


def test_rows_of_a_batch_find_and_paint_as_alone(model, folder):
    model.open_album(folder)
    contexts = [HELLO, (Turn(speaker=USER, elements=("what is it like at the beach?",)),)]
    scores = []
    for context in contexts:
        writing, _ = model.read(context, {})
        model.open_turn(writing)
        query_1E = model.bridge.query(model.write_span(writing).after_NKD).detach()
        scores.append(float((query_1E @ Album.load(folder).embeddings_ME[0])[0]))
    assert scores[0] > scores[1]
    model.decoding = dataclasses.replace(model.decoding, album_cut_off=sum(scores) / 2)
    both = model.respond_all(contexts, images=[{}, {}], seeds=[3, 4])
    assert [shared(reply)[0].origin for reply in both] == ["album", "painted"]
    alone = model.respond(contexts[1], images={}, seed=4)
    assert alone.turns == both[1].turns


def test_an_album_of_zero_photos_leaves_painting_as_it_was(model, tmp_path):
    empty_album(width=8).save(tmp_path)
    model.open_album(tmp_path)
    assert shared(model.respond(HELLO, images={}, seed=0))[0].origin == "painted"
    model.painter = None
    with pytest.raises(DataError, match='has no photos and "tiny" cannot paint.*add photos'):
        model.open_album(tmp_path)


def test_albums_that_cannot_be_asked_are_refused(model, folder, tmp_path, tiny_end_to_end):
    with pytest.raises(ConfigError, match="Dvtm, makes no query"):
        tiny_end_to_end.open_album(folder)
    empty_album(width=5, made_by="another").save(tmp_path / "other")
    with pytest.raises(DataError, match='width 5 .made by another. and "tiny" asks with 8'):
        model.open_album(tmp_path / "other")
    photo = AlbumPhoto(id="lost", path=None)
    Album([photo], torch.ones(1, 8)).save(tmp_path / "vectors")
    model.decoding = dataclasses.replace(model.decoding, album_cut_off=-1.0)
    model.open_album(tmp_path / "vectors")
    with pytest.raises(DataError, match='"lost" by its vector alone; wanted its file'):
        model.respond(HELLO, images={}, seed=0)
