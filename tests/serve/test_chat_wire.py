"""Chat completions: what goes in, what comes out, in every dialect; clients as they are."""

from __future__ import annotations

import base64
import io
import json
import threading
import time

import httpx2
import openai
import pytest
from live import live, said, streamed
from PIL import Image

from keyword_model import KeywordModel
from showtell.models.reply import PhotoDue
from showtell.serve.wire import fingerprint

ASK = {"messages": [{"role": "user", "content": "Please send me a photo!"}]}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with live(tmp_path_factory.mktemp("serve")) as client:
        yield client


def data_uri(color=(0, 200, 0)) -> str:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def pixels(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_U5_without_a_stream_the_text_is_readable_and_the_photo_beside_it(client):
    answer = said(client, "Please send me a photo!")
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == "Sure, here you go!"
    assert choice["finish_reason"] == "stop" and "base64" not in choice["message"]["content"]
    (image,) = choice["message"]["images"]
    assert pixels(image["image_url"]["url"]).size == (64, 64) and image["index"] == 0
    (photo,) = answer["showtell"]["photos"]
    assert photo["origin"] == "painted" and photo["alt"] == "a <red> square"
    assert [each["share"] for each in answer["showtell"]["decisions"]] == [False, True]
    assert answer["usage"]["images"] == 1


def test_parts_and_markdown_are_asked_for(client):
    parts = said(client, "Send a photo", image_output="parts")["choices"][0]["message"]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url"]
    message = said(client, "Send a photo", image_output="markdown")["choices"][0]["message"]
    assert "![a red square](http://127.0.0.1" in message["content"]
    assert "base64" not in message["content"] and "images" not in message
    link = message["content"].split("](")[1].rstrip(")")
    assert client.get(link).headers["content-type"] == "image/png"


def test_U14_a_stream_tells_words_a_card_previews_and_the_photo_before_the_end(client):
    body = {**ASK, "showtell": {"conversation": "new", "previews": True}}
    *chunks, done = streamed(client, {**body, "stream_options": {"include_usage": True}})
    assert done == "[DONE]" and chunks[-1]["choices"] == [] and chunks[-1]["usage"]["images"] == 1
    kinds = []
    for chunk in chunks[:-1]:
        (choice,) = chunk["choices"]
        event = chunk.get("showtell", {}).get("event")
        kinds.append(event or ("text" if choice["delta"].get("content") else "?"))
    assert kinds[0] == "text" and "?" not in kinds
    order = [kinds.index(each) for each in ("text", "preview", "photo", "end")]
    assert order == sorted(order) and kinds.count("photo") == 1 and kinds[-1] == "end"
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]]
    assert finishes == [None] * (len(finishes) - 1) + ["stop"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"


def test_U3_open_webui_shows_the_photo_of_a_stream(client):
    """Its parser's rules, as of 0.12.4: delta.images are files, delta.content must be a string."""
    text, files = "", []
    for chunk in streamed(client, ASK)[:-1]:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            files += [each["image_url"]["url"] for each in delta.get("images", ())]
            content = delta.get("content")
            assert content is None or isinstance(content, str)
            text += content or ""
    assert text == "Sure, here you go!" and len(files) == 1 and pixels(files[0]).size == (64, 64)


def test_the_openai_client_reads_answers_streams_and_errors(client):
    base = str(client.base_url.join("/v1"))
    with openai.OpenAI(base_url=base, api_key="none", max_retries=0) as api:
        assert [model.id for model in api.models.list()] == ["keyword"]
        answer = api.chat.completions.create(model="keyword", messages=ASK["messages"])
        assert answer.choices[0].message.content == "Sure, here you go!"
        assert len(answer.choices[0].message.model_extra["images"]) == 1
        with api.chat.completions.stream(model="keyword", messages=ASK["messages"]) as stream:
            final = stream.get_final_completion()
        assert final.choices[0].message.content == "Sure, here you go!"
        with pytest.raises(openai.NotFoundError, match='no model "nobody"'):
            api.chat.completions.create(model="nobody", messages=ASK["messages"])
        with pytest.raises(openai.BadRequestError, match="messages"):
            api.chat.completions.create(model="keyword", messages=[])


def test_photos_go_in_in_every_shape_and_none_is_dropped(tmp_path):
    agent = KeywordModel()
    uri = data_uri()
    shapes = [
        {"type": "image_url", "image_url": {"url": uri}},
        {"type": "image_url", "image_url": uri},
        {"type": "input_image", "image_url": uri},
        {"type": "image", "data": uri.split(",")[1]},
        {"type": "image", "source": {"type": "base64", "data": uri.split(",")[1]}},
    ]
    with live(tmp_path, agents={"k": agent}) as client:
        content = [{"type": "text", "text": "look"}, *shapes]
        body = {"messages": [{"role": "user", "content": content}]}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        shown = agent.requests[-1]["images"]
        assert len(shown) == 5 and {i.getpixel((0, 0)) for i in shown.values()} == {(0, 200, 0)}
        alone = {"messages": [{"role": "user", "content": shapes[:1]}]}
        assert client.post("/v1/chat/completions", json=alone).status_code == 200
        strange = {"type": "input_audio", "input_audio": {}}
        body["messages"][0]["content"] = [strange]
        refused = client.post("/v1/chat/completions", json=body)
        assert refused.status_code == 400 and "input_audio" in refused.json()["error"]["message"]


def test_U14_a_slow_client_gets_the_photo_before_the_end_and_usage_after_it(client):
    body = {**ASK, "stream": True, "stream_options": {"include_usage": True}}
    told = []
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            time.sleep(0.02)
            told += [line[6:]] if line.startswith("data: ") else []
    *chunks, done = told
    chunks = [json.loads(chunk) for chunk in chunks]
    photo = next(
        n for n, c in enumerate(chunks) if c["choices"] and "images" in c["choices"][0]["delta"]
    )
    ends = next(
        n for n, c in enumerate(chunks) if c["choices"] and c["choices"][0]["finish_reason"]
    )
    usage = next(n for n, c in enumerate(chunks) if c.get("usage"))
    assert done == "[DONE]" and photo < ends < usage == len(chunks) - 1


def test_U15_a_client_that_sends_back_text_alone_finds_its_photo_again(tmp_path):
    agent = KeywordModel()
    with live(tmp_path, agents={"k": agent}) as client:
        first = said(client, "Please send me a photo!")
        text = first["choices"][0]["message"]["content"]
        messages = [*ASK["messages"], {"role": "assistant", "content": f"  {text.upper()} "}]
        messages.append({"role": "user", "content": "now darker"})
        client.post("/v1/chat/completions", json={"messages": messages})
        asked = agent.requests[-1]
        (photo,) = (photo for turn in asked["turns"] for photo in turn.photos)
        assert photo.origin == "painted" and photo.caption == "a <red> square"
        assert asked["images"][photo.id].size == (64, 64)
        other = [*ASK["messages"], {"role": "assistant", "content": "What I never said"}]
        client.post("/v1/chat/completions", json={"messages": [*other, messages[-1]]})
        assert not agent.requests[-1]["images"]
    assert fingerprint("Hi  ![a](http://x/y) there") == fingerprint("hi there")


def test_what_is_not_read_is_a_note(client):
    messages = [{"role": "system", "content": "You are a pirate."}, *ASK["messages"]]
    answer = client.post("/v1/chat/completions", json={"messages": messages}).json()
    assert "what the system says is not read by this agent" in answer["showtell"]["notes"]


def test_what_nobody_reads_of_a_request_is_noted(client):
    asked = {"messages": [{"role": "user", "content": "hi"}], "tools": [], "temperature": 0.2}
    notes = client.post("/v1/chat/completions", json=asked).json()["showtell"]["notes"]
    assert "temperature is not read by this agent" in notes and "tools is not read" in notes[0]
    several = client.post("/v1/chat/completions", json={**asked, "n": 3})
    assert several.status_code == 400 and several.json()["error"]["message"].startswith("n: ")
    broken = client.post("/v1/chat/completions", content=b"not json")
    assert broken.json()["error"]["message"].startswith("the body: ")
    assert client.get("/v1/models/keyword").json()["id"] == "keyword"
    assert client.get("/v1/models/none").status_code == 404


class Endless(KeywordModel):
    """Talks until nobody listens."""

    def respond(self, turns, *, images, seed, tell, dial):
        from showtell.models.reply import Decision, Words

        try:
            tell(PhotoDue(id="painted", decision=Decision(share=True)))
            while True:
                tell(Words(text="on and "))
                self.pause.wait(0.005)
        finally:
            self.ended.set()

    def __init__(self):
        super().__init__()
        self.ended, self.pause = threading.Event(), threading.Event()


def test_a_client_that_goes_away_stops_the_answer_and_what_was_said_is_kept(tmp_path):
    agent = Endless()
    with live(tmp_path, agents={"k": agent}) as client:
        body = {**ASK, "stream": True, "showtell": {"conversation": "new"}}
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            while '"content"' not in next(lines):
                pass
        assert agent.ended.wait(5)
        for _ in range(200):
            (kept,) = client.get("/v1/conversations").json()["data"]
            talk = client.get(f"/v1/conversations/{kept['id']}").json()
            if talk["pending"] is None:
                break
            agent.pause.wait(0.02)
        user, agents = talk["turns"]
        assert user["elements"][0]["text"] == ASK["messages"][0]["content"]
        assert agents["elements"][0]["text"].startswith("on and")


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
def test_a_client_that_goes_away_stops_an_answer_that_is_not_streamed(tmp_path, path):
    agent = Endless()
    with live(tmp_path, agents={"k": agent}) as client:
        body = {**ASK, "input": "hello"}
        with pytest.raises(httpx2.ReadTimeout):
            client.post(f"/v1/{path}", json=body, timeout=0.3)
        assert agent.ended.wait(5)


def test_a_photo_that_a_client_sends_back_is_painted_only_if_its_file_says_so(tmp_path):
    agent = KeywordModel()
    with live(tmp_path, agents={"k": agent}) as client:
        ours = said(client, "Please send me a photo!")["choices"][0]["message"]["images"][0]
        plain = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(plain, format="PNG")
        uri = f"data:image/png;base64,{base64.b64encode(plain.getvalue()).decode()}"
        found = {"type": "image_url", "image_url": {"url": uri}}
        answer = {"role": "assistant", "content": "Here!", "images": [ours, found]}
        messages = [*ASK["messages"], answer, {"role": "user", "content": "thanks"}]
        assert client.post("/v1/chat/completions", json={"messages": messages}).status_code == 200
        photos = [photo for turn in agent.requests[-1]["turns"] for photo in turn.photos]
        assert [photo.origin for photo in photos] == ["painted", "album"]


def test_too_many_are_told_when_to_come_again(tmp_path):
    agent = Endless()
    with live(tmp_path, agents={"k": agent}, max_waiting=0) as client:
        answer = client.post("/v1/chat/completions", json=ASK)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "invalid_request_error"
