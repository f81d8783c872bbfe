"""An album that a model's own queries ask (GILL), for the answers of one responder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from showtell.album.index import Album
from showtell.data.photos import load_photo, square
from showtell.errors import DataError
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.reply import Shared

SIDE = 64  # of an album's photos for a model that sees none
CONSIDERED = 5  # photos that are told with a choice


@dataclass(frozen=True, kw_only=True)
class OpenAlbum:
    """An album that answers look in; its photos are shared as squares of ``side`` pixels."""

    album: Album
    folder: Path
    side: int

    def nearest(self, query_1E: Tensor, *, cut_off: float, without: Collection[str] = ()) -> Shared:
        """The nearest photo that is not one ``without`` these; none below ``cut_off``."""
        (near,) = self.album.search(query_1E, top_k=CONSIDERED + len(without), cut_off=-2.0)
        hits = tuple((hit.photo.id, hit.score) for hit in near[:CONSIDERED])
        left = [hit for hit in near if hit.photo.id not in without and hit.score >= cut_off]
        if not left:
            return Shared(hits=hits)
        photo = self.album.photo(left[0], folder=self.folder)
        if photo.path is None:
            raise DataError(
                f'the album in "{self.folder}" knows the photo "{photo.id}" by its vector '
                "alone; wanted its file; index the photos again"
            )
        return Shared(photo=photo, image=square(load_photo(photo.path), self.side), hits=hits)


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
