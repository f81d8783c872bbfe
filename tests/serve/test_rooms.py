"""Whose is what: talks and photos of one key are not there for another; who may ask at all."""

from __future__ import annotations

import io
import json
import socket
import sqlite3
import threading
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from live import live, said, streamed, with_album
from PIL import Image

from conftest import responder_of
from keyword_model import KeywordModel
from showtell.data.photos import load_photo
from showtell.data.sources import open_data
from showtell.dialogue import Photo
from showtell.errors import DataError, UsageError
from showtell.models.reply import Dial, Shared
from showtell.serve.keys import Keys, Pace
from showtell.serve.worker import MAX_ALONE

ANA, BEN = "key-of-ana-0123456789", "key-of-ben-0123456789"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with live(tmp_path_factory.mktemp("rooms"), keys=Keys([ANA, BEN])) as client:
        yield client


def as_(key: str) -> dict:
    return {"headers": {"Authorization": f"Bearer {key}"}}


def test_a_talk_is_kept_read_gone_on_with_and_deleted(tmp_path):
    with live(tmp_path) as client:
        first = said(client, "Please send a photo", conversation="new")["showtell"]
        name = first["conversation"]
        said(client, "Nice day", conversation=name)
        talk = client.get(f"/v1/conversations/{name}").json()
        assert [turn["speaker"] for turn in talk["turns"]] == ["user", "agent", "agent"] + [
            "user",
            "agent",
        ]
        assert talk["title"] == "Please send a photo" and talk["pending"] is None
        photo = talk["turns"][2]["elements"][0]
        assert photo["caption"] == "a <red> square" and talk["turns"][2]["decision"]["share"]
        file = client.get(photo["url"])
        assert file.status_code == 200 and file.content.startswith(b"\x89PNG")
        assert b"trainedAlgorithmicMedia" in file.content
    with live(tmp_path) as client:  # another process, later
        assert [each["id"] for each in client.get("/v1/conversations").json()["data"]] == [name]
        said(client, "Again a photo, please", conversation=name)
        assert len(client.get(f"/v1/conversations/{name}").json()["turns"]) == 8
        assert client.delete(f"/v1/conversations/{name}").json()["deleted"]
        for gone in (f"/v1/conversations/{name}", photo["url"]):
            assert client.get(gone).status_code == 404
        assert client.get("/v1/conversations").json()["data"] == []
    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"Nice day" not in left and b"red> square" not in left


def test_a_talk_is_taken_along_renamed_and_its_photos_voted_for(tmp_path):
    with live(tmp_path) as client:
        told = said(client, "Please send a photo", conversation="new")["showtell"]
        name, photo = told["conversation"], told["photos"][0]["id"]
        path = f"/v1/conversations/{name}"
        packed = zipfile.ZipFile(io.BytesIO(client.get(f"{path}/export").content))
        packed.extractall(tmp_path / "taken")
        (dialogue,) = open_data(f"showtell:{tmp_path / 'taken'}")
        (shared,) = dialogue.photos
        assert shared.caption == "a <red> square" and load_photo(shared.path).size == (64, 64)
        page = client.get(f"{path}/export", params={"form": "html"}).text
        assert "a &lt;red&gt; square" in page and "<red>" not in page and "data:image" in page
        assert client.patch(path, json={"title": "Squares"}).status_code == 200
        vote = {"conversation": name, "photo": photo, "vote": "up"}
        assert client.post("/v1/feedback", json=vote).status_code == 200
        assert client.post("/v1/feedback", json={**vote, "photo": "none"}).status_code == 404
        talk = client.get(path).json()
        assert talk["title"] == "Squares" and talk["votes"] == {photo: 1}
        assert json.loads(client.get("/v1/feedback").text)["vote"] == 1
        client.post("/v1/feedback", json={**vote, "vote": "none"})
        assert client.get("/v1/feedback").text == ""


