"""Models of real photos, measured: captions, retrieval both ways, and what was painted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from real_photos import caption_values, nearest, painted_values, two_way_ranks

from showtell.dialogue import Photo
from showtell.errors import DataError


def test_a_photo_counts_at_its_first_caption_and_every_caption_for_itself():
    scores = np.array([[0.1, 0.9, 0.5, 0.4], [0.2, 0.3, 0.6, 0.1]])
    owners = np.array([0, 0, 1, 1])
    first_N, own_T = two_way_ranks(scores, owners)
    assert first_N.tolist() == [1, 1]  # 0.9 before all; 0.6 before all
    assert own_T.tolist() == [2, 1, 1, 2]
    with pytest.raises(DataError, match="no caption"):
        two_way_ranks(scores, np.array([0, 0, 0, 0]))


def test_the_nearest_photo_is_found_mirrored_too():
    pixels = np.random.default_rng(0).integers(0, 256, size=(9, 8, 8, 3), dtype=np.uint8)
    wanted = [Image.fromarray(pixels[4]), Image.fromarray(pixels[7][:, ::-1])]
    assert nearest(wanted, pixels) == [4, 7]


def test_what_was_painted_is_held_against_the_next_caption_and_the_true_photo(tmp_path):
    named = {"a red one": (1.0, 0.0), "a blue one": (0.0, 1.0), "a mixed one": (0.6, 0.8)}
    photos = []
    for number, (caption, (red, blue)) in enumerate(named.items()):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (8, 8), (round(250 * red), 0, round(250 * blue))).save(path)
        photos.append(Photo(id=str(number), path=str(path), labels={"captions": (caption,)}))

    class Colours:
        def texts(self, texts):
            return torch.tensor([named[text] for text in texts])

        def photos(self, photos):
            pixels = [(p if isinstance(p, Image.Image) else Image.open(p)) for p in photos]
            return torch.tensor([p.getpixel((0, 0))[::2] for p in pixels]).float()

    painted = [Image.new("RGB", (8, 8), (250, 0, 0))] * 3  # a painter that reads nothing
    values = painted_values(Colours(), painted, photos, seed=0)
    assert values["painted.clip_t"].value == pytest.approx(1.6 / 3)
    assert values["baseline.next_photo.painted.clip_t"].value == pytest.approx(1.6 / 3)
    assert values["baseline.true.painted.clip_t"].value == pytest.approx(1)


def test_captions_are_held_against_themselves_under_the_next_photo():
    references = [["a black dog runs ."], ["two men talk by a car ."], ["a girl swims there ."]]
    values = caption_values([several[0] for several in references], references, seed=0)
    assert values["caption.cider_d"].value == pytest.approx(10)
    assert values["text.standard.bleu1"].value == pytest.approx(1)
    # shared with the photo before are "a" and the full stop: 2 of 5, of 7 and of 5
    assert values["baseline.next_photo.text.standard.bleu1"].value == pytest.approx(6 / 17)
