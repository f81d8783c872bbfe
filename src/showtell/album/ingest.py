"""Photos from a folder into an album: checked, upright, stripped of metadata, embedded.

What the album keeps is a copy: an RGB PNG without EXIF, place, thumbnail or profile, at most
MAX_SIDE pixels a side, under a name made of its own pixels. The same photo in two places is one
photo; an original can be moved or deleted without harm. What is known of it in words (caption,
name, the day by its EXIF) goes into the album's list, which stays here, and into no copy.

One process at a time changes an album; another is refused. The album is saved whenever it has grown
by a tenth: a run that is stopped, however, goes on from there, and what it had half done the next
one finishes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from showtell.album.index import (
    DESCRIPTION,
    EMBEDDINGS,
    Album,
    AlbumPhoto,
    content_of,
    empty_album,
)
from showtell.album.told import captions_in, day_taken, told_of
from showtell.batch import stacked, to_pixels
from showtell.data.photos import load_photo, save_photo
from showtell.data.pixels import ENDINGS, FORMAT_NAMES, at_most, kind_of_file
from showtell.data.storage import locked
from showtell.errors import DataError, PhotoError, StorageError
from showtell.progress import Progress, quiet

PHOTOS = "photos"
MAX_SIDE = 1024
BATCH = 16
_OWN = "album-*.png"  # copies that were made here, and may be removed here

Embed = Callable[[Sequence[Image.Image]], Tensor]
Texts = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """The album, how many photos are new in it, of how many that were in it the caption is another
    now, and what was left out: photos that cannot be read, and files that are no photo, each with
    the reason."""

    album: Album
    added: int
    recaptioned: int
    duplicates: int
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
    skip_bad: bool = False,
    told: Progress = quiet,
) -> Ingested:
    """Add the photos of a folder and its subfolders, in the order of their names, to an album.

    ``into`` is the album's folder, new or of the same model (``made_by``, ``width``); ``embed``:
    images -> (n, width), and ``texts``, for a search by words: texts -> (n, width), one space.
    Captions are those of the folder's captions.jsonl or metadata.jsonl, if there is one, also for
    photos that the album has already; ``days``: keep the day that EXIF tells. A photo that cannot
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
    with locked(into):
        album = _opened(into, width=width, made_by=made_by)
        saved, num_before = album, len(album)
        before = {photo.id: photo.caption for photo in album.photos}
        known, other = set(before), dict[str, str]()
        refused: list[PhotoError] = []
        duplicates = 0
        waiting: list[tuple[AlbumPhoto, Image.Image]] = []
        try:
            for number, path in enumerate(paths):
                told("photos", number, len(paths))
                try:
                    image = load_photo(path)
                except PhotoError as error:
                    if not skip_bad:
                        raise
                    refused.append(error)
                    continue
                image = at_most(image, MAX_SIDE)
                name = photo_id(image)
                source = path.relative_to(folder).as_posix()
                if name in known:
                    duplicates += 1
                    said = before.pop(name, None)  # of two files of one photo the first tells
                    if said is not None and captions.get(source, said) != said:
                        other[name] = captions[source]
                    continue
                known.add(name)
                photo = AlbumPhoto(
                    id=name,
                    path=f"{PHOTOS}/{name}.png",
                    caption=captions.get(source, ""),
                    source=source,
                    taken=day_taken(path) if days else "",
                )
                waiting.append((photo, image))
                if len(waiting) == BATCH:
                    album, waiting = _with_copies(album, waiting, embed, texts, into), []
                    if len(album) - len(saved) >= len(saved) / 10:
                        album.save(into)
                        saved = album
            if waiting:
                album = _with_copies(album, waiting, embed, texts, into)
            if other:
                album = _recaptioned(album, other, texts)
        finally:
            if album is not saved:
                album.save(into)
        if len(refused) == len(paths):
            raise DataError(
                f'none of the {len(paths)} photos in "{folder}" can be read. The first: '
                f"{refused[0]}"
            )
    told("photos", len(paths), len(paths))
    return Ingested(
        album=album,
        added=len(album) - num_before,
        recaptioned=len(other),
        duplicates=duplicates,
        refused=tuple(refused),
        left_out=tuple(left_out),
    )


def _opened(into: Path, *, width: int, made_by: str) -> Album:
    if not (into / DESCRIPTION).exists():
        return empty_album(width=width, made_by=made_by)
    album = Album.load(into)
    if (album.width, content_of(album.made_by)) != (width, content_of(made_by)):
        raise DataError(
            f'the album in "{into}" was made by "{album.made_by or "an unnamed model"}", width '
            f'{album.width}; "{made_by}" asks with {width}, and one album has the vectors '
            "of one model; name another folder, or that model"
        )
    _tidy(into, album)
    if album.made_by != made_by:  # the model lies elsewhere now
        vectors_ME, texts_ME = album.embeddings_ME, album.texts_ME
        album = Album(album.photos, vectors_ME, texts_ME=texts_ME, made_by=made_by)
        album.save(into)
    return album


