"""Albums of keys: photos come, are found, are shown to nobody else, and go to the last byte."""

from __future__ import annotations

import io
from contextlib import contextmanager

import pytest
from live import COLOURS, album_of_colours, live
from PIL import Image

from keyword_model import KeywordModel
from showtell.agent.which import Which
from showtell.album.ingest import add_photos
from showtell.serve.albums import Albums
from showtell.serve.keys import Keys

ONE, OTHER = "a-key-that-nobody-guesses", "another-key-that-is-as-good"


def photo(colour, *, form="JPEG", size=(40, 30), **settings) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, format=form, **settings)
    return data.getvalue()


@pytest.fixture
def servers(tmp_path):
    """The server's own album: one green photo."""
    return album_of_colours(tmp_path, {"leaf.jpg": photo("green")})


@contextmanager
def serving(tmp_path, servers, *keys, **more):
    agent = KeywordModel()
    agent.photos = Which(album=servers)
    with live(tmp_path, agents={"k": agent}, keys=Keys(keys), **more) as client:
        yield client


def by(key):
    return {"Authorization": f"Bearer {key}"}


def ids(client, key, **query):
    answer = client.get("/v1/album", params=query, headers=by(key)).json()
    return [told["id"] for told in answer["data"]]


def added(client, key, data, **query):
    answer = client.post("/v1/album", content=data, params=query, headers=by(key))
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_photos_of_one_key_are_not_there_for_another(tmp_path, servers):
    with serving(tmp_path, servers, ONE, OTHER) as client:
        assert ids(client, ONE) == ids(client, OTHER) == []  # the server's are not for all
        red = added(client, ONE, photo("red"), name="IMG_1.jpg", caption="my  red kite")
        assert red["new"] and red["caption"] == "my red kite" and red["own"]
        assert not added(client, ONE, photo("red"))["new"]  # the same once more
        blue = added(client, OTHER, photo("blue"), caption="a blue kite")
        assert ids(client, ONE) == [red["id"]] and ids(client, OTHER) == [blue["id"]]
        assert ids(client, ONE, query="kite") == [red["id"]]
        assert client.get(red["url"], headers=by(ONE)).status_code == 200
        for verb in (client.get, client.delete):
            assert verb(red["url"], headers=by(OTHER)).status_code == 404
        assert client.get(red["url"]).status_code == 401
        # what the agent shares is of who asks
        for key, wanted, fits in ((ONE, "red", True), (OTHER, "red", False), (OTHER, "blue", True)):
            asked = {"prompt": f"my {wanted} kite"}
            answer = client.post("/v1/images/generations", json=asked, headers=by(key))
            assert (answer.status_code == 200) == fits, (key, wanted, answer.text)
        assert client.delete(red["url"], headers=by(ONE)).json()["deleted"]
        assert ids(client, ONE) == [] and ids(client, OTHER) == [blue["id"]]
        assert client.get(red["url"], headers=by(ONE)).status_code == 404
        assert client.delete(red["url"], headers=by(ONE)).status_code == 404
    files = [path for path in (tmp_path / "albums").rglob("*") if path.is_file()]
    left = b"".join(path.read_bytes() for path in files)
    assert not [word for word in ("red kite", red["id"], "IMG_1") if word.encode() in left]
    assert ONE.encode() not in left and ONE not in "".join(map(str, files))
    with serving(tmp_path, servers, ONE, OTHER) as client:  # it stays
        assert ids(client, OTHER) == [blue["id"]]


@pytest.mark.parametrize(("keys", "share"), [((), False), ((ONE,), True)])
def test_the_servers_album_is_seen_at_home_or_where_it_is_for_all(tmp_path, servers, keys, share):
    (leaf,) = servers.photos
    with serving(tmp_path, servers, *keys, share_album=share) as client:
        red = added(client, ONE, photo("red"))
        assert ids(client, ONE) == [red["id"], leaf.id]
        assert ids(client, ONE, query="green") == [leaf.id]
        answer = client.delete(f"/v1/album/{leaf.id}", headers=by(ONE))
        assert answer.status_code == 400 and "showtell album remove" in answer.text
        asked = {"prompt": "something green"}
        assert client.post("/v1/images/generations", json=asked, headers=by(ONE)).status_code == 200
        twin = added(client, ONE, photo("green"))  # found once, though it is in both
        assert twin["id"] == leaf.id and ids(client, ONE, query="green") == [leaf.id]
    assert len(servers.finder.album) == 1


def test_what_is_no_photo_is_refused_and_what_is_kept_says_nothing(tmp_path, servers):
    exif = Image.Exif()
    exif[0x010F], exif[0x0132] = "SecretCamera", "2024:07:31 10:20:30"
    exif.get_ifd(0x8825).update({1: "N", 2: (38.0, 43.0, 0.0), 3: "W", 4: (9.0, 8.0, 0.0)})
    bad = {b"": "0 bytes", b"<svg xmlns='x'/>": "SVG", b"\xff\xd8\xff no": "not a photo"}
    with serving(tmp_path, servers) as client:
        for data, says in bad.items():
            answer = client.post("/v1/album", content=data)
            assert answer.status_code == 400 and says in answer.json()["error"]["message"]
        assert client.post("/v1/album", content=b"x", params={"name": "n" * 300}).status_code == 400
        assert not (tmp_path / "albums/local").exists()
        told = added(client, ONE, photo("red", exif=exif), name="../../up.jpg")
        shown = client.get(told["url"])
        assert shown.headers["cache-control"] == "private, no-store"
        assert b"SecretCamera" not in shown.content
        added(client, ONE, photo("blue", exif=exif), times=False, places=False)
    albums = Albums([], tmp_path / "albums")
    albums.servers = servers
    first, second = albums.of("local").albums[0].photos
    assert (first.taken, first.place) == ("2024-07-31T10:20:30", "Lisbon, Portugal")
    assert (second.taken, second.place) == ("", "")
    everything = [path for path in (tmp_path / "albums").rglob("*") if path.is_file()]
    assert not any(b"SecretCamera" in path.read_bytes() for path in everything)


def test_a_key_has_as_many_photos_as_it_may_and_without_an_album_nothing_is_added(
    tmp_path, servers, monkeypatch
):
    monkeypatch.setattr("showtell.serve.albums.MAX_PHOTOS", 1)
    with serving(tmp_path, servers) as client:
        added(client, ONE, photo("red"))
        answer = client.post("/v1/album", content=photo("blue"))
        assert answer.status_code == 400 and "remove some" in answer.text
    with live(tmp_path) as client:
        answer = client.post("/v1/album", content=photo("blue"))
        assert answer.status_code == 400 and "--album" in answer.text
        assert client.get("/v1/album").json() == {"album": False, "adds": False, "data": []}


def test_an_album_of_another_encoder_is_left_alone(tmp_path, servers):
    how = {"embed": COLOURS.photos, "width": 3, "made_by": "another"}
    add_photos(tmp_path / "in", into=tmp_path / "albums/local", **how)
    with serving(tmp_path, servers) as client:
        assert ids(client, ONE) == [servers.photos[0].id]  # the server's
        answer = client.post("/v1/album", content=photo("red"))
        assert answer.status_code == 400 and "another encoder" in answer.text
