"""``fetch``: a data set from its owners' public addresses into a folder that its reader reads.

    DIR/fetched.jsonl    what arrived, {"path", "bytes", "sha256", "url"} a line, the last counts;
                         {"path", "gone"} for a dead link, which is not asked for again
    DIR/NAME.part        a file on its way (``data/download.py``)

A file that arrived is compared with its line at the next run. One that differs is an error and is
not touched; one that was there before is kept as it is. Nothing is ever overwritten.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from showtell.data.archives import Unpack, unpack
from showtell.data.download import Downloader, Manners, disk
from showtell.data.photos import MAX_BYTES, load_photo
from showtell.data.storage import is_plain_path, locked, sha256_of
from showtell.errors import DataError, FetchError, PhotoError
from showtell.progress import Progress, quiet

MANIFEST = "fetched.jsonl"
AT_ONCE = 50  # if no server answered for so many photos it is the network, not the photos
MAX_NAME = 200  # bytes; disks take 255, and a part has a longer name than its file
_KEPT_ERRORS = 5
BAD_NAME = "bad name"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file below the data set's folder, and where it is had; the addresses are tried in order."""

    path: str
    urls: tuple[str, ...]
    sha256: str = ""  # where it is known beforehand
    max_bytes: int = 2_000_000_000
    unpack: Unpack | None = None


def photo_file(path: str, *urls: str) -> RemoteFile:
    """A single photo; addresses that are empty are left out."""
    return RemoteFile(path=path, urls=tuple(filter(None, urls)), max_bytes=MAX_BYTES)


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
    photos: Callable[[Path], Iterable[RemoteFile]] | None = None
    instead: str = ""


@dataclass(kw_only=True)
class Fetched:
    """What a run did. ``photos_failed`` counts by reason; a later run asks for those again."""

    path: Path
    fetched: int = 0
    kept: int = 0
    photos_fetched: int = 0
    photos_kept: int = 0
    photos_gone: Counter[str] = field(default_factory=Counter)
    photos_failed: Counter[str] = field(default_factory=Counter)
    num_bytes: int = 0
    first_errors: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "files": {"fetched": self.fetched, "kept": self.kept},
            "photos": {
                "fetched": self.photos_fetched,
                "kept": self.photos_kept,
                "gone": dict(self.photos_gone),
                "failed": dict(self.photos_failed),
            },
            "bytes": self.num_bytes,
        }

    def lines(self) -> Iterator[str]:
        """The same in words."""
        mega = self.num_bytes / 1e6
        yield f"{self.fetched:,} files fetched, {self.kept:,} were there; {mega:,.1f} MB came"
        if self.photos_fetched or self.photos_kept or self.photos_gone or self.photos_failed:
            yield f"{self.photos_fetched:,} photos fetched, {self.photos_kept:,} were there"
        for counts, words in (
            (self.photos_gone, "photos are gone, and not asked for again"),
            (self.photos_failed, "photos failed; run the command again for them"),
        ):
            if counts:
                why = ", ".join(f"{n:,} {reason}" for reason, n in counts.most_common())
                yield f"{counts.total():,} {words} ({why})"
        yield from (f"for example: {error}" for error in self.first_errors[:3])


def fetch(
    source: FetchSource,
    folder: str | Path,
    *,
    photos: bool = False,
    limit: int | None = None,
    parallel: int = 4,
    manners: Manners | None = None,
    told: Progress = quiet,
) -> Fetched:
    """Fetch what is not there yet. With ``photos`` the photos as well, or the first ``limit``.

    A dead photo is counted; a file of the data that cannot be had is a FetchError, raised when the
    others have been tried. Raises StorageError, also where another process fetches into the folder,
    and DataError for an archive that is damaged.
    """
    if source.instead:
        raise FetchError(source.instead)
    folder = Path(folder)
    downloader = Downloader(manners or Manners())
    with locked(folder), ThreadPoolExecutor(max_workers=parallel) as pool:
        try:
            run = _Run(folder, downloader, Manifest(folder / MANIFEST), Fetched(path=folder), told)
            archives = source.photo_files if photos else ()
            run.all_files((*source.files, *archives), pool)
            source.finish(folder)
            if photos and source.photos:
                run.all_photos(source.photos(folder), pool, limit=limit)
        except BaseException:
            downloader.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return run.result


