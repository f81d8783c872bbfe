"""Photos from a folder into an album: checked, upright, stripped of metadata, embedded.

What the album keeps is a copy: RGB without EXIF, place, thumbnail or profile, at most MAX_SIDE
pixels a side, under a name made of its own pixels; a PNG where the file kept all it had, else a
JPEG. The same photo in two places is one photo; an original can be moved or deleted without harm.
What is known of it in words (caption, name, the day by its EXIF) goes into the album's list, which
stays here, and into no copy. A file whose bytes were read before is not read again.

One process at a time changes an album; another is refused. Photos are added some at a time, those
for good: a run that is stopped, however, goes on from there, and what it had half done the next one
finishes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from showtell.album.alike import look_of
from showtell.album.disk import COPIES, Coming, Store
from showtell.album.gather import photo_paths
from showtell.album.index import (
    Album,
    AlbumPhoto,
    check_ids,
    check_width,
    content_of,
    empty_album,
)
from showtell.album.listed import LIST
from showtell.album.old_layout import has_old
from showtell.album.places import Places
from showtell.album.told import captions_in, degrees_in, exif_of, taken_at, told_of
from showtell.batch import stacked, to_pixels
from showtell.data.photos import photo_bytes, save_photo
from showtell.data.pixels import (
    FORMAT_NAMES,
    at_most,
    is_lossless,
    photo_from_bytes,
)
from showtell.data.storage import locked
from showtell.errors import DataError, MissingDependency, PhotoError, StorageError
from showtell.progress import Progress, quiet

MAX_SIDE = 1024
BATCH = 16

Embed = Callable[[Sequence[Image.Image]], Tensor]
Texts = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """The album, how many photos are new in it, of how many that were in it the caption is another
    now, and what was left out: photos that cannot be read, and files that are no photo, each with
    the reason; how many say where they were taken in vain, and why."""

    album: Album
    added: int
    recaptioned: int
    duplicates: int
    unplaced: int
    no_places: MissingDependency | None
    refused: tuple[PhotoError, ...]
    left_out: tuple[str, ...]


def add_photos(
    folder: str | Path,
    *,
    into: str | Path,
    embed: Embed,
    width: int,
    made_by: str,
    texts: Texts | None = None,
    days: bool = True,
    places: bool = True,
    skip_bad: bool = False,
    told: Progress = quiet,
) -> Ingested:
    """Add the photos of a folder and its subfolders, in the order of their names, to an album.

    ``into`` is the album's folder, new or of the same model (``made_by``, ``width``); ``embed``:
    images -> (n, width), and ``texts``, for a search by words: texts -> (n, width), one space.
    Captions are those of the folder's captions.jsonl or metadata.jsonl, if there is one, also for
    photos that the album has already; ``days`` and ``places``: keep when, and in which city, a
    photo was taken, as EXIF tells (the extra ``places``). A photo that cannot
    be read raises its PhotoError (with ``skip_bad`` it is left out and reported); a folder without
    a single photo is a DataError, and so is an album of another model. What is a link out of the
    folder is not followed. ``told`` hears how many of the files were read.
    """
    folder, into = Path(folder), Path(into)
    paths, left_out = photo_paths(folder)
    if not paths:
        others = f" What is there: {left_out[0]}." if left_out else ""
        raise DataError(
            f'"{folder}" holds no photo ({FORMAT_NAMES}), neither do its subfolders; an album '
            f"needs one at least. Name another folder.{others}"
        )
    captions = captions_in(folder, skip_bad=skip_bad)
    with locked(into), closing(_Adding(into, embed, texts, width, made_by)) as adding:
        refused: list[PhotoError] = []
        for number, path in enumerate(paths):
            told("photos", number, len(paths))
            source = path.relative_to(folder).as_posix()
            try:
                adding.take(
                    photo_bytes(str(path)),
                    name=str(path),
                    source=source,
                    caption=captions.get(source),
                    days=days,
                    places=places,
                )
            except PhotoError as error:
                if not skip_bad:
                    adding.flush()
                    raise
                refused.append(error)
        adding.flush()
        if len(refused) == len(paths):
            raise DataError(
                f'none of the {len(paths)} photos in "{folder}" can be read. The first: '
                f"{refused[0]}"
            )
        adding.recaption()
    told("photos", len(paths), len(paths))
    return Ingested(
        album=Album.load(into),
        added=adding.added,
        recaptioned=len(adding.other),
        duplicates=adding.duplicates,
        unplaced=adding.unplaced,
        no_places=adding.no_places,
        refused=tuple(refused),
        left_out=tuple(left_out),
    )


def add_photo(
    data: bytes,
    *,
    into: str | Path,
    source: str,
    caption: str,
    embed: Embed,
    width: int,
    made_by: str,
    texts: Texts | None = None,
    days: bool = True,
    places: bool = True,
) -> tuple[AlbumPhoto, bool]:
    """(a photo of its file's bytes in an album, whether it is new there). A caption takes the place
    of the one before. Raises PhotoError, and what ``add_photos`` raises."""
    into = Path(into)
    with locked(into), closing(_Adding(into, embed, texts, width, made_by)) as adding:
        said = caption or None
        id = adding.take(
            data,
            name=source or "the photo",
            source=source,
            caption=said,
            days=days,
            places=places,
        )
        adding.flush()
        adding.recaption()
    photo = Album.load(into).of_id(id)
    assert photo is not None
    return photo, bool(adding.added)


class _Adding:
    """An album that photos come into, some at a time."""

    def __init__(
        self, into: Path, embed: Embed, texts: Texts | None, width: int, made_by: str
    ) -> None:
        """``into`` is locked. Raises DataError for an album of another model."""
        self.into, self.embed, self.texts = into, embed, texts
        self.width, self.made_by = width, made_by
        self.store = self._opened()
        self.files, self.before = dict[str, str](), dict[str, str]()
        if self.store:
            self.files, self.before = self.store.files(), self.store.captions()
        self.known = set(self.before)
        self.other: dict[str, str] = {}  # captions that are others now
        self.added = self.duplicates = self.unplaced = 0
        self.cities: Places | None = None
        self.no_places: MissingDependency | None = None
        self.waiting: list[tuple[Coming, Image.Image]] = []
        self.read_again: dict[str, str] = {}  # files of photos that are there: digest to id

    def _opened(self) -> Store | None:
        if not has_album(self.into):
            return None
        _renewed(self.into)
        store = Store(self.into)
        try:
            if (store.width, content_of(store.made_by)) != (self.width, content_of(self.made_by)):
                raise DataError(
                    f'the album in "{self.into}" was made by '
                    f'"{store.made_by or "an unnamed model"}", width {store.width}; '
                    f'"{self.made_by}" asks with {self.width}, and one album has the vectors of '
                    "one model; name another folder, or that model"
                )
            store.finish()
            if store.made_by != self.made_by:  # the model lies elsewhere now
                store.say(made_by=self.made_by)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        if self.store:
            self.store.close()

    def take(
        self,
        data: bytes,
        *,
        name: str,
        source: str,
        caption: str | None,
        days: bool,
        places: bool,
    ) -> str:
        """The id of a photo by its file's bytes; errors call it ``name``. Raises PhotoError for
        what cannot be read."""
        digest = hashlib.sha256(data).hexdigest()
        if (id := self.files.get(digest)) is None:
            image = at_most(photo_from_bytes(data, name=name), MAX_SIDE)
            id = self.files[digest] = photo_id(image)
            if id not in self.known:
                self.known.add(id)
                exif = exif_of(data, name=name) if days or places else Image.Exif()
                photo = AlbumPhoto(
                    id=id,
                    path=f"{COPIES}/{id}.{'png' if is_lossless(data) else 'jpg'}",
                    caption=caption or "",
                    source=source,
                    taken=taken_at(exif) if days else "",
                    place=self._place(exif) if places else "",
                )
                coming = Coming(photo=photo, digest=digest, look=look_of(image))
                self.waiting.append((coming, image))
                if len(self.waiting) == BATCH:
                    self.flush()
                return id
            self.read_again[digest] = id
        self.duplicates += 1
        said = self.before.pop(id, None)  # of two files of one photo the first tells
        if said is not None and caption is not None and caption != said:
            self.other[id] = caption
        return id

    def _place(self, exif: Image.Exif) -> str:
        if (degrees := degrees_in(exif)) is None:
            return ""
        try:
            self.cities = self.cities or Places()
        except MissingDependency as error:
            self.unplaced, self.no_places = self.unplaced + 1, error
            return ""
        return self.cities.nearest(*degrees)

    def flush(self) -> None:
        """Put what waits into the album."""
        waiting, self.waiting = self.waiting, []
        if waiting:
            photos = [coming.photo for coming, _ in waiting]
            vectors_NE = self.embed([image for _, image in waiting])
            told_NE = told_vectors(photos, self.texts, width=self.width) if self.texts else None
            batch = Album(photos, vectors_NE, texts_ME=told_NE)
            check_width(batch, self.width)
            if self.store is None:  # before any copy: no verb forgets what no list names
                empty_album(width=self.width, made_by=self.made_by).save(self.into)
                self.store = Store(self.into)
            for photo, (_, image) in zip(photos, waiting, strict=True):
                assert photo.path is not None
                save_photo(image, self.into / photo.path)
            self.store.add([coming for coming, _ in waiting], batch.vectors_MTE)
            self.added += len(waiting)
        if self.store and self.read_again:
            self.store.know(self.read_again)
            self.read_again = {}

    def recaption(self) -> None:
        """Give photos that were there the captions of now."""
        if self.store is None or not self.other:
            return
        words_NE = None
        if self.texts:
            album = Album.load(self.into)
            photos = [
                replace(album.photos[album.listed.place_of[id]], caption=caption)
                for id, caption in self.other.items()
            ]
            told_NE = told_vectors(photos, self.texts, width=self.width)
            words_NE = F.normalize(told_NE, dim=1).numpy()
        self.store.recaption(self.other, words_NE)
        self.store.finish()


def told_vectors(photos: Sequence[AlbumPhoto], texts: Texts, *, width: int) -> Tensor:
    """(n, width) of what is told of the photos; zero where nothing is."""
    told = [told_of(photo) for photo in photos]
    vectors_NE = torch.zeros(len(photos), width)
    if any(told):
        has_N = torch.tensor([bool(text) for text in told])
        vectors_NE[has_N] = texts([text for text in told if text]).float().cpu()
    return vectors_NE


def photo_id(image: Image.Image) -> str:
    """A name made of the pixels: the same photo has the same one wherever it lies."""
    size = f"{image.width}x{image.height}:".encode()
    return "album-" + hashlib.sha256(size + image.tobytes()).hexdigest()[:20]


def remove(folder: str | Path, ids: Sequence[str]) -> Album:
    """Remove photos for good: from the list, from the vectors, and their copies from the disk.

    The list is written first, so that what fails half-way can no longer be found; the next verb
    removes the rest, and may name the same photos. Raises DataError for an id that is not there.
    """
    folder = Path(folder)
    Album.load(folder)  # a folder without one is not made into one
    with locked(folder):
        _renewed(folder)
        with closing(Store(folder)) as store:
            stopped_before = store.unfinished
            store.finish()
            known = store.captions()
            if not stopped_before:
                check_ids(ids, known)
            if gone := [id for id in dict.fromkeys(ids) if id in known]:
                store.remove(gone)
                store.finish()
    return Album.load(folder)


def finish(folder: str | Path) -> Album:
    """The album, after what a stopped verb left undone in it is done, unless one is at work."""
    folder = Path(folder)
    Album.load(folder)
    with contextlib.suppress(StorageError), locked(folder):
        _renewed(folder)
        with closing(Store(folder)) as store:
            store.finish()
    return Album.load(folder)


def has_album(folder: Path) -> bool:
    return (folder / LIST).is_file() or has_old(folder)


def _renewed(folder: Path) -> None:
    """An album of the old layout is written in the new one."""
    if not (folder / LIST).is_file():
        Album.load(folder).save(folder)


def embed_with(
    keys: Callable[[Tensor], Tensor], *, look: Callable[[Image.Image], Image.Image]
) -> Embed:
    """``embed`` of a model: photos as it looks at them -> album vectors, by the bridge's
    ``photo_keys``."""

    @torch.no_grad()
    def embed(images: Sequence[Image.Image]) -> Tensor:
        return keys(stacked([to_pixels(look(image)) for image in images])).cpu()

    return embed
