"""Tools for any agent that speaks MCP: search an album, paint, and whether a photo fits now.

Only what can be done here is offered. A photo comes in three ways, since hosts differ in what they
show: text with its file's address, a small image, and a page (``ui://``) that hosts with MCP Apps
put into the talk. Files stay on this machine.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mcp.server.apps import APP_MIME_TYPE, Apps
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent
from pydantic import BaseModel, Field

from showtell.agent.beside import decision_of, photo_of
from showtell.agent.chat import save_shared
from showtell.agent.provenance import photo_file
from showtell.data.pixels import scaled
from showtell.dialogue import AGENT, USER, Photo, Turn
from showtell.errors import ShowtellError
from showtell.models.reply import Dial

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.agent.audit import Audit
    from showtell.agent.safety import Safety
    from showtell.agent.which import PhotosInWords

PAGE = "ui://showtell/photo"
MAX_IMAGE = 700_000  # bytes of a file: less than a megabyte in base64
SIDES = (1024, 768, 512, 256)
SHOWN = 3  # photos that a search tells
_KEPT = 64  # photos whose pages may be asked for


class Message(BaseModel):
    """One message of a talk."""

    role: Literal["user", "assistant"]
    content: str = Field(max_length=20_000)


def build_tools(
    agent: Any,
    *,
    album: PhotosInWords | None = None,
    folder: Path,
    safety: Safety,
    audit: Audit | None = None,
) -> MCPServer:
    """The server. ``agent``: who decides and paints, as far as it can; ``folder``: where photos are
    written."""
    return _Tools(agent, album, folder, safety, audit).server()


class _Tools:
    def __init__(
        self,
        agent: Any,
        album: PhotosInWords | None,
        folder: Path,
        safety: Safety,
        audit: Audit | None,
    ) -> None:
        self.agent, self.album, self.folder = agent, album, folder
        self.safety, self.audit = safety, audit
        self.pages: dict[str, str] = {}
        self._lock = threading.Lock()  # a model is never asked by two at once

    def server(self) -> MCPServer:
        apps = Apps()
        page = Path(__file__).with_name("tool_page.html").read_text(encoding="utf-8")
        apps.add_html_resource(PAGE, page, title="A photo", prefers_border=False)
        shows = apps.tool(resource_uri=PAGE, structured_output=False)
        limits = str(self.agent.card.get("limits", ""))
        if self.album is not None:
            shows(self._told(self.search_album))
        if getattr(self.agent, "paints", False):
            shows(self._told(self.paint, limits))
        server = MCPServer(
            "showtell",
            version=version("showtell"),
            instructions="Photos for a talk: found in the user's album, or painted. Show a photo "
            "where it helps, and say so if there is none.",
            extensions=[apps],
            log_level="WARNING",
        )
        if hasattr(self.agent, "decoder"):
            server.tool(structured_output=False)(self._told(self.should_i_share))
        server.resource(f"{PAGE}/{{id}}", mime_type=APP_MIME_TYPE)(self.page)
        return server

    def _told(self, tool: Callable[..., CallToolResult], more: str = "") -> Callable[..., Any]:
        """The tool, with errors of ours as its answer."""
        import functools

        @functools.wraps(tool)
        def asked(*args: Any, **named: Any) -> CallToolResult:
            try:
                with self._lock:
                    return tool(*args, **named)
            except ShowtellError as error:
                raise ToolError(str(error)) from error

        asked.__doc__ = f"{tool.__doc__} {more}".strip()
        return asked

    # ------------------------------------------------------------------------------------- tools

    def search_album(self, text: str) -> CallToolResult:
        """Find photos in the user's own album by what they show, when, or where; or learn that
        there is no such photo. Call it before you paint."""
        self._check(text)
        assert self.album is not None
        hits = self.album.hits(text, top_k=SHOWN)
        told = [{"id": hit.photo.id, "score": round(hit.score, 3)} for hit in hits]
        found = [
            opened
            for hit in hits
            if hit.score >= self.album.finder.cut_off
            and (opened := self.album.opened(hit)) is not None
        ]
        if not found:
            return _said("There is no such photo in the album.", {"found": [], "hits": told})
        return self._shown(found, {"hits": told}, why="the album was searched")

    def paint(self, caption: str, seed: int = 0) -> CallToolResult:
        """Paint a photo of a caption; the same seed paints the same."""
        self._check(caption)
        shared = photo_of(self.agent, caption, seed=seed % 2**31)
        if shared.photo is None or shared.image is None:
            raise ToolError(f"{self.agent.name} has no photo of this; say it in other words")
        return self._shown([(shared.photo, shared.image)], {}, why="a painting was asked for")

    def should_i_share(self, messages: list[Message]) -> CallToolResult:
        """Whether a photo belongs next in a talk, with the probability and the reason. Give the
        last messages, oldest first."""
        turns = tuple(
            Turn(speaker=USER if m.role == "user" else AGENT, elements=(m.content,))
            for m in messages[-50:]
            if m.content.strip()
        )
        if not turns:
            raise ToolError("there are no messages with words; give the last ones of the talk")
        found = decision_of(self.agent, turns, {}, dial=Dial())
        yes = "Yes, share a photo now" if found.share else "No photo now"
        return _said(f"{yes}: {found.reason}.", vars(found))

    def page(self, id: str) -> str:
        """The page of one photo."""
        if id not in self.pages:
            raise ResourceNotFoundError(f"{PAGE}/{id:.100}")
        return self.pages[id]

    # ------------------------------------------------------------------------------------ answers

    def _check(self, text: str) -> None:
        from showtell.agent.session import checked_text

        if (said := self.safety.refusal(checked_text(text), "prompt")) is not None:
            raise ToolError(said)

    def _shown(
        self, photos: Sequence[tuple[Photo, Image]], more: dict[str, Any], *, why: str
    ) -> CallToolResult:
        """The photos as text with their files' addresses, the first one small, and its page."""
        lines, found = [], []
        for photo, image in photos:
            file = save_shared(photo, image, self.folder).resolve()
            kind = "Painted" if photo.origin == "painted" else "From the album"
            caption = " ".join(photo.caption.split()) or "without a caption"
            lines.append(f"{kind}: {caption}\n{file.as_uri()}")
            found.append(
                {
                    "id": photo.id,
                    "origin": photo.origin,
                    "caption": caption,
                    "seed": photo.seed,
                    "url": file.as_uri(),
                }
            )
            if self.audit is not None:
                self.audit.shared(photo.id, photo, conversation="mcp", why=why)
        photo, image = photos[0]
        small = base64.b64encode(small_file(photo, image)).decode()
        self.pages[photo.id] = _page_of(photo, small)
        while len(self.pages) > _KEPT:
            del self.pages[next(iter(self.pages))]
        content: list[ContentBlock] = [
            TextContent(type="text", text="\n".join(lines)),
            ImageContent(type="image", data=small, mime_type="image/jpeg"),
            ResourceLink(
                type="resource_link",
                name="photo",
                uri=f"{PAGE}/{photo.id}",
                mime_type=APP_MIME_TYPE,
            ),
        ]
        return CallToolResult(content=content, structured_content={"found": found, **more})


def small_file(photo: Photo, image: Image) -> bytes:
    """The photo as JPEG, with its mark, of at most MAX_IMAGE bytes."""
    data = b""
    for side in SIDES:
        fits = max(image.size) <= side
        data = photo_file(photo, image if fits else scaled(image, side), kind="JPEG")
        if len(data) <= MAX_IMAGE:
            break
    return data


def _said(text: str, told: dict[str, Any]) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=dict(told)
    )


def _page_of(photo: Photo, small: str) -> str:
    alt = escape(photo.caption) or "a photo"
    return (
        '<!doctype html><meta charset="utf-8"><title>A photo</title>'
        "<style>body{margin:0;font:14px system-ui}img{max-width:100%}</style>"
        f'<figure><img src="data:image/jpeg;base64,{small}" alt="{alt}">'
        f"<figcaption>{alt}</figcaption></figure>"
    )
