"""The HTTP service: what clients of chat completions speak, and what the page needs.

    app = build_app(Service({"home": Worker(agent)}, Store("showtell.db")), keys=Keys())

Conversations, photos and albums of one key are not there for another. Errors have the form that
OpenAI's clients read; nothing of what is said is logged.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from showtell.errors import (
    DataError,
    EngineError,
    FetchError,
    GenerationError,
    ShowtellError,
    StorageError,
    UsageError,
)
from showtell.models.reply import PhotoDue, Preview, Words
from showtell.serve.album_room import album_room, shares_album
from showtell.serve.attended import attended
from showtell.serve.counted import counted
from showtell.serve.deciding import deciding
from showtell.serve.dialects import DONE, WAITING, ChatOut, PhotoOut, event_line, preview_base64
from showtell.serve.generations import pictures
from showtell.serve.guard import Guard, error_body
from showtell.serve.keys import Asking, Keys, Owner, Pace
from showtell.serve.responses import responses
from showtell.serve.rooms import rooms
from showtell.serve.service import Ended, NotFound, Place, Service
from showtell.serve.store import Conflict, new_id
from showtell.serve.wire import ChatRequest, asked_of, unread
from showtell.serve.worker import Busy

CONVERSATION = "Showtell-Conversation"  # a header: known before the answer is
PAGE = Path(__file__).parent / "page"
VERSION = version("showtell")
log = logging.getLogger("showtell.serve")


def build_app(
    service: Service,
    *,
    keys: Keys | None = None,
    pace: Pace | None = None,
    hosts: tuple[str, ...] = (),
) -> FastAPI:
    """``pace``: of what a model is asked for, by each key; ``hosts``: names of this server beside
    localhost, as its clients write them."""
    keys = keys or Keys()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="showtell",
        version=VERSION,
        summary="A chat agent that tells and shows.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service, app.state.keys, app.state.pace = service, keys, pace

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(
        request: Request, asked: ChatRequest, owner: Asking
    ) -> Response | dict[str, Any]:
        """A turn of the agent: words, and a photo where one helps."""
        said = await service.do(asked_of, asked.messages, outside=service.outside)
        ours = asked.showtell
        if ours is None or ours.conversation is None:
            place = await service.do(
                service.elsewhere, owner, said, model=asked.model, seed=asked.seed
            )
        elif ours.conversation == "new":
            place = await service.do(service.begun, owner, asked.model)
        else:
            place = await service.do(service.opened, owner, ours.conversation, model=asked.model)
        out = ChatOut(
            id=new_id("chatcmpl"),
            model=place.talk.model,
            base=str(request.base_url),
            dialect=asked.image_output,
        )
        answer = _Answer(service, place, out, notes=[*said.notes, *unread(asked)])
        happening = service.answer(place, said.text, said.photos)
        if not asked.stream:
            async for told in attended(request, happening):
                answer.lines(told, previews=False)
            await service.do(answer.remember)
            return out.whole(usage=answer.usage(), told=answer.told())
        with_usage = bool((asked.stream_options or {}).get("include_usage"))
        first = await anext(happening)  # what is wrong at once is an error, and no stream
        previews = ours is not None and ours.previews

        async def stream() -> AsyncIterator[str]:
            try:
                for line in answer.lines(first, previews=previews):
                    yield line
                async for told in happening:
                    for line in answer.lines(told, previews=previews):
                        yield line
                await service.do(answer.remember)
                usage = answer.usage() if with_usage else None
                for line in out.end(usage=usage, told={"event": "end", **answer.told()}):
                    yield line
            except ShowtellError as error:
                yield event_line(_body_of(error))
                yield DONE
            finally:
                await happening.aclose()

        headers = _NO_CACHE if place.elsewhere else {**_NO_CACHE, CONVERSATION: place.kept.id}
        return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)

    @app.get("/v1/models")
    async def models(owner: Owner) -> dict[str, Any]:
        """Who answers here, and what each can and cannot do."""
        return {"object": "list", "data": [told(name, owner) for name in service.workers]}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str, owner: Owner) -> dict[str, Any]:
        """One of them."""
        return told(service.named(name)[0], owner)

    def told(name: str, owner: str) -> dict[str, Any]:
        """A model as clients read it, with what it can and cannot do."""
        worker = service.workers[name]
        ours = {
            "limits": worker.card.get("limits", ""),
            "openings": list(worker.card.get("openings", ())),
            "sees": worker.sees,
            "album": shares_album(worker) and service.albums.of(owner) is not None,
        }
        head = {"id": name, "object": "model", "created": 0, "owned_by": "showtell"}
        return {**head, "showtell": ours}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "version": VERSION, "models": list(service.workers)}

    _errors(app)
    for room in (rooms, pictures, album_room, responses, deciding, counted):
        app.include_router(room)
    if PAGE.is_dir():
        app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    app.add_middleware(Guard, hosts=hosts)
    return app


_NO_CACHE = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class _Answer:
    """One answer, from what happens to a wire."""

    def __init__(self, service: Service, place: Place, out: ChatOut, *, notes: list[str]) -> None:
        self.service, self.place, self.out = service, place, out
        self.notes = notes
        self.photos: list[PhotoOut] = []
        self.decisions: list[dict[str, Any]] = []
        self.pieces = self.read = 0

    def lines(self, told: Any, *, previews: bool) -> list[str]:
        """The lines of a stream that tell this."""
        if told is None:
            return [WAITING]
        if isinstance(told, Words):
            self.pieces += 1
            return self.out.words(told.text)
        if isinstance(told, PhotoDue):
            due = {"event": "due", "id": told.id, **vars(told.decision)}
            return [self.out.event(due)]
        if isinstance(told, Preview):
            if not previews:
                return []
            step = {"event": "preview", "id": told.id, "step": told.step, "of": told.of}
            if told.image is not None:
                step["url"] = f"data:image/jpeg;base64,{preview_base64(told.image)}"
            return [self.out.event(step)]
        if isinstance(told, PhotoOut):
            self.photos.append(told)
            return self.out.photo(told)
        assert isinstance(told, Ended)
        self.decisions = [dict(vars(each)) for each in told.reply.decisions]
        self.notes += told.notes
        self.read = told.reply.num_read
        return []

    def remember(self) -> None:
        if self.place.elsewhere:
            self.service.remember(self.place, self.out.text, self.photos)

    def told(self) -> dict[str, Any]:
        kept = None if self.place.elsewhere else self.place.kept.id
        return {
            "conversation": kept,
            "title": self.place.kept.title if kept else None,
            "decisions": self.decisions,
            "photos": [photo.told for photo in self.photos],
            "notes": list(dict.fromkeys(self.notes)),
        }

    def usage(self) -> dict[str, Any]:
        """Tokens as far as they are counted: those that were read, pieces of text that were told,
        and photos."""
        return {
            "prompt_tokens": self.read,
            "completion_tokens": self.pieces,
            "total_tokens": self.read + self.pieces,
            "images": len(self.photos),
        }


# ------------------------------------------------------------------------------------- errors


def _body_of(error: ShowtellError) -> dict[str, Any]:
    return error_body(str(error), status=status_of(error), code=type(error).__name__)


def status_of(error: BaseException) -> int:
    """The status of an error of ours."""
    kinds: Mapping[type, int] = {
        NotFound: 404,
        Conflict: 409,
        Busy: 429,
        UsageError: 400,
        DataError: 400,
        FetchError: 400,
        EngineError: 503,
        GenerationError: 500,
        StorageError: 507,
    }
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), 500)


def _errors(app: FastAPI) -> None:
    @app.exception_handler(ShowtellError)
    async def ours(request: Request, error: ShowtellError) -> JSONResponse:
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Busy) else None
        return JSONResponse(_body_of(error), status_of(error), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        named = [str(part) for part in first["loc"] if part != "body"]
        where = "the body" if first["type"] == "json_invalid" else ".".join(named) or "the body"
        told = UsageError(
            f"{where:.200}: {first['msg']:.300}; see /openapi.json for what is wanted"
        )
        return JSONResponse(_body_of(told), 400)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        body = error_body(str(error.detail), status=error.status_code)
        return JSONResponse(body, error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s: %s", request.method, request.url.path, type(error).__name__)
        told = "something went wrong here; it is a fault of the server; try again"
        return JSONResponse(error_body(told, status=500, code="internal"), 500)
