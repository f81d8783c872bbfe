"""One file over HTTP: resumed where it stopped, checked, and under its own name only when whole.

Until then it is NAME.part, beside NAME.part.json, which says what the server called this version of
it: a file that changed between two attempts is begun anew and never sewn together of two.
A server is not trusted: not with the scheme of a redirect, the length of a body or its speed.

On requests, for connections, proxies and addresses. Not by pooch: it begins every file anew, and
knows no limit of size or connections.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests import Response
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, InvalidHeader, ReadTimeoutError
from urllib3.util import Retry

from showtell.data.storage import sha256_of, writing
from showtell.errors import FetchError

CHUNK = 1 << 16
MAX_REDIRECTS = 5
PROGRESS = 1_000_000  # bytes: an attempt that brought so many more does not count as a failed one
_GONE = {401, 403, 404, 410, 451}
_BUSY = {408, 425, 429, 500, 502, 503, 504}
_GONE_NAMES = ("photo_unavailable",)  # the picture that Flickr sends instead of a 404
_VERSION = ("ETag", "Last-Modified")
_AGAIN = "Run the command again later: it goes on where it stopped."
_LOOK = "Look at the owners' page."


disk = partial(writing, kept="what arrived is kept")  # its errors are not the connection's


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How often and how long to try, and how many connections one host may get at a time."""

    attempts: int = 5
    timeout_s: float = 30.0  # without a byte
    backoff_s: float = 1.0  # doubled after each attempt
    max_wait_s: float = 120.0  # a server that asks for more is left alone
    slow_s: float = 60.0  # a transfer must bring CHUNK bytes in this time
    per_host: int = 4


@dataclass(frozen=True, kw_only=True)
class _Transfer:
    """A file on its way: where it is kept, and how large it may get."""

    url: str
    part: Path
    max_bytes: int
    on_bytes: Callable[[int], None]

    @property
    def note(self) -> Path:
        return self.part.with_name(self.part.name + ".json")

    def have(self) -> tuple[int, dict[str, str]]:
        """(bytes to go on from, what the server called this version); (0, {}) if none."""
        try:
            version = json.loads(self.note.read_text(encoding="utf-8"))
            if version["url"] == self.url and any(version[key] for key in _VERSION):
                return self.part.stat().st_size, version
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no part, or a note cut short: begin anew
        return 0, {}

    def begin(self, headers: Any) -> None:
        """Away with what there is; note down what the server calls what it sends."""
        self.drop()
        version = {key: headers.get(key, "") for key in _VERSION}
        if version["ETag"].startswith("W/"):  # weak ones do not promise the same bytes
            version["ETag"] = ""
        with disk(self.note):
            self.note.write_text(json.dumps({"url": self.url, **version}), encoding="utf-8")

    def drop(self) -> None:
        with disk(self.part):
            self.part.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)


