"""Albums that are searched in words, each key's own: as the page shows them."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from showtell.serve.keys import Owner
from showtell.serve.rooms import service_of
from showtell.serve.service import NotFound, Service
from showtell.serve.worker import Worker

if TYPE_CHECKING:
    from showtell.album.index import AlbumPhoto

album_room = APIRouter()
FOUND, LISTED, SIDE = 24, 200, 720
_PHOTO = {"requestBody": {"required": True, "content": {"image/*": {"schema": {"type": "string"}}}}}


@album_room.get("/v1/album")
async def search(request: Request, owner: Owner, query: str = "") -> dict[str, Any]:
    """Photos of one's album: for words, best first, or all, the latest first; ``adds``: whether
    more can be added."""
    service = service_of(request)
    data = await service.do(_found, service, owner, query[:500])
    adds = service.albums.adds
    return {"album": adds or data is not None, "adds": adds, "data": data or []}


@album_room.post("/v1/album", status_code=201, openapi_extra=_PHOTO)
async def add(
    request: Request,
    owner: Owner,
    name: Annotated[str, Query(max_length=200)] = "",
    caption: Annotated[str, Query(max_length=1000)] = "",
    times: bool = True,
    places: bool = True,
) -> dict[str, Any]:
    """Add a photo, the body of the request, to one's own album. ``times``, ``places``: keep when
    and in which city it was taken, as its EXIF says; no copy has that."""
    service, data = service_of(request), await request.body()
    photo, new = await service.do(
        service.albums.add,
        owner,
        data,
        name=name,
        caption=" ".join(caption.split()),
        times=times,
        places=places,
    )
    return {**_told(photo, None, own=True), "new": new}


@album_room.delete("/v1/album/{id}")
async def remove(request: Request, id: str, owner: Owner) -> dict[str, Any]:
    """Take a photo out of one's own album for good."""
    service = service_of(request)
    if not await service.do(service.albums.remove, owner, id):
        raise NotFound(_NONE)
    return {"id": id, "deleted": True}


@album_room.get("/v1/album/{id}", response_model=None)
async def album_photo(request: Request, id: str, owner: Owner) -> Response:
    """One of them, as pixels without metadata."""
    service = service_of(request)
    if (data := await service.do(_pixels, service, owner, id)) is None:
        raise NotFound(_NONE)
    # what is removed is nowhere any more
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, no-store"})


_NONE = "there is no such photo in the album"


def shares_album(worker: Worker) -> bool:
    """Whether this one shares photos of albums that are asked in words."""
    return getattr(getattr(worker.agent, "photos", None), "album", None) is not None


def _found(service: Service, owner: str, query: str) -> list[dict[str, Any]] | None:
    """None without an album."""
    if (both := service.albums.of(owner)) is None:
        return None
    found: dict[str, dict[str, Any]] = {}
    for album in both.albums:
        own = album is not service.albums.servers
        hits = (
            [(hit.photo, hit.score) for hit in album.finder.find(query, top_k=FOUND)]
            if query.strip()
            else [(photo, None) for photo in reversed(album.photos[-LISTED:])]
        )
        for photo, score in hits:
            found.setdefault(photo.id, _told(photo, score, own=own))
    if not query.strip():
        return list(found.values())[:LISTED]
    return sorted(found.values(), key=lambda told: -(told["score"] or 0.0))[:FOUND]


def _told(photo: AlbumPhoto, score: float | None, *, own: bool) -> dict[str, Any]:
    known = score is not None and math.isfinite(score)
    return {
        "id": photo.id,
        "caption": photo.caption,
        "alt": photo.caption or "a photo of the album",
        "origin": "album",
        "url": f"/v1/album/{photo.id}",
        "score": score if known else None,
        "own": own,
    }


def _pixels(service: Service, owner: str, id: str) -> bytes | None:
    both = service.albums.of(owner)
    hit = None if both is None else both.of_id(id)
    opened = None if both is None or hit is None else both.opened(hit)
    if opened is None:
        return None
    image = opened[1].copy()
    image.thumbnail((SIDE, SIDE))
    data = io.BytesIO()
    image.convert("RGB").save(data, format="JPEG", quality=88)
    return data.getvalue()