def test_a_photo_of_words_goes_into_the_talk(tmp_path):
    agents = {"k": KeywordModel(), "album": WithAlbum()}
    with live(tmp_path, agents=agents) as client:
        name = said(client, "hello", conversation="new")["showtell"]["conversation"]
        ask = {"prompt": "a blue dog", "model": "album", "showtell": {"conversation": name}}
        (made,) = client.post("/v1/images/generations", json=ask).json()["data"]
        assert made["showtell"]["caption"] == "a blue dog" and made["b64_json"]
        last = client.get(f"/v1/conversations/{name}").json()["turns"][-1]
        assert last["elements"][0]["id"] == made["showtell"]["id"]
        (linked,) = client.post(
            "/v1/images/generations", json={**ask, "response_format": "url", "showtell": None}
        ).json()["data"]
        assert client.get(linked["url"]).headers["content-type"] == "image/png"
        refused = client.post("/v1/images/generations", json={"prompt": "x", "model": "k"})
        assert refused.status_code == 400 and "makes no photos" in refused.text
        none = client.post("/v1/images/generations", json={**ask, "prompt": "a giraffe"})
        assert (
            none.status_code == 400 and 'no photo of "a giraffe"' in none.json()["error"]["message"]
        )


def test_the_words_of_a_painted_photo_are_asked_about(tiny_end_to_end, tmp_path):
    agent = responder_of(tiny_end_to_end, share_threshold=1.1, max_turns=1)
    with live(tmp_path, agents={"tiny": agent, "k": KeywordModel()}) as client:
        talk = said(client, "hello", conversation="new")["showtell"]["conversation"]
        ask = {"prompt": "a red dog", "showtell": {"conversation": talk}}
        (made,) = client.post("/v1/images/generations", json=ask).json()["data"]
        words = client.get(f"/v1/photos/{made['showtell']['id']}/words").json()["words"]
        assert [each["word"] for each in words] == ["a", "red", "dog"]
        assert sum(each["share"] for each in words) == pytest.approx(1)
        assert client.get("/v1/photos/none/words").status_code == 404
        told = said(client, "a photo please", conversation="new", model="k")["showtell"]
        refused = client.get(f"/v1/photos/{told['photos'][0]['id']}/words")
        assert refused.status_code == 400 and "2408.08650" in refused.text


class WithAlbum(KeywordModel):
    """Whose photos come from one place, which has no giraffe."""

    @property
    def photos(self):
        return self

    def share(self, words, *, photo_id, **more):
        if "giraffe" in words:
            return Shared(instead="I have none.")
        photo = Photo(id="mine", caption=words, origin="album")
        return Shared(photo=photo, image=Image.new("RGB", (8, 8)))


def test_nobodys_key_is_let_in_and_anothers_things_are_not_there(client):
    body = {"messages": [{"role": "user", "content": "photo, please"}]}
    ours = {**body, "showtell": {"conversation": "new"}}
    assert client.post("/v1/chat/completions", json=body).status_code == 401
    assert client.get("/v1/conversations", **as_("guessed")).status_code == 401
    told = client.post("/v1/chat/completions", json=ours, **as_(ANA)).json()["showtell"]
    name, photo = told["conversation"], told["photos"][0]["url"]
    assert client.get(photo, **as_(ANA)).status_code == 200
    assert client.get("/v1/conversations", **as_(BEN)).json()["data"] == []
    for place in (photo, f"/v1/conversations/{name}"):
        assert client.get(place, **as_(BEN)).status_code == 404
    assert client.delete(f"/v1/conversations/{name}", **as_(BEN)).status_code == 404
    theirs = {**body, "showtell": {"conversation": name}}
    assert client.post("/v1/chat/completions", json=theirs, **as_(BEN)).status_code == 404
    assert client.get("/health").status_code == 200  # says nothing of anybody
    counts = client.get("/metrics").text
    assert 'showtell_answers_total{model="keyword"}' in counts and "photo, please" not in counts


@pytest.mark.parametrize("path", ["/p/..%2f..%2fetc%2fpasswd", "/p/guess", "/v1/photos/' OR 1=1"])
def test_no_photo_is_guessed(client, path):
    assert client.get(path, **as_(ANA)).status_code == 404