def _with_copies(
    album: Album,
    waiting: Sequence[tuple[AlbumPhoto, Image.Image]],
    embed: Embed,
    texts: Texts | None,
    into: Path,
) -> Album:
    """The album with a batch more, whose copies are on the disk."""
    photos = [photo for photo, _ in waiting]
    vectors_NE = embed([image for _, image in waiting])
    words_NE = told_vectors(photos, texts, width=album.width) if texts else None
    joined = album.with_photos(photos, vectors_NE, texts_ME=words_NE)
    if not (into / DESCRIPTION).exists():  # before any copy: no verb forgets what no list names
        album.save(into)
    for photo, image in waiting:
        assert photo.path is not None
        save_photo(image, into / photo.path)
    return joined


def _recaptioned(album: Album, captions: Mapping[str, str], texts: Texts | None) -> Album:
    """The album with other captions of some of its photos, by their ids."""
    photos = [replace(p, caption=captions.get(p.id, p.caption)) for p in album.photos]
    texts_ME = album.texts_ME.clone()
    if texts:
        others = [m for m, photo in enumerate(photos) if photo.id in captions]
        told = [photos[m] for m in others]
        texts_ME[others] = told_vectors(told, texts, width=album.width).to(texts_ME)
    return Album(photos, album.embeddings_ME, texts_ME=texts_ME, made_by=album.made_by)


def told_vectors(photos: Sequence[AlbumPhoto], texts: Texts, *, width: int) -> Tensor:
    """(n, width) of what is told of the photos; zero where nothing is."""
    told = [told_of(photo) for photo in photos]
    vectors_NE = torch.zeros(len(photos), width)
    if any(told):
        has_N = torch.tensor([bool(text) for text in told])
        vectors_NE[has_N] = texts([text for text in told if text]).float().cpu()
    return vectors_NE


def photo_paths(folder: Path) -> tuple[list[Path], list[str]]:
    """(photos in this folder and below, sorted; what else is there and why it is left out).

    A photo is told by its first bytes, and by the ending where these are of none: it is then
    damaged. Hidden files are passed over; nothing outside of the folder is looked at.
    """
    if not folder.is_dir():
        raise DataError(
            f'"{folder}" is not a folder; wanted one with photos in it. Check the name.'
        )
    root = folder.resolve()
    paths, others = [], []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or path.is_dir():
            continue
        if not path.is_file():
            others.append(f"{name}: no file")
        elif not path.resolve().is_relative_to(root):
            others.append(f"{name}: a link out of the folder")
        elif (kind := _kind(path)) == "photo":
            paths.append(path)
        else:
            others.append(f"{name}: {kind}")
    return paths, others


def _kind(path: Path) -> str:
    try:
        kind = kind_of_file(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not kind and path.suffix.lower() in ENDINGS:
        return "photo"
    return kind or "no photo"


def photo_id(image: Image.Image) -> str:
    """A name made of the pixels: the same photo has the same one wherever it lies."""
    size = f"{image.width}x{image.height}:".encode()
    return "album-" + hashlib.sha256(size + image.tobytes()).hexdigest()[:20]


def forget(folder: str | Path, ids: Sequence[str]) -> Album:
    """Remove photos for good: from the list, from the vectors, and their copies from the disk.

    The list is written first, so that what fails half-way can no longer be found; the next verb
    removes the rest, and may name the same photos. Raises DataError for an id that is not there.
    """
    folder = Path(folder)
    Album.load(folder)  # a folder without one is not made into one
    with locked(folder):
        album = Album.load(folder)
        stopped_before = _tidy(folder, album)
        gone = [photo for photo in album.photos if photo.id in set(ids)]
        album = album.without_photos([photo.id for photo in gone] if stopped_before else ids)
        album.save(folder)
        for photo in gone:
            if photo.path is not None:
                (folder / photo.path).unlink(missing_ok=True)
    return album


def finish(folder: str | Path) -> Album:
    """The album, after what a stopped verb left undone in it is done, unless one is at work."""
    album = Album.load(folder)
    with contextlib.suppress(StorageError), locked(folder):
        album = Album.load(folder)
        _tidy(Path(folder), album)
    return album


def _tidy(folder: Path, album: Album) -> bool:
    """Remove vectors and copies that no photo of the album has; whether there were copies."""
    if len(list(folder.glob(EMBEDDINGS))) > 1:
        album.save(folder)
    kept = {photo.path for photo in album.photos}
    copies = (folder / PHOTOS).glob(_OWN)
    stray = [copy for copy in copies if f"{PHOTOS}/{copy.name}" not in kept]
    for copy in stray:
        copy.unlink(missing_ok=True)
    return bool(stray)


def embed_with(
    keys: Callable[[Tensor], Tensor], *, look: Callable[[Image.Image], Image.Image]
) -> Embed:
    """``embed`` of a model: photos as it looks at them -> album vectors, by the bridge's
    ``photo_keys``."""

    @torch.no_grad()
    def embed(images: Sequence[Image.Image]) -> Tensor:
        return keys(stacked([to_pixels(look(image)) for image in images])).cpu()

    return embed
