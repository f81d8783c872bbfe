"""An album: photos that one may show, and a unit vector for each to find it by; where words are
known of a photo, one for these, too.

On disk it is a folder (``disk.py``), and beside what is known of the photos lie their copies,
where ``ingest`` put them. An opened album is what the folder held then; ``fresh`` is what it holds
now.

Search is exact: one product with all vectors. A cut-off turns "the nearest photo" into
"no such photo", and of photos that are nearly the same one alone is found. Letters: N queries, M
photos, E album width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.dialogue import Photo
from showtell.errors import DataError

if TYPE_CHECKING:
    from showtell.album.listed import Listed


@dataclass(frozen=True, kw_only=True)
class AlbumPhoto:
    """A photo of an album. ``path`` is relative to the album's folder, None where only its vector
    is known; ``source`` is the file that it was made from, ``taken`` the second (or the day) and
    ``place`` the city and country ("Lisbon, Portugal"), "" where that is not known: for the owner's
    eyes and the search on this machine alone. Photos of one ``shot`` (but 0) are nearly the same.
    """

    id: str
    path: str | None = None
    caption: str = ""
    source: str = ""
    taken: str = ""
    place: str = ""
    shot: int = 0

    def __post_init__(self) -> None:
        # a list from elsewhere must not show, or remove, a file that is not the album's
        told = (self.id, self.path or "", self.caption, self.source, self.taken, self.place)
        if not all(isinstance(text, str) for text in told) or not isinstance(self.shot, int):
            raise DataError(
                f"a photo of the album is described by {self!r:.200}; wanted texts alone. Index "
                "the photos again."
            )
        path = PurePosixPath(self.path or "")
        if path.is_absolute() or ".." in path.parts:
            raise DataError(
                f'the photo "{self.id}" is at "{self.path}"; wanted a path inside the album\'s '
                "folder. Index the photos again."
            )


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A found photo and its score: the cosine similarity with the query, or what ``find.py`` makes
    of it and of words."""

    photo: AlbumPhoto
    score: float


