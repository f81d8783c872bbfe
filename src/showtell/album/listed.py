"""What is known of an album's photos beside their vectors: one SQLite file, ``album.sqlite``.

    about     format, who made the vectors, their width, their file
    photos    id, path of the copy, caption, source, when and where it was taken; its look, and
              which shot it is of (alike.py)
    files     which files were read, by the SHA-256 of their bytes: they are not read again
    words     FTS5: the words by which each photo may be asked for, and its caption's in their order
    gone      copies that are still to be removed

A photo's rank by its key is the number of its row among the vectors. Without a write-ahead log:
what was removed would stay in it for as long as a reader lives.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cached_property
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, overload

import numpy as np

from showtell.album.index import AlbumPhoto
from showtell.album.told import plain_words, words_known
from showtell.errors import DataError

FORMAT = "3"
LIST = "album.sqlite"
TABLES = """
create table about (name text primary key, value text not null) without rowid;
create table photos (
    key integer primary key autoincrement, id text not null unique, path text,
    caption text not null, source text not null, taken text not null, place text not null,
    shot integer not null, look blob
);
create table files (digest text primary key, key integer not null) without rowid;
create index files_of on files (key);
create virtual table words using fts5 (known, told, tokenize = "unicode61 remove_diacritics 0");
create table gone (path text primary key) without rowid;
"""
FIELDS = [field.name for field in fields(AlbumPhoto)]
_COLUMNS = ", ".join(("key", *FIELDS))


class Photos(Sequence[AlbumPhoto]):
    """The photos of an opened album, each made where it is looked at; DataError for one whose
    description is not an album's."""

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> AlbumPhoto: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[AlbumPhoto]: ...

    def __getitem__(self, at: int | slice) -> AlbumPhoto | Sequence[AlbumPhoto]:
        if isinstance(at, slice):
            return tuple(Photos(self.rows[at]))
        return AlbumPhoto(**dict(zip(FIELDS, self.rows[at][1:], strict=True)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]


class Listed:
    """The list as it was when it was opened; any thread may ask."""

    def __init__(self, opened: sqlite3.Connection, *, folder: Path | None) -> None:
        self._opened, self._folder, self._one = opened, folder, Lock()
        weakref.finalize(self, opened.close)
        query = f"select {_COLUMNS} from photos order by key"
        self.photos = Photos(opened.execute(query).fetchall())
        self._version = self._now()

    def _now(self) -> int:
        return self._rows("pragma data_version")[0][0]

    def _rows(self, query: str, *given: str) -> list[tuple[Any, ...]]:
        with self._one:
            return self._opened.execute(query, given).fetchall()

    def changed(self) -> Path | None:
        """The album's folder, if another has changed what it holds. Raises DataError where that can
        no longer be read."""
        if self._folder is None:
            return None
        with readable(self._folder):
            return self._folder if self._now() != self._version else None

    @cached_property
    def place_of(self) -> dict[str, int]:
        """Where each id stands."""
        return {row[1]: m for m, row in enumerate(self.photos.rows)}

    @cached_property
    def shots_M(self) -> np.ndarray:
        return np.array([row[1 + FIELDS.index("shot")] for row in self.photos.rows], dtype=np.int64)

    @cached_property
    def _keys_M(self) -> np.ndarray:
        return np.array([row[0] for row in self.photos.rows], dtype=np.int64)

    def with_word(self, word: str) -> np.ndarray:
        """Where the photos stand that may be asked for by this word, in order."""
        return self._matching(f"known : {_quoted(word)}")

    def with_term(self, term: str) -> np.ndarray:
        """The same of a word, or of words in a row in a caption (shown.py)."""
        anywhere = " " not in term
        return self._matching(f"{'{known told}' if anywhere else 'told'} : {_quoted(term)}")

    def _matching(self, what: str) -> np.ndarray:
        found = self._rows("select rowid from words where words match ? order by rowid", what)
        keys = np.fromiter((key for (key,) in found), dtype=np.int64)
        if len(keys) == 0 or len(self._keys_M) == 0:
            return keys[:0]
        # since the list was opened some may have come
        at = np.searchsorted(self._keys_M, keys).clip(max=len(self._keys_M) - 1)
        return at[self._keys_M[at] == keys]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def listed_in_memory(photos: Sequence[AlbumPhoto]) -> Listed:
    """Of photos that lie in no folder."""
    opened = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    opened.executescript(TABLES)
    insert(opened, photos)
    return Listed(opened, folder=None)


def opened_list(folder: Path) -> tuple[Listed, dict[str, str]]:
    """The list of an album's folder, and what it says about the album. Raises DataError for a
    broken one, and for one of another format."""
    with readable(folder):
        connection = connected(folder)
        try:
            connection.execute("begin")
            about = about_of(connection, folder)
            listed = Listed(connection, folder=folder)
            connection.execute("commit")
        except BaseException:
            connection.close()
            raise
    return listed, about


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """What fails inside is a DataError that names the album."""
    try:
        yield
    except (OSError, sqlite3.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f'the album in "{folder}" cannot be read ({type(error).__name__}: {error}); wanted '
            f"{LIST} and the vectors that it names. Index the photos again."
        ) from error


def connected(folder: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error."""
    # where nothing can be written nothing changes, and no lock can be taken
    how = "mode=rw" if os.access(folder, os.W_OK) else "mode=ro&immutable=1"
    address = f"{(folder / LIST).resolve().as_uri()}?{how}"
    return sqlite3.connect(
        address, uri=True, timeout=30, check_same_thread=False, isolation_level=None
    )


def about_of(connection: sqlite3.Connection, folder: Path) -> dict[str, str]:
    """What the list says of the album, all that there must be. Raises DataError, KeyError."""
    about = dict(connection.execute("select name, value from about"))
    if about["format"] != FORMAT:
        raise DataError(
            f'the album in "{folder}" is of format {about["format"]}, wanted {FORMAT}; it was '
            "written by another version of showtell. Index the photos again."
        )
    int(about["width"])
    about["vectors"] = PurePosixPath(about["vectors"]).name  # in this folder and no other
    return {name: about[name] for name in ("made_by", "width", "vectors", "unfinished")}


def insert(connection: sqlite3.Connection, photos: Sequence[AlbumPhoto]) -> list[int]:
    """The photos and their words, at the end; their keys."""
    columns = f"({', '.join(FIELDS)}) values ({', '.join('?' * len(FIELDS))})"
    keys = []
    for photo in photos:
        row = [getattr(photo, name) for name in FIELDS]
        key = connection.execute(f"insert into photos {columns}", row).lastrowid
        assert key is not None
        keys.append(key)
        insert_words(connection, key, photo)
    return keys


def insert_words(connection: sqlite3.Connection, key: int, photo: AlbumPhoto) -> None:
    known = " ".join(sorted(words_known(photo)))
    row = (key, known, " ".join(plain_words(photo.caption)))
    connection.execute("insert into words (rowid, known, told) values (?, ?, ?)", row)
