"""The world's labels for retrieve or generate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import build_model, dialogues_with_photos
from photoworld.scenes import ATTRIBUTES
from showtell.album.index import Album, AlbumPhoto
from showtell.dialogue import AGENT, Photo
from showtell.errors import DataError
from showtell.papers import GillConfig
from showtell.recipes.bridged import with_bridge
from showtell.recipes.world_decision import fewest_misses, share_states, world_labels
from showtell.training.features import photo_scene


def album_of(seeds) -> Album:
    photos = [AlbumPhoto(id=f"photo-{seed}") for seed in seeds]
    return Album(photos, torch.eye(len(photos), 4) + 1, made_by="test")


def wanted(seed: int, *, stated=tuple(ATTRIBUTES), **changes) -> Photo:
    scene = replace(photo_scene(seed), **changes)
    return Photo(id="w", labels={"scene": scene.as_dict(), "stated": list(stated)})


def test_only_what_the_caption_states_can_be_missed():
    scene = photo_scene(7)
    place = "beach" if scene.place != "beach" else "city"
    time = "day" if scene.time != "day" else "night"
    album = album_of([7])
    photos = [
        wanted(7),
        wanted(7, place=place),
        wanted(7, place=place, time=time),
        wanted(7, place=place, time=time, stated=("subject", "time")),
    ]
    assert fewest_misses(photos, album).tolist() == [0, 1, 2, 1]
    assert world_labels(photos, album).tolist() == [True, True, False, True]
    assert world_labels(photos, album, allowed=0).tolist() == [True, False, False, False]


def test_a_larger_album_never_misses_more_and_is_the_slow_count():
    album = album_of(range(20))
    photos = [wanted(seed, stated=("subject", "colour", "place")) for seed in range(30, 40)]
    found = fewest_misses(photos, album)
    assert (fewest_misses(photos, album_of(range(5))) >= found).all()
    slow = [
        min(
            sum(
                getattr(photo_scene(s), name) != photo.labels["scene"][name]
                for name in photo.labels["stated"]
            )
            for s in range(20)
        )
        for photo in photos
    ]
    assert found.tolist() == slow and len(set(slow)) > 1


def test_states_stand_at_the_photos_that_the_agent_shares(tokenizers):
    base = build_model(tokenizers, bridge="pipeline")
    small = GillConfig(num_tokens=2, num_layers=1, num_heads=2, width=16, album_width=8)
    model = with_bridge(base, small, seed=0)
    dialogues = dialogues_with_photos(3)
    states_NKD, photos = share_states(model, dialogues, batch_size=2)
    gold = [p for d in dialogues for t in d.turns if t.speaker == AGENT for p in t.photos]
    assert photos == gold and states_NKD.shape == (len(gold), 2, model.language.width)
    alone_NKD, _ = share_states(model, dialogues[-1:])
    torch.testing.assert_close(states_NKD[-len(alone_NKD) :], alone_NKD, rtol=1e-4, atol=1e-5)
    assert np.isfinite(states_NKD.numpy()).all()


def test_an_album_that_cannot_be_read_for_labels_is_named():
    with pytest.raises(DataError, match="has no photos"):
        world_labels([wanted(1)], Album((), torch.zeros(0, 4)))
    with pytest.raises(DataError, match="other photos than the world's"):
        world_labels([wanted(1)], Album([AlbumPhoto(id="album-x")], torch.ones(1, 4)))
