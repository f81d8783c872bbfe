"""An album that a model's own queries ask (GILL), for the answers of one responder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image
from torch import Tensor

from showtell.album.index import Album
from showtell.data.photos import load_photo, square
from showtell.dialogue import Photo
from showtell.errors import DataError
from showtell.models.dialogue_model import PhotoDialogueModel

SIDE = 64  # of an album's photos for a model that sees none


@dataclass(frozen=True, kw_only=True)
class OpenAlbum:
    """An album that answers look in; its photos are shared as squares of ``side`` pixels."""

    album: Album
    folder: Path
    side: int

    def nearest(
        self, query_1E: Tensor, *, cut_off: float, without: Collection[str] = ()
    ) -> tuple[Photo, Image.Image] | None:
        """The nearest photo, one ``without`` these if there is any; None below ``cut_off``."""
        find = partial(self.album.search, query_1E, top_k=1, cut_off=cut_off)
        hits = find(without=without)[0] or find()[0]
        if not hits:
            return None
        photo = self.album.photo(hits[0], folder=self.folder)
        if photo.path is None:
            raise DataError(
                f'the album in "{self.folder}" knows the photo "{photo.id}" by its vector '
                "alone; wanted its file; index the photos again"
            )
        return photo, square(load_photo(photo.path), self.side)


def open_album(model: PhotoDialogueModel, folder: str | Path) -> OpenAlbum:
    """The album in ``folder`` for a responder of this model, its photos as squares of the side
    that the model sees.

    An album of zero photos changes nothing for a model that paints. Raises DataError for a folder
    without an album, of another width, or without photos for a model that cannot paint;
    ConfigError for a bridge that makes no query.
    """
    width = model.album_width
    album = Album.load(folder)
    if album.width != width:
        raise DataError(
            f'the album in "{folder}" has vectors of width {album.width} (made by '
            f'{album.made_by or "an unnamed model"}) and "{model.name}" asks with '
            f"{width}; index the photos with the model that asks"
        )
    if not album.photos and model.painter is None:
        raise DataError(
            f'the album in "{folder}" has no photos and "{model.name}" cannot paint, so it has '
            "none to share; add photos to the album, or use a model with a painter"
        )
    return OpenAlbum(album=album, folder=Path(folder), side=model.seen_side or SIDE)
