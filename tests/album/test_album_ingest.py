"""Photos from a folder: what the album keeps of them, and what it must not."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
import torch
from PIL import Image

from showtell.album.index import Album, empty_album
from showtell.album.ingest import embed_with, forget, ingest_folder, photo_paths, reduced
from showtell.data.photos import load_photo
from showtell.errors import DataError, PhotoError

RED, GREEN, BLUE = (250, 10, 10), (10, 250, 10), (10, 10, 250)


def colours(images: Sequence[Image.Image]) -> torch.Tensor:
    """An encoder that sees the colour of a photo's first pixel."""
    return torch.tensor([image.getpixel((0, 0)) for image in images]).float()


def paint(path, colour, size=(8, 6), **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **settings)
    return path


@pytest.fixture
def folder(tmp_path):
    paint(tmp_path / "in/b.png", GREEN)
    paint(tmp_path / "in/sub/c.PNG", BLUE)
    paint(tmp_path / "in/a.png", RED)
    (tmp_path / "in/notes.txt").write_text("no photo")
    paint(tmp_path / "in/.hidden/d.png", RED, size=(3, 3))
    return tmp_path / "in"


def ingest(folder, into, **settings):
    album = empty_album(width=3, made_by="colours")
    return ingest_folder(folder, into=into, **{"album": album, "embed": colours, **settings})


def test_photos_come_in_the_order_of_their_names_and_can_be_found(folder, tmp_path):
    done = ingest(folder, tmp_path / "album")
    assert (done.added, done.duplicates, done.refused) == (3, 0, ())
    album = Album.load(tmp_path / "album")
    assert album.photos == done.album.photos
    firsts = [
        Image.open(tmp_path / "album" / photo.path).getpixel((0, 0)) for photo in album.photos
    ]
    assert firsts == [RED, GREEN, BLUE]
    (hits,) = album.search(torch.tensor([[0.0, 0.0, 1.0]]), top_k=1)
    assert hits[0].photo == album.photos[2]


def test_what_is_kept_is_upright_and_says_nothing_of_where_it_was_taken(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 0.0)}
    exif[0x010F] = "SecretCamera"
    paint(tmp_path / "in/a.jpg", RED, size=(8, 6), exif=exif)
    done = ingest(tmp_path / "in", tmp_path / "album")
    path = tmp_path / "album" / done.album.photos[0].path
    with Image.open(path) as kept:
        assert kept.size == (6, 8)
        assert not kept.getexif() and not kept.info
    assert b"SecretCamera" not in path.read_bytes()
    assert "a.jpg" not in (tmp_path / "album/album.json").read_text()


def test_large_photos_are_reduced_in_proportion(tmp_path):
    paint(tmp_path / "in/a.png", RED, size=(80, 20))
    done = ingest(tmp_path / "in", tmp_path / "album", max_side=40)
    assert load_photo(tmp_path / "album" / done.album.photos[0].path).size == (40, 10)
    small = Image.new("RGB", (5, 3))
    assert reduced(small, 40) is small
    assert reduced(Image.new("RGB", (1000, 1)), 10).size == (10, 1)


def test_the_same_photo_in_two_places_is_one(folder, tmp_path):
    paint(folder / "sub/copy_of_a.png", RED)
    done = ingest(folder, tmp_path / "album")
    assert (done.added, done.duplicates) == (3, 1)
    again = ingest(folder, tmp_path / "album", album=Album.load(tmp_path / "album"))
    assert (again.added, again.duplicates) == (0, 4)
    assert again.album.photos == done.album.photos


def test_more_photos_than_a_batch_all_come(tmp_path):
    for number in range(20):
        paint(tmp_path / f"in/{number:02}.png", (number + 1, 100, 7))
    sizes = []

    def embed(images):
        sizes.append(len(images))
        return colours(images)

    done = ingest(tmp_path / "in", tmp_path / "album", embed=embed)
    assert done.added == len(done.album) == 20 and sizes == [16, 4]
    reds = [load_photo(tmp_path / "album" / p.path).getpixel((0, 0))[0] for p in done.album.photos]
    assert reds == list(range(1, 21))


def test_what_was_embedded_before_a_stop_is_not_embedded_again(tmp_path):
    for shade in range(1, 41):
        paint(tmp_path / f"in/{shade:02}.png", (shade, 0, 0))
    seen, told = [], []

    def embed(images):
        if len(seen) == 32:
            raise KeyboardInterrupt
        seen.extend(image.getpixel((0, 0))[0] for image in images)
        return colours(images)

    with pytest.raises(KeyboardInterrupt):
        ingest(tmp_path / "in", tmp_path / "album", embed=embed, save_seconds=0.0)
    album = Album.load(tmp_path / "album")
    assert len(album) == 32
    again = []

    def rest(images):
        again.extend(image.getpixel((0, 0))[0] for image in images)
        return colours(images)

    settings = {"album": album, "embed": rest, "told": lambda *done: told.append(done)}
    done = ingest(tmp_path / "in", tmp_path / "album", **settings)
    assert (done.added, done.duplicates, again) == (8, 32, list(range(33, 41)))
    assert told[0] == (0, 40) and told[-1] == (40, 40) and len(told) == 41


def test_a_bad_photo_is_an_error_or_is_counted(folder, tmp_path):
    (folder / "bad.jpg").write_bytes(b"\xff\xd8 not a photo")
    with pytest.raises(PhotoError, match="bad.jpg"):
        ingest(folder, tmp_path / "album")
    done = ingest(folder, tmp_path / "album", skip_bad=True)
    assert done.added == 3
    assert [str(error).count("bad.jpg") for error in done.refused] == [1]


def test_a_folder_without_photos_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no photo .*an album needs one"):
        ingest(tmp_path / "empty", tmp_path / "album")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.jpg").write_bytes(b"no")
    with pytest.raises(DataError, match="none of the 1 photos"):
        ingest(tmp_path / "bad", tmp_path / "album", skip_bad=True)
    with pytest.raises(DataError, match="is not a folder"):
        ingest(tmp_path / "nowhere", tmp_path / "album")
    assert not (tmp_path / "album").exists()


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path):
    secret = paint(tmp_path / "secret/z.png", GREEN, size=(2, 2))
    os.symlink(secret, folder / "link.png")
    os.symlink(secret.parent, folder / "linked")
    assert [path.name for path in photo_paths(folder)] == ["a.png", "b.png", "c.PNG"]


def test_a_forgotten_photo_is_gone_from_the_disk(folder, tmp_path):
    done = ingest(folder, tmp_path / "album")
    gone, kept = done.album.photos[0], done.album.photos[1:]
    album = forget(tmp_path / "album", [gone.id])
    assert album.photos == Album.load(tmp_path / "album").photos == kept
    left = {path.name for path in (tmp_path / "album/photos").iterdir()}
    assert left == {f"{photo.id}.png" for photo in kept}


def test_a_model_embeds_square_pixels_by_the_bridges_keys(tmp_path):
    paint(tmp_path / "in/a.png", RED, size=(12, 6))
    seen = []

    def features(pixels_P3HW):
        seen.append(pixels_P3HW.shape)
        return 2 * pixels_P3HW.mean((2, 3))

    embed = embed_with(features, size=4)
    done = ingest(tmp_path / "in", tmp_path / "album", embed=embed)
    assert seen == [(1, 3, 4, 4)]
    want = torch.tensor(RED).float()
    torch.testing.assert_close(
        done.album.embeddings_ME[0], want / want.norm(), rtol=1e-5, atol=1e-6
    )
