"""An album of embeddings: search against a loop over all pairs, and bad input."""

from __future__ import annotations

import pytest
import torch

from showtell.album.index import Album, AlbumPhoto, empty_album
from showtell.errors import DataError


def photo(name: str, **changes) -> AlbumPhoto:
    return AlbumPhoto(id=name, path=f"photos/{name}.png", **changes)


def album_of(*rows: list[float], made_by: str = "tiny") -> Album:
    names = "abcdefgh"[: len(rows)]
    return Album([photo(name) for name in names], torch.tensor(rows), made_by=made_by)


def found(hits) -> list[tuple[str, float]]:
    return [(hit.photo.id, round(hit.score, 6)) for hit in hits]


def test_search_is_the_cosine_of_every_pair():
    rng = torch.Generator().manual_seed(0)
    rows_ME, query_NE = (torch.randn(size, generator=rng) for size in ((8, 5), (3, 5)))
    album = album_of(*rows_ME.tolist())
    for hits, query_E in zip(album.search(query_NE, top_k=8), query_NE, strict=True):
        want = sorted(
            (
                (-float(query_E @ row_E / (query_E.norm() * row_E.norm())), p.id)
                for row_E, p in zip(rows_ME, album.photos, strict=True)
            )
        )
        assert [hit.photo.id for hit in hits] == [name for _, name in want]
        assert [hit.score for hit in hits] == pytest.approx([-score for score, _ in want], abs=1e-6)


def test_what_is_below_the_cut_off_or_has_been_shown_is_not_found():
    album = album_of([1.0, 0.0], [0.6, 0.8], [0.0, 1.0])
    query_NE = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    near, far = album.search(query_NE, top_k=2, cut_off=0.7)
    assert (found(near), far) == ([("a", 1.0)], [])
    (hits, _) = album.search(query_NE, top_k=1, without={"a"})
    assert found(hits) == [("b", 0.6)]


def test_equal_scores_keep_the_order_of_the_album():
    photos = [photo(f"{number:03}") for number in range(300)]
    rows_ME = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0]]).repeat(100, 1)
    (hits,) = Album(photos, rows_ME).search(torch.tensor([[1.0, 0.0]]), top_k=150)
    want = [p.id for number, p in enumerate(photos) if number % 3]
    assert [hit.photo.id for hit in hits] == want[:150]


def test_an_album_of_zero_photos_finds_nothing_and_can_be_added_to(tmp_path):
    album = empty_album(width=2, made_by="tiny")
    assert album.search(torch.ones(3, 2), top_k=5) == [[], [], []]
    album.save(tmp_path)
    album = Album.load(tmp_path)
    assert (len(album), album.width) == (0, 2)
    album = album.with_photos([photo("a")], torch.tensor([[3.0, 4.0]]))
    assert found(album.search(torch.tensor([[3.0, 4.0]]), top_k=5)[0]) == [("a", 1.0)]


def test_a_folder_gives_the_same_album_back(tmp_path):
    album = Album(
        [photo("a", caption="Café \u2615"), AlbumPhoto(id="b")], torch.randn(2, 3), made_by="gill"
    )
    album.save(tmp_path / "album")
    assert {path.suffix for path in (tmp_path / "album").iterdir()} == {".sqlite", ".f32"}
    again = Album.load(tmp_path / "album")
    assert (again.photos, again.made_by) == (album.photos, "gill")
    torch.testing.assert_close(again.embeddings_ME, album.embeddings_ME)
    hit = again.search(album.embeddings_ME[:1], top_k=1)[0][0]
    shown = again.photo(hit, folder=tmp_path / "album")
    assert (shown.id, shown.origin, shown.caption) == ("a", "album", "Café \u2615")
    assert shown.path == str(tmp_path / "album" / "photos/a.png")
    assert again.photo(type(hit)(photo=AlbumPhoto(id="b"), score=1.0), folder=tmp_path).path is None


def test_vectors_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"2 photos came with embeddings of shape \(1, 2\)"):
        Album([photo("a"), photo("b")], torch.ones(1, 2))
    with pytest.raises(DataError, match='"a" is in the album twice'):
        Album([photo("a"), photo("a")], torch.ones(2, 2))
    for bad in (0.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match='embedding of "b" is zero or not a number'):
            Album([photo("a"), photo("b")], torch.tensor([[1.0, 1.0], [bad, bad]]))
    with pytest.raises(DataError, match="width 3 cannot join an album of width 2"):
        album_of([1.0, 0.0]).with_photos([photo("z")], torch.ones(1, 3))


def test_queries_that_do_not_fit_are_refused():
    album = album_of([1.0, 0.0])
    with pytest.raises(DataError, match="album of width 2 .made by tiny"):
        album.search(torch.ones(1, 3), top_k=1)
    for bad in (0.0, float("nan")):
        with pytest.raises(DataError, match="query 0. is zero or not a number"):
            album.search(torch.full((1, 2), bad), top_k=1)
    with pytest.raises(DataError, match="0 photos were asked for"):
        album.search(torch.ones(1, 2), top_k=0)
