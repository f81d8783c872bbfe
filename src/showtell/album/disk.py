"""An album's folder, for the one process that changes it.

    album.sqlite                 the list (listed.py)
    vectors-0123456789ab.f32     2 x E numbers a photo, in the photos' order: its own vector and
                                 that of its words; read where it lies
    photos/                      the copies (ingest.py)

Photos come at the end: copies and vectors are on the disk before the list names them, so that a
kill leaves what nobody reads and the next addition overwrites. Where one is taken away the vectors
are written anew without it, named by the list, and then what was is removed; until that is done the
album says "unfinished", and the next verb finishes it.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from showtell.album.alike import Looks
from showtell.album.index import AlbumPhoto
from showtell.album.listed import (
    FORMAT,
    LIST,
    TABLES,
    Listed,
    about_of,
    connected,
    insert,
    insert_words,
    opened_list,
    readable,
)
from showtell.album.old_layout import remove_old
from showtell.data.storage import writing
from showtell.errors import StorageError

VECTORS = "vectors-*.f32"
COPIES = "photos"
_OWN = "album-*"  # copies that were made here, and may be removed here


@dataclass(frozen=True, kw_only=True)
class Coming:
    """A photo that is to be added, the SHA-256 of its file, and its look (alike.py)."""

    photo: AlbumPhoto
    digest: str
    look: bytes


def opened(folder: Path) -> tuple[Listed, np.ndarray, str]:
    """(the list, the vectors (M, 2, E), who made them). Raises DataError for a broken album."""
    for last in (False, True):
        listed, about = opened_list(folder)
        shape = (len(listed.photos), 2, int(about["width"]))
        if shape[0] == 0:
            return listed, np.zeros(shape, dtype=np.float32), about["made_by"]
        with readable(folder):
            try:  # of one's own: what is written to it stays here
                path = folder / about["vectors"]
                vectors = np.memmap(path, dtype=np.float32, mode="c", shape=shape)
            except FileNotFoundError:  # another has just written the album anew
                if last:
                    raise
                continue
        return listed, np.asarray(vectors), about["made_by"]
    raise AssertionError


class Store:
    """An album's folder, which must be ``locked``; close it."""

    def __init__(self, folder: Path) -> None:
        """Raises DataError as ``opened`` does."""
        self.folder = folder
        with readable(folder):
            self.connection = connected(folder)
            try:
                for setting in (
                    "journal_mode = delete",
                    "synchronous = full",
                    "secure_delete = on",
                ):
                    self.connection.execute(f"pragma {setting}").fetchall()
                about = about_of(self.connection, folder)
            except BaseException:
                self.connection.close()
                raise
        self.made_by, self.width = about["made_by"], int(about["width"])
        self.unfinished = about["unfinished"] == "yes"
        self.vectors = folder / about["vectors"]

    def close(self) -> None:
        self.connection.close()

    def __len__(self) -> int:
        return self.connection.execute("select count(*) from photos").fetchone()[0]

    def captions(self) -> dict[str, str]:
        """The caption of each photo by its id."""
        return dict(self.connection.execute("select id, caption from photos"))

    def files(self) -> dict[str, str]:
        """The photo of each file that was read, by the digest of its bytes."""
        query = "select digest, id from files join photos using (key)"
        return dict(self.connection.execute(query))

    def say(self, **about: str) -> None:
        """Change what the album says about itself."""
        with self._changing() as connection:
            _say(connection, **about)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """All that is done inside, or nothing. Raises StorageError."""
        connection = self.connection
        try:
            connection.execute("begin immediate")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise
        except sqlite3.OperationalError as error:  # a full disk, no permission
            raise StorageError(
                f"{self.folder / LIST} could not be written: {error}; what was there before is "
                "kept. Free some space, and run the command again."
            ) from error

    def add(self, coming: Sequence[Coming], vectors_NTE: np.ndarray) -> None:
        """Add photos, whose copies are there: all of them, or none. Raises StorageError."""
        at = len(self) * 2 * self.width * 4
        with (
            writing(self.vectors, kept="what was there before is kept"),
            open(self.vectors, "r+b") as file,
        ):
            file.truncate(at)  # what a stopped one left
            file.seek(at)
            file.write(np.ascontiguousarray(vectors_NTE, dtype=np.float32).tobytes())
            file.flush()
            os.fsync(file.fileno())
        with self._changing() as connection:
            keys = insert(connection, [each.photo for each in coming])
            for key, each in zip(keys, coming, strict=True):
                connection.execute("insert or replace into files values (?, ?)", (each.digest, key))
                first = self._looks.first_alike(each.look)
                shot = 0 if first is None else self._seen[first]
                if not shot:
                    self._looks.append(each.look)
                    self._seen.append(key)
                row = (each.look, shot, key)
                connection.execute("update photos set look = ?, shot = ? where key = ?", row)
                connection.execute("update photos set shot = key where key = ?", (shot,))

    @cached_property
    def _looks(self) -> Looks:
        """The looks of the first of each shot; ``_seen`` has their keys."""
        query = "select key, look from photos where look is not null and shot in (0, key)"
        rows = self.connection.execute(f"{query} order by key").fetchall()
        self._seen = [key for key, _ in rows]
        return Looks([look for _, look in rows])

    def know(self, files: Mapping[str, str]) -> None:
        """Files that are photos of the album: their ids by the files' digests."""
        query = "insert or replace into files select ?, key from photos where id = ?"
        with self._changing() as connection:
            connection.executemany(query, files.items())

    def remove(self, ids: Collection[str]) -> None:
        """Take photos out of the list and the vectors. ``finish`` removes what is left of them.
        Raises StorageError."""
        listed, vectors_MTE, _ = opened(self.folder)
        gone = sorted(listed.place_of[id] for id in set(ids))
        paths = [listed.photos[m].path for m in gone]
        rows_MTE = np.delete(vectors_MTE, gone, axis=0)
        with self._anew(rows_MTE) as connection:
            for m, path in zip(gone, paths, strict=True):
                for table, column in (("words", "rowid"), ("files", "key"), ("photos", "key")):
                    key = listed.photos.rows[m][0]
                    connection.execute(f"delete from {table} where {column} = ?", (key,))
                if path is not None:
                    connection.execute("insert or replace into gone values (?)", (path,))

    def recaption(self, captions: Mapping[str, str], words_NE: np.ndarray | None) -> None:
        """Other captions of photos, by their ids, and their vectors. ``finish`` removes what is
        left of those before. Raises StorageError."""
        listed, vectors_MTE, _ = opened(self.folder)
        rows_MTE = vectors_MTE.copy()
        if words_NE is not None:
            rows_MTE[[listed.place_of[id] for id in captions], 1] = words_NE
        with self._anew(rows_MTE) as connection:
            for id, caption in captions.items():
                m = listed.place_of[id]
                key = listed.photos.rows[m][0]
                connection.execute("update photos set caption = ? where key = ?", (caption, key))
                connection.execute("delete from words where rowid = ?", (key,))
                insert_words(connection, key, replace(listed.photos[m], caption=caption))

    def rewrite(self, photos: Sequence[AlbumPhoto], vectors_MTE: np.ndarray, made_by: str) -> None:
        """Another album in place of this one. Raises StorageError."""
        with self._anew(vectors_MTE) as connection:
            paths = connection.execute("select path from photos where path is not null").fetchall()
            for table in ("photos", "files", "words"):
                connection.execute(f"delete from {table}")
            connection.executemany("insert or replace into gone values (?)", paths)
            _say(connection, made_by=made_by, width=str(vectors_MTE.shape[2]))
            insert(connection, photos)
        self.made_by, self.width = made_by, vectors_MTE.shape[2]

    @contextmanager
    def _anew(self, rows_MTE: np.ndarray) -> Iterator[sqlite3.Connection]:
        with (
            _new_vectors(self.folder, rows_MTE) as vectors,
            self._changing() as connection,
        ):
            yield connection
            _say(connection, vectors=vectors.name, unfinished="yes")
        self.vectors, self.unfinished = vectors, True

    def finish(self) -> None:
        """Remove what no photo of the album has: copies, vectors, and what stood in the list.
        Raises StorageError."""
        kept = {path for (path,) in self.connection.execute("select path from photos")}
        gone = {path for (path,) in self.connection.execute("select path from gone")} - kept
        own = (f"{COPIES}/{copy.name}" for copy in (self.folder / COPIES).glob(_OWN))
        for path in gone.union(own) - kept:
            AlbumPhoto(id="", path=path)  # DataError for one that is not the album's
            (self.folder / path).unlink(missing_ok=True)
        for old in self.folder.glob(VECTORS):
            if old != self.vectors:
                old.unlink(missing_ok=True)
        remove_old(self.folder)
        if not self.unfinished:
            return
        try:
            # deleted rows are gone once their tombstones are merged and the file is rewritten
            self.connection.execute("insert into words (words) values ('optimize')")
            self.connection.execute("delete from gone")
            self.connection.execute("vacuum")
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"{self.folder / LIST} could not be cleaned of what was removed: {error}; it can "
                "no longer be found, and the next command cleans it. Free some space."
            ) from error
        self.say(unfinished="no")
        self.unfinished = False


