"""What stands before every request: whose host it names, where it came from, how large it is; and
the headers that keep a browser from doing more than the page needs."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 32_000_000  # bytes: photos come inside of JSON
_LOCAL = ("localhost", "127.0.0.1", "::1", "[::1]")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """``hosts``: names of this server beside those of the machine itself. A page of another origin
    may not ask: no browser that visits one sends a talk here."""

    def __init__(
        self, app: ASGIApp, *, hosts: tuple[str, ...] = (), max_body: int = MAX_BODY
    ) -> None:
        self.app, self.hosts, self.max_body = app, (*_LOCAL, *hosts), max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(key.lower().encode(), value.encode()) for key, value in _HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        if problem := self._problem(headers):
            await _refuse(with_headers, *problem)
            return
        size, over = 0, False

        async def counted() -> Message:
            nonlocal size, over
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.max_body:
                over = True
                return {"type": "http.disconnect"}
            return message

        began = False

        async def once(message: Message) -> None:
            nonlocal began
            if over and not began:  # whatever the service makes of half a body
                return
            began = True
            await with_headers(message)

        try:
            await self.app(scope, counted, once)
        except Exception:
            if not over:
                raise
        if over and not began:
            await _refuse(with_headers, 413, f"the body has more than {self.max_body:,} bytes")

    def _problem(self, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if "*" not in self.hosts and _name(host) not in self.hosts:
            return 421, (
                f'this server is not "{host:.100}"; wanted localhost or a name that it was given '
                "(--host, --name)"
            )
        origin = headers.get("origin")
        if origin not in (None, "null") and urlsplit(origin or "").netloc != host:
            return 403, "pages of another origin may not ask"
        if origin == "null":
            return 403, "pages without an origin may not ask"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.max_body:
            return 413, f"the body has more than {self.max_body:,} bytes; send smaller photos"
        return None


def _name(host: str) -> str:
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.rpartition(":")[0] if ":" in host else host


def error_body(message: str, *, status: int, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


async def _refuse(send: Send, status: int, told: str) -> None:
    body = json.dumps(error_body(told, status=status)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
