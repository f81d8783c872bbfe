"""Photos from a folder: what the album keeps of them, and what it must not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

import pytest
import torch
from PIL import Image

from data import natives
from showtell.album import disk, ingest
from showtell.album.index import Album
from showtell.album.ingest import add_photos, embed_with, finish, remove, told_vectors
from showtell.data.photos import load_photo, save_photo, square
from showtell.data.pixels import scaled
from showtell.data.storage import locked
from showtell.errors import DataError, PhotoError, StorageError

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


def add(folder, into, *, embed=colours, **settings):
    return add_photos(folder, into=into, embed=embed, width=3, made_by="colours", **settings)


def test_photos_come_in_the_order_of_their_names_and_can_be_found(folder, tmp_path):
    done = add(folder, tmp_path / "album")
    assert (done.added, done.duplicates, done.refused) == (3, 0, ())
    album = Album.load(tmp_path / "album")
    assert album.photos == done.album.photos
    firsts = [
        load_photo(tmp_path / "album" / photo.path).getpixel((0, 0)) for photo in album.photos
    ]
    assert firsts == [RED, GREEN, BLUE]
    (hits,) = album.search(torch.tensor([[0.0, 0.0, 1.0]]), top_k=1)
    assert hits[0].photo == album.photos[2]
    paint(folder / "sub/copy_of_a.png", RED)  # the same photo in two places is one
    again = add(folder, tmp_path / "album")
    assert (again.added, again.duplicates) == (0, 4) and again.album.photos == album.photos


def test_a_folder_that_is_added_again_brings_the_captions_of_now(folder, tmp_path):
    def texts(given):
        return torch.tensor([[1.0, len(text), 0.0] for text in given])

    def again(**captions):
        lines = [{"file": name, "caption": text} for name, text in captions.items()]
        natives.write_lines(folder / "captions.jsonl", lines)
        done = add(folder, tmp_path / "album", texts=texts)
        album = Album.load(tmp_path / "album")
        assert done.album.photos == album.photos
        told_ME = told_vectors(album.photos, texts, width=3)
        torch.testing.assert_close(album.texts_ME, torch.nn.functional.normalize(told_ME, dim=1))
        return done.added, done.recaptioned, {p.source: p.caption for p in album.photos}

    names = {"a.png": "", "b.png": "", "sub/c.PNG": ""}
    assert again(**{"a.png": "red"}) == (3, 0, names | {"a.png": "red"})
    assert again(**{"a.png": "red"}) == (0, 0, names | {"a.png": "red"})
    paint(folder / "z.png", RED)  # a second file of a photo does not rename it
    other = {"a.png": "a fire", "b.png": "grass"}
    assert again(**other, **{"z.png": "a copy"}) == (0, 2, names | other)
    (folder / "captions.jsonl").unlink()  # who says nothing takes nothing back
    assert add(folder, tmp_path / "album", texts=texts).recaptioned == 0
    assert again(**{"b.png": ""}) == (0, 1, names | {"a.png": "a fire"})


def test_what_is_kept_is_upright_and_says_nothing_of_where_it_was_taken(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 0.0)}
    exif[0x010F] = "SecretCamera"
    paint(tmp_path / "in/a.jpg", RED, size=(8, 6), exif=exif)
    done = add(tmp_path / "in", tmp_path / "album")
    path = tmp_path / "album" / done.album.photos[0].path
    with Image.open(path) as kept:
        assert kept.size == (6, 8)
        assert not kept.getexif() and all(name.startswith("jfif") for name in kept.info)
    assert b"SecretCamera" not in path.read_bytes()
    assert done.album.photos[0].source == "a.jpg"  # for the list alone


def test_large_photos_are_reduced_in_proportion(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest, "MAX_SIDE", 40)
    paint(tmp_path / "in/a.png", RED, size=(80, 20))
    done = add(tmp_path / "in", tmp_path / "album")
    assert load_photo(tmp_path / "album" / done.album.photos[0].path).size == (40, 10)
    assert scaled(Image.new("RGB", (1000, 1)), 10).size == (10, 1)


def test_a_folder_without_photos_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no photo .*an album needs one"):
        add(tmp_path / "empty", tmp_path / "album")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.jpg").write_bytes(b"\xff\xd8 no")
    with pytest.raises(PhotoError, match="a.jpg"):
        add(tmp_path / "bad", tmp_path / "album")
    with pytest.raises(DataError, match="none of the 1 photos"):
        add(tmp_path / "bad", tmp_path / "album", skip_bad=True)
    with pytest.raises(DataError, match="is not a folder"):
        add(tmp_path / "nowhere", tmp_path / "album")
    assert not (tmp_path / "album").exists()


def test_a_photo_is_told_by_its_bytes_and_what_is_none_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    kinds = {"a.jfif": "JPEG", "b": "PNG", "c.jpe": "JPEG", "d.mpo": "MPO", "e.txt": "GIF"}
    for number, (name, kind) in enumerate(kinds.items()):
        paint(tmp_path / "in" / name, (40 * number, 9, 9), format=kind)
    (tmp_path / "in/f.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    (tmp_path / "in/notes.txt").write_text("no photo")
    os.mkfifo(tmp_path / "in/pipe.jpg")
    os.symlink("self.png", tmp_path / "in/self.png")
    secret = paint(tmp_path / "secret/z.png", GREEN, size=(2, 2))
    os.symlink(secret, tmp_path / "in/link.png")
    os.symlink(secret.parent, tmp_path / "in/linked")
    done = add(tmp_path / "in", tmp_path / "album")
    assert done.added == 5
    assert [each.split(",")[0] for each in done.left_out] == [
        *("f.heic: HEIC", "link.png: a link out of the folder", "notes.txt: no photo"),
        *("pipe.jpg: no file", "self.png: no file"),
    ]


# ----------------------------------------------------------------------------- kills and neighbours

KILLED = """
import os, signal, sys, torch
from showtell.album import disk, ingest
from showtell.album.index import Album
calls = 0
def die_after(times, then):
    def called(*args, **settings):
        global calls
        calls += 1
        if calls > times:
            os.kill(os.getpid(), signal.SIGKILL)
        return then(*args, **settings)
    return called
