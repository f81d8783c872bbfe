"""One file over HTTP, by pooch: in its place only when it is whole and the right one.

pooch downloads beside the place, compares the checksum and begins anew where a connection broke;
urllib3 waits for servers that are busy. Ours is what neither has: limits for servers that nobody
knows, of the length of a body, its speed, and where a redirect may lead.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pooch
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from showtell.data.storage import writing
from showtell.errors import FetchError

CHUNK = 1 << 16
PER_HOST = 4  # connections
MAX_REDIRECTS = 5
MAX_WAIT_S = 30  # for a busy server, whatever it asks for
_GONE = {401, 403, 404, 410, 451}
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_GONE_NAME = "photo_unavailable"  # the picture that Flickr sends instead of a 404
_LOOK = "Look at the owners' page."
_NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    UnicodeError,
)

disk = partial(writing, kept="what arrived is kept")
pooch.get_logger().setLevel("WARNING")


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would read the whole body of a redirect first, however long it is."""


class Downloader:
    """Gets files; may be used by several threads. ``num_bytes`` came so far; ``stop`` ends all."""

    def __init__(self, *, attempts: int = 3, timeout_s: float = 30.0, slow_s: float = 60.0) -> None:
        """``timeout_s``: without a byte; ``slow_s``: for CHUNK bytes."""
        self.attempts, self.timeout_s, self.slow_s = attempts, timeout_s, slow_s
        self.num_bytes = 0
        self.stop = threading.Event()
        self.session = _Session()
        self.session.headers.update({"Accept-Encoding": "identity"})
        retry = Retry(
            attempts - 1,
            connect=0,  # broken connections are pooch's to repeat
            read=0,
            status_forcelist=_BUSY,
            backoff_factor=1,
            retry_after_max=MAX_WAIT_S,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            adapter = HTTPAdapter(pool_maxsize=PER_HOST, pool_block=True, max_retries=retry)
            self.session.mount(scheme, adapter)

    def get(
        self,
        url: str,
        place: Path,
        *,
        incoming: Path,
        max_bytes: int,
        sha256: str = "",
        check: Callable[[Path], object] = lambda path: None,
    ) -> None:
        """Fetch ``url`` into ``incoming``, and move it to ``place`` when it is whole and ``check``
        has not raised. Raises FetchError, and StorageError where the disk fails."""
        name = uuid.uuid4().hex
        coming = pooch.create(
            path=incoming,
            base_url="",
            registry={name: sha256 or None},
            urls={name: url},
            retry_if_failed=self.attempts - 1,
        )
        whole = incoming / name
        with disk(place):
            try:
                coming.fetch(name, downloader=partial(self._body, max_bytes=max_bytes))
                check(whole)
                place.parent.mkdir(parents=True, exist_ok=True)
                whole.replace(place)
            except requests.RequestException as error:
                late = isinstance(error, requests.Timeout)
                why = str(error) if len(str(error)) < 60 else type(error).__name__
                raise FetchError(
                    f"{url}: the connection failed ({why}). Run the command again later.",
                    reason="timeout" if late else "connection",
                ) from error
            except ValueError as error:  # pooch's, of the checksum
                raise FetchError(f"{url}: {error} {_LOOK}", reason="checksum") from error
            finally:
                whole.unlink(missing_ok=True)

    def _body(self, url: str, file: str, _: Any, *, max_bytes: int) -> None:
        """What pooch calls: the body of ``url`` into ``file``. What pooch may repeat is a
        RequestException; what it may not, a FetchError."""
        try:
            with self._answer(url) as answer, open(file, "wb") as out:
                wanted = answer.headers.get("Content-Length", "")
                size = self._receive(answer, out.write, max_bytes)
                if wanted.isdecimal() and size < int(wanted):
                    raise requests.ConnectionError(f"cut short at {size:,} of {wanted} bytes")
        except _NO_ADDRESS as error:
            raise FetchError(
                f"{url[:100]!r} is no address that can be fetched ({error!s:.100}); wanted "
                "https://...",
                reason="no address",
                gone=True,
            ) from error
        except HTTPError as error:  # urllib3's, which requests has not seen
            raise requests.ConnectionError(f"{type(error).__name__}: {error}") from error

    def _answer(self, url: str) -> requests.Response:
        """What the server says at the end of the redirects, with its body unread."""
        place = url
        for _ in range(MAX_REDIRECTS + 1):
            if self.stop.is_set():
                raise FetchError(f"{url}: stopped", reason="stopped")
            answer = self.session.get(place, stream=True, timeout=self.timeout_s)
            if answer.ok and not answer.is_redirect:
                return answer
            answer.close()
            if not answer.is_redirect:
                raise _refused(answer)
            place = _moved(place, answer.headers["Location"])
        raise FetchError(
            f"{url}: more than {MAX_REDIRECTS} redirects, wanted a file. {_LOOK}",
            reason="redirects",
        )

    def _receive(
        self, answer: requests.Response, write: Callable[[bytes], object], max_bytes: int
    ) -> int:
        """How many bytes were written."""
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchError(
                f"{answer.url}: the server packs the file, wanted it as it is. Fetch it with a "
                "browser.",
                reason="encoding",
            )
        size = at_last = 0
        since = time.monotonic()
        # read1 waits for one packet, read for a full chunk: a byte a minute would never time out
        while chunk := answer.raw.read1(CHUNK):
            size += len(chunk)
            self.num_bytes += len(chunk)
            if size > max_bytes:
                raise FetchError(
                    f"{answer.url}: longer than {max_bytes / 1e6:,.0f} MB, which is more than this "
                    f"file has; it was thrown away. {_LOOK}",
                    reason="too long",
                )
            if self.stop.is_set():
                raise FetchError(f"{answer.url}: stopped", reason="stopped")
            write(chunk)
            if size - at_last >= CHUNK:
                at_last, since = size, time.monotonic()
            elif time.monotonic() - since > self.slow_s:
                raise requests.Timeout(f"{size - at_last:,} bytes in {self.slow_s:g} s")
        return size


def _moved(place: str, target: str) -> str:
    """Where a redirect leads; FetchError for a photo that was taken down, or from https to http.
    What is neither requests does not follow."""
    if _GONE_NAME in target:
        raise FetchError(f"{place}: the photo was taken down", reason="gone", gone=True)
    try:
        goal = urljoin(place, target)
    except ValueError as error:
        raise requests.exceptions.InvalidURL(str(error)) from error
    if place.startswith("https:") and not goal.startswith("https:"):
        raise FetchError(
            f"{place}: it redirects to {target[:100]!r}, wanted an address that is no less secure. "
            f"{_LOOK}",
            reason="redirects",
        )
    return goal


def _refused(answer: requests.Response) -> FetchError:
    code = answer.status_code
    again = "Run the command again later." if code in _BUSY else _LOOK
    return FetchError(
        f"{answer.url}: the server answered {code} {answer.reason or ''}, wanted 200. {again}",
        reason=str(code),
        gone=code in _GONE,
    )
