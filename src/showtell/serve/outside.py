"""Bytes from an address that a stranger named, and none of what lies inside this network.

A name is looked up once, each of its addresses must be one of the open internet, and the line goes
to the address that was looked at: a name that means another machine a moment later gains nothing.
A redirect is another address, and looked at as the first. The machine's proxies, keys and cookies
are not used.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import httpcore2
import httpx2

from showtell.errors import FetchError

MAX_REDIRECTS = 3
MAX_ADDRESS = 8_192  # characters
CONNECT_S = 5.0
TRIED = 3  # of the addresses of one name
_MOVED = (301, 302, 303, 307, 308)


def addresses_of(host: str) -> list[str]:
    """The addresses of a name, as the system knows them. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What may be fetched: nothing, unless ``schemes`` name "https" (or "http").

    ``longest_s``: for all of it, but the look-up of names; ``trusted``: whose certificates count.
    ``resolve`` and ``dial`` look a name up, and open a line to an address.
    """

    schemes: tuple[str, ...] = ()
    max_bytes: int = 20_000_000
    longest_s: float = 20.0
    trusted: ssl.SSLContext | None = None
    resolve: Callable[[str], Sequence[str]] = addresses_of
    dial: httpcore2.NetworkBackend = field(default_factory=httpcore2.SyncBackend)

    def get(self, address: str) -> bytes:
        """The body that lies there. Raises FetchError; nothing inside this network is asked."""
        if not self.schemes:
            raise FetchError(
                "nothing is fetched from addresses here; send the photo itself, as a data URI",
                reason="closed",
            )
        lines = _Checked(self, until=time.monotonic() + self.longest_s)
        trusted = self.trusted or httpx2.create_ssl_context(trust_env=False)
        try:
            with httpcore2.ConnectionPool(ssl_context=trusted, network_backend=lines) as pool:
                for _ in range(MAX_REDIRECTS + 1):
                    url = self._checked(address)
                    moved, body = self._ask(pool, url)
                    if body is not None:
                        return body
                    address = str(url.join(moved))
        except (httpcore2.TimeoutException, TimeoutError) as error:
            raise _failed(f"was not done in {self.longest_s:g} s", "timeout") from error
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpx2.InvalidURL,
            OSError,
        ) as error:
            raise _failed(f"cannot be read ({type(error).__name__})", "connection") from error
        raise _failed(f"leads on more than {MAX_REDIRECTS} times", "redirects")

    def _checked(self, address: str) -> httpx2.URL:
        """The address, if its form is one that may be asked."""
        try:
            url = httpx2.URL(address[: MAX_ADDRESS + 1])
        except (httpx2.InvalidURL, TypeError):
            url = httpx2.URL()
        if len(address) > MAX_ADDRESS or url.scheme not in self.schemes or not url.host:
            raise _failed(f"is none that begins with {' or '.join(self.schemes)}://HOST", "address")
        if url.userinfo:
            raise _failed("holds a name or a password", "address")
        return url

    def _ask(self, pool: httpcore2.ConnectionPool, url: httpx2.URL) -> tuple[str, bytes | None]:
        """(where a redirect leads, None) or ("", the body)."""
        told = [("Accept", "image/*"), ("Accept-Encoding", "identity"), ("User-Agent", "showtell")]
        target = httpcore2.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        waits = dict.fromkeys(("connect", "read", "write", "pool"), self.longest_s)
        with pool.stream("GET", target, headers=told, extensions={"timeout": waits}) as answer:
            headers = {name.lower(): value for name, value in answer.headers}
            if answer.status in _MOVED and b"location" in headers:
                return headers[b"location"].decode("latin-1"), None
            if answer.status != 200:
                raise _failed(f"answers {answer.status}", str(answer.status))
            body = bytearray()
            if headers.get(b"content-length", b"0").isdigit():
                self._check_size(int(headers.get(b"content-length", b"0")))
            for chunk in answer.iter_stream():
                body += chunk
                self._check_size(len(body))
        return "", bytes(body)

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise _failed(f"holds more than {self.max_bytes / 1e6:g} MB", "size")


def is_open(address: str) -> bool:
    """Whether an IP address is one of the open internet: not of this machine, of a network of
    one's own, of a group, and none that another one hides in."""
    ip = ip_address(address)
    hides = ip.version == 6 and (ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip.is_site_local)
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or hides)


class _Checked(httpcore2.NetworkBackend):
    """Lines to addresses that were looked at, until a moment."""

    def __init__(self, outside: Outside, *, until: float) -> None:
        self.outside, self.until = outside, until

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            found = list(self.outside.resolve(host))
        except (OSError, UnicodeError) as error:
            raise _failed("names a machine that is not known", "name") from error
        if not found or not all(map(is_open, found)):
            raise _failed("lies inside a network, and is not asked", "inside")
        for last, address in enumerate(found[:TRIED], start=1):
            try:
                line = self.outside.dial.connect_tcp(
                    address, port, min(CONNECT_S, _left(self.until)), local_address, socket_options
                )
                return _Timed(line, self.until)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if last == len(found[:TRIED]):
                    raise
        raise AssertionError("the last address returns or raises")


class _Timed(httpcore2.NetworkStream):
    """A line that is read until a moment, however slowly it tells."""

    def __init__(self, line: httpcore2.NetworkStream, until: float) -> None:
        self.line, self.until = line, until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.line.read(max_bytes, _left(self.until))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.line.write(buffer, _left(self.until))

    def close(self) -> None:
        self.line.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        return _Timed(
            self.line.start_tls(ssl_context, server_hostname, _left(self.until)), self.until
        )

    def get_extra_info(self, info: str) -> Any:
        return self.line.get_extra_info(info)


def _left(until: float) -> float:
    """Seconds until then. Raises TimeoutError."""
    if (left := until - time.monotonic()) <= 0:
        raise TimeoutError
    return left


def _failed(why: str, reason: str) -> FetchError:
    """The address itself may be somebody's secret, and is not repeated."""
    return FetchError(
        f"the photo's address {why}; send the photo itself, as a data URI", reason=reason
    )