def colours(images):
    return torch.tensor([image.getpixel((0, 0)) for image in images]).float()
what, source, into = sys.argv[1:]
if what == "embed":
    colours = die_after(2, colours)
elif what == "first":
    os.fsync = die_after(5, os.fsync)
elif what == "copy":
    os.fsync = die_after(40, os.fsync)
elif what == "list":
    disk.insert = die_after(3, disk.insert)  # the first is of the album of nothing
if what == "remove":
    disk.Path.unlink = die_after(3, disk.Path.unlink)
    ingest.remove(into, [photo.id for photo in Album.load(into).photos])
else:
    ingest.add_photos(source, into=into, embed=colours, width=3, made_by="colours")
"""


def killed(what, source, into):
    code = [sys.executable, "-c", KILLED, what, str(source), str(into)]
    assert subprocess.run(code, check=False).returncode == -signal.SIGKILL


def files_in(album):
    return sorted(path.name for path in album.rglob("*") if path.is_file())


@pytest.fixture
def forty(tmp_path):
    for shade in range(1, 41):
        paint(tmp_path / f"in/{shade:02}.png", (shade, 0, 0))
    lines = [{"file": "01.png", "caption": "secretgarden"}, {"file": "40.png", "caption": "kept"}]
    natives.write_lines(tmp_path / "in/captions.jsonl", lines)
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("what", "kept"), [("first", 0), ("embed", 32), ("copy", 32), ("list", 32)]
)
def test_a_killed_add_goes_on_where_it_was_and_removing_leaves_no_byte(forty, tmp_path, what, kept):
    album = tmp_path / "album"
    killed(what, forty, album)
    assert len(Album.load(album)) == kept
    again, told = [], []

    def rest(images):
        again.extend(images)
        return colours(images)

    done = add(forty, album, embed=rest, told=lambda *so_far: told.append(so_far))
    assert (len(done.album), done.duplicates, len(again)) == (40, kept, 40 - kept)
    assert told == [("photos", number, 40) for number in range(41)]
    reds = [load_photo(album / photo.path).getpixel((0, 0))[0] for photo in done.album.photos]
    assert reds == list(range(1, 41))
    names = [f"{photo.id}.png" for photo in done.album.photos]
    (vectors,) = (path.name for path in album.glob("vectors-*"))
    assert files_in(album) == sorted(["album.sqlite", vectors, *names])
    gone = [photo.id for photo in done.album.photos[:39]]
    left = remove(album, gone)
    assert len(files_in(album)) == 3 and vectors not in files_in(album)
    everything = b"".join(path.read_bytes() for path in album.rglob("*") if path.is_file())
    assert not [name for name in (*gone, "secretgarden", "01.png") if name.encode() in everything]
    assert left.photos[0].caption == "kept" and left.listed.with_word("kept").tolist() == [0]
    torch.testing.assert_close(left.embeddings_ME, torch.tensor([[1.0, 0.0, 0.0]]))


def test_a_killed_removal_is_finished_by_the_next_verb(forty, tmp_path):
    album = tmp_path / "album"
    ids = [photo.id for photo in add(forty, album).album.photos]
    killed("remove", forty, album)
    assert len(Album.load(album)) == 0 and len(files_in(album)) > 2
    assert len(remove(album, ids)) == 0  # said again, it is no error
    assert len(files_in(album)) == 2
    add(forty, album)
    killed("remove", forty, album)
    assert len(finish(album)) == 0 and len(files_in(album)) == 2
    with pytest.raises(DataError, match="no such photo"):
        remove(album, ids[:1])


AT_RANDOM = """
import os, random, signal, sys, time, torch
from pathlib import Path
from showtell.album import ingest
from showtell.album.index import Album
from showtell.data.photos import load_photo
torch.set_num_threads(1)
source, into = sys.argv[1:]
def colours(images):
    return torch.tensor([image.getpixel((0, 0)) for image in images]).float()
