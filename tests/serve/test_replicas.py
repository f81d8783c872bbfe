"""Two replicas over one database: any goes on with any talk, and where one dies nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx2
import pytest

from showtell.errors import UsageError
from showtell.serve.setting_up import Setup, run_replicas

ASK = "hi! can you show me a red dog at the beach?"


def test_replicas_want_a_store_that_they_can_share(tmp_path, monkeypatch):
    monkeypatch.setattr("showtell.serve.setting_up.import_extra", lambda *_, **__: None)
    for store in (None, str(tmp_path / "file.db")):
        with pytest.raises(UsageError, match="postgresql://"):
            run_replicas(Setup(store=store), replicas=2, host="x", port=0, until=print)


@pytest.mark.long
def test_a_replica_that_dies_in_mid_talk_loses_nothing(tmp_path, postgres):
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "showtell", "serve", "--model", "mini", "--replicas", "2"]
    command += ["--store", postgres, "--data", str(tmp_path), "--port", str(port)]
    server = subprocess.Popen(command, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        with httpx2.Client(base_url=address, timeout=120) as client:
            until(lambda: client.get("/health").status_code == 200, server=server)
            told: dict[str, list[str]] = {}

            def talk(turns: int) -> None:
                with httpx2.Client(base_url=address, timeout=120) as own:
                    name = None
                    for _ in range(turns):
                        name, text = say(own, name)
                        told.setdefault(name, []).append(text)

            threads = [threading.Thread(target=talk, args=(4,)) for _ in range(6)]
            for thread in threads:
                thread.start()
            until(lambda: len(told) >= 4, server=server)
            before = replicas_of()
            assert len(before) == 2
            os.kill(before[0], signal.SIGKILL)
            for thread in threads:
                thread.join(300)
            assert sum(map(len, told.values())) == 24  # every turn was answered in the end
            for name, texts in told.items():
                kept = client.get(f"/v1/conversations/{name}").json()
                said = " ".join(
                    e["text"] for t in kept["turns"] for e in t["elements"] if e["type"] == "text"
                )
                photos = [e for t in kept["turns"] for e in t["elements"] if e["type"] == "photo"]
                assert all(text in said for text in texts)
                assert photos and all(
                    client.get(photo["url"]).content.startswith(b"\x89PNG") for photo in photos
                )
            until(lambda: len(replicas_of()) == 2 and before[0] not in replicas_of(), server=server)
    finally:
        os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def say(client: httpx2.Client, name: str | None) -> tuple[str, str]:
    """One turn, asked again until it is answered: (the talk's name, the words of the answer)."""
    while True:
        body = {
            "messages": [{"role": "user", "content": ASK}],
            "showtell": {"conversation": name or "new"},
        }
        try:
            answer = client.post("/v1/chat/completions", json=body)
            if answer.status_code == 200:
                found = answer.json()
                text = found["choices"][0]["message"]["content"] or ""
                return found["showtell"]["conversation"], text.split("\n")[0]
        except httpx2.HTTPError:
            pass
        time.sleep(0.5)


def replicas_of() -> list[int]:
    """The processes of Ray that answer."""
    told = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    lines = [line.split(None, 1) for line in told.stdout.splitlines()]
    return [int(pid) for pid, what in lines if what.startswith("ray::ServeReplica:showtell")]


def until(true, *, server: subprocess.Popen, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, "the server has ended"
        try:
            if true():
                return
        except (httpx2.HTTPError, json.JSONDecodeError):
            pass
        time.sleep(0.2)
    raise AssertionError("it took too long")
