"""/v1/responses (Open Responses): messages, painted photos as image_generation_call, album photos
as showtell:photo with a link, since they were not generated.

A response is kept, and ``previous_response_id`` goes on from it; from an earlier one than the last
the talk forks.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from showtell.errors import ShowtellError, UsageError
from showtell.models.reply import PhotoDue, Preview, Words
from showtell.serve.attended import attended
from showtell.serve.dialects import PhotoOut, preview_base64, spoken
from showtell.serve.keys import Asking
from showtell.serve.rooms import service_of
from showtell.serve.service import Ended, NotFound, Place, Service
from showtell.serve.store import new_id
from showtell.serve.wire import asked_of, unread

responses = APIRouter()
Events = Iterator[dict[str, Any]]
_ROLES = ("user", "assistant", "system", "developer")


class ResponsesRequest(BaseModel):
    """The fields that count here; others are let pass."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(None, max_length=300)
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    previous_response_id: str | None = Field(None, max_length=200)
    stream: bool = False


@responses.post("/v1/responses", response_model=None)
async def respond(
    request: Request, asked: ResponsesRequest, owner: Asking
) -> Response | dict[str, Any]:
    """A turn of the agent, as items."""
    service = service_of(request)
    said = await service.do(asked_of, messages_of(asked.input), outside=service.outside)
    notes = [*said.notes, *unread(asked)]
    notes += ["instructions are not read by this agent"] * bool(asked.instructions)
    if asked.previous_response_id is not None:
        if said.before:
            raise UsageError(
                "previous_response_id holds what was said before, and so does input; wanted one of "
                "them; send the new message alone"
            )
        place = await service.do(_forked, service, owner, asked.previous_response_id, asked.model)
    else:
        place = await service.do(service.begun, owner, asked.model, before=said.before)
    out = _Out(place, str(request.base_url), previous=asked.previous_response_id, notes=notes)
    happening = service.answer(place, said.text, said.photos)
    first = await anext(happening) if asked.stream else None  # what is wrong at once is an error

    async def events(coming: AsyncIterator[Any]) -> AsyncIterator[dict[str, Any]]:
        for event in (*out.begun(), *out.heard(first)):
            yield event
        async for told in coming:
            for event in out.heard(told):
                yield event
        await service.do(
            service.store.remember,
            owner,
            out.id,
            conversation=place.kept.id,
            record={"turns": len(place.talk.session.turns)},
        )
        for event in out.ended():
            yield event

    if not asked.stream:
        async for _ in events(attended(request, happening)):
            pass
        return out.response

    async def stream() -> AsyncIterator[str]:
        try:
            async for event in events(happening):
                told = {**event, "sequence_number": out.number}
                out.number += 1
                yield f"event: {event['type']}\ndata: {json.dumps(told, ensure_ascii=False)}\n\n"
        except ShowtellError as error:
            told = {"type": "error", "code": type(error).__name__, "message": str(error)}
            told |= {"param": None, "sequence_number": out.number}
            yield f"event: error\ndata: {json.dumps(told)}\n\n"
        finally:
            await happening.aclose()

    return StreamingResponse(stream(), media_type="text/event-stream")


def messages_of(given: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items of the input as messages. Raises UsageError for a kind that is not read."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[dict[str, Any]] = []
    for item in given:
        kind = item.get("type", "message")
        if kind == "message" and item.get("role") in _ROLES:
            messages.append(item)
        elif kind in ("image_generation_call", "showtell:photo"):
            messages.append({"role": "assistant", "images": [item]})
        else:
            raise UsageError(f"input holds an item of type {kind!r:.60}; wanted messages")
    return messages


def _forked(service: Service, owner: str, previous: str, model: str | None) -> Place:
    """The talk of a response, as it was then."""
    found = service.store.recall_one(owner, previous)
    if found is None or "turns" not in found[1]:  # a text's fingerprint is no response
        raise NotFound(f'there is no response "{previous:.80}"')
    conversation, record = found
    place = service.opened(owner, conversation, model=model)
    session, count = place.talk.session, record["turns"]
    if len(session.turns) == count:
        return place
    fork = service.begun(owner, place.talk.model)
    fork.talk.session = session
    session.turns, session.p_share = session.turns[:count], session.p_share[:count]
    fork.talk.decisions = place.talk.decisions[:count]
    fork.kept = replace(fork.kept, title=place.kept.title)
    return fork


def usage_of(read: int, pieces: int) -> dict[str, Any]:
    """Tokens, as far as they are counted: those that were read, pieces of text that were told."""
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": pieces,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + pieces,
    }


