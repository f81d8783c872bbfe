"""A server of models over HTTP: asked again where it is busy, bounded in bytes and seconds.

Redirects are not followed; SHOWTELL_API_KEY, if it is set, is sent as bearer token. Leaving a
``with asked(...)`` hangs up. Whatever goes wrong is an EngineError of one line.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any
from urllib.parse import urldefrag, urlsplit

import requests
from urllib3.exceptions import HTTPError, InvalidHeader, ReadTimeoutError
from urllib3.util import Retry

from showtell.errors import EngineError, UsageError

BUSY = (408, 425, 429, 500, 502, 503, 504)
ATTEMPTS = 3
MAX_WAIT_S = 30.0  # for a busy server; one that asks for more is not asked again
CONNECT_S = 10.0
Files = Mapping[str, tuple[str, bytes, str]]  # (name, data, media type) by field
MAX_BYTES = 4_000_000  # of an answer in words
CHUNK = 1 << 16


class Endpoint:
    """One server. ``what`` it is in messages; ``timeout_s`` without a byte, ``longest_s`` for all
    of an answer."""

    def __init__(
        self, address: str, *, what: str, timeout_s: float = 60.0, longest_s: float = 300.0
    ) -> None:
        """Raises UsageError for what is no address."""
        base, self.fragment = urldefrag(address.strip())
        parts = urlsplit(base)
        try:
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            known = False
        if not known or parts.username or parts.query:
            raise UsageError(
                f'the address of {what} is "{base:.200}"; wanted http://HOST:PORT/v1 or '
                "https://HOST/v1, without name, password and query; a key goes into "
                "SHOWTELL_API_KEY"
            )
        base = base.rstrip("/")
        for end in ("/chat/completions", "/images/generations"):
            base = base.removesuffix(end)
        self.base = base if urlsplit(base).path else f"{base}/v1"
        self.what = what
        self.timeout_s, self.longest_s = timeout_s, longest_s
        self.session = requests.Session()
        self.session.auth = _bearer(os.environ.get("SHOWTELL_API_KEY", ""))
        self.session.headers["Accept-Encoding"] = "identity"

    def model(self) -> str:
        """The model of the address, or the only one that the server names."""
        if self.fragment:
            return self.fragment
        said = self.whole("GET", "/models", None, max_bytes=MAX_BYTES)
        data = said.get("data")
        names: list[str] = [
            entry["id"]
            for entry in (data if isinstance(data, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("id"), str)
        ]
        if len(names) != 1:
            some = ", ".join(f"{name:.80}" for name in names[:8]) or "none"
            raise UsageError(
                f"{self.what} at {self.base} has {len(names)} models ({some}); wanted one: name "
                f"it behind the address: {self.base}#MODEL"
            )
        return names[0]

    def whole(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        max_bytes: int,
        files: Files | None = None,
    ) -> dict[str, Any]:
        """The answer as a JSON object; with ``files`` the body is a form. Raises EngineError."""
        with self.asked(method, self.base + path, body, files=files) as answer:
            data = b"".join(self.chunks(answer, max_bytes=max_bytes))
            return self.parsed(data)

    def parsed(self, data: bytes | str) -> dict[str, Any]:
        try:
            said = json.loads(data)
        except (ValueError, RecursionError):
            raise self.wrong(f"answered what is not JSON ({short(data)})") from None
        if not isinstance(said, dict):
            raise self.wrong(f"answered a {type(said).__name__}, wanted an object")
        if said.get("error"):
            raise self.wrong(f"answered an error: {short(json.dumps(said['error']))}")
        return said

    @contextmanager
    def asked(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None,
        *,
        files: Files | None = None,
    ) -> Iterator[requests.Response]:
        """An answer of status 200 with its body unread; leaving hangs up. Raises EngineError, also
        for what fails while the body is read."""
        try:
            sent = {"json": body} if files is None else {"data": body, "files": files}
            answer = self._patiently(method, url, sent)
            with answer:
                yield answer
        except (requests.Timeout, ReadTimeoutError) as error:
            told = f"did not answer in {self.timeout_s:g} s"
            raise self.wrong(told, down=True) from error
        except (requests.RequestException, HTTPError, UnicodeError) as error:
            broken = isinstance(error, HTTPError | requests.exceptions.ChunkedEncodingError)
            told = "hung up half-way" if broken else f"cannot be reached ({_reason(error)})"
            raise self.wrong(told, down=not broken) from error

    def _patiently(self, method: str, url: str, sent: Mapping[str, Any]) -> requests.Response:
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            wait = 0.5 * 2**attempt
            try:
                answer = self.session.request(
                    method,
                    url,
                    **sent,
                    stream=True,
                    allow_redirects=False,
                    timeout=(CONNECT_S, self.timeout_s),
                )
            except requests.ConnectionError:
                if last:
                    raise
                sleep(wait)
                continue
            if answer.status_code == 200:
                return answer
            with answer:
                asked = _retry_after(answer)
                wait = wait if asked is None else asked
                if answer.status_code not in BUSY or last or wait > MAX_WAIT_S:
                    raise self._refused(answer, asked)
            sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _refused(self, answer: requests.Response, asked: float | None) -> EngineError:
        code = answer.status_code
        try:
            said = short(answer.raw.read1(2_000))
        except (HTTPError, OSError):
            said = ""
        told = f"answered {code}" + (f" ({said})" if said else "")
        if code in BUSY:
            again = "later" if asked is None else f"in {math.ceil(asked):,} s"
            return self.wrong(told, remedy=f"try again {again}", code=code, down=True)
        remedy = {
            401: "put the key that it wants into SHOWTELL_API_KEY",
            403: "put the key that it wants into SHOWTELL_API_KEY",
            404: "check the address and the model's name",
        }.get(code, "check the address")
        return self.wrong(told, remedy=remedy, code=code)

    def chunks(self, answer: requests.Response, *, max_bytes: int) -> Iterator[bytes]:
        """The body as it comes. Raises EngineError for one that is too long or too slow."""
        wanted = answer.headers.get("Content-Length", "")
        since, size = monotonic(), 0
        while chunk := answer.raw.read1(CHUNK, decode_content=True):
            size += len(chunk)
            if size > max_bytes:
                raise self.wrong(f"answered more than {max_bytes / 1e6:g} MB")
            if monotonic() - since > self.longest_s:
                raise self.wrong(f"was not done after {self.longest_s:g} s")
            yield chunk
        if wanted.isdecimal() and size < int(wanted):
            raise self.wrong("hung up half-way")

    def wrong(
        self, told: str, *, remedy: str = "", code: int = 0, down: bool = False
    ) -> EngineError:
        remedy = remedy or ("start it, or try again" if down else "try again, or name another")
        return EngineError(f"{self.what} at {self.base} {told}; {remedy}", code=code, down=down)


def _bearer(key: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """Also where there is no key: what ~/.netrc says of a host is not for its models."""

    def signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if key:
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    return signed


def lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Lines of a stream; the last one may lack its end."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
    yield rest.decode(errors="replace")


def _retry_after(answer: requests.Response) -> float | None:
    try:
        return Retry().get_retry_after(answer.raw)
    except InvalidHeader:
        return None


def short(said: bytes | str) -> str:
    """The beginning of what a server said, on one line."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    text = " ".join(text.split())
    return text if len(text) <= 120 else text[:117] + "..."


def _reason(error: BaseException) -> str:
    """The system's own word for it, which stands deep inside."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        args = [arg for arg in seen.args if isinstance(arg, BaseException)]
        seen = getattr(seen, "reason", None) or (args[0] if args else None) or seen.__cause__
        seen = seen if isinstance(seen, BaseException) else None
    return type(error).__name__