def add():
    ingest.add_photos(source, into=into, embed=colours, width=3, made_by="colours")
def of_all():
    return [photo.id for photo in Album.load(into).photos]
def at_risk(work, seconds):
    "Whether it was killed."
    if (child := os.fork()) == 0:
        signal.setitimer(signal.ITIMER_REAL, seconds)  # ends the process, as kill -9 does
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0
def checked():
    "An album of which nothing is half there; how many photos it has."
    if not Path(into, "album.sqlite").exists():
        return 0
    album = Album.load(into)
    for photo, row_E in zip(album.photos, album.embeddings_ME, strict=True):
        red = load_photo(Path(into, photo.path)).getpixel((0, 0))[0]
        assert int(photo.source[:2]) == red and row_E.tolist() == [1, 0, 0], photo
    return len(album)
rng = random.Random(0)
began = time.perf_counter()
add()
took = time.perf_counter() - began
ingest.remove(into, of_all())
killed = 0
for _ in range(12):
    killed += at_risk(add, rng.uniform(0, took / 2))
    before = checked()
    killed += at_risk(add, rng.uniform(0, took / 2))
    now = checked()
    assert now >= before, (now, before)
    killed += at_risk(lambda: ingest.remove(into, of_all()[:5]), rng.uniform(0, took / 4))
    left = checked()
    assert left in (now, now - 5), (left, now)
