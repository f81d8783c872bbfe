"""An album that immich keeps, asked in words; nothing of it is changed, and nothing written here.

    immich:http://photos.home:2283      the address; the key is in IMMICH_API_KEY, and needs
                                        asset.read, asset.view and person.read alone

immich's smart search tells no score, and has a nearest photo for anything. So its best ones are
looked at here, among some photos that were drawn at random: the score is then what it is in an
album of our own (find.py), and so is its cut-off. People are known by the names that immich has for
them; trashed, archived and locked photos are not asked for. Photos are held in memory, as few as
were looked at last.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import requests
import torch
from PIL.Image import Image

from showtell.album.find import AlbumEncoder, Finder
from showtell.album.index import Album, AlbumPhoto, Hit
from showtell.album.ingest import MAX_SIDE, told_vectors
from showtell.album.told import asked, words_of
from showtell.data.pixels import at_most, photo_from_bytes
from showtell.errors import EngineError, PhotoError, UsageError

PREFIX = "immich:"
NEAREST, AT_RANDOM = 20, 100  # photos of a search; of the library, to know what is usual
MAX_BYTES, TIMEOUT_S = 20_000_000, 30.0
KEPT, KNOWN = 400, 20_000  # previews; vectors
PEOPLE_S = 600.0  # until people are asked for again
MAX_PEOPLE, MOST_NAMESAKES = 10_000, 4
_ID = re.compile(r"[0-9a-fA-F-]{36}")


class Immich:
    """A library: what is asked of its server. Raises EngineError for one that does not answer."""

    def __init__(self, address: str, key: str) -> None:
        """Raises UsageError for what is no address, and without a key."""
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise UsageError(
                f'the library is at "{address:.200}"; wanted immich:http://HOST:PORT or '
                "immich:https://HOST"
            )
        if not key:
            raise UsageError(
                "immich wants a key, and IMMICH_API_KEY is not set; make one there (Account "
                "Settings, API Keys) that may read assets, view them, and read people, no more"
            )
        self.address = address.rstrip("/").removesuffix("/api")
        self._session = requests.Session()
        self._session.trust_env = False  # the machine's proxies and passwords are not for it
        self._session.headers.update({"x-api-key": key, "Accept-Encoding": "identity"})

    def nearest(self, words: str, *, people: Collection[str] = ()) -> list[AlbumPhoto]:
        """The best photos for words, of all these people by their ids."""
        body: dict[str, Any] = {"query": words, "size": NEAREST, **_OF_ALL}
        if people:
            body["personIds"] = sorted(people)
        found = self._said("/search/smart", body)
        return _photos_in(found.get("assets") if isinstance(found, Mapping) else None)

    def at_random(self) -> list[AlbumPhoto]:
        return _photos_in({"items": self._said("/search/random", {"size": AT_RANDOM, **_OF_ALL})})

    def people(self) -> list[tuple[str, str]]:
        """(name, id) of all who have a name."""
        found: list[tuple[str, str]] = []
        for page in itertools.count(1):
            said = self._said(f"/people?page={page}&size=500&withHidden=false", None)
            several = said.get("people") if isinstance(said, Mapping) else None
            for person in several if isinstance(several, list) else []:
                told = person if isinstance(person, Mapping) else {}
                name, id = told.get("name"), told.get("id")
                if isinstance(name, str) and name.strip() and _is_id(id):
                    found.append((name.strip(), str(id)))
            if not (several and said.get("hasNextPage")) or len(found) >= MAX_PEOPLE:
                return found
        raise AssertionError

    def preview(self, id: str) -> bytes:
        """The file of a photo, about 1,440 pixels a side."""
        return self._asked(f"/assets/{id}/thumbnail?size=preview", None)

    def _said(self, path: str, body: Mapping[str, Any] | None) -> Any:
        data = self._asked(path, body)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._wrong("answered what is not JSON; is it immich?") from error

    def _asked(self, path: str, body: Mapping[str, Any] | None) -> bytes:
        how: dict[str, Any] = {"timeout": TIMEOUT_S, "stream": True, "allow_redirects": False}
        url, until = f"{self.address}/api{path}", time.monotonic() + TIMEOUT_S
        try:
            with self._session.request(
                "GET" if body is None else "POST", url, json=body, **how
            ) as a:
                if a.status_code in (401, 403):
                    raise self._wrong(
                        f"answered {a.status_code}; the key in IMMICH_API_KEY must be able to read "
                        "assets, view them, and read people"
                    )
                if a.status_code not in (200, 201):
                    raise self._wrong(f"answered {a.status_code} to {path.partition('?')[0]}")
                data = bytearray()
                for part in a.iter_content(1 << 16):
                    data += part
                    if len(data) > MAX_BYTES or time.monotonic() > until:
                        raise self._wrong("sends too much, or too slowly")
                return bytes(data)
        except requests.RequestException as error:
            raise self._wrong(f"cannot be asked ({type(error).__name__})") from error

    def _wrong(self, what: str) -> EngineError:
        return EngineError(f"immich at {self.address} {what}")


# which assets: photos, and of these those of the timeline (none that is archived or locked)
_OF_ALL = {"type": "IMAGE", "visibility": "timeline", "withExif": True}


def _photos_in(found: Any) -> list[AlbumPhoto]:
    """The photos of an answer: what else it has, and what is not to be seen, is passed over."""
    items = found.get("items") if isinstance(found, Mapping) else None
    photos: dict[str, AlbumPhoto] = {}
    for item in items if isinstance(items, list) else []:
        if not isinstance(item, Mapping) or not _is_id(item.get("id")):
            continue
        hidden = item.get("isTrashed") or item.get("isArchived")
        if (
            hidden
            or item.get("type") != "IMAGE"
            or item.get("visibility") not in (None, "timeline")
        ):
            continue
        exif = item.get("exifInfo")
        told = exif if isinstance(exif, Mapping) else {}
        photos[item["id"]] = AlbumPhoto(
            id=item["id"],
            caption=_text(told.get("description")),
            source=_text(item.get("originalFileName")),
            taken=_text(item.get("localDateTime"))[:19],
            place=", ".join(filter(None, (_text(told.get("city")), _text(told.get("country"))))),
        )
    return list(photos.values())


def _text(told: Any) -> str:
    return " ".join(told.split())[:1000] if isinstance(told, str) else ""


def _is_id(told: Any) -> bool:
    return isinstance(told, str) and _ID.fullmatch(told) is not None


class ImmichFinder:
    """Asks a library as ``Finder`` asks an album."""

    def __init__(self, library: Immich, encoder: AlbumEncoder) -> None:
        self.library, self.encoder, self.cut_off = library, encoder, encoder.cut_off
        self._seen: dict[str, tuple[AlbumPhoto, torch.Tensor]] = {}  # the vectors
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._people: tuple[float, list[tuple[str, str]]] = (-PEOPLE_S, [])
        self._one = Lock()

    @cached_property
    def _usual(self) -> Finder:
        """Photos at random, and what everyday phrases have with them."""
        photos, encoder = self._looked_at(self.library.at_random()), self.encoder
        album = self._album_of(photos)
        return Finder(album, encoder.texts, terms=encoder.terms, cut_off=encoder.cut_off)

    @property
    def album(self) -> Album:
        """Of the photos that were drawn at random."""
        with self._one:
            return self._usual.album

    def find(
        self,
        text: str,
        *,
        top_k: int,
        cut_off: float | None = None,
        without: Collection[str] = (),
    ) -> list[Hit]:
        """As ``Finder.find``, among the photos that immich has nearest. Raises EngineError too."""
        with self._one:
            usual = self._usual
            found: dict[str, AlbumPhoto] = {}
            people = self._named(text)
            # of namesakes any one is meant
            for each in itertools.islice(itertools.product(*people.values()), MOST_NAMESAKES):
                for photo in self.library.nearest(asked(text), people=each):
                    told = ", ".join(filter(None, (*people, photo.caption)))
                    found[photo.id] = replace(photo, caption=told)
            photos = self._looked_at(list(found.values()))
            rest = [m for m, photo in enumerate(usual.album.photos) if photo.id not in found]
            others = [usual.album.photos[m] for m in rest]
            told_ME = usual.album.texts_ME[rest]
            among = self._album_of(photos)
            among = among.with_photos(others, usual.album.embeddings_ME[rest], texts_ME=told_ME)
            finder = usual.over(among)
        left = {photo.id for photo in others} if people else set()
        return finder.find(text, top_k=top_k, cut_off=cut_off, without=left.union(without))

    def of_id(self, id: str) -> AlbumPhoto | None:
        """One that was looked at."""
        return self._seen[id][0] if id in self._seen else None

    def image(self, id: str) -> Image:
        """Its pixels. Raises EngineError, PhotoError."""
        return at_most(photo_from_bytes(self._file(id), name=f"the photo {id}"), MAX_SIDE)

    def _named(self, text: str) -> dict[str, list[str]]:
        """The people that a text names, and their ids: by all of a name, or by a first name that
        one alone has."""
        asked_at, people = self._people
        if time.monotonic() - asked_at > PEOPLE_S:
            people = self.library.people()
            self._people = time.monotonic(), people
        words, named = words_of(text), dict[str, list[str]]()
        first: dict[str, set[str]] = {}
        for name, _ in people:
            first.setdefault(name.split()[0].casefold(), set()).add(name)
        for name, id in people:
            own, called = words_of(name), name.split()[0].casefold()
            alone = first[called] == {name} and words_of(called) and words_of(called) <= words
            if (own and own <= words) or alone:
                named.setdefault(name, []).append(id)
        return named

    def _looked_at(self, photos: Sequence[AlbumPhoto]) -> list[AlbumPhoto]:
        """Those whose pixels can be had; their vectors are known then."""
        kept = []
        for photo in photos:
            try:
                if photo.id not in self._seen:
                    (vector_E,) = self.encoder.photos([self.image(photo.id)])
                else:
                    vector_E = self._seen[photo.id][1]
            except PhotoError:
                continue
            self._seen.pop(photo.id, None)  # the latest come last
            self._seen[photo.id] = photo, vector_E
            kept.append(photo)
        for id in list(self._seen)[: max(0, len(self._seen) - KNOWN)]:
            del self._seen[id]
        return kept

    def _album_of(self, photos: Sequence[AlbumPhoto]) -> Album:
        width = self.encoder.width
        rows = [self._seen[photo.id][1] for photo in photos]
        vectors_ME = torch.stack(rows) if rows else torch.zeros(0, width)
        told_ME = told_vectors(photos, self.encoder.texts, width=width)
        return Album(photos, vectors_ME, texts_ME=told_ME, made_by=self.encoder.name)

    def _file(self, id: str) -> bytes:
        if id not in self._files:
            self._files[id] = self.library.preview(id)
            while len(self._files) > KEPT:
                self._files.popitem(last=False)
        return self._files[id]
