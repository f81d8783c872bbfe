"""The service behind a real port, for the time of a test."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import torch
import uvicorn
from PIL import Image

from keyword_model import KeywordModel
from showtell.agent.which import PhotosInWords, Which
from showtell.album.find import AlbumEncoder, Finder
from showtell.album.index import Album, AlbumPhoto, Hit
from showtell.album.ingest import add_photos
from showtell.models.reply import Dial
from showtell.serve.albums import Albums
from showtell.serve.app import build_app
from showtell.serve.keys import Keys, Pace
from showtell.serve.service import Service
from showtell.serve.store import Store
from showtell.serve.worker import Worker

USUAL = Dial()


@contextmanager
def live(
    folder: Path,
    *,
    agents: dict | None = None,
    keys: Keys | None = None,
    pace: Pace | None = None,
    store: str = "",
    audit=None,
    dial: Dial = USUAL,
    share_album: bool = False,
    **more,
) -> Iterator[httpx2.Client]:
    """A client of a server that answers by ``agents`` (a KeywordModel), over the store in
    ``folder``."""
    agents = agents or {"keyword": KeywordModel()}
    workers = {name: Worker(agent, **more) for name, agent in agents.items()}
    albums = Albums(agents.values(), folder / "albums", shared=share_album)
    kept = Store(store or folder / "showtell.db")
    service = Service(workers, kept, audit=audit, dial=dial, albums=albums)
    config = uvicorn.Config(
        build_app(service, keys=keys, pace=pace),
        host="127.0.0.1",
        port=0,
        log_level="error",
        lifespan="on",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def with_album(folder: Path) -> KeywordModel:
    """One that shares from an album of one photo, a dog's, in ``folder``."""
    Image.new("RGB", (2000, 10), "red").save(folder / "a.png")
    photo = AlbumPhoto(id="a", path="a.png", caption="a dog")

    class Found:
        album = Album([photo], torch.ones(1, 2))

        def find(self, text, *, top_k, cut_off=0.0):
            return [Hit(photo=photo, score=1.5)] if "dog" in text else []

    agent = KeywordModel()
    agent.photos = Which(album=PhotosInWords(Found(), folder))
    return agent


WORDS = ("red", "green", "blue")


def _colours(images):
    return torch.tensor([image.getpixel((0, 0)) for image in images]).float() + 1


def _texts(given):
    return torch.tensor([[200.0 * (word in text) + 1 for word in WORDS] for text in given])


COLOURS = AlbumEncoder(name="colours", width=3, texts=_texts, photos=_colours, cut_off=0.5)


def album_of_colours(folder: Path, photos: dict[str, bytes]) -> PhotosInWords:
    """An album in ``folder``/server of these files, which is asked for colours."""
    (folder / "in").mkdir()
    for name, data in photos.items():
        (folder / "in" / name).write_bytes(data)
    how = {"embed": _colours, "texts": _texts, "width": 3, "made_by": COLOURS.name}
    album = add_photos(folder / "in", into=folder / "server", **how).album
    finder = Finder(album, _texts, cut_off=COLOURS.cut_off)
    return PhotosInWords(finder, folder / "server", encoder=COLOURS)


def said(client: httpx2.Client, text: str, *, conversation: str | None = None, **more) -> dict:
    """The whole answer to a text, which must be one."""
    body = {"messages": [{"role": "user", "content": text}], **more}
    if conversation is not None:
        body["showtell"] = {"conversation": conversation}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def streamed(client: httpx2.Client, body: dict, **more) -> list[dict | str]:
    """The chunks of a stream, and "[DONE]"."""
    chunks: list[dict | str] = []
    request = {"stream": True, **body}
    with client.stream("POST", "/v1/chat/completions", json=request, **more) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                data = line.removeprefix("data: ")
                chunks.append(data if data == "[DONE]" else json.loads(data))
    return chunks
