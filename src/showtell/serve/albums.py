"""Whose album is whose: the server's own, and one of each key, in a folder by the key's digest.

An owner is shown photos of their own album, and those of the server's where that is for all; at
home, where nobody is asked for a key, it is. One encoder serves them all, that of the server's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from showtell.agent.which import PhotosInWords, Together, Which
from showtell.album.find import Finder
from showtell.album.index import Album, AlbumPhoto, content_of
from showtell.album.ingest import add_photo, has_album, remove
from showtell.errors import UsageError
from showtell.serve.keys import LOCAL

MAX_PHOTOS = 10_000  # of a key


class Albums:
    """Of what these ``agents`` share: from now on each asks the albums of who talks with it.

    ``folder``: where the keys' albums lie; none: nobody can add to one. ``shared``: every key may
    see the server's own.
    """

    def __init__(
        self, agents: Iterable[Any] = (), folder: Path | None = None, *, shared: bool = False
    ) -> None:
        self.folder, self.shared = folder, shared
        which = [w for agent in agents if isinstance(w := getattr(agent, "photos", None), Which)]
        own = (each.album for each in which if isinstance(each.album, PhotosInWords))
        self.servers: PhotosInWords | None = next(own, None)
        self._opened: dict[str, PhotosInWords] = {}
        self._one = threading.Lock()
        for each in which:
            if each.album is not None:
                each.albums = self.of

    @property
    def adds(self) -> bool:
        """Whether owners may add photos."""
        return bool(self.folder and self.servers and self.servers.encoder)

    def of(self, owner: str) -> Together | None:
        """What an owner may see. Raises DataError for an album that cannot be read."""
        own = self._own(owner)
        others = self.servers if self.shared or owner in ("", LOCAL) else None
        albums = [album for album in (own, others) if album is not None]
        return Together(albums) if albums else None

    def add(
        self, owner: str, data: bytes, *, name: str, caption: str, times: bool, places: bool
    ) -> tuple[AlbumPhoto, bool]:
        """(the photo, whether it is new) in the owner's album. Raises PhotoError, StorageError;
        UsageError where nothing can be added."""
        encoder = self.servers and self.servers.encoder
        if self.folder is None or not encoder:
            raise UsageError(
                "this server keeps no albums; start it with one: showtell serve --album DIR|sample"
            )
        with self._one:
            own = self._own(owner)
            if own is None and has_album(self.folder / owner):
                raise UsageError(
                    "this album was made by another encoder than the server's, and takes no more "
                    "photos; ask whoever runs the server"
                )
            if own is not None and len(own.finder.album) >= MAX_PHOTOS:
                raise UsageError(
                    f"the album has {MAX_PHOTOS:,} photos, and that is as many as a key may have; "
                    "remove some"
                )
            return add_photo(
                data,
                into=self.folder / owner,
                source=name,
                caption=caption,
                embed=encoder.photos,
                texts=encoder.texts,
                width=encoder.width,
                made_by=encoder.name,
                days=times,
                places=places,
            )

    def remove(self, owner: str, id: str) -> bool:
        """Take a photo out of the owner's album for good; whether it was there. Raises UsageError
        for one of the server's."""
        with self._one:
            own = self._own(owner)
            if own is not None and own.of_id(id) is not None:
                remove(own.folder, [id])
                own.finder.refresh()
                return True
        both = self.of(owner)
        if both is not None and both.of_id(id) is not None:
            raise UsageError(
                "this photo is of the server's own album; take it out there: showtell album remove "
                f"ALBUM {id}"
            )
        return False

    def _own(self, owner: str) -> PhotosInWords | None:
        encoder = self.servers and self.servers.encoder
        if self.folder is None or not owner or not encoder:
            return None
        folder = self.folder / owner
        if owner not in self._opened:
            if not has_album(folder):
                return None
            album = Album.load(folder)
            if (content_of(album.made_by), album.width) != (
                content_of(encoder.name),
                encoder.width,
            ):
                return None  # of another encoder: kept, and not asked
            finder = Finder(album, encoder.texts, terms=encoder.terms, cut_off=encoder.cut_off)
            self._opened[owner] = PhotosInWords(finder, folder, encoder=encoder)
        found = self._opened[owner]
        found.finder.refresh()
        return found
