"""An album on the disk: its list and vectors, what is broken, what was written before."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from showtell.album import disk
from showtell.album.index import Album, AlbumPhoto, empty_album
from showtell.album.ingest import finish, remove
from showtell.errors import DataError


def album_of(*rows: list[float], made_by: str = "tiny", **told) -> Album:
    photos = [
        AlbumPhoto(id=name, path=f"photos/{name}.png", **told) for name in "abcd"[: len(rows)]
    ]
    return Album(photos, torch.tensor(rows), made_by=made_by)


def changed(folder: Path, query: str, *given: object) -> None:
    with sqlite3.connect(folder / "album.sqlite") as connection:
        connection.execute(query, given)
    connection.close()


BROKEN = {
    "format": ("update about set value = '9' where name = 'format'", "of format 9, wanted 3"),
    "nameless": ("delete from about where name = 'made_by'", "cannot be read .KeyError"),
    "width": ("update about set value = 'x' where name = 'width'", "cannot be read"),
    "rows": ("insert into photos values (9, 'z', null, '', '', '', '', 0, null)", "cannot be read"),
    # in this folder and no other
    "other": ("update about set value = '../other.f32' where name = 'vectors'", "cannot be read"),
    "table": ("drop table photos", "cannot be read .*Index the photos again"),
}


@pytest.mark.parametrize(("query", "says"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_album_is_said_so(tmp_path, query, says):
    folder = tmp_path / "album"
    with pytest.raises(DataError, match=r"is no album: it has no album.sqlite"):
        Album.load(folder)
    album_of([1.0, 0.0]).save(folder)
    (tmp_path / "other.f32").write_bytes(b"\0" * 16)
    changed(folder, query)
    with pytest.raises(DataError, match=says):
        Album.load(folder)
    (folder / "album.sqlite").write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot be read"):
        Album.load(folder)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/secret.png", "photos/../../secret.png"])
def test_a_list_may_not_show_or_remove_a_file_that_is_not_the_albums(tmp_path, path):
    album_of([1.0, 0.0], [0.0, 1.0]).save(tmp_path / "album")
    secret = tmp_path / "secret.png"
    secret.touch()
    changed(tmp_path / "album", "update photos set path = ? where id = 'a'", path)
    with pytest.raises(DataError, match="wanted a path inside the album"):
        Album.load(tmp_path / "album").photos[0]
    with pytest.raises(DataError, match="wanted a path inside the album"):
        remove(tmp_path / "album", ["a"])
    changed(tmp_path / "album", "update photos set path = null where id = 'a'")
    changed(tmp_path / "album", "insert into gone values (?)", path)
    with pytest.raises(DataError, match="wanted a path inside the album"):
        finish(tmp_path / "album")
    assert secret.exists()


@pytest.mark.parametrize("key", ["caption", "source", "taken"])
def test_a_list_that_tells_no_text_is_refused(tmp_path, key):
    album_of([1.0, 0.0]).save(tmp_path)
    changed(tmp_path, f"update photos set {key} = x'07'")
    with pytest.raises(DataError, match="wanted texts alone"):
        Album.load(tmp_path).photos[0]


@pytest.mark.parametrize("dies", ["_new_vectors", "_say"])
def test_an_album_that_is_stopped_while_it_is_written_is_the_one_before(
    dies, tmp_path, monkeypatch
):
    def stopped(*args, **given):
        raise KeyboardInterrupt

    first, second = album_of([1.0, 0.0]), album_of([0.0, 1.0], [1.0, 0.0], caption="new")
    first.save(tmp_path)
    monkeypatch.setattr(disk, dies, stopped)
    with pytest.raises(KeyboardInterrupt):
        second.save(tmp_path)
    assert Album.load(tmp_path).embeddings_ME.equal(first.embeddings_ME)
    monkeypatch.undo()
    second.save(tmp_path)
    again = Album.load(tmp_path)
    assert again.embeddings_ME.equal(second.embeddings_ME) and again.photos == second.photos
    assert again.listed.with_word("new").tolist() == [0, 1]
    assert len(list(tmp_path.iterdir())) == 2


def test_an_opened_album_stays_as_it_was_and_hears_of_changes(tmp_path):
    album_of([1.0, 0.0], [0.0, 1.0], caption="a red boat").save(tmp_path)
    before = Album.load(tmp_path)
    assert before.fresh() is before
    remove(tmp_path, ["a"])
    assert [photo.id for photo in before.photos] == ["a", "b"]
    assert before.embeddings_ME.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert before.listed.with_word("boat").tolist() == [1]  # none that is gone
    after = before.fresh()
    assert [photo.id for photo in after.photos] == ["b"] and after.fresh() is after
    assert album_of([1.0, 0.0]).fresh().photos[0].id == "a"


def test_words_of_users_are_words_and_no_query(tmp_path):
    caption = 'Say "hello" to NEAR(Stra\u00dfe, -1) 1\u00bd'
    album = album_of([1.0, 0.0], [0.0, 1.0], caption=caption)
    for word in ("hello", "strasse", "near", "1\u00bd"):
        assert album.listed.with_word(word).tolist() == [0, 1], word
    for nothing in ('"', "*", "known", "a OR hello", "\N{SNOWMAN}", ""):
        assert album.listed.with_word(nothing).tolist() == [], nothing
    assert album.listed.with_term("say hello").tolist() == [0, 1]  # in a row
    assert album.listed.with_term("hello say").tolist() == []


# -------------------------------------------------------------------- what was written before


def old_album(folder: Path, **changes) -> Album:
    """Of format 2."""
    folder.mkdir(exist_ok=True)
    photos = [{"id": "a", "path": "photos/a.png", "caption": "a dog"}, {"id": "b"}]
    told = {"format": 2, "made_by": "tiny", "embeddings": "embeddings-1.safetensors"}
    told |= {"photos": photos} | changes
    (folder / "album.json").write_text(json.dumps(told))
    save_file({"embeddings": torch.eye(2)}, folder / "embeddings-1.safetensors")
    return Album([AlbumPhoto(**photo) for photo in photos], torch.eye(2), made_by="tiny")


def test_an_album_of_the_old_layout_is_read_and_the_next_verb_writes_it_anew(tmp_path):
    old = old_album(tmp_path)
    for again in (Album.load(tmp_path), finish(tmp_path), Album.load(tmp_path)):
        assert (again.photos, again.made_by) == (old.photos, "tiny")
        assert again.embeddings_ME.equal(old.embeddings_ME) and not again.texts_ME.any()
        assert again.search(torch.tensor([[0.0, 1.0]]), top_k=1)[0][0].photo.id == "b"
        assert again.listed.with_word("dog").tolist() == [0]
    assert {path.suffix for path in tmp_path.iterdir()} == {".sqlite", ".f32"}
    with pytest.raises(DataError, match="vectors of words of shape"):
        Album(old.photos, torch.eye(2), texts_ME=torch.full((2, 2), float("nan")))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 9}, "of format 9, wanted 2"),
        ({"photos": [{"name": "a"}]}, "cannot be read"),
        ({"photos": []}, "0 photos came with embeddings"),
        ({"photos": [{"id": "a", "path": "../x.png"}, {"id": "b"}]}, "wanted a path inside"),
        ({"photos": [{"id": "a", "caption": 7}, {"id": "b"}]}, "wanted texts alone"),
        ({"embeddings": "../other.safetensors"}, "cannot be read.*Index the photos again"),
    ],
)
def test_a_broken_one_of_the_old_layout_is_left_as_it_is(tmp_path, change, says):
    folder = tmp_path / "album"
    old_album(folder, **change)
    for verb in (Album.load, finish):
        with pytest.raises(DataError, match=says):
            verb(folder)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}


def test_an_album_of_nothing_takes_the_place_of_any(tmp_path):
    album_of([1.0, 0.0]).save(tmp_path)
    empty_album(width=5, made_by="other").save(tmp_path)
    again = Album.load(tmp_path)
    assert (len(again), again.width, again.made_by) == (0, 5, "other")
