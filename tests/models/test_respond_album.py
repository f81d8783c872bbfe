"""Answers that find a photo in an album: when, which, and what an empty album does."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from PIL import Image

from conftest import build_model, responder_of
from showtell.agent.when import When
from showtell.album.index import Album, AlbumPhoto, empty_album
from showtell.dialogue import USER, Turn
from showtell.errors import ConfigError, DataError
from showtell.models.decoder import Decoder
from showtell.models.open_album import open_album
from showtell.papers.gill import DecisionHead, GillConfig
from showtell.recipes.assemble import with_bridge

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
    (query_E,) = query(model, HELLO)
    photos = []
    for name, colour in COLOURS.items():
        Image.new("RGB", (50, 30), colour).save(tmp_path / f"{name}.png")
        photos.append(AlbumPhoto(id=name, path=f"{name}.png", caption=f"it is {name}"))
    Album(photos, torch.stack([query_E, -query_E]), made_by="tiny").save(tmp_path)
    return tmp_path


def query(model, context):
    """(1, E)"""
    decoder = Decoder(model)
    writing, _ = decoder.read_all([context], [{}])
    decoder.open_turn(writing)
    return model.bridge.query(decoder.announce(writing)).detach()


def answered(model, folder, **decoding):
    """The photo that is shared as an answer to HELLO, and its image."""
    responder = responder_of(model, album=open_album(model, folder), **decoding)
    return shared(responder.respond(HELLO, images={}, seed=0))


def decide(model, chance):
    """Make the bridge's decision ``chance`` whatever the state."""
    model.bridge.decision = DecisionHead(model.language.width).eval()
    model.bridge.decision.linear.weight.data.zero_()
    model.bridge.decision.linear.bias.data = torch.tensor([0.0, torch.tensor(chance).logit()])


def shared(reply):
    (photo,) = [photo for turn in reply.turns for photo in turn.photos]
    return photo, reply.images[photo.id]


def test_the_nearest_photo_is_shared_and_seen(model, folder, monkeypatch):
    pushed, push = [], Decoder.push_photos
    monkeypatch.setattr(
        Decoder,
        "push_photos",
        lambda self, writing, shown, rows_B: (
            pushed.extend(shown),
            push(self, writing, shown, rows_B),
        ),
    )
    photo, image = answered(model, folder)
    assert (photo.id, photo.origin, photo.caption) == ("red", "album", "it is red")
    assert image.size == (64, 64) and image.getpixel((32, 32)) == COLOURS["red"]
    assert pushed == [image]


def test_what_is_not_near_enough_is_painted(model, folder):
    assert answered(model, folder)[0].origin == "album"
    photo, _ = answered(model, folder, album_cut_off=1.1)
    assert photo.origin == "painted" and photo.seed == 0


def test_the_bridges_decision_comes_first(model, folder):
    for chance, origin in ((0.4, "painted"), (0.6, "album")):
        decide(model, chance)
        assert answered(model, folder)[0].origin == origin


def test_a_photo_that_was_shown_gives_way_to_another_or_to_a_painted_one(model, folder):
    album, query_1E = open_album(model, folder), Album.load(folder).embeddings_ME[:1]
    for seen, want in (((), "red"), (("red",), "blue"), (("red", "blue"), None)):
        found = album.nearest(query_1E, cut_off=-2.0, without=seen)
        assert (found.photo.id if found.photo else None) == want
        assert [id for id, _ in found.hits] == ["red", "blue"]
    responder = responder_of(model, album=album, album_cut_off=-2.0)
    again = (Turn(speaker=USER, elements=("show me that again",)),)
    responder.when = When(threshold=0.0)
    turns, shown = (), []
    for said in (HELLO, HELLO, HELLO, again):
        turns = (*turns, *said)
        reply = responder.respond(turns, images={}, seed=0)
        shown.append(shared(reply)[0])
        turns = (*turns, *reply.turns)
    assert [photo.origin for photo in shown] == ["album", "album", "painted", "album"]
    assert len({photo.id for photo in shown}) == 3


def test_an_album_is_all_that_a_model_without_a_painter_has(model, folder):
    model.painter = None
    decide(model, 0.01)
    assert answered(model, folder, album_cut_off=1.1)[0].id == "red"


def test_an_album_belongs_to_a_responder_and_not_to_its_model(model, folder):
    assert answered(model, folder)[0].origin == "album"
    photo, _ = shared(responder_of(model).respond(HELLO, images={}, seed=0))
    assert photo.origin == "painted"


def test_rows_of_a_batch_find_and_paint_as_alone(model, folder):
    contexts = [HELLO, (Turn(speaker=USER, elements=("what is it like at the beach?",)),)]
    key_E = Album.load(folder).embeddings_ME[0]
    scores = [float((query(model, context) @ key_E)[0]) for context in contexts]
    assert scores[0] > scores[1]
    album = open_album(model, folder)
    responder = responder_of(model, album=album, album_cut_off=sum(scores) / 2)
    both = responder.respond_all(contexts, images=[{}, {}], seeds=[3, 4])
    assert [shared(reply)[0].origin for reply in both] == ["album", "painted"]
    alone = responder.respond(contexts[1], images={}, seed=4)
    assert alone.turns == both[1].turns


def test_an_album_of_zero_photos_leaves_painting_as_it_was(model, tmp_path):
    empty_album(width=8).save(tmp_path)
    assert answered(model, tmp_path)[0].origin == "painted"
    model.painter = None
    with pytest.raises(DataError, match='has no photos and "tiny" cannot paint.*add photos'):
        open_album(model, tmp_path)


def test_albums_that_cannot_be_asked_are_refused(model, folder, tmp_path, tiny_end_to_end):
    with pytest.raises(ConfigError, match="Dvtm, makes no query"):
        open_album(tiny_end_to_end, folder)
    empty_album(width=5, made_by="another").save(tmp_path / "other")
    with pytest.raises(DataError, match='width 5 .made by another. and "tiny" asks with 8'):
        open_album(model, tmp_path / "other")
    photo = AlbumPhoto(id="lost", path=None)
    Album([photo], torch.ones(1, 8)).save(tmp_path / "vectors")
    with pytest.raises(DataError, match='"lost" by its vector alone; wanted its file'):
        answered(model, tmp_path / "vectors", album_cut_off=-1.0)