class Album:
    """Photos and their unit vectors (M, E). A value: adding and removing give another album.

    ``texts_ME``: the unit vectors of what is told of them in words; zero for a photo without.
    ``made_by`` names the model whose vectors these are; another model's queries mean nothing here.
    """

    photos: Sequence[AlbumPhoto]
    vectors_MTE: np.ndarray  # of each photo its own vector and that of its words
    made_by: str

    def __init__(
        self,
        photos: Sequence[AlbumPhoto],
        embeddings_ME: Tensor,
        *,
        texts_ME: Tensor | None = None,
        made_by: str = "",
    ) -> None:
        """Raises DataError for vectors that do not fit the photos, are zero or not numbers, and
        for an id that is there twice."""
        self.photos = tuple(photos)
        self.made_by = made_by
        ids = [photo.id for photo in self.photos]
        self.vectors_MTE = unit_vectors(ids, embeddings_ME, texts_ME)
        if len(set(ids)) < len(ids):
            twice = next(id for id in ids if ids.count(id) > 1)
            raise DataError(
                f'the photo "{twice}" is in the album twice; wanted each id once. Leave one out.'
            )

    @classmethod
    def load(cls, folder: str | Path) -> Album:
        """Open a folder. Raises DataError if it holds no album, or a broken one."""
        from showtell.album.disk import opened
        from showtell.album.listed import LIST
        from showtell.album.old_layout import has_old, read_old

        folder = Path(folder)
        if not (folder / LIST).is_file():
            if has_old(folder):
                return read_old(folder)
            raise DataError(
                f'"{folder}" is no album: it has no {LIST}; wanted a folder that indexing photos '
                "has written. Index a folder of photos first: showtell album add FOLDER --into "
                "ALBUM"
            )
        album = cls.__new__(cls)
        album.listed, album.vectors_MTE, album.made_by = opened(folder)
        album.photos = album.listed.photos
        return album

    @cached_property
    def listed(self) -> Listed:
        """What is asked of a database: ids, words."""
        from showtell.album.listed import listed_in_memory

        return listed_in_memory(self.photos)

    def save(self, folder: str | Path) -> Path:
        """Write the album in place of the one that is there.

        Whenever it is stopped, ``load`` finds the album of before or this one. Raises StorageError.
        """
        from showtell.album.disk import written

        return written(Path(folder), self.photos, self.vectors_MTE, self.made_by)

    def fresh(self) -> Album:
        """The album as its folder has it now: this one where nothing has changed it, or where it
        lies in none."""
        folder = self.listed.changed()
        return self if folder is None else Album.load(folder)

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def width(self) -> int:
        """E"""
        return self.vectors_MTE.shape[2]

    @cached_property
    def embeddings_ME(self) -> Tensor:
        return torch.from_numpy(self.vectors_MTE)[:, 0]

    @cached_property
    def texts_ME(self) -> Tensor:
        return torch.from_numpy(self.vectors_MTE)[:, 1]

    def search(
        self,
        query_NE: Tensor,
        *,
        top_k: int,
        cut_off: float = -1.0,
        without: Collection[str] = (),
    ) -> list[list[Hit]]:
        """For each query its nearest photos, best first: at most ``top_k``, none below ``cut_off``.

        ``without``: ids that are not wanted (already shown). Equal scores keep the album's order.
        An album of zero photos answers with nothing. Raises DataError for a query of another
        width, zero or not a number.
        """
        if query_NE.ndim != 2 or query_NE.shape[1] != self.width:
            raise DataError(
                f"a query of shape {tuple(query_NE.shape)} was put to an album of width "
                f"{self.width} (made by {self.made_by or 'an unnamed model'}); wanted rows of that "
                "width. Index the album with the model that asks."
            )
        names = [f"query {n}" for n in range(len(query_NE))]
        queries_NE = _directions(query_NE.detach().float().cpu(), names).numpy()
        return [
            self.best(
                self.vectors_MTE[:, 0] @ query_E, top_k=top_k, cut_off=cut_off, without=without
            )
            for query_E in queries_NE
        ]

    def best(
        self, scores_M: np.ndarray, *, top_k: int, cut_off: float, without: Collection[str] = ()
    ) -> list[Hit]:
        """The photos of the best scores: at most ``top_k``, none below ``cut_off``, one of each
        shot, and none of the shots of those ``without``. Equal scores keep the album's order."""
        if top_k < 1:
            raise DataError(f"{top_k} photos were asked for, wanted at least 1. Ask for more.")
        shots_M = self.listed.shots_M
        hidden = [m for id in without if (m := self.listed.place_of.get(id)) is not None]
        scores_M = scores_M.copy()
        scores_M[hidden] = -np.inf
        if (gone := shots_M[hidden][shots_M[hidden] > 0]).size:
            scores_M[np.isin(shots_M, gone)] = -np.inf
        look_at = top_k
        while True:
            floor = cut_off
            if look_at < len(scores_M):
                floor = max(floor, float(np.partition(scores_M, -look_at)[-look_at]))
            near_M = np.flatnonzero((scores_M >= floor) & (scores_M > -np.inf))
            near_M = near_M[np.argsort(-scores_M[near_M], kind="stable")]
            _, first = np.unique(np.where(shots_M[near_M] > 0, shots_M[near_M], ~near_M), True)
            best_M = near_M[np.sort(first)][:top_k]
            if len(best_M) == top_k or look_at >= len(scores_M) or floor == cut_off:
                break
            look_at *= 8
        return [Hit(photo=self.photos[m], score=float(scores_M[m])) for m in best_M.tolist()]

    def of_id(self, id: str) -> AlbumPhoto | None:
        """The photo of that id."""
        m = self.listed.place_of.get(id)
        return None if m is None else self.photos[m]

    def with_photos(
        self,
        photos: Sequence[AlbumPhoto],
        embeddings_ME: Tensor,
        *,
        texts_ME: Tensor | None = None,
    ) -> Album:
        """The album and, after it, more photos of the same width. Raises DataError."""
        more = Album(photos, embeddings_ME, texts_ME=texts_ME)
        check_width(more, self.width)
        return Album(
            [*self.photos, *more.photos],
            torch.cat([self.embeddings_ME, more.embeddings_ME]),
            texts_ME=torch.cat([self.texts_ME, more.texts_ME]),
            made_by=self.made_by,
        )

    def without_photos(self, ids: Iterable[str]) -> Album:
        """The album less some photos; nothing of them is left in it. Raises DataError."""
        gone = set(ids)
        check_ids(gone, self.listed.place_of)
        kept = [m for m, photo in enumerate(self.photos) if photo.id not in gone]
        photos = [self.photos[m] for m in kept]
        texts_ME = self.texts_ME[kept]
        return Album(photos, self.embeddings_ME[kept], texts_ME=texts_ME, made_by=self.made_by)

    def photo(self, hit: Hit, *, folder: str | Path) -> Photo:
        """A hit as a photo of a dialogue, its origin the album."""
        path = None if hit.photo.path is None else str(Path(folder) / hit.photo.path)
        return Photo(id=hit.photo.id, caption=hit.photo.caption, path=path, origin="album")


