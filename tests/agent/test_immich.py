"""A library of immich's in an album's place, against a server that does as immich does."""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from PIL import Image

from showtell.agent import album_words
from showtell.agent.which import PhotosOfImmich, Which
from showtell.album.find import CUT_OFF, AlbumEncoder
from showtell.album.immich import Immich, ImmichFinder
from showtell.album.told import words_of
from showtell.cli import main
from showtell.errors import EngineError, UsageError
from showtell.models.reply import Wish
from word_vectors import word_vectors

KEY, WIDTH = "read-only", 64
COLOURS = {"red": (250, 5, 5), "green": (5, 250, 5), "blue": (5, 5, 250), "grey": (90, 90, 90)}
LUNA, OTHER_LUNA, ANNA, HIDDEN = (f"{n:08}-0000-4000-8000-000000000000" for n in range(1, 5))


def asset(number: int, colour: str, people=(), **told) -> dict:
    """As a search tells it; colour and people are the server's own."""
    return {
        "id": f"{number:08}-aaaa-4000-8000-000000000000",
        "type": "IMAGE",
        "visibility": "timeline",
        "originalFileName": f"IMG_{number}.jpg",
        "localDateTime": "2024-07-31T10:20:30.000Z",
        "isTrashed": False,
        "exifInfo": {"city": "Lisbon", "country": "Portugal", "description": ""},
        "colour": colour,
        "of": people,
        **told,
    }


