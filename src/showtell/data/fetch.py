"""``fetch``: a data set from its owners' public addresses into a folder that its reader reads.

    DIR/fetched.jsonl    {"path", "gone"} a line: dead links, which are not asked for again
    DIR/.incoming/       what is on its way; what a killed run left there the next one removes

What is there already is kept as it is; nothing is ever overwritten.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from showtell.data.archives import unpack
from showtell.data.download import Downloader, disk
from showtell.data.jsonl import Record, opened, parse_json_lines
from showtell.data.photos import MAX_BYTES, PhotoFolder, load_photo
from showtell.data.storage import locked, sha256_of
from showtell.errors import FetchError, PhotoError
from showtell.progress import Progress, quiet

GONE = "fetched.jsonl"
INCOMING = ".incoming"
AT_ONCE = 50  # if no server answered for so many photos it is the network, not the photos
THREADS = 16


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file below the data set's folder, and where it is had; the addresses are tried in order.

    ``unpack`` is a pattern: the files of an archive whose own names fit it go to the folder ``to``.
    """

    path: str
    urls: tuple[str, ...]
    sha256: str = ""  # where it is known beforehand
    max_bytes: int = 2_000_000_000
    unpack: str = ""
    to: str = ""
    photo: bool = False


def photo_file(path: str, *urls: str) -> RemoteFile:
    """A single photo; addresses that are empty are left out."""
    return RemoteFile(path=path, urls=tuple(filter(None, urls)), max_bytes=MAX_BYTES, photo=True)


@dataclass(frozen=True, kw_only=True)
class FetchSource:
    """A data set and where its owners keep it.

    ``finish`` makes of the files what the reader wants. ``photo_files`` are archives of photos,
    ``photos`` single ones, as the fetched files list them. ``instead`` says what to do where the
    owners want an application.
    """

    notice: str  # licence and terms, printed before anything is fetched
    page: str
    files: tuple[RemoteFile, ...] = ()
    finish: Callable[[Path], None] = lambda folder: None
    photo_files: tuple[RemoteFile, ...] = ()
    photos: Callable[[Path], Iterable[RemoteFile]] = lambda folder: ()
    instead: str = ""


@dataclass(kw_only=True)
class Fetched:
    """What a run did: counts of "files fetched", "photos kept", "photos gone (404)" and so on. What
    is gone is not asked for again, what "failed" is."""

    counts: Counter[str] = field(default_factory=Counter)
    num_bytes: int = 0
    first_error: str = ""

    def lines(self) -> Iterator[str]:
        """The same in words."""
        yield from (f"{number:,} {what}" for what, number in sorted(self.counts.items()))
        yield f"{self.num_bytes / 1e6:,.1f} MB came"
        if self.first_error:
            yield f"for example: {self.first_error}"


def fetch(
    source: FetchSource,
    folder: str | Path,
    *,
    photos: bool = False,
    limit: int | None = None,
    downloader: Downloader | None = None,
    told: Progress = quiet,
) -> Fetched:
    """Fetch what is not there yet. With ``photos`` the photos as well, or the first ``limit``.

    A dead photo is counted; a file of the data that cannot be had is a FetchError, raised when the
    others have been tried. Raises StorageError, also where another process fetches into the folder,
    and DataError for an archive that is damaged.
    """
    if source.instead:
        raise FetchError(source.instead)
    folder, downloader = Path(folder), downloader or Downloader()
    run = _Run(folder, downloader, told, Fetched())
    with locked(folder), ThreadPoolExecutor(THREADS) as pool:
        shutil.rmtree(folder / INCOMING, ignore_errors=True)
        try:
            run.all_files((*source.files, *(source.photo_files if photos else ())), pool)
            source.finish(folder)
            if photos:
                run.all_photos(source.photos(folder), pool, limit=limit)
        finally:
            downloader.stop.set()
            shutil.rmtree(folder / INCOMING, ignore_errors=True)
    run.result.num_bytes = downloader.num_bytes
    return run.result


class _Outcome(NamedTuple):
    """Of a file: fetched, kept, gone or failed, and why."""

    file: RemoteFile
    what: str
    error: FetchError | None = None


