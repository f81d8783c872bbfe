"""Photos of words, without a talk or within one: /v1/images/generations; and the words of a photo:
what its loss asks of each."""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from showtell.dialogue import AGENT
from showtell.errors import UsageError
from showtell.serve.dialects import PhotoOut
from showtell.serve.keys import Asking
from showtell.serve.rooms import service_of
from showtell.serve.service import NotFound, Service

pictures = APIRouter()


class Into(BaseModel):
    """What only our clients send."""

    model_config = ConfigDict(extra="forbid")

    conversation: str | None = Field(None, max_length=100, description="The talk it belongs to.")


_UNREAD = ("size", "quality", "style", "background", "output_format", "output_compression")


class ImagesRequest(BaseModel):
    """/v1/images/generations: the fields that count here; of others that would change the photo the
    answer says that they were not read."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(None, max_length=300)
    prompt: str = Field(min_length=1, max_length=2_000)
    n: int = Field(1, ge=1, le=4)
    seed: int | None = Field(None, ge=0, lt=2**63)
    response_format: Literal["b64_json", "url"] = "b64_json"
    stream: Literal[False] | None = Field(None, description="These are not streamed.")
    showtell: Into | None = None


@pictures.post("/v1/images/generations")
async def generations(request: Request, asked: ImagesRequest, owner: Asking) -> dict[str, Any]:
    """Photos of a prompt: painted, or found in the album by a model that paints none."""
    service = service_of(request)
    seed = secrets.randbits(31) if asked.seed is None else asked.seed
    into = asked.showtell.conversation if asked.showtell else None
    made: list[PhotoOut] = []
    for number in range(asked.n):
        if number and await request.is_disconnected():
            break
        made.append(
            await service.ask(
                service.picture,
                owner,
                asked.prompt,
                model=asked.model,
                seed=seed + number,
                conversation=into,
            )
        )
    base = str(request.base_url)
    data = []
    for photo in made:
        told: dict[str, Any] = {"revised_prompt": photo.caption, "showtell": photo.told}
        if asked.response_format == "url":
            told["url"] = photo.address(base)
        else:
            told["b64_json"] = photo.base64
        data.append(told)
    more = asked.model_extra or {}
    unread = [name for name in _UNREAD if more.get(name) not in (None, "auto")]
    notes = [f"{name} is not read: a photo has the size and form of its model" for name in unread]
    return {"created": int(time.time()), "data": data, "showtell": {"notes": notes}}


@pictures.get("/v1/photos/{id}/words")
async def words(request: Request, id: str, owner: Asking) -> dict[str, Any]:
    """Of a painted photo: each word of its caption, and its share of the gradient by which the
    photo would train the model's words (arXiv 2408.08650)."""
    service = service_of(request)
    found = await service.ask(_pulled, service, owner, id)
    return {"id": id, "words": [{"word": word, "share": share} for word, share in found]}


def _pulled(service: Service, owner: str, id: str) -> list[tuple[str, float]]:
    from showtell.agent.pulled import pulled_words

    conversation = service.store.conversation_of(owner, id)
    place = None if conversation is None else service.opened(owner, conversation)
    turns = () if place is None else place.talk.session.turns
    name = next((n for n, kept in place.kept.photos.items() if kept == id), "") if place else ""
    last = next((k for k, turn in enumerate(turns) if any(p.id == name for p in turn.photos)), None)
    if place is None or last is None:
        raise NotFound(f'there is no photo "{id:.80}" in a talk that is kept here')
    (photo,) = turns[last].photos
    if photo.origin != "painted" or turns[last].speaker != AGENT or not photo.caption:
        raise UsageError("this photo was not painted from words of the agent's; name one that was")
    _, worker = service.named(place.talk.model)
    context, images = turns[: last + 1], place.talk.session.images
    return worker.alone(lambda pause: pulled_words(worker.agent, context, images, on_step=pause))
