"""One file over HTTP: resumed where it stopped, checked, and under its own name only when whole.

Until then it is NAME.part, beside NAME.part.json, which says what the server called this version of
it: a file that changed between two attempts is begun anew and never sewn together of two.
A server is not trusted: not with the scheme of a redirect, the length of a body or its speed.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urljoin, urlsplit

from showtell.errors import FetchError, StorageError

CHUNK = 1 << 16
MAX_REDIRECTS = 5
PROGRESS = 1_000_000  # bytes: an attempt that brought so many more does not count as a failed one
_GONE = {401, 403, 404, 410, 451}
_BUSY = {408, 425, 429, 500, 502, 503, 504}
_GONE_NAMES = ("photo_unavailable",)  # the picture that Flickr sends instead of a 404
_AGAIN = "Run the command again later: it goes on where it stopped."


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
class Downloaded:
    num_bytes: int
    sha256: str


@dataclass(kw_only=True)
class _Host:
    """What all threads know of a host: its free connections, and until when it wants peace."""

    connections: threading.BoundedSemaphore
    not_before: float = 0.0


@dataclass(kw_only=True)
class _Transfer:
    """A file on its way: where it is kept, and how large it may get."""

    part: Path
    max_bytes: int
    on_bytes: Callable[[int], None] = field(default=lambda count: None)

    @property
    def note(self) -> Path:
        return self.part.with_name(self.part.name + ".json")

    def have(self, url: str) -> tuple[int, dict[str, str]]:
        """(bytes to go on from, what the server called this version); (0, {}) if none."""
        try:
            version = json.loads(self.note.read_text(encoding="utf-8"))
            if version["url"] == url and (version["etag"] or version["last-modified"]):
                return self.part.stat().st_size, version
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no part, or a note cut short: begin anew
        return 0, {}

    def drop(self) -> None:
        with disk(self.part):
            self.part.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)


class Downloader:
    """Gets files; may be used by several threads. ``stop`` ends all of them soon."""

    def __init__(
        self, *, manners: Manners | None = None, stop: threading.Event | None = None
    ) -> None:
        self.manners = manners or Manners()
        self.stop = stop or threading.Event()
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()
        # no handler of files, ftp or redirects: those are followed here, one by one
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.UnknownHandler(),
        ):
            self._opener.add_handler(handler)

    def get(
        self,
        url: str,
        path: Path,
        *,
        max_bytes: int,
        sha256: str = "",
        check: Callable[[Path], None] | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Downloaded:
        """Fetch ``url`` into ``path``, which is written only when all of it is there and fits.

        ``check`` looks at the whole file and raises what it finds wrong. Raises FetchError, and
        StorageError where the disk fails; either leaves what was there before.
        """
        transfer = _Transfer(part=path.with_name(path.name + ".part"), max_bytes=max_bytes)
        transfer.on_bytes = on_bytes or transfer.on_bytes
        with disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._with_patience(url, transfer)
            with open(transfer.part, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            size = transfer.part.stat().st_size
            if sha256 and found != sha256:
                transfer.drop()
                raise FetchError(
                    f"{url}: what came has the SHA-256 {found[:16]}..., wanted {sha256[:16]}...; "
                    "it was thrown away. The owners may have changed the file: look at their page.",
                    reason="checksum",
                )
            if check:
                try:
                    check(transfer.part)
                except Exception:
                    transfer.drop()
                    raise
            os.replace(transfer.part, path)
            transfer.note.unlink(missing_ok=True)
        return Downloaded(num_bytes=size, sha256=found)

    def _with_patience(self, url: str, transfer: _Transfer) -> None:
        failed, best = 0, 0
        while True:
            try:
                return self._attempt(url, transfer)
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

    # ------------------------------------------------------------------------------- one attempt

    def _attempt(self, url: str, transfer: _Transfer) -> None:
        have, version = transfer.have(url)
        headers = {"User-Agent": "showtell (data fetch)", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            headers["If-Range"] = version["etag"] or version["last-modified"]
        place = url
        for _ in range(MAX_REDIRECTS + 1):
            host = self._host(place)
            with host.connections:
                self._sleep(host.not_before - time.monotonic())
                try:
                    # percent signs stay: the address may be quoted already
                    request = urllib.request.Request(
                        quote(place, safe="%/:=&?~#+!$,;'@()*[]"), headers=headers
                    )
                    answer = self._opener.open(request, timeout=self.manners.timeout_s)
                    with closing(answer):
                        return self._receive(answer, url, transfer, have, version)
                except urllib.error.HTTPError as error:
                    with error:  # unread: its body may be endless
                        if error.code == 416 and have and _whole(error.headers) == have:
                            return None
                        if error.code == 416:
                            transfer.drop()
                        place = self._moved(error, place) or self._refused(error, place, host)
                except http.client.InvalidURL as error:
                    raise _no_address(url, error) from error
                except (OSError, http.client.HTTPException) as error:
                    reason = getattr(error, "reason", error)
                    raise FetchError(
                        f"{url}: the connection failed ({_words(reason)})",
                        reason=_kind(reason),
                        again=True,
                    ) from error
                except (ValueError, UnicodeError) as error:
                    raise _no_address(url, error) from error
        raise FetchError(
            f"{url}: more than {MAX_REDIRECTS} redirects, wanted a file. Look at the owners' page.",
            reason="redirects",
        )

    def _host(self, url: str) -> _Host:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise _no_address(url, error) from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _no_address(url, "only http and https are fetched")
        with self._lock:
            if parts.hostname not in self._hosts:
                self._hosts[parts.hostname] = _Host(
                    connections=threading.BoundedSemaphore(self.manners.per_host)
                )
            return self._hosts[parts.hostname]

    def _moved(self, error: urllib.error.HTTPError, place: str) -> str | None:
        """Where a redirect leads; None if the answer is none."""
        target = error.headers.get("Location")
        if error.code not in (301, 302, 303, 307, 308) or not target:
            return None
        if any(name in target for name in _GONE_NAMES):
            raise FetchError(f"{place}: the photo was taken down", reason="gone", gone=True)
        try:
            goal = urljoin(place, target)
            scheme = urlsplit(goal).scheme
        except ValueError:
            goal = scheme = ""
        if scheme not in ("http", "https") or (place.startswith("https:") and scheme == "http"):
            raise FetchError(
                f"{place}: it redirects to {target[:100]!r}, wanted an address of the web "
                "that is no less secure. Look at the owners' page for another.",
                reason="redirects",
            )
        return goal

    def _refused(self, error: urllib.error.HTTPError, place: str, host: _Host) -> str:
        """Raises what the status means."""
        code = error.code
        met = f"{place}: the server answered {code} {error.reason}".rstrip()
        if code in _GONE:
            raise FetchError(f"{met}. Look at the owners' page.", reason=str(code), gone=True)
        if code not in _BUSY and code != 416:
            raise FetchError(f"{met}, wanted 200. Look at the owners' page.", reason=str(code))
        wait_s = _retry_after(error.headers.get("Retry-After"))
        if wait_s is not None and wait_s > self.manners.max_wait_s:
            raise FetchError(f"{met} and asks to wait {wait_s:,.0f} s. {_AGAIN}", reason=str(code))
        if wait_s is not None:
            host.not_before = max(host.not_before, time.monotonic() + wait_s)
        raise FetchError(met, reason=str(code), again=True, wait_s=wait_s)

    def _receive(
        self, answer: Any, url: str, transfer: _Transfer, have: int, version: dict[str, str]
    ) -> None:
        headers = answer.headers
        if headers.get("Content-Encoding", "identity") not in ("identity", ""):
            raise FetchError(
                f"{url}: the server packs the file ({headers['Content-Encoding'][:20]}), wanted it "
                "as it is. Fetch it with a browser.",
                reason="encoding",
            )
        if answer.status == 206:
            total = _whole(headers)
            same = all(headers.get(key, version[key]) == version[key] for key in _VERSION)
            if not have or not same or _first(headers) != have:
                transfer.drop()
                raise FetchError(
                    f"{url}: the file changed on the way", reason="changed", again=True
                )
        elif answer.status == 200:
            total, have = _number(headers.get("Content-Length")), 0
        else:
            raise FetchError(
                f"{url}: the server answered {answer.status}, wanted 200. Look at the owners' "
                "page.",
                reason=str(answer.status),
            )
        if total is not None and total > transfer.max_bytes:
            raise _too_long(url, transfer.max_bytes)
        if not have:
            transfer.drop()
            etag = headers.get("ETag", "")
            note = {
                "url": url,
                "etag": "" if etag.startswith("W/") else etag,  # weak ones do not promise bytes
                "last-modified": headers.get("Last-Modified", ""),
            }
            with disk(transfer.note):
                transfer.note.write_text(json.dumps(note), encoding="utf-8")
        with disk(transfer.part):
            file = open(transfer.part, "ab")  # noqa: SIM115 (its errors and the body's are apart)
        with file:
            size = self._copy(answer, file, url, transfer, have)
            with disk(transfer.part):
                file.flush()
                os.fsync(file.fileno())
        if total is not None and size < total:
            raise FetchError(
                f"{url}: cut short at {size:,} of {total:,} bytes", reason="cut short", again=True
            )

    def _copy(self, answer: Any, file: IO[bytes], url: str, transfer: _Transfer, size: int) -> int:
        """Append the body; gives the size of the whole file. What came stays in any case."""
        began, window = time.monotonic(), 0
        # read1 waits for one packet, read for a full chunk: a byte a minute would never time out
        while chunk := answer.read1(CHUNK):
            if self.stop.is_set():
                raise FetchError(f"{url}: stopped", reason="stopped")
            size += len(chunk)
            if size > transfer.max_bytes:
                transfer.drop()
                raise _too_long(url, transfer.max_bytes)
            with disk(transfer.part):
                file.write(chunk)
            transfer.on_bytes(len(chunk))
            window += len(chunk)
            if window >= CHUNK:
                began, window = time.monotonic(), 0
            elif time.monotonic() - began > self.manners.slow_s:
                raise FetchError(
                    f"{url}: {window:,} bytes in {self.manners.slow_s:g} s",
                    reason="slow",
                    again=True,
                )
        return size

    def _sleep(self, seconds: float) -> None:
        if seconds > 0 and self.stop.wait(seconds):
            raise FetchError("stopped", reason="stopped")


# ------------------------------------------------------------------------------------- headers

_VERSION = ("etag", "last-modified")


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d{1,15}", text.strip()) else None


def _whole(headers: Any) -> int | None:
    """The size of the whole file, from ``Content-Range: bytes 5-9/10`` or ``bytes */10``."""
    return _number(headers.get("Content-Range", "").rpartition("/")[2])


def _first(headers: Any) -> int | None:
    found = re.match(r"bytes (\d{1,15})-", headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _retry_after(text: str | None) -> float | None:
    """Seconds, from a number of them or a date; None for neither."""
    if not text:
        return None
    if (seconds := _number(text)) is not None:
        return float(seconds)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


# -------------------------------------------------------------------------------------- errors


def _no_address(url: str, why: object) -> FetchError:
    return FetchError(
        f"{url[:100]!r} is no address that can be fetched ({why}); wanted https://...",
        reason="no address",
        gone=True,
    )


def _too_long(url: str, max_bytes: int) -> FetchError:
    return FetchError(
        f"{url}: longer than {max_bytes / 1e6:,.0f} MB, which is more than this file has; it was "
        "thrown away. Look at the owners' page for what is there now.",
        reason="too long",
    )


def _kind(reason: object) -> str:
    return "timeout" if isinstance(reason, TimeoutError) else "connection"


def _words(reason: object) -> str:
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return "no answer in time" if isinstance(reason, TimeoutError) else text


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """What fails inside is a StorageError, and not one of the connection."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} could not be written: {error.strerror or error}; what arrived is kept. Free "
            "some space or name another folder, and run the command again."
        ) from error