def written(
    folder: Path, photos: Sequence[AlbumPhoto], vectors_MTE: np.ndarray, made_by: str
) -> Path:
    """Write a whole album in place of the one that is there; the path of its list. Whenever it is
    stopped, the one of before is there, or this one. Raises StorageError."""
    path = folder / LIST
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
    there = path.is_file()
    if not there:
        _create(path, photos, vectors_MTE, made_by)
    with closing(Store(folder)) as store:
        if there:
            store.rewrite(photos, vectors_MTE, made_by)
        store.finish()
    return path


def _create(
    path: Path, photos: Sequence[AlbumPhoto], vectors_MTE: np.ndarray, made_by: str
) -> None:
    fresh = path.with_name(f".{LIST}.{uuid.uuid4().hex}.part")
    with _new_vectors(path.parent, vectors_MTE) as vectors:
        try:
            with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
                connection.executescript(f"pragma synchronous = full; begin; {TABLES}")
                about = {"format": FORMAT, "made_by": made_by, "vectors": vectors.name}
                about |= {"width": str(vectors_MTE.shape[2]), "unfinished": "no"}
                connection.executemany("insert into about values (?, ?)", about.items())
                insert(connection, photos)
                connection.execute("commit")
            with writing(path):
                fresh.replace(path)
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"{path} could not be written: {error}; nothing that stood there was changed. Free "
                "some space or name another folder, and run the command again."
            ) from error
        finally:
            fresh.unlink(missing_ok=True)


@contextmanager
def _new_vectors(folder: Path, rows_MTE: np.ndarray) -> Iterator[Path]:
    """A file of these vectors, which goes again where what follows fails."""
    path = folder / VECTORS.replace("*", uuid.uuid4().hex[:12])
    try:
        with writing(path), open(path, "xb") as file:
            file.write(np.ascontiguousarray(rows_MTE, dtype=np.float32).tobytes())
            file.flush()
            os.fsync(file.fileno())
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _say(connection: sqlite3.Connection, **about: str) -> None:
    rows = [(name, value) for name, value in about.items()]
    connection.executemany("update about set value = ?2 where name = ?1", rows)