class _Out:
    """One response and its events."""

    def __init__(self, place: Place, base: str, *, previous: str | None, notes: list[str]) -> None:
        self.id, self.base, self.number, self.notes = new_id("resp"), base, 0, notes
        self.response: dict[str, Any] = {
            "id": self.id,
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "model": place.talk.model,
            "output": [],
            "previous_response_id": previous,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": False,
            "tool_choice": "auto",
            "tools": [],
        }
        self._place = place
        self._text: dict[str, Any] | None = None  # the message that is being written
        self._call: str | None = None  # the photo that is being made
        self._held = ""
        self._pieces = self._read = 0

    @property
    def _index(self) -> int:
        return len(self.response["output"])

    def begun(self) -> Events:
        for kind in ("created", "in_progress"):
            yield {"type": f"response.{kind}", "response": self.response}

    def heard(self, told: Any) -> Events:
        if isinstance(told, Words):
            yield from self._words(told.text)
        elif isinstance(told, PhotoDue):
            yield from self._close()  # from an album or painted: it is not known yet
        elif isinstance(told, Preview):
            yield from self._painting()
            if told.image is not None:
                yield {
                    **self._step("partial_image"),
                    "partial_image_index": told.step,
                    "partial_image_b64": preview_base64(told.image),
                }
        elif isinstance(told, PhotoOut):
            yield from self._photo(told)
        elif isinstance(told, Ended):
            self.notes = [*self.notes, *told.notes]
            self._read = told.reply.num_read

    def ended(self) -> Events:
        yield from self._close()
        notes = list(dict.fromkeys(self.notes))
        told = {"conversation": self._place.kept.id, "notes": notes}
        self.response |= {
            "status": "completed",
            "usage": usage_of(self._read, self._pieces),
            "showtell": told,
        }
        yield {"type": "response.completed", "response": self.response}

    def _event(self, kind: str, **more: Any) -> dict[str, Any]:
        return {"type": kind, "output_index": self._index, **more}

    def _step(self, name: str) -> dict[str, Any]:
        return self._event(f"response.image_generation_call.{name}", item_id=self._call)

    def _words(self, text: str) -> Events:
        ends = text.endswith("\n")
        text, self._held = spoken(text, held=self._held, begun=self._text is not None)
        if self._text is None and text:
            part = {"type": "output_text", "text": "", "annotations": []}
            self._text = {
                "type": "message",
                "id": new_id("msg"),
                "role": "assistant",
                "status": "in_progress",
                "content": [part],
            }
            yield self._event("response.output_item.added", item={**self._text, "content": []})
            yield self._part("response.content_part.added", part=dict(part))
        if self._text is not None and text:
            self._pieces += 1
            self._text["content"][0]["text"] += text
            yield self._part("response.output_text.delta", delta=text, logprobs=[])
        if ends:
            yield from self._close()

    def _part(self, kind: str, **more: Any) -> dict[str, Any]:
        assert self._text is not None
        return self._event(kind, item_id=self._text["id"], content_index=0, **more)

    def _close(self) -> Events:
        if self._text is None:
            return
        part = self._text["content"][0]
        yield self._part("response.output_text.done", text=part["text"], logprobs=[])
        yield self._part("response.content_part.done", part=part)
        self._text["status"] = "completed"
        yield self._event("response.output_item.done", item=self._text)
        self.response["output"].append(self._text)
        self._text = None

    def _painting(self) -> Events:
        """That a photo is being painted, once."""
        if self._call is not None:
            return
        self._call = new_id("ig")
        item = {"type": "image_generation_call", "id": self._call, "status": "in_progress"}
        yield self._event("response.output_item.added", item={**item, "result": None})
        yield self._step("in_progress")
        yield self._step("generating")

    def _photo(self, photo: PhotoOut) -> Events:
        if photo.origin == "painted":
            yield from self._painting()
            item = {
                "type": "image_generation_call",
                "id": self._call,
                "status": "completed",
                "result": photo.base64,
                "output_format": "png",
                "revised_prompt": photo.caption,
                "showtell": photo.told,
            }
            yield self._step("completed")
        else:
            told = {**photo.told, "url": photo.address(self.base)}
            item = {"type": "showtell:photo", "status": "completed", **told}
            yield self._event("response.output_item.added", item={**item, "status": "in_progress"})
        yield self._event("response.output_item.done", item=item)
        self.response["output"].append(item)
        self._call = None
