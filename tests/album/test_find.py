"""Photos by words: the one score and its cut-off, ConSE, and what names, captions and days say."""

from __future__ import annotations

import io
import json
import sys
import zlib
from collections.abc import Sequence
from importlib.resources import files

import pytest
import torch
from PIL import Image

from showtell.album.conse import PHRASE, TEMPERATURE, Conse
from showtell.album.find import CUT_OFF, LESSER, NAMED, Finder
from showtell.album.index import Album, AlbumPhoto, empty_album
from showtell.album.ingest import add_photos, remove, told_vectors
from showtell.album.places import Places
from showtell.album.told import (
    asked,
    degrees_in,
    exif_of,
    taken_at,
    told_of,
    words_known,
    words_of,
)
from showtell.errors import DataError, UsageError

WIDTH = 64
COLOURS = {"red": (250, 5, 5), "green": (5, 250, 5), "blue": (5, 5, 250)}
CAPTIONS = (
    "luna digs in the sand",
    "Ruth's eightieth birthday",
    "a tram in Lisbon",
    "the kitchen before we painted it",
)


def texts(given: Sequence[str]) -> torch.Tensor:
    """A sentence encoder of word counts: each word has a direction of its own."""
    rows = torch.full((len(given), WIDTH), 1e-3)
    for row, text in zip(rows, given, strict=True):
        for word in words_of(text):
            rng = torch.Generator().manual_seed(zlib.crc32(word.encode(errors="replace")))
            row += torch.randn(WIDTH, generator=rng)
    return rows


def look(images: Sequence[Image.Image]) -> torch.Tensor:
    """A classifier of three colours, by a photo's first pixel."""
    return torch.tensor([image.getpixel((0, 0)) for image in images]).float() / 10


def photos_of(*captions: str) -> list[AlbumPhoto]:
    return [AlbumPhoto(id=f"{n}", caption=caption) for n, caption in enumerate(captions)]


def finder_of(photos: Sequence[AlbumPhoto], *, seed: int = 0) -> Finder:
    """Of photos whose pixels tell nothing: they have the vectors of numbers without a meaning."""
    rows = [torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)) for _ in photos]
    told_ME = told_vectors(photos, texts, width=WIDTH)
    return Finder(Album(photos, torch.stack(rows), texts_ME=told_ME), texts)


def found(finder: Finder, text: str, **settings) -> list[str]:
    return [hit.photo.id for hit in finder.find(text, top_k=9, **settings)]


# -------------------------------------------------------------------------------------- the score


def test_a_query_equal_to_a_caption_finds_it_first_and_an_unrelated_one_nothing():
    finder = finder_of(photos_of(*CAPTIONS, ""))
    for number, caption in enumerate(CAPTIONS):
        for asks in (caption, caption.upper(), f"Can you show me a photo of {caption}?"):
            assert found(finder, asks)[0] == str(number)
    for nothing in ("a submarine", "quarterly tax figures", "\N{SNOWMAN} zeppelins", "d'oh"):
        assert found(finder, nothing) == []
    assert len(found(finder, "a submarine", cut_off=-99.0)) == 5
    assert "0" not in found(finder, CAPTIONS[0], without={"0"})
    (best, *_) = finder.find(CAPTIONS[2], top_k=1)
    assert best.score > CUT_OFF


def test_the_order_of_adding_does_not_matter():
    photos = photos_of(*CAPTIONS, "", "")
    rows = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(1))
    told = told_vectors(photos, texts, width=WIDTH)
    turned = [4, 2, 0, 5, 3, 1]
    album = Album(photos, rows, texts_ME=told)
    other = empty_album(width=WIDTH)
    for m in turned:
        other = other.with_photos([photos[m]], rows[m : m + 1], texts_ME=told[m : m + 1])
    asks = [*CAPTIONS, "a blue boat"]
    scores, others = (Finder(a, texts).evidence(asks).score_NM for a in (album, other))
    torch.testing.assert_close(others, scores[:, turned])
    assert [p.id for p in album.without_photos(["1"]).photos] == ["0", "2", "3", "4", "5"]
    torch.testing.assert_close(album.without_photos(["1"]).texts_ME[1], album.texts_ME[2])


def test_the_score_is_that_of_its_formula():
    photos = [*photos_of(*CAPTIONS, ""), AlbumPhoto(id="x", source="Ruth/IMG_0007.jpg")]
    finder = finder_of(photos, seed=3)
    cosine = torch.nn.functional.cosine_similarity
    phrases = files("showtell.album").joinpath("everyday.txt").read_text().splitlines()
    album = finder.album

    def raw(query):
        """Of each photo, less what is usual."""
        (vector,) = texts([asked(query)])
        words = words_of(query)
        rare = {w: len(photos) / (1 + sum(w in words_known(p) for p in photos)) for w in words}
        rare = {word: torch.tensor(weight).log1p() for word, weight in rare.items()}

        def counted(row, rows):
            usual = torch.stack([cosine(finder.everyday_KE, other[None]) for other in rows])
            return (cosine(vector, row, dim=0) - usual.mean()) / usual.std()

        for m, photo in enumerate(photos):
            look = counted(album.embeddings_ME[m], album.embeddings_ME)
            has = album.texts_ME.norm(dim=1) > 0
            told = counted(album.texts_ME[m], album.texts_ME[has]) if has[m] else look
            named = sum(rare[w] for w in rare if w in words_known(photo)) / (
                sum(rare.values()) or 1
            )
            yield max(look, told) + LESSER * min(look, told) + NAMED * named**4

    usual = torch.stack([max(raw(phrase)) for phrase in phrases]).median()
    for query in ("Ruth in the sand", "a boat", CAPTIONS[2]):
        want = torch.stack(list(raw(query))) - usual
        (found,) = finder.evidence([query]).score_NM
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)