class Manifest:
    """fetched.jsonl: what arrived, and what is gone. Lines are only ever added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        if not path.exists():
            return
        with disk(path):
            data = path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):  # a run was killed while it wrote the last line
                os.truncate(path, len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
                self._rows[row["path"]] = row
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}, line {number}: {error}; wanted a record of a fetched file. Remove "
                    "the line: its file is then taken as one that was there before."
                ) from error

    def get(self, path: str) -> dict[str, Any]:
        return self._rows.get(path, {})

    def add(self, path: str, **known: Any) -> None:
        row = {"path": path, **known}
        with self._lock, disk(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._rows[path] = row


@dataclass
class _Run:
    """One call of ``fetch``. ``one_file`` and ``one_photo`` run in the pool's threads."""

    folder: Path
    downloader: Downloader
    manifest: Manifest
    result: Fetched
    told: Progress
    lock: threading.Lock = field(default_factory=threading.Lock)
    phase: str = "files"
    done: int = 0
    total: int = 0

    def all_files(self, files: tuple[RemoteFile, ...], pool: ThreadPoolExecutor) -> None:
        errors = []
        self.total = len(files)
        for future in [pool.submit(self.one_file, file) for file in files]:
            try:
                arrived = future.result()
                self.result.fetched += arrived
                self.result.kept += not arrived
            except FetchError as error:
                errors.append(error)
            self.done += 1
            self.tell()
        if errors:
            more = f" {len(errors) - 1} more files failed as well." if len(errors) > 1 else ""
            raise FetchError(f"{errors[0]}{more}", reason=errors[0].reason)
        for file in files:
            if file.unpack:
                unpack(self.folder / file.path, self.folder, file.unpack)

    def all_photos(
        self, photos: Iterable[RemoteFile], pool: ThreadPoolExecutor, *, limit: int | None
    ) -> None:
        self.phase, self.done, self.total = "photos", 0, limit or 0
        failed_in_a_row = 0
        coming = islice(_distinct(photos), limit)
        while some := list(islice(coming, AT_ONCE)):
            for what in pool.map(self.one_photo, some):
                failed_in_a_row = failed_in_a_row + 1 if what == "failed" else 0
                self.done += 1
                self.tell()
            if failed_in_a_row >= AT_ONCE:
                raise FetchError(
                    f"the last {failed_in_a_row} photos could not be fetched; the first failure: "
                    f"{self.result.first_errors[0]} Check the connection and run the command "
                    f"again; {self.result.photos_fetched:,} photos arrived and are kept."
                )

    def one_file(self, file: RemoteFile) -> bool:
        """Whether it arrived now; False if it was there."""
        place = place_of(self.folder, file.path)
        if self.is_there(file, place):
            return False
        self.get(file, place, check=None)
        return True

    def one_photo(self, photo: RemoteFile) -> str:
        """ "kept", "fetched", "gone" or "failed", counted in the result."""
        try:
            place = place_of(self.folder, photo.path)
            if self.is_there(photo, place):
                return self.counted("kept")
            if known := self.manifest.get(photo.path).get("gone"):
                return self.counted("gone", FetchError("", reason=known))
            self.get(photo, place, check=_check_photo)
            return self.counted("fetched")
        except FetchError as error:
            if error.gone and error.reason != BAD_NAME:
                self.manifest.add(photo.path, gone=error.reason, url=photo.urls[-1:])
            return self.counted("gone" if error.gone else "failed", error)

    def get(self, file: RemoteFile, place: Path, *, check: Callable[[Path], None] | None) -> None:
        """Fetch it from the first of its addresses that is not dead."""

        def on_bytes(count: int) -> None:
            with self.lock:
                self.result.num_bytes += count
            self.tell()

        error = FetchError(f"{file.path}: it has no address", reason="no address", gone=True)
        for url in file.urls:
            try:
                sha256 = self.downloader.get(
                    url,
                    place,
                    max_bytes=file.max_bytes,
                    sha256=file.sha256,
                    check=check,
                    on_bytes=on_bytes,
                )
                size = place.stat().st_size
                self.manifest.add(file.path, bytes=size, sha256=sha256, url=url)
                return
            except FetchError as failure:
                error = failure
                if not failure.gone:
                    break
        raise error

    def is_there(self, file: RemoteFile, place: Path) -> bool:
        """Whether the file is there; FetchError if it is another than the one that was fetched."""
        if not place.exists():
            return False
        wanted = file.sha256 or self.manifest.get(file.path).get("sha256", "")
        if wanted:
            with disk(place):
                found = sha256_of(place)
            if found != wanted:
                raise FetchError(
                    f"{place} has the SHA-256 {found[:16]}..., wanted {wanted[:16]}...: it changed "
                    "since it was fetched, or it is another file. It was not touched; move it away "
                    "to fetch it anew.",
                    reason="checksum",
                )
        return True

    def tell(self) -> None:
        megabytes = self.result.num_bytes / 1e6
        self.told(f"{self.phase} ({megabytes:,.1f} MB)", self.done, self.total)

    def counted(self, what: str, error: FetchError | None = None) -> str:
        with self.lock:
            name = f"photos_{what}"
            if error is None:
                setattr(self.result, name, getattr(self.result, name) + 1)
            else:
                getattr(self.result, name)[error.reason] += 1
                if str(error) and len(self.result.first_errors) < _KEPT_ERRORS:
                    self.result.first_errors.append(str(error))
        return what


def place_of(folder: Path, name: str) -> Path:
    """``folder``/``name``; FetchError for a name that leads out of it, or through a link."""
    place = folder / name
    short = all(len(part.encode(errors="replace")) <= MAX_NAME for part in name.split("/"))
    try:
        inside = place.parent.resolve().is_relative_to(folder.resolve())
        if is_plain_path(name) and short and inside and not place.is_symlink():
            return place
    except (OSError, ValueError, RuntimeError):
        pass  # a name that no disk takes; a link to itself
    raise FetchError(
        f'the name "{name[:80]!s}" leads out of {folder} or is no plain path; it was not fetched. '
        "Look at the record that names it.",
        reason=BAD_NAME,
        gone=True,
    )


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
