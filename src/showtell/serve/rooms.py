"""What is kept, as clients see it: conversations, their photos, votes; and taken along."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from showtell.data.showtell_jsonl import FILE_NAME
from showtell.serve.keys import Owner
from showtell.serve.service import NotFound, Service

rooms = APIRouter()
_KEPT = {"Cache-Control": "private, max-age=31536000, immutable"}


class Vote(BaseModel):
    """What somebody thinks of a photo that was shared."""

    model_config = ConfigDict(extra="forbid")

    photo: str = Field(max_length=100)
    conversation: str | None = Field(None, max_length=100, description="The photo's own.")
    vote: Literal["up", "down", "none"]


class Title(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=200)


def service_of(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


@rooms.get("/v1/conversations")
async def conversations(request: Request, owner: Owner, elsewhere: bool = False) -> dict[str, Any]:
    """What is kept, the latest first; ``elsewhere``: those that their clients keep, of which only
    the photos are here."""
    service = service_of(request)
    found = await service.do(service.store.conversations, owner, elsewhere=elsewhere)
    names = ("id", "title", "created", "updated")
    return {"data": [{name: getattr(each, name) for name in names} for each in found]}


@rooms.get("/v1/conversations/{id}")
async def conversation(request: Request, id: str, owner: Owner) -> dict[str, Any]:
    """One of them, whole."""
    service = service_of(request)
    found: dict[str, Any] = await service.do(service.conversation, owner, id)
    return found


@rooms.patch("/v1/conversations/{id}")
async def rename(request: Request, id: str, title: Title, owner: Owner) -> dict[str, Any]:
    """Call it otherwise."""
    service = service_of(request)
    await service.do(service.rename, owner, id, title.title)
    return {"id": id, "title": title.title}


@rooms.delete("/v1/conversations/{id}")
async def delete(request: Request, id: str, owner: Owner) -> dict[str, Any]:
    """Remove it for good, with its photos."""
    service = service_of(request)
    if not await service.do(service.store.delete, owner, id):
        raise NotFound(f'there is no conversation "{id:.80}"')
    return {"id": id, "deleted": True}


@rooms.get("/v1/conversations/{id}/export", response_model=None)
async def export(
    request: Request, id: str, owner: Owner, form: Literal["jsonl", "html"] = "jsonl"
) -> Response:
    """All of it in one file: showtell's JSONL with its photos (a ZIP), or a page."""
    service = service_of(request)
    if form == "html":
        page = await service.do(_page, service, owner, id)
        return _file(page.encode(), "text/html; charset=utf-8", f"{id}.html")
    return _file(await service.do(_zip, service, owner, id), "application/zip", f"{id}.zip")


def _zip(service: Service, owner: str, id: str) -> bytes:
    place = service.opened(owner, id)
    record, photos = place.talk.record(), place.kept.photos
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        for turn in record["turns"]:
            for element in turn["elements"]:
                if (photo := photos.get(element.get("id", ""))) is None:
                    continue
                if (file := service.store.photo(owner, photo)) is not None:
                    element["path"] = f"photos/{photo}.png"
                    packed.writestr(element["path"], file)
        line = {"id": id, "turns": record["turns"], "labels": {"title": place.kept.title}}
        packed.writestr(FILE_NAME, json.dumps(line, ensure_ascii=False) + "\n")
    return data.getvalue()


def _page(service: Service, owner: str, id: str) -> str:
    """By the page that ``showtell demo`` writes."""
    from showtell.agent.page import Held, render_page

    place = service.opened(owner, id)
    return render_page([Held(place.kept.title, "", place.talk.session)])


def _file(data: bytes, kind: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type=kind, headers=headers)


@rooms.get("/v1/photos/{id}", response_model=None)
async def photo(request: Request, id: str, owner: Owner) -> Response:
    """The file of a photo of one's own conversations."""
    service = service_of(request)
    return _photo(await service.do(service.store.photo, owner, id))


@rooms.get("/p/{link}", response_model=None)
async def linked(request: Request, link: str) -> Response:
    """A photo by the link that an answer gave."""
    service = service_of(request)
    return _photo(await service.do(service.store.linked, link))


def _photo(data: bytes | None) -> Response:
    if data is None:
        raise NotFound("there is no such photo")
    return Response(data, media_type="image/png", headers=_KEPT)


class Settings(BaseModel):
    """How freely photos come: "asked", "offer" or "proactive"; unasked ones at most ``most`` within
    ``within`` turns of the agent's (null: as many as fit); ``cost``: of an unwanted photo, where a
    missed one costs 1 (null: the model's own threshold)."""

    model_config = ConfigDict(extra="forbid")

    dial: Literal["asked", "offer", "proactive"] = "proactive"
    most: int | None = Field(None, ge=0, le=100)
    within: int = Field(10, ge=1, le=1000)
    cost: float | None = Field(None, gt=0, le=1e6, allow_inf_nan=False)


@rooms.get("/v1/settings")
async def settings(request: Request, owner: Owner) -> Settings:
    """One's own, or how the server was started."""
    service = service_of(request)
    dial = await service.do(service.dial, owner)
    return Settings(dial=dial.kind, most=dial.most, within=dial.within, cost=dial.cost)


@rooms.put("/v1/settings")
async def set_settings(request: Request, asked: Settings, owner: Owner) -> Settings:
    """From the next answer on."""
    service = service_of(request)
    await service.do(service.store.set, owner, asked.model_dump(exclude_unset=True))
    return asked


@rooms.post("/v1/feedback")
async def feedback(request: Request, vote: Vote, owner: Owner) -> dict[str, Any]:
    """A thumb up or down for a photo; "none" takes it back."""
    service = service_of(request)
    number = {"up": 1, "down": -1, "none": 0}[vote.vote]
    own = await service.do(service.store.conversation_of, owner, vote.photo)
    if own is None or vote.conversation not in (None, own):
        raise NotFound(f'there is no photo "{vote.photo:.80}" in that conversation')
    await service.do(service.store.vote, owner, conversation=own, photo=vote.photo, vote=number)
    return {**vote.model_dump(), "conversation": own}


@rooms.get("/v1/feedback", response_model=None)
async def votes(request: Request, owner: Owner) -> Response:
    """All votes, one JSON object a line."""
    service = service_of(request)
    names = ("conversation", "photo", "vote")
    found = await service.do(service.store.votes, owner)
    lines = "".join(json.dumps(dict(zip(names, vote, strict=True))) + "\n" for vote in found)
    return Response(lines, media_type="application/jsonl")