def test_many_photos_are_scored_as_few_are_and_what_comes_is_found(tmp_path, monkeypatch):
    photos = photos_of(*CAPTIONS, "", "a boat")
    want = finder_of(photos).evidence(CAPTIONS).score_NM
    monkeypatch.setattr("showtell.album.find.BLOCK", 2)
    finder_of(photos).album.save(tmp_path)
    finder = Finder(Album.load(tmp_path), texts)
    torch.testing.assert_close(finder.evidence(CAPTIONS).score_NM, want, rtol=1e-4, atol=1e-4)
    assert found(finder, "a boat") == ["5"]
    remove(tmp_path, ["5"])
    assert found(finder, "a boat") == []  # of an album that another has changed
    empty_album(width=WIDTH).save(tmp_path)
    assert found(finder, CAPTIONS[0], cut_off=-99.0) == []
    finder_of(photos_of("a boat")).album.save(tmp_path)
    assert found(finder, "a boat", cut_off=-99.0) == ["0"]


def test_bad_questions_and_albums_of_nothing():
    assert Finder(empty_album(width=WIDTH), texts).find("a dog", top_k=3) == []
    finder = finder_of(photos_of("a dog"))
    for empty in ("", "  ", "?!"):
        with pytest.raises(UsageError, match="asks for nothing"):
            finder.find(empty, top_k=1)
    with pytest.raises(DataError, match="0 photos were asked for"):
        finder.find("a dog", top_k=0)
    assert found(finder, "photos") == []  # words of asking alone


# ------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Can you show me a photo of Luna?", "Luna?"),
        ("do you have any pictures from Rome", "Rome"),
        ("red car", "red car"),
        ("the photo", "the photo"),
        ("", ""),
    ],
)
def test_the_words_of_asking_go_before_it_is_searched(text, what):
    assert asked(text) == what


def test_names_of_files_and_folders_say_what_has_words():
    told = {
        "Italy 2019/luna_03.jpg": "Italy luna",
        "IMG_1234.JPG": "",
        "DCIM/DSC00017.jpg": "",
        "1000268201_693b08cb0e.jpg": "",
        "Gro\u00dfmutter/f\u00eate.png": "Gro\u00dfmutter f\u00eate",
    }
    for source, words in told.items():
        assert told_of(AlbumPhoto(id="a", source=source)) == words
    known = words_known(AlbumPhoto(id="a", source="Italy 2019/luna_03.jpg", taken="2019-07-31"))
    assert {"italy", "2019", "luna", "july", "31", "2019-07-31"} <= known
    assert "1234" in words_known(AlbumPhoto(id="a", source="IMG_1234.jpg"))
    photos = [AlbumPhoto(id=name, source=name) for name in told]
    assert found(finder_of(photos), "photos of Luna in Italy")[0] == "Italy 2019/luna_03.jpg"
    assert found(finder_of(photos), "IMG_1234")[0] == "IMG_1234.JPG"


def test_photos_of_one_name_are_told_apart_by_what_they_show():
    images = [Image.new("RGB", (3, 3), colour) for colour in COLOURS.values()]
    rows = Conse(look, list(COLOURS), texts)(images)
    photos = [AlbumPhoto(id=name, source="holiday/IMG_7.jpg") for name in COLOURS]
    finder = Finder(Album(photos, rows, texts_ME=told_vectors(photos, texts, width=WIDTH)), texts)
    for name in COLOURS:
        assert found(finder, f"holiday {name}")[0] == name


def jpeg(exif) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (4, 4)).save(data, format="JPEG", exif=exif)
    return data.getvalue()


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        ("2024:07:31 10:20:30", "2024-07-31T10:20:30"),
        ("2024:07:31", "2024-07-31"),
        ("2024:07:31 99:20:30", "2024-07-31"),
        ("2024:13:31 10:20:30", ""),
        ("0000:00:00 00:00:00", ""),
        ("\x1b[31m yesterday", ""),
    ],
)
def test_the_time_is_that_of_exif_if_it_is_one(told, taken):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = told
    assert taken_at(exif_of(jpeg(exif), name="a.jpg")) == taken
    broken = exif_of(jpeg(b"Exif\0\0 no such thing"), name="b.jpg")
    assert (taken_at(broken), degrees_in(broken)) == ("", None)
    assert not exif_of(b"no photo", name="c.jpg")


