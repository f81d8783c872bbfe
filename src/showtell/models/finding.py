"""Photos that an answer finds in an album, in place of painted ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from showtell.album.index import Album
from showtell.data.photos import load_photo, square
from showtell.dialogue import Photo
from showtell.errors import ConfigError, DataError
from showtell.models.decoder import Writer
from showtell.models.parts import Bridge, Conditioning, Painter, PhotoSpans

if TYPE_CHECKING:
    from showtell.models.dialogue_model import PhotoDialogueModel

SIDE = 64  # of photos for a model that sees none


@dataclass(frozen=True, kw_only=True)
class OpenAlbum:
    """An album that answers look in; its photos are shared as squares of ``photo_size`` pixels."""

    album: Album
    folder: Path
    photo_size: int


class Finder(Writer):
    """The part of ``PhotoDialogueModel`` that finds photos."""

    bridge: Bridge
    painter: Painter | None
    captioner: PhotoDialogueModel | None
    open_photos: OpenAlbum | None = None

    @property
    def album_width(self) -> int:
        """E, of what the bridge asks an album with. Raises ConfigError where it asks nothing."""
        if (width := getattr(self.bridge, "query_width", None)) is None:
            raise ConfigError(
                f'the bridge of "{self.name}", {type(self.bridge).__name__}, makes no query for an '
                'album; wanted Gill; use a model that "showtell train world_gill" wrote'
            )
        return int(width)

    @property
    def seen_side(self) -> int | None:
        """Pixels a side of a photo, as the model's vision encoder was made for; None without."""
        seer = self.photo_encoder or (self.captioner.photo_encoder if self.captioner else None)
        vision = getattr(seer, "vision", None)
        return None if vision is None else int(vision.config.image_size)

    def open_album(self, folder: str | Path, *, photo_size: int | None = None) -> Album:
        """From now on share photos of this album too, as squares of ``photo_size`` pixels
        (``seen_side``, unless said).

        An album of zero photos changes nothing for a model that paints. Raises DataError for a
        folder without an album, of another width, or without photos for a model that cannot paint;
        ConfigError for a bridge that makes no query.
        """
        width = self.album_width
        album = Album.load(folder)
        if album.width != width:
            raise DataError(
                f'the album in "{folder}" has vectors of width {album.width} (made by '
                f'{album.made_by or "an unnamed model"}) and "{self.name}" asks with '
                f"{width}; index the photos with the model that asks"
            )
        if not album.photos and self.painter is None:
            raise DataError(
                f'the album in "{folder}" has no photos and "{self.name}" cannot paint, so it has '
                "none to share; add photos to the album, or use a model with a painter"
            )
        side = photo_size or self.seen_side or SIDE
        self.open_photos = OpenAlbum(album=album, folder=Path(folder), photo_size=side)
        return album

    def found_in_album(
        self,
        spans: PhotoSpans,
        conditioning: Conditioning | None,
        shown: Sequence[Collection[str]],
    ) -> list[tuple[Photo, Image.Image] | None]:
        """For each span the album's photo, if one is to be shared instead of a painted one.

        Photos of the dialogue come second to those not yet shown, and without a painter neither
        cut-off nor decision counts: there is nothing else to share.
        """
        if (opened := self.open_photos) is None:
            return [None] * len(shown)
        album, settings = opened.album, self.decoding
        query_NE = conditioning.query_NE if conditioning is not None else None
        if query_NE is None:
            query_NE = self.bridge.query(spans.after_NKD)  # type: ignore[operator]
        retrieve_N = conditioning.retrieve_N if conditioning is not None else None
        cut_off = settings.album_cut_off if self.painter is not None else -2.0  # below any cosine
        found: list[tuple[Photo, Image.Image] | None] = []
        for n, seen in enumerate(shown):
            if retrieve_N is not None and float(retrieve_N[n]) < settings.retrieve_threshold:
                found.append(None)
                continue
            one_1E = query_NE[n : n + 1]
            (hits,) = album.search(one_1E, top_k=1, cut_off=cut_off, without=seen)
            if not hits:
                (hits,) = album.search(one_1E, top_k=1, cut_off=cut_off)
            photo = album.photo(hits[0], folder=opened.folder) if hits else None
            if photo is None:
                found.append(None)
            elif photo.path is None:
                raise DataError(
                    f'the album in "{opened.folder}" knows the photo "{photo.id}" by its vector '
                    "alone; wanted its file; index the photos again"
                )
            else:
                found.append((photo, square(load_photo(photo.path), opened.photo_size)))
        return found
