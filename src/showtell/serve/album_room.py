"""The album that is searched in words, as the page shows it."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from showtell.serve.keys import Owner
from showtell.serve.rooms import service_of
from showtell.serve.service import NotFound, Service
from showtell.serve.worker import Worker

if TYPE_CHECKING:
    from showtell.agent.which import PhotosInWords
    from showtell.album.index import AlbumPhoto

album_room = APIRouter()
FOUND, LISTED, SIDE = 24, 200, 720


@album_room.get("/v1/album")
async def search(request: Request, owner: Owner, query: str = "") -> dict[str, Any]:
    """Photos of the album: for words, best first, or all."""
    service = service_of(request)
    if (album := _album(service)) is None:
        return {"album": False, "data": []}
    data = await service.do(_found, album, query[:500])
    return {"album": True, "data": data}


@album_room.get("/v1/album/{id}", response_model=None)
async def album_photo(request: Request, id: str, owner: Owner) -> Response:
    """One of them, as pixels without metadata."""
    service = service_of(request)
    album = _album(service)
    data = None if album is None else await service.do(_pixels, album, id)
    if data is None:
        raise NotFound("there is no such photo in the album")
    headers = {"Cache-Control": "private, max-age=3600"}
    return Response(data, media_type="image/jpeg", headers=headers)


def _album(service: Service) -> PhotosInWords | None:
    """The first one that an agent here shares photos of."""
    albums = map(album_of, service.workers.values())
    return next((album for album in albums if album is not None), None)


def album_of(worker: Worker) -> PhotosInWords | None:
    """What this one shares photos of, if of an album."""
    found: PhotosInWords | None = getattr(getattr(worker.agent, "photos", None), "album", None)
    return found


def _found(album: PhotosInWords, query: str) -> list[dict[str, Any]]:
    if not query.strip():
        return [_told(photo, None) for photo in list(album.finder.album.photos)[:LISTED]]
    hits = album.finder.find(query, top_k=FOUND)
    return [_told(hit.photo, hit.score) for hit in hits]


def _told(photo: AlbumPhoto, score: float | None) -> dict[str, Any]:
    known = score is not None and math.isfinite(score)
    return {
        "id": photo.id,
        "caption": photo.caption,
        "alt": photo.caption or "a photo of the album",
        "origin": "album",
        "url": f"/v1/album/{photo.id}",
        "score": score if known else None,
    }


def _pixels(album: PhotosInWords, id: str) -> bytes | None:
    hit = album.of_id(id)
    opened = None if hit is None else album.opened(hit)
    if opened is None:
        return None
    image = opened[1].copy()
    image.thumbnail((SIDE, SIDE))
    data = io.BytesIO()
    image.convert("RGB").save(data, format="JPEG", quality=88)
    return data.getvalue()