@pytest.mark.parametrize(
    ("gps", "place"),
    [
        ({1: "N", 2: (38.0, 43.0, 0.0), 3: "W", 4: (9.0, 8.0, 0.0)}, "Lisbon, Portugal"),
        ({1: "S", 2: (33.0, 52.0, 0.0), 3: "E", 4: (151.0, 12.0, 0.0)}, "Sydney, Australia"),
        ({1: "N", 2: (0.0, 0.0, 0.0), 3: "W", 4: (30.0, 0.0, 0.0)}, ""),  # the ocean
        ({1: "N", 2: (99.0, 0.0, 0.0), 3: "W", 4: (30.0, 0.0, 0.0)}, ""),
        ({1: "N", 2: "nowhere"}, ""),
    ],
)
def test_the_place_is_the_nearest_city_and_its_country(gps, place):
    exif = Image.Exif()
    exif.get_ifd(0x8825).update(gps)
    degrees = degrees_in(exif)
    assert (Places().nearest(*degrees) if degrees else "") == place
    assert Places().nearest(float("nan"), 0.0) == ""


def test_a_folder_brings_captions_times_and_places_and_its_owner_may_leave_them(
    tmp_path, monkeypatch
):
    exif = Image.Exif()
    exif[0x0132] = "2024:07:31 10:20:30"
    exif.get_ifd(0x8825).update({1: "N", 2: (38.0, 43.0, 0.0), 3: "W", 4: (9.0, 8.0, 0.0)})
    (tmp_path / "in").mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"in/{name}.jpg", exif=exif)
    line = {"file": "red.jpg", "captions": ["Luna \x1b[2J\u202e asleep", "another"]}
    captions = tmp_path / "in/captions.jsonl"
    captions.write_text(json.dumps(line) + "\n")
    settings = {"embed": Conse(look, list(COLOURS), texts), "width": WIDTH, "made_by": "stub"}

    def add(into, **more):
        return add_photos(tmp_path / "in", into=into, texts=texts, **settings, **more).album

    add(tmp_path / "album")
    album = Album.load(tmp_path / "album")
    by_name = {photo.source: photo for photo in album.photos}
    assert by_name["red.jpg"].caption == line["captions"][0]
    assert {photo.taken for photo in album.photos} == {"2024-07-31T10:20:30"}
    assert {photo.place for photo in album.photos} == {"Lisbon, Portugal"}
    assert len(Finder(album, texts).find("Lisbon", top_k=9)) == 3
    assert album.texts_ME.norm(dim=1).tolist() == pytest.approx([1.0] * 3)
    (first, *_) = Finder(album, texts).find("is Luna asleep?", top_k=3)
    assert first.photo == by_name["red.jpg"]
    assert len(Finder(album, texts).find("july 2024", top_k=9)) == 3
    dateless = add(tmp_path / "dateless", days=False, places=False)
    assert {(photo.taken, photo.place) for photo in dateless.photos} == {("", "")}
    told = (tmp_path / "dateless/album.sqlite").read_bytes()
    assert b"2024" not in told and b"Lisbon" not in told
    monkeypatch.setitem(sys.modules, "reverse_geocode", None)
    kept = add_photos(tmp_path / "in", into=tmp_path / "placeless", texts=texts, **settings)
    assert kept.unplaced == 3 and "showtell[places]" in str(kept.no_places)
    assert {photo.place for photo in kept.album.photos} == {""}
    captions.write_text(captions.read_text() + "{no json\n")
    with pytest.raises(DataError, match="captions.jsonl"):
        add(tmp_path / "broken")
    assert len(add(tmp_path / "broken", skip_bad=True)) == 3


# ------------------------------------------------------------------------------------------ ConSE


def test_conse_is_the_mean_of_the_likely_names_less_that_of_all(monkeypatch):
    monkeypatch.setattr("showtell.album.conse.NUM_CLASSES", 2)
    images = [Image.new("RGB", (3, 3), colour) for colour in COLOURS.values()]
    images.append(Image.new("RGB", (3, 3), (90, 80, 10)))
    names = [row / row.norm() for row in texts([PHRASE.format(name) for name in COLOURS])]
    mean = sum(names) / len(names)
    for vector, logits in zip(Conse(look, list(COLOURS), texts)(images), look(images), strict=True):
        chances = (logits / TEMPERATURE).softmax(0)
        best = sorted(range(3), key=lambda c: -chances[c])[:2]
        want = sum(chances[c] * (names[c] - mean) for c in best) / sum(chances[c] for c in best)
        torch.testing.assert_close(vector, want, atol=1e-5, rtol=1e-4)


def test_words_find_what_a_photo_shows_though_nothing_is_told_of_it():
    images = [Image.new("RGB", (3, 3), colour) for colour in COLOURS.values()]
    rows = Conse(look, list(COLOURS), texts)(images)
    finder = Finder(Album([AlbumPhoto(id=name) for name in COLOURS], rows), texts)
    for name in COLOURS:
        assert found(finder, f"something {name}", cut_off=0.0)[0] == name
