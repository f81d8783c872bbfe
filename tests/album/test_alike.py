"""Photos that are nearly the same: grouped, found once; and near misses, which are not."""

from __future__ import annotations

import io
import random
from dataclasses import replace

import pytest
import torch
from PIL import Image

from photoworld.scenes import ATTRIBUTES, sample_scene
from showtell.album.alike import Looks, look_of
from showtell.album.index import Album, AlbumPhoto
from showtell.album.ingest import add_photos, remove
from showtell.data.photos import load_photo
from showtell.data.world import draw_photo
from showtell.dialogue import Photo
from showtell.models.checkpoint import SHIPPED

SAMPLE = sorted((SHIPPED / "album").glob("*.jpg"))[:8]


def drawn(scene) -> Image.Image:
    return draw_photo(Photo(id="a", labels={"scene": scene.as_dict()}))


def alike(one: Image.Image, other: Image.Image) -> bool:
    return Looks([look_of(one)]).first_alike(look_of(other)) == 0


def saved_again(image: Image.Image) -> Image.Image:
    """At half its size, as a poor JPEG."""
    data = io.BytesIO()
    image.reduce(2).save(data, format="JPEG", quality=50)
    return Image.open(data)


def test_a_photo_that_was_saved_again_halved_or_cut_a_little_is_alike():
    for path in SAMPLE:
        image = load_photo(path)
        width, height = image.size
        cut = image.crop((width // 100, height // 100, width, height))
        assert alike(image, saved_again(image)) and alike(image, cut), path
        others = [load_photo(other) for other in SAMPLE if other != path]
        assert not any(alike(image, other) for other in others), path


def test_near_misses_of_drawn_scenes_are_not_alike():
    rng = random.Random(0)
    for _ in range(40):
        scene = sample_scene(rng)
        name = rng.choice([n for n in ATTRIBUTES if n not in ("relation", "anchor")])
        other = rng.choice([v for v in ATTRIBUTES[name] if v != getattr(scene, name)])
        assert not alike(drawn(scene), drawn(replace(scene, **{name: other}))), (scene, name)


def test_plain_pictures_of_other_colours_are_not_alike_and_many_are_compared_with_all():
    shades = [Image.new("RGB", (9, 9), (30 * n, 30 * m, 0)) for n in range(7) for m in range(7)]
    looks = Looks([])
    for shade in shades:
        assert looks.first_alike(look_of(shade)) is None
        for _ in range(3):
            looks.append(look_of(shade))
    assert [looks.first_alike(look_of(shade)) for shade in shades] == list(range(0, 147, 3))


@pytest.fixture
def album(tmp_path):
    """Two photos, and the first of them saved again, twice, in two additions."""
    (tmp_path / "in").mkdir()
    for number, path in enumerate(SAMPLE[:2]):
        load_photo(path).save(tmp_path / f"in/{number}.png")

    def embed(images):
        return torch.tensor([[image.width / 1000, 1.0] for image in images])

    def add():
        settings = {"into": tmp_path / "album", "embed": embed, "width": 2, "made_by": "stub"}
        return add_photos(tmp_path / "in", **settings).album

    add()
    again = saved_again(load_photo(SAMPLE[0]))
    again.save(tmp_path / "in/2.png")
    again.resize((100, 100)).save(tmp_path / "in/3.png")
    return add()


def test_of_photos_that_are_nearly_the_same_one_is_found(album, tmp_path):
    first, other, *rest = (photo.shot for photo in album.photos)
    assert first > 0 and other == 0 and rest == [first, first]
    query = torch.tensor([[0.0, 1.0]])
    (hits,) = album.search(query, top_k=9)
    assert [hit.photo.source for hit in hits] == ["3.png", "1.png"] or len(hits) == 2
    assert {hit.photo.shot for hit in hits} == {0, first}
    (hits,) = album.search(query, top_k=9, without=[album.photos[0].id])
    assert [hit.photo.source for hit in hits] == ["1.png"]  # nor what is nearly the same
    left = remove(tmp_path / "album", [album.photos[0].id])
    assert [photo.shot for photo in left.photos] == [0, first, first]


def test_equal_scores_of_many_shots_fill_the_list():
    photos = [AlbumPhoto(id=f"{n:03}", shot=1 + n // 50) for n in range(500)]
    (hits,) = Album(photos, torch.ones(500, 2)).search(torch.ones(1, 2), top_k=5)
    assert [hit.photo.id for hit in hits] == ["000", "050", "100", "150", "200"]