def test_pages_of_others_and_other_names_of_this_machine_are_refused(client):
    ask = {"json": {"messages": [{"role": "user", "content": "hi"}]}}
    key = as_(ANA)["headers"]
    evil = client.post("/v1/chat/completions", headers={**key, "Origin": "http://evil.test"}, **ask)
    assert evil.status_code == 403
    rebound = client.get("/v1/models", headers={**key, "Host": "evil.test"})
    assert rebound.status_code == 421 and "evil.test" in rebound.json()["error"]["message"]
    own = str(client.base_url).rstrip("/")
    assert client.get("/v1/models", headers={**key, "Origin": own}).status_code == 200
    headers = client.get("/health").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_a_body_that_is_too_large_is_refused_before_it_is_read(client):
    with socket.create_connection((client.base_url.host, client.base_url.port)) as line:
        line.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 999999999\r\n\r\n"
        )
        assert line.recv(1000).startswith(b"HTTP/1.1 413")
    body = (b" " * 1_000_000 for _ in range(40))  # of no length that is known beforehand
    answer = client.post("/v1/chat/completions", content=body, **as_(ANA))
    assert answer.status_code == 413


def test_keys_are_read_from_a_file_and_short_ones_refused(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# ours\n{ANA}\n\n{BEN}\n")
    keys = Keys.read(path)
    assert keys.owner(f"Bearer {ANA}") != keys.owner(f"bearer {BEN}") is not None
    assert keys.owner(ANA) is None and keys.owner(None) is None
    for text in ("", "short\n"):
        path.write_text(text)
        with pytest.raises(DataError, match="holds"):
            Keys.read(path)


def test_the_dial_is_ones_own_and_votes_move_it(client):
    asked = {"dial": "asked", "most": 2, "within": 5, "cost": 3.0}
    assert client.put("/v1/settings", json=asked, **as_(ANA)).json() == asked
    assert client.get("/v1/settings", **as_(ANA)).json() == asked
    assert client.get("/v1/settings", **as_(BEN)).json()["dial"] == "proactive"
    assert client.put("/v1/settings", json={"dial": "loud"}, **as_(ANA)).status_code == 400
    assert client.put("/v1/settings", json={"cost": 0}, **as_(ANA)).status_code == 400


def test_the_dial_that_the_server_was_started_with_is_for_who_has_set_none(tmp_path):
    with live(tmp_path, dial=Dial(kind="offer", most=1, cost=3.0)) as client:
        usual = {"dial": "offer", "most": 1, "within": 10, "cost": 3.0}
        assert client.get("/v1/settings").json() == usual
        client.put("/v1/settings", json={"dial": "asked"})
        assert client.get("/v1/settings").json() == usual | {"dial": "asked"}


def test_photos_of_talks_that_clients_keep_are_listed_voted_for_and_deleted(tmp_path):
    with live(tmp_path) as client:
        (photo,) = said(client, "Please send a photo")["showtell"]["photos"]
        assert client.get("/v1/conversations").json()["data"] == []
        (kept,) = client.get("/v1/conversations?elsewhere=true").json()["data"]
        found = client.get(f"/v1/conversations/{kept['id']}").json()
        assert found["photos"] == [photo["id"]] and found["turns"] == []
        vote = {"photo": photo["id"], "vote": "up"}
        told = client.post("/v1/feedback", json=vote).json()
        assert told["conversation"] == kept["id"]
        assert client.delete(f"/v1/conversations/{kept['id']}").json()["deleted"]
        assert client.get(photo["url"]).status_code == 404
        assert client.get("/v1/feedback").text == ""


def test_a_vote_is_for_a_photo_of_that_talk(tmp_path):
    with live(tmp_path) as client:
        (photo,) = said(client, "Please send a photo", conversation="new")["showtell"]["photos"]
        vote = {"photo": photo["id"], "vote": "up", "conversation": "made-up"}
        assert client.post("/v1/feedback", json=vote).status_code == 404


class Slow(KeywordModel):
    """Waits, at each word, for ``go``."""

    def respond(self, turns, *, tell, **more):
        def told(event):
            assert self.go.wait(10)
            tell(event)

        return super().respond(turns, tell=told, **more)


def test_a_talk_that_is_deleted_in_mid_answer_leaves_no_photo(tmp_path):
    agent = Slow()
    agent.go = threading.Event()
    with live(tmp_path, agents={"k": agent}) as client, ThreadPoolExecutor(1) as pool:
        body = {"messages": [{"role": "user", "content": "Please send a photo"}], "stream": True}
        body["showtell"] = {"conversation": "new"}
        told = pool.submit(streamed, client, body)
        while not (kept := client.get("/v1/conversations").json()["data"]):
            time.sleep(0.01)
        client.delete(f"/v1/conversations/{kept[0]['id']}")
        agent.go.set()
        *_, error, done = told.result(10)
        assert "deleted" in error["error"]["message"] and done == "[DONE]"
        files = sqlite3.connect(tmp_path / "showtell.db")
        for table in ("conversations", "photos", "fingerprints", "votes"):
            assert files.execute(f"select count(*) from {table}").fetchone() == (0,)
        files.close()


def test_a_crowd_that_wants_photos_is_told_to_come_again_and_keeps_nobody_else_waiting(
    tmp_path, monkeypatch
):
    go = threading.Event()

    def slow(*_, **__):
        assert go.wait(10)
        raise UsageError("none")

    monkeypatch.setattr("showtell.serve.service.photo_of", slow)
    with live(tmp_path) as client, ThreadPoolExecutor(60) as pool:
        address = str(client.base_url)

        def ask(_):
            with httpx2.Client(base_url=address, timeout=20) as own:
                answer = own.post("/v1/images/generations", json={"prompt": "a dog"})
                return answer.status_code, answer.headers.get("retry-after")

        told = [pool.submit(ask, each) for each in range(60)]
        while sum(each.done() for each in told) < 60 - MAX_ALONE:
            time.sleep(0.01)
        assert client.get("/v1/conversations", timeout=5).status_code == 200
        go.set()
        found = Counter(each.result(10)[0] for each in told)
        assert found == {429: 60 - MAX_ALONE, 400: MAX_ALONE}
        assert all(int(each.result()[1]) >= 1 for each in told if each.result()[0] == 429)


def test_one_key_gets_as_many_answers_as_its_pace_has(tmp_path):
    with live(tmp_path, keys=Keys([ANA, BEN]), pace=Pace("2/minute")) as client:
        body = {"messages": [{"role": "user", "content": "hello"}]}
        codes = [
            client.post("/v1/chat/completions", json=body, **as_(key)).status_code
            for key in (ANA, ANA, ANA, BEN)
        ]
        assert codes == [200, 200, 429, 200]
        refused = client.post("/v1/responses", json={"input": "hello"}, **as_(ANA))
        assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 60
        assert client.get("/v1/conversations", **as_(ANA)).status_code == 200
    for wrong in ("many", "0/minute", "3/fortnight"):
        with pytest.raises(UsageError, match="30/minute"):
            Pace(wrong)


def test_what_photos_do_not_follow_is_said(tmp_path):
    with live(tmp_path, agents={"k": WithAlbum()}) as client:
        asked = {"prompt": "my dog", "size": "1024x1024", "quality": "auto"}
        answer = client.post("/v1/images/generations", json=asked).json()
        (note,) = answer["showtell"]["notes"]
        assert note.startswith("size is not read") and answer["data"][0]["b64_json"]
        streamed = client.post("/v1/images/generations", json={**asked, "stream": True})
        assert streamed.status_code == 400 and "stream" in streamed.json()["error"]["message"]


def test_an_album_is_listed_searched_and_shown_without_metadata(tmp_path):
    with live(tmp_path, agents={"k": with_album(tmp_path)}) as client:
        (listed,) = client.get("/v1/album").json()["data"]
        assert listed["caption"] == "a dog" and listed["score"] is None
        (found,) = client.get("/v1/album", params={"query": "my dog"}).json()["data"]
        assert found["score"] == 1.5
        file = client.get(found["url"])
        assert Image.open(io.BytesIO(file.content)).size[0] == 720
        assert client.get("/v1/album", params={"query": "giraffe"}).json()["data"] == []
        assert client.get("/v1/album/none").status_code == 404
    with live(tmp_path) as client:
        assert client.get("/v1/album").json()["album"] is False
        assert client.get("/v1/models").json()["data"][0]["showtell"]["album"] is False