class Library(ThreadingHTTPServer):
    """Finds something for anything, and tells no score; keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.asked: list[tuple[str, str, dict]] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.assets = [asset(n, "grey") for n in range(30)]
        self.assets += [asset(100, "red", [LUNA]), asset(101, "green", [OTHER_LUNA])]
        self.assets += [asset(102, "blue", [ANNA]), asset(103, "blue")]
        self.people = [(LUNA, "Luna"), (OTHER_LUNA, "Luna"), (ANNA, "Anna Maria"), (HIDDEN, "")]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Asked(BaseHTTPRequestHandler):
    server: Library

    def log_message(self, *args) -> None:
        pass

    def _answer(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        path, _, _ = self.path.partition("?")
        self.server.asked.append((self.command, path, body))
        status, data = self.server.answers.get(path) or self._said(path, body)
        if self.headers.get("x-api-key") != KEY:
            status, data = 401, b"{}"
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _answer

    def _said(self, path: str, body: dict) -> tuple[int, bytes]:
        seen = self.server.assets
        if path == "/api/search/smart":
            wanted = words_of(body["query"])
            near = sorted(seen, key=lambda a: a["colour"] not in wanted)
            near = [a for a in near if {*body.get("personIds", ())} <= {*a["of"]}]
            said = {"assets": {"items": near[: body["size"]], "nextPage": None}}
        elif path == "/api/search/random":
            said = seen[: body["size"]]
        elif path == "/api/people":
            people = [{"id": id, "name": name} for id, name in self.server.people]
            second = "page=2" in self.path
            said = {"people": people[2:] if second else people[:2], "hasNextPage": not second}
        else:
            (own,) = (a for a in seen if a["id"] == path.split("/")[3])
            data = io.BytesIO()
            colour = COLOURS.get(own["colour"])
            if colour is None:
                return 200, b"<svg/>"
            Image.new("RGB", (2000, 30), colour).save(data, format="JPEG")
            return 200, data.getvalue()
        return 200, json.dumps(said).encode()


def texts(given) -> torch.Tensor:
    return word_vectors(given, width=WIDTH)


def looks(images) -> torch.Tensor:
    """The vectors of the names of colours, as far as a photo has them."""
    shares = torch.tensor([image.getpixel((0, 0)) for image in images]).float() / 250
    return shares @ texts(["red", "green", "blue"]) + 0.01


ENCODER = AlbumEncoder(name="colours", width=WIDTH, texts=texts, photos=looks, cut_off=CUT_OFF)


@pytest.fixture
def library():
    server = Library()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def photos(library):
    return PhotosOfImmich(ImmichFinder(Immich(library.address + "/api/", KEY), ENCODER))


def shared(photos, words, shown=()):
    notes: list[str] = []
    how = {"wish": Wish(share=True, words=words), "photo_id": "p", "seed": 0, "notes": notes}
    return Which(album=photos).share(words, shown=shown, **how), notes


def test_what_the_library_has_is_shared_and_what_it_lacks_is_not(library, photos):
    found, _ = shared(photos, "something red")
    assert found.photo.origin == "album" and found.photo.id == library.assets[30]["id"]
    assert found.image.size[0] == 1024 and found.image.getpixel((5, 5))[0] > 240
    for words in ("a giraffe", "quarterly tax figures"):  # immich has a nearest for anything
        found, _ = shared(photos, words)
        assert found.photo is None and found.instead == "I have no such photo."
    other, _ = shared(photos, "something red", shown=[library.assets[30]["id"]])
    assert other.photo is None or other.photo.id != library.assets[30]["id"]
    asked = [(verb, path) for verb, path, _ in library.asked]
    assert {path for verb, path in asked if verb == "POST"} == {
        "/api/search/smart",
        "/api/search/random",
    }
    previews = [path for _, path in asked if "thumbnail" in path]
    assert len(previews) == len(set(previews)) == 34  # each once
    smart = next(body for _, path, body in library.asked if path.endswith("smart"))
    assert (smart["size"], smart["type"], smart["visibility"]) == (20, "IMAGE", "timeline")


def test_people_are_known_by_their_names(library, photos):
    def ids(text, **how):
        hits = photos.finder.find(text, top_k=9, **how)
        return {library_of[hit.photo.id] for hit in hits}

    library_of = {each["id"]: each["colour"] for each in library.assets}
    assert ids("Luna") == {"red", "green"}  # two have that name
    assert ids("Anna Maria") == ids("a photo of Anna") == {"blue"}
    (hit,) = photos.finder.find("Anna", top_k=9)
    assert hit.photo.caption == "Anna Maria"
    assert ids("Luna and Anna Maria", cut_off=-99.0) == set()  # no photo has both
    assert "grey" in ids("Bruno", cut_off=-99.0)  # nobody of that name: all are asked
    people = [body["personIds"] for *_, body in library.asked if "personIds" in body]
    assert [LUNA] in people and [OTHER_LUNA] in people and [LUNA, ANNA] in people
    asked = sum(path == "/api/people" for _, path, _ in library.asked)
    assert asked == 2  # two pages, once


def test_what_is_not_to_be_seen_or_is_no_photo_is_passed_over(library, photos):
    bad = [
        asset(200, "red", visibility="locked"),
        asset(201, "red", visibility="archive"),
        asset(202, "red", isTrashed=True),
        asset(203, "red", type="VIDEO"),
        asset(204, "red", id="../../people"),
        asset(205, "svg"),
        asset(206, "red", id=7),
        "nonsense",
    ]
    library.assets = [*bad, *library.assets]

    library.answers["/api/search/smart"] = (
        200,
        json.dumps({"assets": {"items": library.assets[:20]}}).encode(),
    )
    library.assets = [a for a in library.assets if isinstance(a, dict)]
    hits = photos.finder.find("red", top_k=99, cut_off=-99.0)
    assert {int(hit.photo.id[:8]) for hit in hits} == {*range(30), *range(100, 104)}


@pytest.mark.parametrize(
    ("path", "answer", "says"),
    [
        ("/api/search/smart", (500, b""), "answered 500 to /search/smart"),
        ("/api/search/smart", (200, b"<html>"), "not JSON; is it immich"),
        ("/api/people", (403, b"{}"), "answered 403; the key"),
        ("/api/search/random", (302, b""), "answered 302"),
    ],
)
def test_a_library_that_does_not_answer_ends_no_talk(library, photos, path, answer, says):
    library.answers[path] = answer
    with pytest.raises(EngineError, match=says):
        photos.finder.find("red", top_k=1)
    found, notes = shared(photos, "something red")
    assert found.photo is None and says in notes[0] and notes[0].startswith("the album was not")
    assert Which(album=photos).look_up("something red", wish=Wish(), shown=()) is None
    for odd in (b"[]", b"{}", b'{"assets": 7}', b'{"assets": {"items": 7}}', b"null"):
        library.answers[path] = (200, odd)
        assert photos.finder.find("zebra", top_k=1) == []


def test_a_library_is_named_as_an_album_is(library, monkeypatch, capsys):
    name = f"immich:{library.address}"
    monkeypatch.delenv("IMMICH_API_KEY", raising=False)
    with pytest.raises(UsageError, match="IMMICH_API_KEY is not set"):
        album_words.open_photos(name)
    monkeypatch.setenv("IMMICH_API_KEY", "wrong")
    with pytest.raises(EngineError, match="answered 401"):
        album_words.open_photos(name)
    monkeypatch.setenv("IMMICH_API_KEY", KEY)
    with pytest.raises(UsageError, match="wanted immich:http"):
        album_words.open_photos("immich:photos.home")
    monkeypatch.setattr(album_words, "load_encoder", lambda name, told=None: ENCODER)
    assert main(["album", "search", "something red", "--album", name, "--json"]) == 0
    found, *_ = json.loads(capsys.readouterr().out)["photos"]
    assert found["source"] == "IMG_100.jpg" and found["path"] is None
    assert main(["album", "search", "a giraffe", "--album", name]) == 0
    assert "No such photo" in capsys.readouterr().out
    assert not list(Path().glob("immich*"))