def check_width(more: Album, width: int) -> None:
    """Raises DataError for photos that cannot join an album of this width."""
    if more.width != width:
        raise DataError(
            f"embeddings of width {more.width} cannot join an album of width {width}; embed all "
            "its photos with one model."
        )


def check_ids(ids: Collection[str], known: Collection[str]) -> None:
    """Raises DataError for an id that is not known."""
    if missing := set(ids).difference(known):
        raise DataError(
            f"{', '.join(sorted(missing))} cannot be removed: the album has no such photo. "
            'Look up the ids with "showtell album list".'
        )


def unit_vectors(
    names: Sequence[str], embeddings_ME: Tensor, texts_ME: Tensor | None
) -> np.ndarray:
    """(M, 2, E): what an album keeps of the vectors of photos, and of their words if there are.
    Raises DataError for what does not fit, is zero or no number."""
    if embeddings_ME.ndim != 2 or len(embeddings_ME) != len(names):
        raise DataError(
            f"{len(names)} photos came with embeddings of shape "
            f"{tuple(embeddings_ME.shape)}; wanted one row a photo. Embed the photos again."
        )
    embeddings_ME = _directions(embeddings_ME.detach().float().cpu(), names)
    texts_ME = torch.zeros_like(embeddings_ME) if texts_ME is None else texts_ME
    if texts_ME.shape != embeddings_ME.shape or not texts_ME.isfinite().all():
        raise DataError(
            f"vectors of words of shape {tuple(texts_ME.shape)} came with photos of shape "
            f"{tuple(embeddings_ME.shape)}; wanted one row of numbers a photo. Index the "
            "photos again."
        )
    texts_ME = F.normalize(texts_ME.detach().to(embeddings_ME), dim=1)
    return torch.stack([embeddings_ME, texts_ME], dim=1).numpy()


def _directions(rows_ME: Tensor, names: Sequence[str]) -> Tensor:
    """The rows as unit vectors. Raises DataError for one that is zero or not a number."""
    norms_M = rows_ME.norm(dim=1)
    if bad := (~(norms_M.isfinite() & (norms_M > 0))).nonzero()[:, 0].tolist():
        raise DataError(
            f'the embedding of "{names[bad[0]]}" is zero or not a number ({len(bad)} of '
            f"{len(names)}); wanted a direction. The model that made it is damaged: use another."
        )
    return F.normalize(rows_ME, dim=1)


def content_of(made_by: str) -> str:
    """What two names of one maker have in common: what stands after a #, the digest of its
    content, so that it may be moved; else the whole name."""
    return made_by.rpartition("#")[2]


def empty_album(*, width: int, made_by: str = "") -> Album:
    """An album of zero photos, to add to; every search of it finds nothing."""
    return Album((), torch.zeros(0, width), made_by=made_by)
