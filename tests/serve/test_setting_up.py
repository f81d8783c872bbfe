"""A server from what its command line says: models of ours, and LLMs behind an address."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from agent.tiny_chat import as_json, stream_of, top_of
from data.web import serving
from showtell.cli import main
from showtell.errors import UsageError
from showtell.serve.setting_up import Setup

TALKS = 4


def test_an_llm_behind_an_address_is_asked_by_many_side_by_side(tmp_path):
    all_here = threading.Barrier(TALKS)

    def answer(request):
        if b"logprobs" in web.bodies[-1]:
            top_of(photo=0.1, words=0.8)(request)
            return
        all_here.wait(10)  # an answer at a time would never come
        stream_of("Nice ", "day.")(request)

    with serving() as web:
        web.put("/v1/models", as_json({"data": [{"id": "served"}]}))
        web.put("/v1/chat/completions", answer)
        app = Setup(lms=(web.address,), data=tmp_path, hosts=("testserver",)).app(print)
        with TestClient(app) as client, ThreadPoolExecutor(TALKS) as pool:
            (model,) = client.get("/v1/models").json()["data"]
            assert model["id"] == "served" and not model["showtell"]["album"]
            bodies = [{"messages": [{"role": "user", "content": f"hi {n}"}]} for n in range(TALKS)]
            told = pool.map(lambda body: client.post("/v1/chat/completions", json=body), bodies)
            texts = [each.json()["choices"][0]["message"]["content"] for each in told]
    assert texts == ["Nice day."] * TALKS and web.most_together >= TALKS


def test_a_port_that_is_taken_is_said_before_anything_is_read(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--model", "mini", "--port", port, "--data", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert "--port" in told.err and not told.out


def test_what_does_not_go_together_is_said_before_anything_is_read(tmp_path):
    for setup in (
        Setup(models=("mini",), album="sample", data=tmp_path),
        Setup(models=("mini",), painter="http://127.0.0.1:9/v1#x", data=tmp_path),
        Setup(calibration=tmp_path / "none.json", data=tmp_path),
    ):
        with pytest.raises(UsageError, match="leave it out"):
            setup.app(print)