add()
assert checked() == 40
print(killed)
"""


def test_killed_at_random_moments_nothing_is_lost_or_half_there(forty, tmp_path):
    album = tmp_path / "album"
    code = [sys.executable, "-c", AT_RANDOM, str(forty), str(album)]
    done = subprocess.run(code, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
    finish(album)
    assert len(files_in(album)) == 42


def test_a_full_disk_keeps_what_was_added_before(forty, tmp_path, monkeypatch):
    calls = []

    def full(image, path):
        calls.append(path)
        if len(calls) > 20:
            raise StorageError("No space left")
        return save_photo(image, path)

    monkeypatch.setattr(ingest, "save_photo", full)
    with pytest.raises(StorageError):
        add(forty, tmp_path / "album")
    assert len(Album.load(tmp_path / "album")) == 16
    monkeypatch.undo()
    assert add(forty, tmp_path / "album").duplicates == 16


def test_files_that_were_read_are_not_read_again(folder, tmp_path, monkeypatch):
    done = add(folder, tmp_path / "album")
    monkeypatch.setattr(ingest, "photo_from_bytes", None)
    paint(folder / "same_bytes.png", RED)
    again = add(folder, tmp_path / "album")
    assert (again.added, again.duplicates) == (0, 4)
    remove(tmp_path / "album", [done.album.photos[0].id])
    with pytest.raises(TypeError):  # what was removed comes back when it is added again
        add(folder, tmp_path / "album")


def test_what_kept_all_its_pixels_stays_so_and_else_a_copy_is_small(tmp_path):
    for name, settings in {
        "a.png": {},
        "b.jpg": {},
        "c.webp": {"lossless": True},
        "d.webp": {},
    }.items():
        paint(tmp_path / "in" / name, (9 * len(name), ord(name[0]), 0), **settings)
    photos = add(tmp_path / "in", tmp_path / "album").album.photos
    assert [photo.path[-3:] for photo in photos] == ["png", "jpg", "png", "jpg"]
    kept = [load_photo(tmp_path / "album" / photo.path) for photo in photos]
    given = [load_photo(tmp_path / "in" / photo.source) for photo in photos]
    assert [a.tobytes() == b.tobytes() for a, b in zip(kept[::2], given[::2], strict=True)] == [
        True,
        True,
    ]


def test_a_disk_that_is_full_for_the_list_keeps_what_was_added_before(forty, tmp_path, monkeypatch):
    album, rest = tmp_path / "album", tmp_path / "rest"
    rest.mkdir()
    for path in sorted(forty.glob("*.png"))[20:]:
        path.rename(rest / path.name)
    ids = [photo.id for photo in add(forty, album).album.photos]
    connected = disk.connected

    def full(folder):
        connection = connected(folder)
        (pages,) = connection.execute("pragma page_count").fetchone()
        connection.execute(f"pragma max_page_count = {pages}").fetchall()
        return connection

    monkeypatch.setattr(disk, "connected", full)
    with pytest.raises(StorageError, match="full; what was there before is kept"):
        for number in range(9):  # until the last page is
            lines = [{"file": p.name, "caption": f"{number} long" * 900} for p in rest.iterdir()]
            natives.write_lines(rest / "captions.jsonl", lines)
            add(rest, album)
    assert [photo.id for photo in Album.load(album).photos][:20] == ids
    monkeypatch.undo()
    assert len(add(rest, album).album) == 40
    assert len([*(album / "photos").iterdir()]) == 40 and len([*album.glob("vectors-*")]) == 1


def test_two_processes_never_change_one_album(folder, tmp_path):
    album = tmp_path / "album"
    (photo, *_) = add(folder, album).album.photos
    with locked(album):
        for change in (lambda: add(folder, album), lambda: remove(album, [photo.id])):
            with pytest.raises(StorageError, match="another process is at work"):
                change()
        assert len(finish(album)) == 3  # to look is no change
    assert len(Album.load(album)) == 3


def test_a_model_embeds_square_pixels_by_the_bridges_keys(tmp_path):
    paint(tmp_path / "in/a.png", RED, size=(12, 6))
    seen = []

    def features(pixels_P3HW):
        seen.append(pixels_P3HW.shape)
        return 2 * pixels_P3HW.mean((2, 3))

    embed = embed_with(features, look=partial(square, size=4))
    done = add(tmp_path / "in", tmp_path / "album", embed=embed)
    assert seen == [(1, 3, 4, 4)]
    want = torch.tensor(RED).float()
    torch.testing.assert_close(
        done.album.embeddings_ME[0], want / want.norm(), rtol=1e-5, atol=1e-6
    )
