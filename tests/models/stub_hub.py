"""A model hub on the loopback: repositories of a few files, good and bad ones."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

SHA = "a" * 40


@dataclass
class StubHub:
    """``repos[id]`` are files, those of weights by LFS; ``refused[id]`` a status and its code.
    ``cut``: how many bytes of a file are sent; ``false``: files that are sent with other bytes."""

    address: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    false: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)  # paths of the files that were sent


def _handler(hub: StubHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            parts = path.removeprefix("/api/models").strip("/").split("/")
            repo = "/".join(parts[:2])
            hub.asked.append(repo)
            code, error = hub.refused.get(repo, (404, "RepoNotFound"))
            if repo in hub.refused or repo not in hub.repos:
                self.say(code, b"", {"X-Error-Code": error, "X-Error-Message": "no"})
            elif parts[2] in ("revision", "tree") and parts[3] not in ("main", SHA):
                self.say(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "no"})
            elif parts[2] == "revision":
                self.say(200, json.dumps({"id": repo, "sha": SHA, "siblings": []}).encode())
            elif parts[2] == "tree":
                self.say(
                    200, json.dumps([_entry(*item) for item in hub.repos[repo].items()]).encode()
                )
            else:
                self.file("/".join(parts[4:]), hub.repos[repo]["/".join(parts[4:])])

        def file(self, name: str, data: bytes) -> None:
            entry = _entry(name, data)
            tag = entry.get("lfs", entry)["oid"]
            told = {"X-Repo-Commit": SHA, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
            start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
            if self.command == "GET":
                hub.sent.append(name)
                data = b"x" * len(data) if name in hub.false else data
            body, most = data[start:], hub.cut.get(name)
            if start:
                told["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.say(206 if start else 200, body, told, most=most)

        def say(self, code, body, headers=None, most=None) -> None:
            self.send_response(code)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[:most])
            if most is not None:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    return Handler


def _entry(name: str, data: bytes) -> dict:
    entry: dict = {"type": "file", "path": name, "size": len(data)}
    entry["oid"] = hashlib.sha1(data).hexdigest()
    if name.endswith((".safetensors", ".bin", ".gguf")):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
        entry["lfs"]["pointerSize"] = 134
    return entry


@contextmanager
def stub_hub(monkeypatch: pytest.MonkeyPatch, cache) -> Iterator[StubHub]:
    """The hub, which its client asks within this; it keeps what it gets in ``cache``."""
    hub = StubHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
