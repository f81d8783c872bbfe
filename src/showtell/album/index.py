"""An album: photos that one may show, and a unit vector for each to find it by; where words are
known of a photo, one for these, too.

On disk a folder of two files, and beside them the photos where ``ingest`` put them:

    album.json                         format, what made the vectors, and the photos' ids, paths,
                                       captions; which file has the vectors
    embeddings-0123456789ab.safetensors

Search is exact: one product with all vectors. A cut-off turns "the nearest photo" into
"no such photo". Letters: N queries, M photos, E album width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from showtell.data.storage import write_atomically
from showtell.dialogue import Photo
from showtell.errors import DataError

FORMAT = 2
DESCRIPTION = "album.json"
EMBEDDINGS = "embeddings-*.safetensors"  # of its own for each state: a kill leaves no mixture


@dataclass(frozen=True, kw_only=True)
class AlbumPhoto:
    """A photo of an album. ``path`` is relative to the album's folder, None where only its vector
    is known; ``source`` is the file that it was made from and ``taken`` the day (2024-07-31 or ""),
    for the owner's eyes and the search on this machine alone."""

    id: str
    path: str | None = None
    caption: str = ""
    source: str = ""
    taken: str = ""

    def __post_init__(self) -> None:
        # a list from elsewhere must not show, or remove, a file that is not the album's
        if not all(isinstance(text, str) for text in (self.id, self.path or "", *self._told)):
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

    @property
    def _told(self) -> tuple[str, ...]:
        return self.caption, self.source, self.taken


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
        if embeddings_ME.ndim != 2 or len(embeddings_ME) != len(self.photos):
            raise DataError(
                f"{len(self.photos)} photos came with embeddings of shape "
                f"{tuple(embeddings_ME.shape)}; wanted one row a photo. Embed the photos again."
            )
        ids = [photo.id for photo in self.photos]
        if len(set(ids)) < len(ids):
            twice = next(id for id in ids if ids.count(id) > 1)
            raise DataError(
                f'the photo "{twice}" is in the album twice; wanted each id once. Leave one out.'
            )
        self.embeddings_ME = _directions(embeddings_ME.detach().float(), ids)
        texts_ME = torch.zeros_like(self.embeddings_ME) if texts_ME is None else texts_ME
        if texts_ME.shape != self.embeddings_ME.shape or not texts_ME.isfinite().all():
            raise DataError(
                f"vectors of words of shape {tuple(texts_ME.shape)} came with photos of shape "
                f"{tuple(embeddings_ME.shape)}; wanted one row of numbers a photo. Index the "
                "photos again."
            )
        self.texts_ME = F.normalize(texts_ME.detach().to(self.embeddings_ME), dim=1)

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def width(self) -> int:
        """E"""
        return self.embeddings_ME.shape[1]

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
        query_NE = _directions(query_NE.detach().to(self.embeddings_ME), names)
        if top_k < 1:
            raise DataError(f"{top_k} photos were asked for, wanted at least 1. Ask for more.")
        hidden = set(without)
        hits: list[list[Hit]] = []
        for scores_M in query_NE @ self.embeddings_ME.mT:
            # a stable sort, and not topk, whose order among equals is anyone's guess
            scores_M, order_M = scores_M.sort(descending=True, stable=True)
            near = zip(order_M.tolist(), scores_M.tolist(), strict=True)
            found = (
                Hit(photo=self.photos[m], score=score)
                for m, score in near
                if score >= cut_off and self.photos[m].id not in hidden
            )
            hits.append(list(islice(found, top_k)))
        return hits

    def with_photos(
        self,
        photos: Sequence[AlbumPhoto],
        embeddings_ME: Tensor,
        *,
        texts_ME: Tensor | None = None,
    ) -> Album:
        """The album and, after it, more photos of the same width. Raises DataError."""
        if embeddings_ME.shape[-1] != self.width:
            raise DataError(
                f"embeddings of width {embeddings_ME.shape[-1]} cannot join an album of width "
                f"{self.width}; embed all its photos with one model."
            )
        more = Album(photos, embeddings_ME, texts_ME=texts_ME)
        return Album(
            (*self.photos, *photos),
            torch.cat([self.embeddings_ME, more.embeddings_ME]),
            texts_ME=torch.cat([self.texts_ME, more.texts_ME]),
            made_by=self.made_by,
        )

    def without_photos(self, ids: Iterable[str]) -> Album:
        """The album less some photos; nothing of them is left in it. Raises DataError."""
        gone = set(ids)
        if missing := gone - {photo.id for photo in self.photos}:
            raise DataError(
                f"{', '.join(sorted(missing))} cannot be removed: the album has no such photo. "
                'Look up the ids with "showtell album list".'
            )
        kept = [m for m, photo in enumerate(self.photos) if photo.id not in gone]
        photos = [self.photos[m] for m in kept]
        texts_ME = self.texts_ME[kept]
        return Album(photos, self.embeddings_ME[kept], texts_ME=texts_ME, made_by=self.made_by)

    # ------------------------------------------------------------------------------ on disk

    def save(self, folder: str | Path) -> Path:
        """Write the vectors, then the list that names them, and remove the vectors of before.

        Whenever it is stopped, ``load`` finds the album of before or this one. Raises StorageError.
        """
        folder = Path(folder)
        parts = {"embeddings": self.embeddings_ME, "texts": self.texts_ME}
        vectors = save_tensors({name: rows.contiguous().cpu() for name, rows in parts.items()})
        name = EMBEDDINGS.replace("*", hashlib.sha256(vectors).hexdigest()[:12])
        write_atomically(folder / name, vectors)
        description = {
            "format": FORMAT,
            "made_by": self.made_by,
            "embeddings": name,
            "photos": [asdict(photo) for photo in self.photos],
        }
        text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
        path = write_atomically(folder / DESCRIPTION, text.encode())
        for old in folder.glob(EMBEDDINGS):
            if old.name != name:
                old.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Album:
        """Read a folder. Raises DataError if it holds no album, or a broken one."""
        folder = Path(folder)
        if not (folder / DESCRIPTION).is_file():
            raise DataError(
                f'"{folder}" is no album: it has no {DESCRIPTION}; wanted a folder that indexing '
                "photos has written. Index a folder of photos first."
            )
        try:
            description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            if (found := description["format"]) != FORMAT:
                raise DataError(
                    f'the album in "{folder}" is of format {found}, wanted {FORMAT}; it was '
                    "written by another version of showtell. Index the photos again."
                )
            photos = [AlbumPhoto(**photo) for photo in description["photos"]]
            name = PurePosixPath(description["embeddings"]).name  # in this folder and no other
            vectors = load_tensors((folder / name).read_bytes())
            embeddings_ME, texts_ME = vectors["embeddings"], vectors.get("texts")
            made_by = description["made_by"]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f'the album in "{folder}" cannot be read ({type(error).__name__}: {error}); wanted '
                f"{DESCRIPTION} and the vectors that it names. Index the photos again."
            ) from error
        return cls(photos, embeddings_ME, texts_ME=texts_ME, made_by=made_by)

    def photo(self, hit: Hit, *, folder: str | Path) -> Photo:
        """A hit as a photo of a dialogue, its origin the album."""
        path = None if hit.photo.path is None else str(Path(folder) / hit.photo.path)
        return Photo(id=hit.photo.id, caption=hit.photo.caption, path=path, origin="album")


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
