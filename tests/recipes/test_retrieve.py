"""The labels for retrieve or generate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import bridged_model, dialogues_with_photos
from photoworld.scenes import ATTRIBUTES
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, Photo
from showtell.errors import DataError
from showtell.recipes.retrieve import fewest_misses, share_states

SHOWN = open_data("world:photos:train")


def shown(seed: int) -> Photo:
    return SHOWN[seed].photos[0]


def wanted(seed: int, *, stated=tuple(ATTRIBUTES), **changes) -> Photo:
    scene = {**shown(seed).labels["scene"], **changes}
    return Photo(id="w", labels={"scene": scene, "stated": list(stated)})


def test_only_what_the_caption_states_can_be_missed():
    scene = shown(7).labels["scene"]
    place = "beach" if scene["place"] != "beach" else "city"
    time = "day" if scene["time"] != "day" else "night"
    photos = [
        wanted(7),
        wanted(7, place=place),
        wanted(7, place=place, time=time),
        wanted(7, place=place, time=time, stated=("subject", "time")),
    ]
    assert fewest_misses(photos, [shown(7)]).tolist() == [0, 1, 2, 1]


def test_a_larger_album_never_misses_more_and_is_the_slow_count():
    album = [shown(seed) for seed in range(20)]
    photos = [wanted(seed, stated=("subject", "colour", "place")) for seed in range(30, 40)]
    found = fewest_misses(photos, album)
    assert (fewest_misses(photos, album[:5]) >= found).all()
    slow = []
    for photo in photos:
        scene = photo.labels["scene"]
        of_each = [
            [a.labels["scene"][n] != scene[n] for n in photo.labels["stated"]] for a in album
        ]
        slow.append(min(map(sum, of_each)))
    assert found.tolist() == slow and len(set(slow)) > 1


def test_states_stand_at_the_photos_that_the_agent_shares(tokenizers):
    model = bridged_model(tokenizers, "gill")
    dialogues = dialogues_with_photos(3)
    states_NKD, photos = share_states(model, dialogues, batch_size=2)
    gold = [p for d in dialogues for t in d.turns if t.speaker == AGENT for p in t.photos]
    assert photos == gold and states_NKD.shape == (len(gold), 3, model.language.width)
    alone_NKD, _ = share_states(model, dialogues[-1:])
    torch.testing.assert_close(states_NKD[-len(alone_NKD) :], alone_NKD, rtol=1e-4, atol=1e-5)
    assert np.isfinite(states_NKD.numpy()).all()


@pytest.mark.parametrize("album", [[], [Photo(id="album-x")]])
def test_an_album_that_does_not_say_what_it_shows_is_named(album):
    with pytest.raises(DataError, match="do not all say what they show"):
        fewest_misses([wanted(1)], album)