class _Run:
    """One call of ``fetch``. ``one`` runs in the pool's threads, all else in the caller's."""

    def __init__(self, folder: Path, downloader: Downloader, told: Progress, result: Fetched):
        self.folder, self.downloader, self.told = folder, downloader, told
        self.result = result
        self.inside = PhotoFolder(folder)
        self.gone: dict[str, str] = {}  # path -> reason
        if (folder / GONE).exists():
            with opened(folder / GONE, wanted="Wanted the record of an earlier fetch.") as file:
                for row in parse_json_lines(file, GONE):
                    # a line that a kill cut short is none: its photo is asked for once more
                    if isinstance(row, Record) and isinstance(row.value, dict):
                        self.gone[str(row.value.get("path"))] = str(row.value.get("gone", ""))

    def all_files(self, files: tuple[RemoteFile, ...], pool: ThreadPoolExecutor) -> None:
        errors = []
        for done, outcome in enumerate(self.outcomes(pool, files), start=1):
            self.result.counts[f"files {outcome.what}"] += 1
            self.tell("files", done, len(files))
            errors += [outcome.error] if outcome.error else []
        if errors:
            more = f" {len(errors) - 1} more files failed as well." if len(errors) > 1 else ""
            raise FetchError(f"{errors[0]}{more}", reason=errors[0].reason)
        for file in files:
            if file.unpack:
                unpack(self.folder / file.path, self.folder / file.to, file.unpack)

    def all_photos(
        self, photos: Iterable[RemoteFile], pool: ThreadPoolExecutor, *, limit: int | None
    ) -> None:
        result, failed_in_a_row, done = self.result, 0, 0
        coming = islice(_distinct(photos), limit)
        while some := list(islice(coming, AT_ONCE)):
            for file, what, error in self.outcomes(pool, some):
                failed_in_a_row = failed_in_a_row + 1 if what == "failed" else 0
                result.counts[f"photos {what} ({error.reason})" if error else f"photos {what}"] += 1
                result.first_error = result.first_error or str(error or "")
                if error and what == "gone" and file.path not in self.gone:
                    self.note(file.path, error.reason)
                done += 1
                self.tell("photos", done, limit or 0)
            if failed_in_a_row >= AT_ONCE:
                raise FetchError(
                    f"the last {failed_in_a_row} photos could not be fetched; the first failure: "
                    f"{result.first_error} Check the connection and run the command "
                    f"again; {result.counts['photos fetched']:,} photos arrived and are kept."
                )

    def outcomes(self, pool: ThreadPoolExecutor, files: Iterable[RemoteFile]) -> Iterator[_Outcome]:
        """What became of each, in order."""
        for future in [pool.submit(self.one, file) for file in files]:
            while not future.done():
                wait([future], timeout=1.0)
                self.tell("fetching", 0, 0)
            yield future.result()

    def one(self, file: RemoteFile) -> _Outcome:
        try:
            if place := self.inside.find(file.path, "a record"):
                if file.sha256 and sha256_of(place) != file.sha256:
                    raise FetchError(
                        f"{place} has another SHA-256 than {file.sha256[:16]}..., wanted the file "
                        "of that one. It was not touched; move it away to fetch it anew.",
                        reason="checksum",
                    )
                return _Outcome(file, "kept")
            if reason := self.gone.get(file.path):
                raise FetchError(reason=reason, gone=True)
            self.get(file)
            return _Outcome(file, "fetched")
        except PhotoError as error:  # of the name: nothing was asked for
            return _Outcome(file, "gone", FetchError(str(error), reason="bad name", gone=True))
        except FetchError as error:
            return _Outcome(file, "gone" if error.gone else "failed", error)

    def get(self, file: RemoteFile) -> None:
        """Fetch it from the first of its addresses that is not dead."""
        error = FetchError(f"{file.path}: it has no address", reason="no address", gone=True)
        for url in file.urls:
            try:
                return self.downloader.get(
                    url,
                    self.folder / file.path,
                    incoming=self.folder / INCOMING,
                    max_bytes=file.max_bytes,
                    sha256=file.sha256,
                    check=_check_photo if file.photo else lambda path: None,
                )
            except FetchError as failure:
                error = failure
                if not failure.gone:
                    break
        raise error

    def note(self, path: str, reason: str) -> None:
        self.gone[path] = reason
        with disk(self.folder / GONE), open(self.folder / GONE, "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({"path": path, "gone": reason}))

    def tell(self, phase: str, done: int, total: int) -> None:
        self.told(f"{phase} ({self.downloader.num_bytes / 1e6:,.1f} MB)", done, total)


def _check_photo(path: Path) -> None:
    try:
        load_photo(path)
    except PhotoError as error:
        raise FetchError(f"what came is no photo: {error}", reason="no photo", gone=True) from error


def _distinct(photos: Iterable[RemoteFile]) -> Iterator[RemoteFile]:
    seen: set[str] = set()
    for photo in photos:
        if photo.path not in seen:
            seen.add(photo.path)
            yield photo
