"""A web server in a thread that misbehaves as it is told to, one way a request."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Web:
    """``pages[path]`` are the behaviours of its requests in order; the last one stays."""

    address: str = ""
    pages: dict[str, list[Behaviour]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)  # of requests that have one
    types: list[str] = field(default_factory=list)  # what those are said to be
    together: int = 0
    most_together: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, path: str, *behaviours: Behaviour) -> str:
        self.pages[path] = list(behaviours)
        return self.address + path


def whole(body: bytes, *, sent: int | None = None) -> Behaviour:
    """The body; of ``sent`` bytes only, then it hangs up."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[:sent])

    return answer


def status(code: int, **headers: str) -> Behaviour:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def redirect(goal: str) -> Behaviour:
    return status(302, Location=goal)


def stall(until: threading.Event, before: bytes = b"") -> Behaviour:
    """Promises more than it sends, and keeps the line open."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        request.wfile.write(before)
        request.wfile.flush()
        until.wait(10)

    return answer


def endless(request: BaseHTTPRequestHandler, *, head: bool = True) -> None:
    if head:
        request.send_response(200)
        request.end_headers()
    try:
        while True:
            request.wfile.write(b"x" * 65536)
    except OSError:
        pass


@contextmanager
def serving(certificate: ssl.SSLContext | None = None) -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            web.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            web.types.append(self.headers.get("Content-Type", ""))
            self.do_GET()

        def do_GET(self) -> None:
            with web.lock:
                web.requests.append(self.path)
                behaviours = web.pages.get(self.path) or [status(404)]
                behaviour = behaviours[0] if len(behaviours) == 1 else behaviours.pop(0)
                web.together += 1
                web.most_together = max(web.most_together, web.together)
            try:
                behaviour(self)
            except OSError:
                pass  # the other side hung up
            finally:
                with web.lock:
                    web.together -= 1

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        server.socket = certificate.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    web.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