class Downloader:
    """Gets files; may be used by several threads. ``stop`` ends all of them soon."""

    def __init__(self, manners: Manners) -> None:
        self.manners = manners
        self.stop = threading.Event()
        self.session = requests.Session()
        for scheme in ("http://", "https://"):  # a pool is one host's
            self.session.mount(
                scheme, HTTPAdapter(pool_maxsize=self.manners.per_host, pool_block=True)
            )
        self._not_before: dict[str, float] = {}  # host -> until when it wants peace

    def get(
        self,
        url: str,
        path: Path,
        *,
        max_bytes: int,
        sha256: str = "",
        check: Callable[[Path], None] | None = None,
        on_bytes: Callable[[int], None] = lambda count: None,
    ) -> str:
        """Fetch ``url`` into ``path``, which is written only when all of it is there and fits; give
        its SHA-256.

        ``check`` looks at the whole file and raises what it finds wrong. Raises FetchError, and
        StorageError where the disk fails; either leaves what was there before.
        """
        part = path.with_name(path.name + ".part")
        transfer = _Transfer(url=url, part=part, max_bytes=max_bytes, on_bytes=on_bytes)
        with disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._with_patience(transfer)
            found = sha256_of(part)
            try:
                if sha256 and found != sha256:
                    raise FetchError(
                        f"{url}: what came has the SHA-256 {found[:16]}..., wanted "
                        f"{sha256[:16]}...; it was thrown away. The owners may have changed the "
                        "file: look at their page.",
                        reason="checksum",
                    )
                if check:
                    check(part)
            except Exception:
                transfer.drop()
                raise
            os.replace(part, path)
            transfer.note.unlink(missing_ok=True)
        return found

    def _with_patience(self, transfer: _Transfer) -> None:
        failed, best = 0, 0
        while True:
            try:
                return self._attempt(transfer)
            except FetchError as error:
                size = transfer.part.stat().st_size if transfer.part.exists() else 0
                failed = 0 if size >= best + PROGRESS else failed + 1
                best = max(best, size)
                if not error.again:
                    raise
                if failed >= self.manners.attempts:
                    raise FetchError(
                        f"{error} (gave up after {failed} attempts). {_AGAIN}", reason=error.reason
                    ) from error
                if error.wait_s is None:
                    self._sleep(self.manners.backoff_s * 2 ** max(0, failed - 1))

    def _attempt(self, transfer: _Transfer) -> None:
        have, version = transfer.have()
        headers = {"User-Agent": "showtell (data fetch)", "Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-"}
            headers |= {"If-Range": next(filter(None, map(version.get, _VERSION)), "")}
        try:
            with self._answer(transfer.url, headers) as answer:
                self._receive(answer, transfer, have, version)
        except ValueError as error:  # what requests and urllib say of an address
            raise _no_address(transfer.url, error) from error
        except (requests.RequestException, HTTPError) as error:
            late = isinstance(error, requests.Timeout | ReadTimeoutError)
            raise FetchError(
                f"{transfer.url}: the connection failed "
                f"({'no answer in time' if late else type(error).__name__})",
                reason="timeout" if late else "connection",
                again=True,
            ) from error

    def _answer(self, url: str, headers: dict[str, str]) -> Response:
        """What the server says at the end of the redirects, with its body unread."""
        place = url
        for _ in range(MAX_REDIRECTS + 1):
            host = _host_of(place)
            self._sleep(self._not_before.get(host, 0.0) - time.monotonic())
            answer = self.session.get(
                place,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=self.manners.timeout_s,
            )
            if not answer.is_redirect:
                return answer
            answer.close()
            place = _moved(place, answer.headers["Location"])
        raise FetchError(
            f"{url}: more than {MAX_REDIRECTS} redirects, wanted a file. {_LOOK}",
            reason="redirects",
        )

    def _receive(
        self, answer: Response, transfer: _Transfer, have: int, version: dict[str, str]
    ) -> None:
        url, headers, code = transfer.url, answer.headers, answer.status_code
        first, whole = _range(headers.get("Content-Range", ""))
        if code == 416 and have and whole == have:
            return
        if headers.get("Content-Encoding", "identity") not in ("identity", ""):
            raise FetchError(
                f"{url}: the server packs the file ({headers['Content-Encoding'][:20]}), wanted it "
                "as it is. Fetch it with a browser.",
                reason="encoding",
            )
        changed = any(headers.get(key, version.get(key)) != version.get(key) for key in _VERSION)
        if code == 416 or (code == 206 and (not have or changed or first != have)):
            transfer.drop()
            raise FetchError(f"{url}: the file changed on the way", reason="changed", again=True)
        if code not in (200, 206):
            raise self._refused(answer)
        if code == 200:
            have, whole = 0, _number(headers.get("Content-Length", ""))
        if whole is not None and whole > transfer.max_bytes:
            raise _too_long(transfer)
        if not have:
            transfer.begin(headers)
        with disk(transfer.part):
            file = open(transfer.part, "ab")  # noqa: SIM115 (its errors and the body's are apart)
        with file:
            size = have
            for chunk in self._chunks(answer, url):
                size += len(chunk)
                if size > transfer.max_bytes:
                    transfer.drop()
                    raise _too_long(transfer)
                with disk(transfer.part):
                    file.write(chunk)
                transfer.on_bytes(len(chunk))
            with disk(transfer.part):
                file.flush()
                os.fsync(file.fileno())
        if whole is not None and size < whole:
            raise FetchError(
                f"{url}: cut short at {size:,} of {whole:,} bytes", reason="cut short", again=True
            )

    def _chunks(self, answer: Response, url: str) -> Iterator[bytes]:
        """The body as it comes in; FetchError where it comes too slowly."""
        began, window = time.monotonic(), 0
        # read1 waits for one packet, read for a full chunk: a byte a minute would never time out
        while chunk := answer.raw.read1(CHUNK):
            if self.stop.is_set():
                raise FetchError(f"{url}: stopped", reason="stopped")
            yield chunk
            window += len(chunk)
            if window >= CHUNK:
                began, window = time.monotonic(), 0
            elif time.monotonic() - began > self.manners.slow_s:
                raise FetchError(
                    f"{url}: {window:,} bytes in {self.manners.slow_s:g} s",
                    reason="slow",
                    again=True,
                )

    def _refused(self, answer: Response) -> FetchError:
        """What the status means."""
        code, reason = answer.status_code, str(answer.status_code)
        met = f"{answer.url}: the server answered {code} {answer.reason or ''}".rstrip()
        if code in _GONE:
            return FetchError(f"{met}. {_LOOK}", reason=reason, gone=True)
        if code not in _BUSY:
            return FetchError(f"{met}, wanted 200. {_LOOK}", reason=reason)
        wait_s = retry_after(answer.headers.get("Retry-After", ""))
        if wait_s is not None and wait_s > self.manners.max_wait_s:
            return FetchError(f"{met} and asks to wait {wait_s:,.0f} s. {_AGAIN}", reason=reason)
        if wait_s is not None:
            self._not_before[_host_of(answer.url)] = time.monotonic() + wait_s
        return FetchError(met, reason=reason, again=True, wait_s=wait_s)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0 and self.stop.wait(seconds):
            raise FetchError("stopped", reason="stopped")


def _host_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise _no_address(url, error) from error
    if parts.scheme not in ("http", "https") or not host:
        raise _no_address(url, "only http and https are fetched")
    return host


def _moved(place: str, target: str) -> str:
    """Where a redirect leads. Raises FetchError for one that leads out of the web."""
    if any(name in target for name in _GONE_NAMES):
        raise FetchError(f"{place}: the photo was taken down", reason="gone", gone=True)
    try:
        goal = urljoin(place, target)
    except ValueError:
        goal = ""
    if not goal.lower().startswith("https:" if place.startswith("https:") else ("http:", "https:")):
        raise FetchError(
            f"{place}: it redirects to {target[:100]!r}, wanted an address of the web "
            f"that is no less secure. {_LOOK}",
            reason="redirects",
        )
    return goal


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,15}", text.strip()) else None


def _range(text: str) -> tuple[int | None, int | None]:
    """(first byte, size of the whole file), from ``bytes 5-9/10`` or ``bytes */10``."""
    found = re.match(r"bytes (\d{1,15})-", text)
    return int(found[1]) if found else None, _number(text.rpartition("/")[2])


def retry_after(text: str) -> float | None:
    """Seconds, from a number of them or a date; None for neither."""
    try:
        return Retry().parse_retry_after(text) if text else None
    except (InvalidHeader, ValueError, OverflowError):
        return None


def _no_address(url: str, why: object) -> FetchError:
    return FetchError(
        f"{url[:100]!r} is no address that can be fetched ({why}); wanted https://...",
        reason="no address",
        gone=True,
    )


def _too_long(transfer: _Transfer) -> FetchError:
    return FetchError(
        f"{transfer.url}: longer than {transfer.max_bytes / 1e6:,.0f} MB, which is more than this "
        "file has; it was thrown away. Look at the owners' page for what is there now.",
        reason="too long",
    )
